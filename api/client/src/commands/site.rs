//! `wherry site`: what an operator knows about a site better than the scheduler.

use clap::{Args, Subcommand};

use crate::{commands::Session, failure::Failure};

#[derive(Debug, Subcommand)]
pub(crate) enum SiteCommand {
    /// Replace now what runs on the silent nodes of a site: they are dead, not cut off
    Resume(Resume),
}

#[derive(Debug, Args)]
pub(crate) struct Resume {
    /// Which site
    site: String,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

pub(crate) async fn run(session: &Session<'_>, command: &SiteCommand) -> Result<(), Failure> {
    let SiteCommand::Resume(arguments) = command;
    let what = format!(
        "replace now what runs on the silent nodes of site `{}`; what they still run, if they are only cut off, runs \
         twice until they return",
        arguments.site
    );
    session.confirm(arguments.yes, &what)?;
    let done = session.client()?.resume_site(&arguments.site).await?;
    session.screen.data(&done.message);
    Ok(())
}

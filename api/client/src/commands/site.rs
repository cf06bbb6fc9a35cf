//! `wherry site`: what an operator knows about a site better than the scheduler.

use api_types::site::{Across, Reach};
use clap::{Args, Subcommand, ValueEnum};

use crate::{commands::Session, failure::Failure};

#[derive(Debug, Subcommand)]
pub(crate) enum SiteCommand {
    /// Say how instances of a site are reached; nothing restarts
    Set(Set),
    /// Replace now what runs on the silent nodes of a site: they are dead, not cut off
    Resume(Resume),
}

#[derive(Debug, Args)]
pub(crate) struct Set {
    /// Which site
    site: String,
    /// How its nodes reach each other's instances
    #[arg(long, value_enum, required_unless_present = "across")]
    reach: Option<ReachWord>,
    /// How nodes of other sites reach its instances
    #[arg(long, value_enum)]
    across: Option<AcrossWord>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ReachWord {
    /// By routes: all nodes of the site are on one link
    Routes,
    /// Wrapped in UDP: there may be routers between the nodes
    Vxlan,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum AcrossWord {
    /// By routes: the sites share a link
    Routes,
    /// Not at all: each site's services use its own instances
    Apart,
    /// By the agents, over mutual TLS: for services with `across_sites`
    Tunnel,
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
    match command {
        SiteCommand::Set(arguments) => set(session, arguments).await,
        SiteCommand::Resume(arguments) => resume(session, arguments).await,
    }
}

async fn set(session: &Session<'_>, arguments: &Set) -> Result<(), Failure> {
    let reach = arguments.reach.map(|word| match word {
        ReachWord::Routes => Reach::Routes,
        ReachWord::Vxlan => Reach::Vxlan,
    });
    let across = arguments.across.map(|word| match word {
        AcrossWord::Routes => Across::Routes,
        AcrossWord::Apart => Across::Apart,
        AcrossWord::Tunnel => Across::Tunnel,
    });
    let done = session.client()?.set_site(&arguments.site, reach, across).await?;
    session.screen.data(&done.message);
    Ok(())
}

async fn resume(session: &Session<'_>, arguments: &Resume) -> Result<(), Failure> {
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

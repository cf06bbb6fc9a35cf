//! `wherry job`: what a person does to a job.

use api_types::id::WorkloadId;
use clap::{Args, Subcommand};

use crate::{
    commands::{Session, name},
    failure::Failure,
};

#[derive(Debug, Subcommand)]
pub(crate) enum JobCommand {
    /// Begin a run now, whatever its schedule says; refused while another is active, unless that gives way (`overlap`)
    Run(Which),
}

#[derive(Debug, Args)]
pub(crate) struct Which {
    /// Which job
    #[arg(value_parser = name::<WorkloadId>)]
    job: WorkloadId,
}

pub(crate) async fn run(session: &Session<'_>, command: &JobCommand) -> Result<(), Failure> {
    let JobCommand::Run(Which { job }) = command;
    let done = session.client()?.run_job(job).await?;
    session.screen.data(&done.message);
    session.screen.say(&format!("  watch:  wherry describe job {job}"));
    session.screen.say(&format!("  output: wherry logs -f {job}"));
    Ok(())
}

//! `wherry validate`.

use clap::Args;

use crate::{
    commands::{Session, counted, manifests::Files},
    failure::Failure,
};

#[derive(Debug, Args)]
pub(crate) struct Validate {
    #[command(flatten)]
    files: Files,
}

pub(crate) fn run(session: &Session<'_>, arguments: &Validate) -> Result<(), Failure> {
    for read in arguments.files.read()? {
        session.screen.data(&format!("{}: {} well formed", read.file, counted(read.workloads, "workload")));
    }
    Ok(())
}

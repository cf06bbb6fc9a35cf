//! `wherry scale`.

use api_types::id::WorkloadId;
use clap::Args;

use crate::{
    commands::{Session, name},
    failure::Failure,
};

#[derive(Debug, Args)]
pub(crate) struct Scale {
    /// Which service
    #[arg(value_parser = name::<WorkloadId>)]
    service: WorkloadId,
    /// How many replicas
    replicas: u32,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Scale) -> Result<(), Failure> {
    let changes = session.client()?.scale(&arguments.service, arguments.replicas).await?;
    for change in changes {
        let done = if change.action == "none" { "unchanged" } else { "scaled" };
        session.screen.data(&format!("{done} {} to {}", change.workload, arguments.replicas));
    }
    session.screen.say("a later `wherry apply` sets the number of its manifest again");
    Ok(())
}

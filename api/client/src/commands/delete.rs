//! `wherry delete`.

use api_types::id::WorkloadId;
use clap::Args;

use crate::{
    commands::{Session, counted, name},
    failure::Failure,
};

#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// Which workload
    #[arg(value_parser = name::<WorkloadId>)]
    workload: WorkloadId,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Delete) -> Result<(), Failure> {
    let client = session.client()?;
    if !arguments.yes {
        // Says what it touches before it asks.
        let instances = client.describe_workload(&arguments.workload).await?.instances;
        let running = counted(instances.iter().filter(|instance| !instance.state.is_final()).count(), "instance");
        session.confirm(arguments.yes, &format!("delete `{}` and end its {running}", arguments.workload))?;
    }
    for change in client.delete(&arguments.workload).await? {
        session.screen.data(&format!("deleted {}", change.workload));
    }
    Ok(())
}

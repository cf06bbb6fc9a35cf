//! `wherry volume`: data that stays on its node.

use api_types::id::{Name, WorkloadId};
use clap::{Args, Subcommand};

use crate::{
    commands::{Session, name},
    failure::Failure,
};

#[derive(Debug, Subcommand)]
pub(crate) enum VolumeCommand {
    /// Give up data, so that instances that wait for it start with none, anywhere
    Forget(Forget),
}

#[derive(Debug, Args)]
pub(crate) struct Forget {
    /// Whose it is
    #[arg(value_parser = name::<WorkloadId>)]
    workload: WorkloadId,
    /// The volume's name
    #[arg(value_parser = name::<Name>)]
    volume: Name,
    /// Of this slot only [default: all]
    #[arg(long)]
    slot: Option<u32>,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

pub(crate) async fn run(session: &Session<'_>, command: &VolumeCommand) -> Result<(), Failure> {
    let VolumeCommand::Forget(Forget { workload, volume, slot, yes }) = command;
    let of = slot.map(|slot| format!(" of slot {slot}")).unwrap_or_default();
    session.confirm(*yes, &format!("give up the data of volume `{volume}`{of} of `{workload}`"))?;
    let done = session.client()?.forget_volume(workload, volume, *slot).await?;
    session.screen.data(&done.message);
    Ok(())
}

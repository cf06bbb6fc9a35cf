//! Files of an instance as a tar archive, either way.

use agent_containerd::Containerd;
use api_types::{
    id::InstanceId,
    relay::{RelayEnd, RelayInput, RelayOutput},
};
use tokio::sync::mpsc;

use super::{Gone, Inputs, Outputs, PIECES_MAX, failed};

/// Sends what is at a path.
pub(super) async fn from_instance(
    containerd: &Containerd,
    instance: &InstanceId,
    path: &str,
    inputs: &mut Inputs,
    outputs: &Outputs,
) -> Result<RelayEnd, Gone> {
    let (sender, mut pieces) = mpsc::channel::<Vec<u8>>(PIECES_MAX);
    let sending = async {
        while let Some(piece) = pieces.recv().await {
            outputs.send_all(&piece, RelayOutput::Stdout).await?;
        }
        Ok(())
    };
    let copying = async { tokio::join!(containerd.copy_from(instance, path, sender), sending) };
    tokio::select! {
        (copied, sent) = copying => sent.map(|()| ended(copied)),
        gone = inputs.gone() => Err(gone),
    }
}

/// Takes an archive in.
pub(super) async fn to_instance(
    containerd: &Containerd,
    instance: &InstanceId,
    path: &str,
    inputs: &mut Inputs,
    _: &Outputs,
) -> Result<RelayEnd, Gone> {
    let (sender, pieces) = mpsc::channel::<Vec<u8>>(PIECES_MAX);
    let feeding = async {
        let mut sender = Some(sender);
        loop {
            match inputs.next().await {
                // What follows the end of the archive is of no use.
                Ok(RelayInput::Data(bytes)) => {
                    if let Some(open) = &sender
                        && open.send(bytes).await.is_err()
                    {
                        sender = None;
                    }
                }
                Ok(RelayInput::End) => sender = None,
                Ok(RelayInput::Resize(_)) => {}
                Err(gone) => return gone,
            }
        }
    };
    tokio::select! {
        copied = containerd.copy_to(instance, path, pieces) => Ok(ended(copied)),
        gone = feeding => Err(gone),
    }
}

fn ended(copied: Result<(), agent_containerd::CopyError>) -> RelayEnd {
    copied.map_or_else(failed, |()| RelayEnd::default())
}

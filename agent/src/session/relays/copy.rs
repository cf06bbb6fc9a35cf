//! Files of an instance, or a volume whole, as a tar archive, either way.

use agent_containerd::CopyError;
use api_types::relay::{RelayEnd, RelayInput, RelayOutput};
use tokio::sync::mpsc;

use super::{Gone, Inputs, Outputs, PIECES_MAX, failed};

/// Sends the archive that `pack` makes.
pub(super) async fn out<P: Future<Output = Result<(), CopyError>>>(
    pack: impl FnOnce(mpsc::Sender<Vec<u8>>) -> P,
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
    let copying = async { tokio::join!(pack(sender), sending) };
    tokio::select! {
        (copied, sent) = copying => sent.map(|()| ended(copied)),
        gone = inputs.gone() => Err(gone),
    }
}

/// Hands the archive that comes to `unpack`.
pub(super) async fn into<U: Future<Output = Result<(), CopyError>>>(
    unpack: impl FnOnce(mpsc::Receiver<Vec<u8>>) -> U,
    inputs: &mut Inputs,
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
        copied = unpack(pieces) => Ok(ended(copied)),
        gone = feeding => Err(gone),
    }
}

fn ended(copied: Result<(), CopyError>) -> RelayEnd {
    copied.map_or_else(failed, |()| RelayEnd::default())
}

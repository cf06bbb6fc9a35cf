//! What a person sends to a process: input, its end, sizes of a terminal.

use agent_containerd::Console;
use api_types::relay::RelayInput;
use tokio::{io::AsyncWriteExt, net::unix::pipe};

use super::{Gone, Inputs};

/// Passes input on until the person is gone. With `keeps_open` the end of what the person sends is not one for the process.
pub(super) async fn until_gone(
    console: &Console,
    mut stdin: Option<pipe::Sender>,
    keeps_open: bool,
    inputs: &mut Inputs,
) -> Gone {
    loop {
        match inputs.next().await {
            Ok(RelayInput::Data(bytes)) => {
                // A process that closed its input needs no more of it.
                if let Some(pipe) = &mut stdin
                    && pipe.write_all(&bytes).await.is_err()
                {
                    stdin = None;
                }
            }
            Ok(RelayInput::End) => {
                if stdin.take().is_some()
                    && !keeps_open
                    && let Err(error) = console.close_input().await
                {
                    tracing::debug!(%error, "the input of a process that is over");
                }
            }
            Ok(RelayInput::Resize(size)) => {
                if let Err(error) = console.resize(size).await {
                    tracing::debug!(%error, "the terminal of a process that is over");
                }
            }
            Err(gone) => return gone,
        }
    }
}

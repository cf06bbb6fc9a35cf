//! A command in an instance, with the person at its input and outputs.

use std::{sync::atomic::AtomicBool, sync::atomic::Ordering::Relaxed, time::Duration};

use agent_containerd::{Containerd, ExecRequest};
use api_types::relay::{RelayEnd, RelayOutput};
use proto::limits::RELAY_CHUNK_BYTES;
use tokio::{io::AsyncReadExt, net::unix::pipe, sync::Notify, time::timeout};

use super::{Gone, Inputs, Outputs, failed, feed, not_begun};

/// How long to wait for more once the command is over, while something that it left behind holds its outputs open.
const QUIET: Duration = Duration::from_secs(2);

/// Whether the command is over.
#[derive(Debug, Default)]
struct Over {
    is_over: AtomicBool,
    told: Notify,
}

/// Runs a command until it ends, or the person is gone.
pub(super) async fn serve(
    containerd: &Containerd,
    request: &ExecRequest<'_>,
    inputs: &mut Inputs,
    outputs: &Outputs,
) -> Result<RelayEnd, Gone> {
    // On its own: whoever breaks a beginning off cannot know what the runtime makes of it. A command that begins for a person
    // who is gone is dropped with the answer, and so ended.
    let (containerd, instance, command) = (containerd.clone(), request.instance.clone(), request.command.to_vec());
    let (container, stdin, terminal) = (request.container.cloned(), request.stdin, request.terminal);
    let beginning = tokio::spawn(async move {
        let container = container.as_ref();
        let request = ExecRequest { instance: &instance, container, command: &command, stdin, terminal };
        containerd.exec(&request).await
    });
    let mut command = match beginning.await.expect("to begin does not panic") {
        Ok(command) => command,
        Err(error) => return Ok(not_begun(&error)),
    };
    let (stdin, stdout, stderr) = (command.stdin.take(), command.stdout.take(), command.stderr.take());
    let over = Over::default();
    let running = async {
        let exit = async {
            let exit = command.wait().await;
            over.is_over.store(true, Relaxed);
            over.told.notify_waiters();
            Ok(exit)
        };
        let (exit, (), ()) = tokio::try_join!(
            exit,
            over.pump(stdout, outputs, RelayOutput::Stdout),
            over.pump(stderr, outputs, RelayOutput::Stderr),
        )?;
        Ok(match exit {
            Ok(code) => RelayEnd { code, reason: String::new() },
            Err(error) => failed(error),
        })
    };
    // What the other arm holds is dropped with it, the command last: that ends it.
    tokio::select! {
        end = running => end,
        gone = feed::until_gone(&command.console, stdin, false, inputs) => Err(gone),
    }
}

impl Over {
    /// Sends all that a command writes: until its end is reached, or, once the command is over, nothing comes for a while.
    async fn pump(
        &self,
        from: Option<pipe::Receiver>,
        outputs: &Outputs,
        wrap: fn(Vec<u8>) -> RelayOutput,
    ) -> Result<(), Gone> {
        let Some(mut from) = from else { return Ok(()) };
        let mut piece = vec![0; RELAY_CHUNK_BYTES];
        loop {
            let told = self.told.notified();
            tokio::pin!(told);
            told.as_mut().enable();
            let read = if self.is_over.load(Relaxed) {
                timeout(QUIET, from.read(&mut piece)).await.unwrap_or(Ok(0))
            } else {
                // Both arms are cancel-safe: a read that was not finished took nothing.
                tokio::select! {
                    read = from.read(&mut piece) => read,
                    () = told => continue,
                }
            };
            match read {
                Ok(0) => return Ok(()),
                Ok(length) => outputs.send(wrap(piece[..length].to_vec())).await?,
                Err(error) => {
                    tracing::debug!(%error, "the output of a command ends");
                    return Ok(());
                }
            }
        }
    }
}

//! What an instance's own process writes from now on, until it ends.

use std::time::Duration;

use agent_containerd::Containerd;
use api_types::{
    id::InstanceId,
    instance::Exit,
    relay::{RelayEnd, RelayOutput},
    view::LogLine,
};
use tokio::{sync::mpsc, time::timeout};

use super::{Gone, Inputs, Outputs, failed, not_begun};

/// Lines between the files and the wire.
const LINES_MAX: usize = 64;
/// How long to wait for lines that were written before the end: they are looked for several times a second.
const QUIET: Duration = Duration::from_secs(1);

/// Follows an instance until its process ends, or the person is gone.
pub(super) async fn serve(
    containerd: &Containerd,
    instance: &InstanceId,
    inputs: &mut Inputs,
    outputs: &Outputs,
) -> Result<RelayEnd, Gone> {
    let running = match containerd.running(instance).await {
        Ok(running) => running,
        Err(error) => return Ok(not_begun(&error)),
    };
    let (sender, mut lines) = mpsc::channel(LINES_MAX);
    let following = containerd.logs(instance, None, Some(0), true, sender);
    let passing = async {
        let exit = containerd.wait(instance, running.attempt);
        tokio::pin!(exit);
        let exit = loop {
            // Both arms are cancel-safe: a line that was not taken stays, the exit is only looked for again.
            tokio::select! {
                biased;
                Some(line) = lines.recv() => send(outputs, line).await?,
                exit = &mut exit => break exit,
            }
        };
        while let Ok(Some(line)) = timeout(QUIET, lines.recv()).await {
            send(outputs, line).await?;
        }
        Ok(exit)
    };
    let exit = tokio::select! {
        exit = passing => exit?,
        Err(error) = following => return Ok(failed(error)),
        gone = inputs.gone() => return Err(gone),
    };
    Ok(match exit {
        Ok(Exit::Code(code)) => RelayEnd { code, reason: String::new() },
        Ok(Exit::OutOfMemory) => RelayEnd { code: 137, reason: "it ran out of memory".to_owned() },
        Ok(Exit::Probe(_) | Exit::Unknown) => failed("it ended; nobody knows how"),
        Err(error) => failed(error),
    })
}

async fn send(outputs: &Outputs, line: LogLine) -> Result<(), Gone> {
    let wrap = if line.stream == "stderr" { RelayOutput::Stderr } else { RelayOutput::Stdout };
    let mut bytes = line.text.into_bytes();
    bytes.push(b'\n');
    outputs.send_all(&bytes, wrap).await
}

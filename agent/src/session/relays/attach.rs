//! A person at an instance's own process until it ends: at its lines as they are kept, or at its input and its terminal.

use std::time::Duration;

use agent_containerd::{Containerd, Error, Written};
use api_types::{
    id::InstanceId,
    instance::Exit,
    relay::{RelayEnd, RelayOutput, TerminalSize},
    view::LogLine,
};
use tokio::{sync::mpsc, time::timeout};

use super::{Gone, Inputs, Outputs, failed, feed, not_begun};

/// Lines between the files and the wire.
const LINES_MAX: usize = 64;
/// How long to wait for lines that were written before the end: they are looked for several times a second.
const QUIET: Duration = Duration::from_secs(1);

/// Follows the lines of an instance until its process ends, or the person is gone.
pub(super) async fn follow(
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
    Ok(ended(exit))
}

/// Joins a person to an instance's process, byte by byte, until it ends, or the person is gone.
pub(super) async fn join(
    containerd: &Containerd,
    instance: &InstanceId,
    (stdin, terminal): (bool, Option<TerminalSize>),
    (inputs, outputs): (&mut Inputs, &Outputs),
) -> Result<RelayEnd, Gone> {
    let mut attached = match containerd.attach(instance, stdin, terminal).await {
        Ok(attached) => attached,
        Err(error) => return Ok(not_begun(&error)),
    };
    let (console, stdin, is_terminal) = (attached.console.clone(), attached.stdin.take(), attached.is_terminal);
    let showing = async {
        loop {
            match attached.next().await {
                Ok(Some(Written::Stdout(bytes))) => outputs.send_all(&bytes, RelayOutput::Stdout).await?,
                Ok(Some(Written::Stderr(bytes))) => outputs.send_all(&bytes, RelayOutput::Stderr).await?,
                // Its outputs end just before it does; else it is its logger that ended, and another comes.
                Ok(None) => {
                    if let Ok(exit) = timeout(QUIET, containerd.wait(instance, attached.attempt)).await {
                        return Ok(ended(exit));
                    }
                    match containerd.attach(instance, false, None).await {
                        Ok(again) if again.attempt == attached.attempt => attached = again,
                        Ok(_) => return Ok(failed("it ended; nobody knows how")),
                        Err(error) => return Ok(not_begun(&error)),
                    }
                }
                Err(error) => return Ok(not_begun(&error)),
            }
        }
    };
    // The end of a person's input is none of a terminal: it would be hung up for all others, too.
    let feeding = feed::until_gone(&console, stdin, is_terminal, inputs);
    tokio::select! {
        end = showing => end,
        gone = feeding => Err(gone),
    }
}

/// How a process's end is told.
fn ended(exit: Result<Exit, Error>) -> RelayEnd {
    match exit {
        Ok(Exit::Code(code)) => RelayEnd { code, reason: String::new() },
        Ok(Exit::OutOfMemory) => RelayEnd { code: 137, reason: "it ran out of memory".to_owned() },
        Ok(Exit::Probe(_) | Exit::Unknown) => failed("it ended; nobody knows how"),
        Err(error) => failed(error),
    }
}

async fn send(outputs: &Outputs, line: LogLine) -> Result<(), Gone> {
    let wrap = if line.stream == "stderr" { RelayOutput::Stderr } else { RelayOutput::Stdout };
    let mut bytes = line.text.into_bytes();
    bytes.push(b'\n');
    outputs.send_all(&bytes, wrap).await
}

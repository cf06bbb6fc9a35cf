//! A command in the container: 0 is well.

use std::time::Duration;

use agent_containerd::{Containerd, ExecError, ExecRequest};
use api_types::id::InstanceId;
use tokio::{io::AsyncReadExt as _, net::unix::pipe, time::timeout};

use super::one_line;

/// Bytes of each output that are kept; the rest is read, so that the command is not held up, and dropped.
const OUTPUT_BYTES_MAX: usize = 1024;
/// How long to wait for more once the command is over, while something that it left behind holds its outputs open.
const QUIET: Duration = Duration::from_millis(100);

/// Runs a command; `None` = nobody could say, as containerd is away or the process is not there. A command that takes longer
/// than the limit is ended, and gone when this returns. The error is one line for people.
pub(super) async fn run(
    containerd: &Containerd,
    instance: &InstanceId,
    command: &[String],
    limit: Duration,
) -> Option<Result<String, String>> {
    let request = ExecRequest { instance, container: None, command, stdin: false, terminal: None };
    // Dropped while it begins, a command is ended as well.
    let begun = match timeout(limit, containerd.exec(&request)).await {
        Ok(begun) => begun,
        Err(_) => return Some(Err(format!("the command did not begin within {} ms", limit.as_millis()))),
    };
    let mut running = match begun {
        Ok(running) => running,
        Err(ExecError::NotRunning(_)) => return None,
        Err(ExecError::Containerd(error)) if error.is_away() => return None,
        Err(error) => return Some(Err(one_line(error.to_string().as_bytes()))),
    };
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let outputs = (running.stdout.take(), running.stderr.take());
    let exit = {
        let reading = async { tokio::join!(read(outputs.0, &mut stdout), read(outputs.1, &mut stderr)) };
        let waiting = timeout(limit, running.wait());
        tokio::pin!(reading, waiting);
        tokio::select! {
            exit = &mut waiting => {
                timeout(QUIET, reading).await.ok();
                exit
            }
            _ = &mut reading => waiting.await,
        }
    };
    let words = one_line(&[stdout.as_slice(), b" ", &stderr].concat());
    let said = |what: String| if words.is_empty() { what } else { format!("{what}: {words}") };
    let outcome = match exit {
        Ok(Ok(0)) => Some(Ok(said("code 0".to_owned()))),
        Ok(Ok(code)) => Some(Err(said(format!("code {code}")))),
        Ok(Err(error)) if error.is_away() => None,
        Ok(Err(error)) => Some(Err(one_line(error.to_string().as_bytes()))),
        Err(_) => Some(Err(said(format!("the command was killed, as it took longer than {} ms", limit.as_millis())))),
    };
    running.end().await;
    outcome
}

/// Reads all, and keeps the beginning.
async fn read(output: Option<pipe::Receiver>, kept: &mut Vec<u8>) {
    let Some(mut output) = output else { return };
    let mut buffer = [0; OUTPUT_BYTES_MAX];
    loop {
        match output.read(&mut buffer).await {
            Ok(0) => return,
            Ok(count) => kept.extend(buffer.iter().take(count.min(OUTPUT_BYTES_MAX - kept.len()))),
            // The pipe is broken: there is no more to come.
            Err(_) => return,
        }
    }
}

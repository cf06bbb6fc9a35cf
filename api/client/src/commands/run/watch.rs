//! Shows what a job's instance writes while it runs, and what it came to.

use std::time::Duration;

use api_client::{Client, ClientError, Lines, LogQuery};
use api_types::{
    id::{InstanceId, WorkloadId},
    instance::{Exit, InstanceState},
    job::RunState,
    relay::{RelayEnd, RelayOutput, TerminalSize},
    view::{InstanceView, LogLine, WorkloadView},
};
use tokio::time::{sleep, timeout};

use crate::{
    commands::{
        Session,
        attach::{self, Parting},
        relay::feed,
    },
    failure::{Failure, code},
    output::{Screen, clean, jobs::latest},
};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(250);
/// How long the last lines may take from the process to the file that is read.
const LAST_LINES: Duration = Duration::from_millis(500);
/// As many lines as the API gives of what was written before.
const READ_BACK_MAX: usize = 10_000;
/// As a shell tells of a process that the kernel killed.
const KILLED: u8 = 137;

/// What came of it.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It ended, and its process with this exit code.
    Ended(u8),
    /// The person left its terminal; it goes on.
    Left,
}

/// What one look saw.
struct Seen {
    version: u64,
    workload: WorkloadView,
    instances: Vec<InstanceView>,
}

/// What was shown so far.
struct Shown<'s> {
    client: &'s Client,
    screen: &'s Screen,
    /// Whose lines are read now or were read last, and how many of them.
    instance: Option<InstanceId>,
    lines: usize,
    stream: Option<Lines<LogLine>>,
    /// Why nothing runs, as was said last.
    reason: String,
}

/// Waits until the job's run ended, and shows meanwhile what it writes. Its first process gets what this program reads, or this
/// program's terminal, where the job has such.
///
/// # Errors
/// When the run failed without a process that says how, or the job is gone.
pub(super) async fn until_ended(
    session: &Session<'_>,
    client: &Client,
    id: &WorkloadId,
    (mut stdin, mut terminal): (bool, Option<TerminalSize>),
) -> Result<Outcome, Failure> {
    let screen = session.screen;
    let mut shown = Shown { client, screen, instance: None, lines: 0, stream: None, reason: String::new() };
    let mut look = Box::pin(look(client, id, None));
    let mut sending = None;
    loop {
        tokio::select! {
            Err(error) = sent(&mut sending) => {
                screen.say(&format!("its input cannot be reached any more: {error}"));
            }
            line = next(&mut shown.stream) => shown.take(line),
            seen = &mut look => {
                let seen = seen?;
                let ended = latest(&seen.workload).filter(|run| run.state != RunState::Active);
                if let Some(run) = ended {
                    shown.rest(&seen.instances).await?;
                    return exit_code(&seen.instances, &run.cause).map(Outcome::Ended);
                }
                if let Some(instance) = running(&seen.instances) {
                    match (terminal.take(), std::mem::take(&mut stdin)) {
                        (Some(size), stdin) => match attach::join(session, &instance, stdin, Some(size)).await? {
                            Parting::Left => return Ok(Outcome::Left),
                            Parting::Ended(end) => shown.was_joined(instance, &end),
                        },
                        (None, true) => sending = Some(Box::pin(send_input(client, instance))),
                        (None, false) => {}
                    }
                }
                shown.follow(&seen).await;
                look = Box::pin(self::look(client, id, Some(seen.version)));
            }
        }
    }
}

async fn look(client: &Client, id: &WorkloadId, after: Option<u64>) -> Result<Seen, Failure> {
    if after.is_some() {
        sleep(PAUSE).await;
    }
    loop {
        let list = match client.jobs(after).await {
            // What was begun goes on; a scheduler that is away for a moment comes back.
            Err(ClientError::Unreachable { .. } | ClientError::Timeout { .. } | ClientError::Garbled { .. }) => {
                sleep(PAUSE).await;
                continue;
            }
            list => list?,
        };
        let Some(workload) = list.items.into_iter().find(|workload| workload.name == *id) else {
            return Err(Failure::Ended(format!("job {id} was deleted by somebody"), code::ERROR));
        };
        let instances = client.describe_workload(id).await?.instances;
        return Ok(Seen { version: list.version, workload, instances });
    }
}

/// The next line; waits for ever where nothing is read.
async fn next(stream: &mut Option<Lines<LogLine>>) -> Result<Option<LogLine>, ClientError> {
    match stream {
        Some(stream) => stream.next().await,
        None => std::future::pending().await,
    }
}

impl Shown<'_> {
    /// Shows a line. A stream that broke is begun anew with the next look.
    fn take(&mut self, line: Result<Option<LogLine>, ClientError>) {
        match line {
            Ok(Some(line)) => self.show(&line),
            Ok(None) | Err(_) => self.stream = None,
        }
    }

    fn show(&mut self, line: &LogLine) {
        self.lines += 1;
        let text = format!("{}\n", line.text);
        if line.stream == "stderr" {
            self.screen.say_raw(&if self.screen.talk_terminal { clean(&text) } else { text });
        } else {
            self.screen.data_raw(&if self.screen.data_terminal { clean(&text) } else { text });
        }
    }

    /// What a terminal showed is not shown again, unless the process was over before anybody was there.
    fn was_joined(&mut self, instance: InstanceId, end: &RelayEnd) {
        if end.reason.is_empty() || end.code == i32::from(KILLED) {
            (self.instance, self.lines, self.stream) = (Some(instance), READ_BACK_MAX, None);
        } else {
            self.screen.say(&end.reason);
        }
    }

    /// Reads what the instance writes that runs now, or says why none does.
    async fn follow(&mut self, seen: &Seen) {
        let Some(id) = running(&seen.instances) else {
            let waiting = seen.instances.iter().find(|instance| !instance.state.is_final());
            let reason = waiting.map(|instance| instance.reason.clone()).unwrap_or_default();
            if !reason.is_empty() && reason != self.reason {
                self.screen.say(&format!("{}: {reason}", seen.workload.name));
                self.reason = reason;
            }
            return;
        };
        let is_other = self.instance.as_ref() != Some(&id);
        if is_other || self.stream.is_none() && self.lines < READ_BACK_MAX {
            self.begin(id, true).await.ok();
        }
    }

    /// Begins to read an instance's lines, after those that were shown already.
    async fn begin(&mut self, id: InstanceId, follow: bool) -> Result<(), ClientError> {
        let tail = u32::try_from(READ_BACK_MAX).unwrap_or(u32::MAX);
        let mut stream = self.client.instance_logs(&id, &LogQuery { container: None, tail, follow }).await?;
        if self.instance.as_ref() != Some(&id) {
            (self.instance, self.lines) = (Some(id), 0);
        }
        for _ in 0..self.lines {
            stream.next().await?;
        }
        self.stream = Some(stream);
        Ok(())
    }

    /// Shows the lines of the last instance that were not shown yet.
    async fn rest(&mut self, instances: &[InstanceView]) -> Result<(), Failure> {
        let Some(id) = last(instances).and_then(|instance| instance.name.parse().ok()) else { return Ok(()) };
        if self.instance.as_ref() == Some(&id) {
            while let Ok(Ok(Some(line))) = timeout(LAST_LINES, next(&mut self.stream)).await {
                self.show(&line);
            }
        } else {
            sleep(LAST_LINES).await;
        }
        // What was cut off is read once more, as far back as is told.
        if self.lines >= READ_BACK_MAX {
            return Ok(());
        }
        // Output that cannot be had is missed, but it does not change what the process came to.
        if let Err(error) = self.begin(id, false).await {
            self.screen.say(&format!("its output cannot be read: {error}"));
            return Ok(());
        }
        while let Some(line) = next(&mut self.stream).await? {
            self.show(&line);
        }
        Ok(())
    }
}

/// Sends what this program reads to the process, and its end. What that writes is read as that of any other job.
async fn send_input(client: &Client, instance: InstanceId) -> Result<(), ClientError> {
    let (writer, mut reader) = client.relay(&attach::request(&instance, true, None)).await?;
    // It never ends before the process does: without a writer the other end hears that this program is gone.
    tokio::spawn(feed(writer.clone()));
    // One that was over before anybody came has no use for input.
    while !matches!(reader.next().await?, RelayOutput::Ended(_)) {}
    drop(writer);
    Ok(())
}

/// What came of sending; waits for ever where nothing is sent any more.
async fn sent<S: Future<Output = Result<(), ClientError>> + Unpin>(sending: &mut Option<S>) -> Result<(), ClientError> {
    match sending {
        Some(under_way) => {
            let sent = under_way.await;
            *sending = None;
            sent
        }
        None => std::future::pending().await,
    }
}

fn running(instances: &[InstanceView]) -> Option<InstanceId> {
    let mut running = instances.iter().filter(|instance| instance.state == InstanceState::Running);
    running.find_map(|instance| instance.name.parse().ok())
}

/// The instance that ended by itself.
fn last(instances: &[InstanceView]) -> Option<&InstanceView> {
    let ended = |instance: &&InstanceView| matches!(instance.state, InstanceState::Completed | InstanceState::Failed);
    instances.iter().find(ended)
}

fn exit_code(instances: &[InstanceView], cause: &str) -> Result<u8, Failure> {
    match last(instances).and_then(|instance| instance.last_exit.as_ref()) {
        Some(Exit::Code(exit)) => Ok(u8::try_from(*exit).unwrap_or(u8::MAX)),
        Some(Exit::OutOfMemory) => Err(Failure::Ended(cause.to_owned(), KILLED)),
        Some(Exit::Probe(_) | Exit::Unknown) | None if cause.is_empty() => Ok(0),
        Some(Exit::Probe(_) | Exit::Unknown) | None => Err(Failure::Ended(cause.to_owned(), code::DID_NOT_WORK)),
    }
}

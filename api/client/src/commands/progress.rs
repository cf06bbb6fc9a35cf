//! Waits until workloads are as wanted, and shows the way there.

use std::{collections::BTreeMap, time::Duration};

use api_client::{Client, ClientError};
use api_types::{
    id::WorkloadId,
    job::RunState,
    rollout::RolloutState,
    view::{InstanceView, WorkloadView},
};
use tokio::time::{Instant, sleep, timeout_at};

use crate::{
    commands::counted,
    failure::{Failure, code},
    output::{
        Screen,
        amounts::{now, seconds},
        columns::health,
        jobs::{done, latest, next},
        live::Live,
    },
};

/// Between two looks: a cluster that changes a hundred times a second is not looked at as often.
const PAUSE: Duration = Duration::from_millis(250);
/// After a failed look, the next one: a scheduler that restarts is back within seconds.
const RETRY: Duration = Duration::from_secs(1);

/// Waits until each workload runs as wanted; those in `changed` were just changed, and it counts how that goes.
///
/// # Errors
/// Exit code 5 when a change did not work, 4 when the time is over and some instance found no node, 6 when it is over for another reason.
pub(crate) async fn wait_until_ready(
    client: &Client,
    screen: &Screen,
    (workloads, changed): (&[WorkloadId], &[WorkloadId]),
    wait_ms: u64,
) -> Result<(), Failure> {
    let deadline = Instant::now() + Duration::from_millis(wait_ms);
    let (mut view, mut version, mut is_first) = (View::default(), None, true);
    loop {
        let look = look(client, workloads, version);
        // The first look is never cut short: who gives up says what did not happen.
        let looked = if is_first { Ok(look.await) } else { timeout_at(deadline, look).await };
        is_first = false;
        match looked {
            Err(_) => break,
            Ok(Ok(seen)) => {
                version = Some(seen.version);
                view.show(screen, &seen);
                seen.check_rollouts(screen, &mut view.live, changed)?;
                seen.check_runs(screen, &mut view.live, changed)?;
                if seen.is_done(workloads) {
                    view.end(screen, &seen);
                    return Ok(());
                }
                view.seen = seen;
            }
            // What was applied is applied; a scheduler that is away for a moment comes back.
            Ok(Err(ClientError::Unreachable { .. } | ClientError::Timeout { .. } | ClientError::Garbled { .. })) => {
                view.say_once(screen, "the scheduler does not answer; trying again");
                version = None;
                sleep(RETRY).await;
            }
            Ok(Err(error)) => return Err(error.into()),
        }
        if timeout_at(deadline, sleep(PAUSE)).await.is_err() {
            break;
        }
    }
    view.give_up(screen, wait_ms)
}

/// What one look saw of the workloads that matter.
#[derive(Debug, Default)]
struct Seen {
    version: u64,
    workloads: Vec<WorkloadView>,
    instances: Vec<InstanceView>,
}

async fn look(client: &Client, wanted: &[WorkloadId], after: Option<u64>) -> Result<Seen, ClientError> {
    let list = client.workloads(after).await?;
    let (version, mut workloads) = (list.version, list.items);
    workloads.retain(|workload| wanted.contains(&workload.name));
    let mut instances = Vec::new();
    for workload in workloads.iter().filter(|workload| !is_ready(workload)) {
        instances.extend(client.describe_workload(&workload.name).await?.instances);
    }
    instances.retain(|instance| !instance.state.is_final());
    Ok(Seen { version, workloads, instances })
}

fn is_ready(workload: &WorkloadView) -> bool {
    if workload.spec.schedule.is_some() {
        return true;
    }
    if workload.job.is_some() {
        return latest(workload).is_some_and(|run| run.state != RunState::Active);
    }
    // The rest follows when a person says so.
    if rollout_state(workload) == Some(RolloutState::AwaitingPromotion) {
        return true;
    }
    workload.ready == workload.wanted && workload.running == workload.wanted && workload.pending == 0
}

fn rollout_state(workload: &WorkloadView) -> Option<RolloutState> {
    workload.rollout.as_ref().map(|rollout| rollout.state)
}

/// How far a workload is.
fn standing(workload: &WorkloadView) -> String {
    if workload.spec.schedule.is_some() {
        let next = next(workload, now());
        return if next.is_empty() { "runs by its schedule".to_owned() } else { format!("next run: {next}") };
    }
    latest(workload).map_or_else(|| format!("{} of {} ready", workload.ready, workload.wanted), done)
}

impl Seen {
    /// Fails when the run of one of these jobs did.
    fn check_runs(&self, screen: &Screen, live: &mut Live, changed: &[WorkloadId]) -> Result<(), Failure> {
        let jobs = self.workloads.iter().filter(|workload| changed.contains(&workload.name));
        let jobs = jobs.filter(|job| job.spec.schedule.is_none());
        let failed = jobs.filter_map(|job| Some((job, latest(job)?))).find(|(_, run)| run.state == RunState::Failed);
        let Some((job, run)) = failed else { return Ok(()) };
        if screen.talk_terminal {
            live.clear(screen);
        }
        let message = format!("run {} of {} failed: {}", run.number, job.name, run.cause);
        screen.error(&message, &format!("wherry logs {}", job.name));
        Err(Failure::Said(code::DID_NOT_WORK))
    }

    /// Fails when one of these changes did not work.
    fn check_rollouts(&self, screen: &Screen, live: &mut Live, changed: &[WorkloadId]) -> Result<(), Failure> {
        let rollouts = self.workloads.iter().filter(|workload| changed.contains(&workload.name));
        let failed =
            rollouts.filter_map(|workload| workload.rollout.as_ref()).find(|rollout| rollout.state.has_failed());
        let Some(failed) = failed else { return Ok(()) };
        if screen.talk_terminal {
            live.clear(screen);
        }
        let revision = failed.failed.unwrap_or(failed.revision);
        let message = format!("revision {revision} of {} did not work: {}", failed.workload, failed.cause);
        screen.error(&message, &format!("wherry rollout status {}", failed.workload));
        Err(Failure::Said(code::DID_NOT_WORK))
    }

    fn is_done(&self, wanted: &[WorkloadId]) -> bool {
        // One that somebody deleted meanwhile is not waited for.
        self.workloads.iter().filter(|workload| wanted.contains(&workload.name)).all(is_ready)
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for workload in &self.workloads {
            lines.push(format!("{}  {}", workload.name, standing(workload)));
            let instances = self.instances.iter().filter(|instance| instance.workload == workload.name);
            lines.extend(instances.map(|instance| format!("  {}", instance_line(instance))));
            if !is_ready(workload) && !workload.reason.is_empty() {
                lines.push(format!("  {}", workload.reason));
            }
        }
        lines
    }
}

fn instance_line(instance: &InstanceView) -> String {
    let node = instance.node.as_ref().map(|node| format!(" on {node}")).unwrap_or_default();
    let health = match health(instance.health) {
        "" => String::new(),
        word => format!(", {word}"),
    };
    let reason = if instance.reason.is_empty() { String::new() } else { format!(": {}", instance.reason) };
    format!("{}{node}  {}{health}{reason}", instance.name, instance.state.as_str())
}

/// What was shown so far.
#[derive(Debug, Default)]
struct View {
    seen: Seen,
    live: Live,
    /// The last line about each workload and instance, where there is no terminal to draw on.
    said: BTreeMap<String, String>,
}

impl View {
    fn show(&mut self, screen: &Screen, seen: &Seen) {
        if screen.talk_terminal {
            self.live.draw(screen, &seen.lines());
            return;
        }
        for workload in &seen.workloads {
            let reason = if workload.reason.is_empty() { String::new() } else { format!(": {}", workload.reason) };
            let line = format!("{}: {}{reason}", workload.name, standing(workload));
            self.say_if_new(screen, workload.name.to_string(), line);
        }
        for instance in &seen.instances {
            self.say_if_new(screen, format!("instance {}", instance.name), instance_line(instance));
        }
    }

    fn say_if_new(&mut self, screen: &Screen, about: String, line: String) {
        if self.said.get(&about) != Some(&line) {
            screen.say(&line);
            self.said.insert(about, line);
        }
    }

    fn say_once(&mut self, screen: &Screen, line: &str) {
        if screen.talk_terminal {
            let mut lines = self.seen.lines();
            lines.push(line.to_owned());
            self.live.draw(screen, &lines);
        } else {
            self.say_if_new(screen, "scheduler".to_owned(), line.to_owned());
        }
    }

    /// Leaves one line for each workload behind.
    fn end(&mut self, screen: &Screen, seen: &Seen) {
        for workload in &seen.workloads {
            if rollout_state(workload) == Some(RolloutState::AwaitingPromotion) {
                let name = &workload.name;
                screen.say(&format!("{name}: its canary is well: `wherry rollout promote {name}` or `abort`"));
            }
        }
        if screen.talk_terminal {
            self.live.clear(screen);
            for workload in &seen.workloads {
                screen.say(&format!("{}  {}", workload.name, standing(workload)));
            }
        }
    }

    fn give_up(&mut self, screen: &Screen, wait_ms: u64) -> Result<(), Failure> {
        let waiting: Vec<&WorkloadView> = self.seen.workloads.iter().filter(|workload| !is_ready(workload)).collect();
        let unplaced: u32 = waiting.iter().map(|workload| workload.pending).sum();
        let names = waiting.iter().map(|workload| workload.name.to_string()).collect::<Vec<_>>().join(", ");
        let waited = if wait_ms < 1000 { format!("{wait_ms} ms") } else { seconds(wait_ms / 1000) };
        if unplaced > 0 {
            let what = counted(usize::try_from(unplaced).unwrap_or(usize::MAX), "instance");
            let message = format!("{what} of {names} found no node within {waited}");
            let stuck = waiting.iter().find(|workload| workload.pending > 0).map(|workload| workload.name.to_string());
            screen.error(&message, &format!("wherry why {}", stuck.unwrap_or_default()));
            return Err(Failure::Said(code::NOT_PLACED));
        }
        let message = if names.is_empty() {
            format!("the scheduler did not say within {waited} how it goes")
        } else {
            format!("{names} did not get ready within {waited}")
        };
        let hint = waiting.first().map(|workload| format!("wherry describe {} {}", workload.kind, workload.name));
        screen.error(&message, &hint.unwrap_or_default());
        Err(Failure::Said(code::TIMEOUT))
    }
}

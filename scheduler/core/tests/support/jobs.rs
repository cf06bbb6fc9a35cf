//! What stories say of jobs.

use std::collections::BTreeMap;

use api_types::{
    id::{InstanceId, NodeId},
    instance::{Exit, Health, InstanceState, InstanceStatus},
    job::{JobSpec, KeepSpec},
    schedule::{BegunAlone, Overlap, ScheduleSpec},
    time::Timestamp,
};
use scheduler_core::{
    Scheduler,
    input::{Change, Input},
    schedule::Zone,
};

use crate::fleet::{Fleet, blank, well};

/// `job completions=3 parallelism=2 retries=1 deadline=60s keep=3/5`.
pub(crate) fn spec(options: &BTreeMap<String, String>) -> Option<JobSpec> {
    let get = |key: &str| options.get(key).map(String::as_str);
    get("job")?;
    let number = |key: &str, usual: u32| get(key).map_or(usual, |text| text.parse().expect("a number"));
    let usual = JobSpec::default();
    let keep = get("keep").map(|text| {
        let (succeeded, failed) = text.split_once('/').expect("two numbers");
        KeepSpec { succeeded: succeeded.parse().expect("a number"), failed: failed.parse().expect("a number") }
    });
    Some(JobSpec {
        completions: number("completions", usual.completions),
        parallelism: number("parallelism", usual.parallelism),
        retries: number("retries", usual.retries),
        deadline_ms: get("deadline").map(super::milliseconds),
        keep: keep.unwrap_or(usual.keep),
    })
}

/// `schedule=*/15_*_*_*_* zone=Europe/Berlin catch_up=1h overlap=replace suspend`.
pub(crate) fn schedule(options: &BTreeMap<String, String>) -> Option<ScheduleSpec> {
    let get = |key: &str| options.get(key).map(String::as_str);
    let usual = ScheduleSpec::at(get("schedule")?.replace('_', " ").parse().expect("a schedule"));
    Some(ScheduleSpec {
        time_zone: get("zone").map_or(usual.time_zone, str::to_owned),
        catch_up_ms: get("catch_up").map(super::milliseconds),
        overlap: Overlap::ALL.into_iter().find(|known| get("overlap") == Some(known.as_str())).unwrap_or_default(),
        suspend: get("suspend").is_some(),
        cron: usual.cron,
    })
}

/// What happens to jobs alone.
pub(crate) fn command(fleet: &mut Fleet, verb: &str, words: &[&str]) -> String {
    match verb {
        // A person begins a run: `run migrate`.
        "run" => return super::answer(fleet.request(Change::RunJob { workload: super::id(words[0]) })),
        // The scheduler's machine knows of a time zone that it is always so many seconds ahead: `zone Asia/Kolkata 19800`.
        "zone" => {
            let zone = Zone { offset_s: words[1].parse().expect("a number"), changes: Vec::new() };
            fleet.step(Input::Zones(BTreeMap::from([(words[0].to_owned(), zone)])));
        }
        "alone" => alone(fleet, words),
        // Processes end for good: `exited 0 migrate-100`.
        _ => {
            let code = words[0].parse().expect("a number");
            for instance in &words[1..] {
                fleet.say(&InstanceId::new(instance).expect("an instance"), |status| ended(status, code));
            }
        }
    }
    String::new()
}

/// A node that is not heard follows a schedule by its own clock, up to a time in seconds: `alone a backup 2700 backup-100@1800=0
/// backup-101@2700`. The last one runs still; one that it ended for the next is `backup-100@1800=replaced`, without a time if the
/// scheduler had begun it.
fn alone(fleet: &mut Fleet, words: &[&str]) {
    let (node, workload) = (super::name(words[0]), super::id(words[1]));
    let seconds = |text: &str| Timestamp(1_000 * text.parse::<u64>().expect("seconds"));
    let agent = fleet.agents.get_mut(&node).expect("a known agent");
    let set = agent.set.as_ref().expect("a set");
    let job = set.ahead.iter().find(|job| *job.workload() == workload).expect("a job that it was told of");
    let (revision, address) = (job.template.revision, set.subnet.nth(9));
    let followed = agent.alone.entry(workload).or_default();
    followed.until = seconds(words[2]);
    for word in &words[3..] {
        let (run, end) = word.split_once('=').unwrap_or((word, "runs"));
        let (instance, at) = run.split_once('@').unwrap_or((run, ""));
        let instance = InstanceId::new(instance).expect("an instance");
        if !at.is_empty() {
            followed.begun.insert(instance.clone(), BegunAlone { at: seconds(at), revision });
        }
        if end == "replaced" {
            agent.statuses.remove(&instance);
            followed.ended.insert(instance);
            continue;
        }
        let mut status = blank(&instance, fleet.now);
        status.address = address;
        well(&mut status);
        if end != "runs" {
            ended(&mut status, end.parse().expect("a code"));
        }
        agent.statuses.insert(instance, status);
    }
}

/// Its process ended with this code, and it is not tried again.
fn ended(status: &mut InstanceStatus, code: i32) {
    status.state = if code == 0 { InstanceState::Completed } else { InstanceState::Failed };
    status.health = Health::Unknown;
    status.last_exit = Some(Exit::Code(code));
    status.address = None;
    status.reason.clear();
}

/// `show jobs`, `show ahead a`.
pub(crate) fn show(fleet: &Fleet, words: &[&str]) -> String {
    match words {
        [_, node] => show_ahead(&fleet.scheduler, &super::name(node)),
        _ => show_runs(&fleet.scheduler, fleet.now),
    }
}

/// What a node is told of coming times: the first of each job, and how many more.
fn show_ahead(scheduler: &Scheduler, node: &NodeId) -> String {
    let set = scheduler.assignment_set(node);
    let told = set.iter().flat_map(|set| &set.ahead).map(|job| {
        let coming: Vec<String> =
            job.coming.iter().take(3).map(|(at, instance)| format!("{instance}@{}", at.0 / 1_000)).collect();
        let (workload, more) = (job.workload(), job.coming.len().saturating_sub(3));
        let back =
            if job.withdrawn.is_empty() { String::new() } else { format!(", {} taken back", job.withdrawn.len()) };
        let (revision, overlap) = (job.template.revision, job.overlap.as_str());
        format!("{workload} r{revision} {overlap}: {} and {more} more{back}\n", coming.join(" "))
    });
    told.collect()
}

/// The runs of each job that are kept, the newest first.
fn show_runs(scheduler: &Scheduler, now: Timestamp) -> String {
    let mut text = String::new();
    for workload in scheduler.workload_views() {
        let Some(job) = workload.job else { continue };
        let reason = if workload.reason.is_empty() { String::new() } else { format!(": {}", workload.reason) };
        text += &format!(
            "{} r{}, {} of {} run{reason}\n",
            workload.name, workload.revision, workload.running, workload.wanted
        );
        if let Some(next) = job.next_at {
            text += &format!("  next in {} s\n", next.since(now).div_ceil(1_000));
        }
        for run in job.runs {
            let instances: Vec<&str> = run.instances.iter().map(|instance| instance.as_str()).collect();
            let cause = if run.cause.is_empty() { String::new() } else { format!(": {}", run.cause) };
            let (number, state) = (run.number, run.state.as_str());
            let instances = instances.join(" ");
            let due = run.scheduled_at.map(|at| format!(", due at {}", at.0 / 1_000)).unwrap_or_default();
            let alone = if run.alone { ", begun by its node" } else { "" };
            let count = format!("{}/{}", run.done, run.completions);
            text += &format!("  run {number} {state} {count} [{instances}]{due}{alone}{cause}\n");
        }
    }
    text
}

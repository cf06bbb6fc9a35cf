//! What stories say of jobs.

use std::collections::BTreeMap;

use api_types::{
    id::InstanceId,
    instance::{Exit, Health, InstanceState, InstanceStatus},
    job::{JobSpec, KeepSpec},
    schedule::{Overlap, ScheduleSpec},
    time::Timestamp,
};
use scheduler_core::{
    Scheduler,
    input::{Change, Input},
    schedule::Zone,
};

use crate::fleet::Fleet;

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
        overlap: if get("overlap") == Some("replace") { Overlap::Replace } else { Overlap::Forbid },
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

/// Its process ended with this code, and it is not tried again.
fn ended(status: &mut InstanceStatus, code: i32) {
    status.state = if code == 0 { InstanceState::Completed } else { InstanceState::Failed };
    status.health = Health::Unknown;
    status.last_exit = Some(Exit::Code(code));
    status.address = None;
    status.reason.clear();
}

/// The runs of each job that are kept, the newest first.
pub(crate) fn show(scheduler: &Scheduler, now: Timestamp) -> String {
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
            text += &format!("  run {number} {state} {}/{} [{instances}]{due}{cause}\n", run.done, run.completions);
        }
    }
    text
}

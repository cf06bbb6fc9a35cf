//! What stories say of jobs.

use std::collections::BTreeMap;

use api_types::{
    instance::{Exit, Health, InstanceState, InstanceStatus},
    job::{JobSpec, KeepSpec},
};
use scheduler_core::Scheduler;

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

/// Its process ended with this code, and it is not tried again.
pub(crate) fn ended(status: &mut InstanceStatus, code: i32) {
    status.state = if code == 0 { InstanceState::Completed } else { InstanceState::Failed };
    status.health = Health::Unknown;
    status.last_exit = Some(Exit::Code(code));
    status.address = None;
    status.reason.clear();
}

/// The runs of each job that are kept, the newest first.
pub(crate) fn show(scheduler: &Scheduler) -> String {
    let mut text = String::new();
    for workload in scheduler.workload_views() {
        let Some(job) = workload.job else { continue };
        let reason = if workload.reason.is_empty() { String::new() } else { format!(": {}", workload.reason) };
        text += &format!(
            "{} r{}, {} of {} run{reason}\n",
            workload.name, workload.revision, workload.running, workload.wanted
        );
        for run in job.runs {
            let instances: Vec<&str> = run.instances.iter().map(|instance| instance.as_str()).collect();
            let cause = if run.cause.is_empty() { String::new() } else { format!(": {}", run.cause) };
            let (number, state) = (run.number, run.state.as_str());
            let instances = instances.join(" ");
            text += &format!("  run {number} {state} {}/{} [{instances}]{cause}\n", run.done, run.completions);
        }
    }
    text
}

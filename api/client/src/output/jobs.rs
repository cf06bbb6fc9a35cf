//! Jobs and their runs in columns.

use api_types::{
    job::RunState,
    schedule::UTC,
    time::Timestamp,
    view::{JobRunView, WorkloadView},
};
use serde::Serialize;

use crate::output::{
    amounts::{age, seconds},
    columns::Listed,
    table::table,
};

/// A workload that is a job, as `get jobs` lists it.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(crate) struct JobLine(pub(crate) WorkloadView);

/// The latest run of a job; `None` = it is none, or never ran.
pub(crate) fn latest(workload: &WorkloadView) -> Option<&JobRunView> {
    workload.job.as_ref()?.runs.first()
}

/// `2 of 8 done`: how far the latest run of a job is.
pub(crate) fn done(run: &JobRunView) -> String {
    format!("{} of {} done", run.done, run.completions)
}

/// `15 3 * * * Europe/Berlin`: when a job runs by itself; empty = when it is applied.
pub(crate) fn schedule(workload: &WorkloadView) -> String {
    let Some(schedule) = &workload.spec.schedule else { return String::new() };
    if schedule.time_zone == UTC {
        schedule.cron.to_string()
    } else {
        format!("{} {}", schedule.cron, schedule.time_zone)
    }
}

/// `in 3h`: when its schedule begins the next run; empty = it has none, or begins nothing.
pub(crate) fn next(workload: &WorkloadView, now: Timestamp) -> String {
    let is_suspended = workload.spec.schedule.as_ref().is_some_and(|schedule| schedule.suspend);
    match workload.job.as_ref().and_then(|job| job.next_at) {
        _ if is_suspended => "suspended".to_owned(),
        Some(next) if next <= now => "due".to_owned(),
        Some(next) => format!("in {}", age(now, next)),
        None => String::new(),
    }
}

/// `by n1's own clock while it hears no scheduler`; empty = by the scheduler alone.
pub(crate) fn follower(workload: &WorkloadView) -> String {
    let node = workload.job.as_ref().and_then(|job| job.follower.as_ref());
    node.map(|node| format!("by {node}'s own clock while it hears no scheduler")).unwrap_or_default()
}

/// The runs of a job, one a line, the newest first.
pub(crate) fn runs(runs: &[JobRunView], now: Timestamp) -> String {
    let row = |run: &JobRunView| {
        vec![
            run.number.to_string(),
            run.state.as_str().to_owned(),
            format!("{}/{}", run.done, run.completions),
            run.revision.to_string(),
            run.scheduled_at.map(|due| age(due, now)).unwrap_or_default(),
            age(run.began_at, now),
            took(run),
            reason(run),
        ]
    };
    let rows: Vec<Vec<String>> = runs.iter().map(row).collect();
    table(&["RUN", "STATE", "DONE", "REVISION", "DUE", "BEGAN", "TOOK", "REASON"], &rows)
}

/// Why it is not done, and whether its node began it.
fn reason(run: &JobRunView) -> String {
    let alone = if run.alone { "its node began it by its own clock" } else { "" };
    [alone, run.cause.as_str()].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(": ")
}

fn took(run: &JobRunView) -> String {
    run.ended_at.map(|ended| seconds(ended.since(run.began_at) / 1_000)).unwrap_or_default()
}

impl Listed for JobLine {
    fn name(&self) -> String {
        self.0.name.to_string()
    }

    fn headers(wide: bool) -> Vec<&'static str> {
        let narrow =
            ["NAME", "SCHEDULE", "RUN", "STATE", "DONE", "RUNNING", "IMAGE", "BEGAN", "TOOK", "NEXT", "REASON"];
        let more = ["REVISION", "PENDING", "KEPT"];
        narrow.into_iter().chain(more.into_iter().filter(|_| wide)).collect()
    }

    fn row(&self, wide: bool, now: Timestamp) -> Vec<String> {
        let Self(job) = self;
        let run = latest(job);
        let said = |of: fn(&JobRunView) -> String| run.map(of).unwrap_or_default();
        let mut row = vec![
            job.name.to_string(),
            schedule(job),
            said(|run| run.number.to_string()),
            run.map_or("waits", |run| run.state.as_str()).to_owned(),
            said(|run| format!("{}/{}", run.done, run.completions)),
            job.running.to_string(),
            job.image.clone(),
            run.map(|run| age(run.began_at, now)).unwrap_or_default(),
            said(took),
            next(job, now),
            job.reason.clone(),
        ];
        if wide {
            let ended = |run: &&JobRunView| run.state != RunState::Active;
            let kept = job.job.iter().flat_map(|job| &job.runs).filter(ended).count();
            row.extend([job.revision.to_string(), job.pending.to_string(), kept.to_string()]);
        }
        row
    }
}

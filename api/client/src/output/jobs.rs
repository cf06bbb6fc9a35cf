//! Jobs and their runs in columns.

use api_types::{
    job::RunState,
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

/// The runs of a job, one a line, the newest first.
pub(crate) fn runs(runs: &[JobRunView], now: Timestamp) -> String {
    let row = |run: &JobRunView| {
        vec![
            run.number.to_string(),
            run.state.as_str().to_owned(),
            format!("{}/{}", run.done, run.completions),
            run.revision.to_string(),
            age(run.began_at, now),
            took(run),
            run.cause.clone(),
        ]
    };
    let rows: Vec<Vec<String>> = runs.iter().map(row).collect();
    table(&["RUN", "STATE", "DONE", "REVISION", "BEGAN", "TOOK", "REASON"], &rows)
}

fn took(run: &JobRunView) -> String {
    run.ended_at.map(|ended| seconds(ended.since(run.began_at) / 1_000)).unwrap_or_default()
}

impl Listed for JobLine {
    fn name(&self) -> String {
        self.0.name.to_string()
    }

    fn headers(wide: bool) -> Vec<&'static str> {
        let narrow = ["NAME", "RUN", "STATE", "DONE", "RUNNING", "IMAGE", "BEGAN", "TOOK", "REASON"];
        let more = ["REVISION", "PENDING", "KEPT"];
        narrow.into_iter().chain(more.into_iter().filter(|_| wide)).collect()
    }

    fn row(&self, wide: bool, now: Timestamp) -> Vec<String> {
        let Self(job) = self;
        let run = latest(job);
        let said = |of: fn(&JobRunView) -> String| run.map(of).unwrap_or_default();
        let mut row = vec![
            job.name.to_string(),
            said(|run| run.number.to_string()),
            run.map_or("waits", |run| run.state.as_str()).to_owned(),
            said(|run| format!("{}/{}", run.done, run.completions)),
            job.running.to_string(),
            job.image.clone(),
            run.map(|run| age(run.began_at, now)).unwrap_or_default(),
            said(took),
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

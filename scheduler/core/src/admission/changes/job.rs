//! What a spec changes of a job and its schedule.

use api_types::{
    job::{JobSpec, KeepSpec},
    schedule::ScheduleSpec,
    workload::{Workload, WorkloadKind, WorkloadSpec},
};

use super::{Fields, number, text};

impl Fields {
    pub(super) fn add_job(&mut self, job: &JobSpec) {
        let JobSpec { completions, parallelism, retries, deadline_ms, keep: KeepSpec { succeeded, failed } } = job;
        self.add("completions", completions.to_string());
        self.add("parallelism", parallelism.to_string());
        self.add("retries", retries.to_string());
        self.add("deadline_ms", number(*deadline_ms));
        self.add("keep.succeeded", succeeded.to_string());
        self.add("keep.failed", failed.to_string());
    }

    pub(super) fn add_schedule(&mut self, schedule: Option<&ScheduleSpec>) {
        let Some(schedule) = schedule else { return };
        let ScheduleSpec { cron, time_zone, catch_up_ms, overlap, suspend } = schedule;
        self.add("schedule.cron", text(cron.as_str()));
        self.add("schedule.time_zone", text(time_zone));
        self.add("schedule.catch_up_ms", number(*catch_up_ms));
        self.add("schedule.overlap", text(overlap.as_str()));
        self.add("schedule.suspend", suspend.to_string());
    }
}

/// When a job runs because of this change; `replaced` = what it runs changed.
pub(super) fn warning(existing: Option<&Workload>, spec: &WorkloadSpec, replaced: bool) -> Option<&'static str> {
    if !matches!(spec.kind, WorkloadKind::Job(_)) {
        return None;
    }
    match &spec.schedule {
        Some(schedule) if schedule.suspend => Some("its schedule is suspended: it runs only when somebody asks for it"),
        Some(_) if replaced => Some("what still runs of it is ended; it runs again by its schedule"),
        Some(_) if existing.is_none() => Some("it runs by its schedule, and not now"),
        None if replaced => Some("it runs once more; what still runs of it is ended"),
        Some(_) | None => None,
    }
}

//! Schedules of jobs: which run is due, what comes of those that were missed or meet another, and runs that a person asks for.
//!
//! A run is known by the time of the schedule that it is for. How far a schedule was followed is durable together with the run
//! that began, so no restart forgets one or repeats it, and a clock that is put back repeats none.

use api_types::{
    id::WorkloadId,
    job::RunState,
    schedule::{Overlap, RUNS_MAX, ScheduleSpec},
    time::Timestamp,
};

use crate::{
    admission::kind_name,
    effect::{ActiveRun, Followed, Job, Refusal},
    history::Subject,
    machine::Scheduler,
    schedule::Zone,
    timers::Timer,
};

/// What is due of a schedule.
#[derive(Debug, PartialEq, Eq)]
enum Due {
    /// Nothing until then.
    Later(Timestamp),
    /// A run for this time.
    Run(Timestamp),
    /// Nothing any more: the first that was missed was due then.
    Missed(Timestamp),
}

impl Scheduler {
    /// Begins the run that is due by the schedule of a job.
    pub(super) fn follow_schedule(&mut self, id: &WorkloadId) {
        // In a rehearsal no run ever ends, so none begins by the clock.
        if self.is_rehearsal {
            return;
        }
        let spec = self.cluster.workloads.get(id).and_then(|entry| entry.spec().schedule.clone());
        let Some(schedule) = spec.filter(|schedule| !schedule.suspend) else {
            if self.cluster.jobs.get(id).is_some_and(|job| job.followed.is_some()) {
                self.note_followed(id, None);
            }
            return;
        };
        let followed = self.cluster.jobs.get(id).and_then(|job| job.followed.as_ref());
        let Some(until) = followed.filter(|followed| followed.is_of(&schedule)).map(|followed| followed.until) else {
            self.note_followed(id, Some(Followed::since(&schedule, self.now)));
            return;
        };
        if self.is_left_to_its_node(id) {
            return;
        }
        let due = self.cluster.zone(&schedule.time_zone).and_then(|zone| due(zone, &schedule, until, self.now));
        let Some(due) = due else { return };
        if let Due::Later(at) = due {
            self.timers.set(at, Timer::Due(id.clone()));
            return;
        }
        self.note_followed(id, Some(Followed::since(&schedule, self.now)));
        match due {
            Due::Later(_) => {}
            Due::Run(at) => self.begin_scheduled(id, schedule.overlap, at),
            Due::Missed(since) => {
                let message = format!("what was due since {} s ago is not run", self.now.since(since) / 1_000);
                self.history.add(self.now, Subject::Workload(id), "run-missed", message);
            }
        }
    }

    /// When the schedule of a job begins the next run; `None` = it has none, or begins nothing.
    pub(crate) fn next_run(&self, id: &WorkloadId) -> Option<Timestamp> {
        let schedule = self.cluster.workloads.get(id)?.spec().schedule.as_ref()?;
        let followed = self.cluster.jobs.get(id)?.followed.as_ref().filter(|followed| followed.is_of(schedule))?;
        // What is due now is its node's business, if that is not heard.
        let after = if self.is_left_to_its_node(id) { followed.until.max(self.now) } else { followed.until };
        self.cluster.zone(&schedule.time_zone)?.next(&schedule.cron, after)
    }

    /// Begins a run of a job because a person asks for it; says which.
    pub(crate) fn run_job(&mut self, id: &WorkloadId) -> Result<String, Refusal> {
        let entry = self.cluster.workloads.get(id).ok_or_else(|| Refusal::UnknownWorkload(id.clone()))?;
        if self.job_spec(id).is_none() {
            let kind = kind_name(&entry.kind());
            return Err(Refusal::Invalid(format!("`{id}` is a {kind}: only jobs run when they are asked to")));
        }
        let overlap = entry.spec().schedule.as_ref().map(|schedule| schedule.overlap).unwrap_or_default();
        let active = self.active_runs(id);
        match (active.last(), overlap) {
            (Some(active), Overlap::Forbid) => {
                return Err(Refusal::Conflict(format!(
                    "run {active} of `{id}` is still active: `wherry describe job {id}` says how far it is"
                )));
            }
            (Some(_), Overlap::Allow) if active.len() >= RUNS_MAX => {
                return Err(Refusal::Conflict(format!("{RUNS_MAX} runs of `{id}` are active, and no more may be")));
            }
            (Some(_), Overlap::Replace) => self.end_runs(id, "another run was asked for"),
            (Some(_), Overlap::Allow) | (None, _) => {}
        }
        let number = self.begin_run(id, ActiveRun { began_at: self.now, ..ActiveRun::default() });
        Ok(format!("run {number} of {id} began"))
    }

    fn begin_scheduled(&mut self, id: &WorkloadId, overlap: Overlap, at: Timestamp) {
        let active = self.active_runs(id);
        let skipped = match (active.last(), overlap) {
            (Some(active), Overlap::Forbid) => Some(format!("a run was due, but run {active} is still active")),
            (Some(_), Overlap::Allow) if active.len() >= RUNS_MAX => {
                Some(format!("a run was due, but {RUNS_MAX} are still active"))
            }
            (Some(_), Overlap::Replace) => {
                self.end_runs(id, "the next run was due");
                None
            }
            (Some(_), Overlap::Allow) | (None, _) => None,
        };
        if let Some(message) = skipped {
            self.history.add(self.now, Subject::Workload(id), "run-skipped", message);
            return;
        }
        let promised = self.take_promised(id, at);
        let run = ActiveRun { scheduled_at: Some(at), began_at: self.now, promised, ..ActiveRun::default() };
        self.begin_run(id, run);
    }

    fn end_runs(&mut self, id: &WorkloadId, cause: &str) {
        for run in self.active_runs(id) {
            self.end_run(id, run, RunState::Stopped, cause.to_owned());
        }
    }

    pub(super) fn note_followed(&mut self, id: &WorkloadId, followed: Option<Followed>) {
        let mut job = self.cluster.jobs.get(id).cloned().unwrap_or_else(|| Job::new(id.clone()));
        job.followed = followed;
        self.cluster.put_job(job);
    }
}

/// What is due of a schedule that was followed until `until`; `None` = it is never due again.
fn due(zone: &Zone, schedule: &ScheduleSpec, until: Timestamp, now: Timestamp) -> Option<Due> {
    let first = zone.next(&schedule.cron, until)?;
    if first > now {
        return Some(Due::Later(first));
    }
    let late_ms = schedule.late_ms();
    // What is due exactly then counts.
    let mut latest = None;
    let mut after = until.max((now - late_ms) - 1);
    while let Some(next) = zone.next(&schedule.cron, after).filter(|next| *next <= now) {
        (latest, after) = (Some(next), next);
    }
    Some(latest.map_or(Due::Missed(first), Due::Run))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000;

    fn due_at(catch_up_ms: Option<u64>, until: u64, now: u64) -> Due {
        let schedule = ScheduleSpec { catch_up_ms, ..ScheduleSpec::at("*/30 * * * *".parse().expect("a schedule")) };
        due(&Zone::default(), &schedule, Timestamp(until), Timestamp(now)).expect("it is due again and again")
    }

    #[test]
    fn what_is_a_minute_late_is_on_time_and_what_is_later_was_missed() {
        assert_eq!(due_at(None, 0, 30 * MINUTE - 1), Due::Later(Timestamp(30 * MINUTE)));
        assert_eq!(due_at(None, 0, 30 * MINUTE), Due::Run(Timestamp(30 * MINUTE)));
        assert_eq!(due_at(None, 0, 31 * MINUTE), Due::Run(Timestamp(30 * MINUTE)));
        assert_eq!(due_at(None, 0, 31 * MINUTE + 1), Due::Missed(Timestamp(30 * MINUTE)));
    }

    #[test]
    fn the_latest_missed_run_is_caught_up_as_far_back_as_is_said() {
        let catch_up = Some(20 * MINUTE);

        assert_eq!(due_at(catch_up, 0, 110 * MINUTE), Due::Run(Timestamp(90 * MINUTE)));
        assert_eq!(due_at(catch_up, 0, 110 * MINUTE + 1), Due::Missed(Timestamp(30 * MINUTE)));
        assert_eq!(due_at(catch_up, 90 * MINUTE, 110 * MINUTE), Due::Later(Timestamp(120 * MINUTE)));
    }

    #[test]
    fn a_clock_that_is_put_back_repeats_nothing() {
        assert_eq!(due_at(Some(MINUTE), 90 * MINUTE, 60 * MINUTE), Due::Later(Timestamp(120 * MINUTE)));
    }
}

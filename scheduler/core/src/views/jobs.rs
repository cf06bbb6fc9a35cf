//! Jobs and their runs, seen from outside.

use api_types::{
    id::{InstanceId, NodeId, WorkloadId},
    job::RunState,
    view::{JobRunView, JobView},
};

use crate::{cluster::workloads::WorkloadEntry, effect::Job, machine::Scheduler};

impl Scheduler {
    /// What a job did and does; `None` if it is none.
    pub(super) fn job_view(&self, entry: &WorkloadEntry) -> Option<JobView> {
        let id = &entry.spec().id;
        let spec = self.job_spec(id)?;
        let Some(job) = self.cluster.jobs.get(id) else { return Some(JobView::default()) };
        let mut runs = Vec::with_capacity(job.ended.len() + 1);
        for (number, revision, run) in job.active() {
            let here = self.cluster.instances_of(id).filter(|held| held.is_wanted()).map(|held| held.number);
            let here = here.filter(|instance| job.run_of(*instance) == Some(number));
            runs.push(JobRunView {
                number,
                revision,
                state: RunState::Active,
                cause: String::new(),
                done: u32::try_from(run.done.len()).unwrap_or(u32::MAX),
                completions: spec.completions,
                scheduled_at: run.scheduled_at,
                alone: run.alone,
                began_at: run.began_at,
                ended_at: None,
                instances: self.there(id, here.chain(run.done.values().copied())),
            });
        }
        runs.extend(job.ended.iter().map(|run| JobRunView {
            number: run.number,
            revision: run.since,
            state: run.state,
            cause: run.cause.clone(),
            done: run.done,
            completions: run.completions,
            scheduled_at: run.scheduled_at,
            alone: run.alone,
            began_at: run.began_at,
            ended_at: Some(run.ended_at),
            instances: self.there(id, run.instances.iter().copied()),
        }));
        runs.sort_by_key(|run| std::cmp::Reverse(run.number));
        Some(JobView { runs, next_at: self.next_run(id), follower: self.follower(id) })
    }

    /// Why nothing of a job runs that should: its schedule cannot be followed, or its latest run did not succeed and no other is
    /// active; empty if all is well.
    pub(super) fn job_trouble(&self, entry: &WorkloadEntry) -> String {
        match &entry.spec().schedule {
            Some(schedule) if self.cluster.zone(&schedule.time_zone).is_none() => {
                format!("it does not run by itself: the scheduler's machine knows no time zone {}", schedule.time_zone)
            }
            Some(_) | None => self.last_failure(&entry.spec().id),
        }
    }

    /// Which node follows the schedule of a job by its own clock while it hears no scheduler.
    fn follower(&self, id: &WorkloadId) -> Option<NodeId> {
        let ahead = self.cluster.jobs.get(id)?.ahead.as_ref().filter(|ahead| !ahead.coming.is_empty())?;
        Some(ahead.node.clone())
    }

    /// Why the latest run of a job did not succeed, while no other is active; empty if it did.
    fn last_failure(&self, id: &WorkloadId) -> String {
        let latest =
            |job: &Job| job.ended.iter().find(|run| run.number == job.begun && job.active().next().is_none()).cloned();
        let latest = self.cluster.jobs.get(id).and_then(latest).filter(|run| run.state == RunState::Failed);
        latest.map(|run| format!("run {} failed: {}", run.number, run.cause)).unwrap_or_default()
    }

    /// The ids of those instances that are there, sorted.
    fn there(&self, id: &WorkloadId, numbers: impl Iterator<Item = u64>) -> Vec<InstanceId> {
        let held = numbers.filter_map(|number| self.cluster.held(number)).filter(|held| held.workload() == id);
        let mut ids: Vec<InstanceId> = held.map(|held| held.id()).collect();
        ids.sort_unstable();
        ids
    }
}

//! What is durable of a job: the run that is active, and those that ended and are kept.

use std::collections::BTreeMap;

use api_types::{
    counter::Revision,
    id::WorkloadId,
    job::{KeepSpec, RunState},
    schedule::{Cron, ScheduleSpec},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

/// The runs of a job. Instances are named by number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// The workload.
    pub workload: WorkloadId,
    /// How many runs began; the number of the latest.
    pub begun: u64,
    /// The revision that the latest runs.
    pub since: Revision,
    /// The latest, while it is active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<ActiveRun>,
    /// Those that ended and are kept, the newest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ended: Vec<EndedRun>,
    /// The revision of the latest run that succeeded, whether it is kept or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub succeeded: Option<Revision>,
    /// How far its schedule was followed; `None` = it has none, or begins nothing for now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub followed: Option<Followed>,
}

/// How far a schedule was followed. Another schedule is followed from the moment on at which it was applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Followed {
    /// Its times.
    pub cron: Cron,
    /// By whose clock.
    pub time_zone: String,
    /// What was due until then has begun, or was left out for good.
    pub until: Timestamp,
}

impl Followed {
    /// Follows a schedule from now on.
    pub(crate) fn since(schedule: &ScheduleSpec, now: Timestamp) -> Self {
        Self { cron: schedule.cron.clone(), time_zone: schedule.time_zone.clone(), until: now }
    }

    /// Whether these are the times of a schedule.
    pub(crate) fn is_of(&self, schedule: &ScheduleSpec) -> bool {
        (&self.cron, &self.time_zone) == (&schedule.cron, &schedule.time_zone)
    }
}

/// A run that is not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActiveRun {
    /// The time of the schedule that it is for; `None` = it was applied, or a person asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled_at: Option<Timestamp>,
    /// When it began.
    pub began_at: Timestamp,
    /// The slots that are done, and by which instance.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub done: BTreeMap<u32, u64>,
}

/// A run that ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedRun {
    /// Which, from 1.
    pub number: u64,
    /// The revision that it ran.
    pub since: Revision,
    /// How it ended.
    pub state: RunState,
    /// Why it did not succeed; empty if it did.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cause: String,
    /// See [`ActiveRun::scheduled_at`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled_at: Option<Timestamp>,
    /// When it began.
    pub began_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// How many slots were done.
    pub done: u32,
    /// Of how many.
    pub completions: u32,
    /// The instances that ended by themselves: they stay on their nodes, with what they wrote, as long as this is kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instances: Vec<u64>,
}

impl Job {
    /// A job that never ran.
    pub(crate) fn new(workload: WorkloadId) -> Self {
        Self { workload, begun: 0, since: Revision(0), run: None, ended: Vec::new(), succeeded: None, followed: None }
    }

    /// The instances that ended by themselves and are kept.
    pub(crate) fn finished(&self) -> impl Iterator<Item = u64> {
        let done = self.run.iter().flat_map(|run| run.done.values().copied());
        done.chain(self.ended.iter().flat_map(|run| run.instances.iter().copied()))
    }

    /// Whether more runs are kept than are to be.
    pub(crate) fn keeps_more_than(&self, keep: KeepSpec) -> bool {
        let succeeded = self.ended.iter().filter(|run| run.state == RunState::Succeeded).count();
        succeeded > keep.succeeded as usize || self.ended.len() - succeeded > keep.failed as usize
    }

    /// Forgets the oldest runs beyond what is to be kept; gives those that are forgotten.
    pub(crate) fn forget_beyond(&mut self, keep: KeepSpec) -> Vec<EndedRun> {
        let mut left = (keep.succeeded, keep.failed);
        let mut forgotten = Vec::new();
        for run in std::mem::take(&mut self.ended).into_iter().rev() {
            let left = if run.state == RunState::Succeeded { &mut left.0 } else { &mut left.1 };
            if *left == 0 {
                forgotten.push(run);
            } else {
                *left -= 1;
                self.ended.push(run);
            }
        }
        self.ended.reverse();
        forgotten
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_of_each_outcome_are_kept_in_their_order() {
        let mut job = Job::new("backup".parse().expect("a name"));
        let outcomes =
            [RunState::Succeeded, RunState::Failed, RunState::Succeeded, RunState::Stopped, RunState::Succeeded];
        job.ended = (1..).zip(outcomes).map(|(number, state)| ended(number, state)).collect();

        let forgotten = job.forget_beyond(KeepSpec { succeeded: 2, failed: 1 });

        let numbers = |runs: &[EndedRun]| runs.iter().map(|run| run.number).collect::<Vec<_>>();
        assert_eq!((numbers(&job.ended), numbers(&forgotten)), (vec![3, 4, 5], vec![2, 1]));
    }

    fn ended(number: u64, state: RunState) -> EndedRun {
        EndedRun {
            number,
            since: Revision(1),
            state,
            cause: String::new(),
            scheduled_at: None,
            began_at: Timestamp(0),
            ended_at: Timestamp(0),
            done: 0,
            completions: 1,
            instances: Vec::new(),
        }
    }
}

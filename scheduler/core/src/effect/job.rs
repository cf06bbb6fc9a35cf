//! What is durable of a job: the run that is active, and those that ended and are kept.

use std::collections::{BTreeMap, BTreeSet};

use api_types::{
    counter::Revision,
    id::{NodeId, WorkloadId},
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
    /// Earlier ones that are active, too, in the order in which they began.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub beside: Vec<EarlierRun>,
    /// Those that ended and are kept, the newest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ended: Vec<EndedRun>,
    /// The revision of the latest run that succeeded, whether it is kept or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub succeeded: Option<Revision>,
    /// How far its schedule was followed; `None` = it has none, or begins nothing for now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub followed: Option<Followed>,
    /// What a node was told of its coming times, to go on by itself; `None` = nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ahead: Option<Ahead>,
}

/// Runs that a node begins by its own clock while it hears no scheduler: each has the number of its instance before it begins, so
/// that it is the same run, whoever begins it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ahead {
    /// Which node.
    pub node: NodeId,
    /// What it runs then.
    pub revision: Revision,
    /// The coming times, and the number of the instance of each.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub coming: BTreeMap<Timestamp, u64>,
    /// Times that were coming, and for which no run begins any more: the node may not have heard of it in time.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub withdrawn: BTreeMap<Timestamp, u64>,
}

impl Ahead {
    /// For which time a node begins an instance.
    pub(crate) fn time_of(&self, number: u64) -> Option<Timestamp> {
        let times = self.coming.iter().chain(&self.withdrawn);
        times.filter(|(_, promised)| **promised == number).map(|(at, _)| *at).next()
    }

    /// The number of the instance that is for this time, which is used from now on.
    pub(crate) fn take(&mut self, at: Timestamp) -> Option<u64> {
        self.coming.remove(&at).or_else(|| self.withdrawn.remove(&at))
    }
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActiveRun {
    /// The time of the schedule that it is for; `None` = it was applied, or a person asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled_at: Option<Timestamp>,
    /// When it began.
    pub began_at: Timestamp,
    /// The slots that are done, and by which instance.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub done: BTreeMap<u32, u64>,
    /// The number that its first instance gets, as its node was told before; `None` = that is placed, or any will do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promised: Option<u64>,
    /// Whether its node began it by its own clock.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub alone: bool,
}

/// A run that is not done, while a later one is active or was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EarlierRun {
    /// Which, from 1.
    pub number: u64,
    /// The revision that it runs.
    pub since: Revision,
    /// How far it is.
    pub run: ActiveRun,
    /// Its instances that are not done.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub instances: BTreeSet<u64>,
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
    /// See [`ActiveRun::alone`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub alone: bool,
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
        Self {
            workload,
            begun: 0,
            since: Revision(0),
            run: None,
            beside: Vec::new(),
            ended: Vec::new(),
            succeeded: None,
            followed: None,
            ahead: None,
        }
    }

    /// The runs that are active: number, revision and how far each is, the earliest first.
    pub(crate) fn active(&self) -> impl DoubleEndedIterator<Item = (u64, Revision, &ActiveRun)> {
        let earlier = self.beside.iter().map(|earlier| (earlier.number, earlier.since, &earlier.run));
        earlier.chain(self.run.iter().map(|run| (self.begun, self.since, run)))
    }

    /// A run that is active.
    pub(crate) fn active_run(&self, number: u64) -> Option<&ActiveRun> {
        self.active().find(|(active, ..)| *active == number).map(|(_, _, run)| run)
    }

    /// The same, to change.
    pub(crate) fn active_run_mut(&mut self, number: u64) -> Option<&mut ActiveRun> {
        if number == self.begun && self.run.is_some() {
            return self.run.as_mut();
        }
        self.beside.iter_mut().find(|earlier| earlier.number == number).map(|earlier| &mut earlier.run)
    }

    /// Takes a run out of those that are active, with its revision.
    pub(crate) fn take_active(&mut self, number: u64) -> Option<(Revision, ActiveRun)> {
        if number == self.begun
            && let Some(run) = self.run.take()
        {
            return Some((self.since, run));
        }
        let place = self.beside.iter().position(|earlier| earlier.number == number)?;
        let earlier = self.beside.remove(place);
        Some((earlier.since, earlier.run))
    }

    /// The active run that an instance which is not done belongs to; `None` = none is active, or it is of none of them.
    pub(crate) fn run_of(&self, instance: u64) -> Option<u64> {
        let earlier = self.beside.iter().find(|earlier| earlier.instances.contains(&instance));
        earlier.map(|earlier| earlier.number).or_else(|| self.run.as_ref().map(|_| self.begun))
    }

    /// The instances that ended by themselves and are kept.
    pub(crate) fn finished(&self) -> impl Iterator<Item = u64> {
        let done = self.active().flat_map(|(_, _, run)| run.done.values().copied());
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
            alone: false,
            began_at: Timestamp(0),
            ended_at: Timestamp(0),
            done: 0,
            completions: 1,
            instances: Vec::new(),
        }
    }
}

//! How workloads change, and which of their instances must still show that they work.

use std::collections::BTreeMap;

use api_types::{id::WorkloadId, time::Timestamp};

use crate::{
    cluster::{Cluster, rows::TRIAL},
    effect::{Record, RecordKey, Rollout},
};

/// How a workload changes, and whom it tries.
#[derive(Clone, Debug)]
pub(crate) struct RolloutEntry {
    /// What is durable.
    pub(crate) rollout: Rollout,
    /// The instances that must show that they work, by number.
    pub(crate) trials: BTreeMap<u64, Trial>,
    /// Since when nothing of the wanted revision is anywhere and no room is found for it. Not durable, as trials are not.
    pub(crate) without_room_since: Option<Timestamp>,
    /// The sites to which the successors go of those that were ended to make room for them, by slot. Not durable.
    pub(crate) sites: BTreeMap<u32, String>,
}

impl RolloutEntry {
    /// One of which nobody is on trial.
    pub(crate) fn new(rollout: Rollout) -> Self {
        Self { rollout, trials: BTreeMap::new(), without_room_since: None, sites: BTreeMap::new() }
    }
}

/// What an instance showed so far. It begins anew when its node was silent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trial {
    /// Since when it is looked at, its node being heard of.
    pub(crate) since: Option<Timestamp>,
    /// Since when it is well without a break.
    pub(crate) well_since: Option<Timestamp>,
}

impl Cluster {
    /// How a workload changes.
    pub(crate) fn rollout(&self, id: &WorkloadId) -> Option<&Rollout> {
        self.rollouts.get(id).map(|entry| &entry.rollout)
    }

    /// Takes over how a workload changes.
    pub(crate) fn put_rollout(&mut self, rollout: Rollout) {
        let id = rollout.workload.clone();
        self.persist(Record::Rollout(Box::new(rollout.clone())));
        if rollout.may_be_weighed() {
            self.touched.services.insert(id.clone());
        }
        match self.rollouts.get_mut(&id) {
            Some(entry) => {
                if entry.rollout.current().revision != rollout.current().revision {
                    entry.without_room_since = None;
                }
                entry.rollout = rollout;
            }
            None => drop(self.rollouts.insert(id.clone(), RolloutEntry::new(rollout))),
        }
        self.touched.workloads.insert(id);
        self.touched.seen = true;
    }

    /// Changes what is durable of how a workload changes.
    pub(crate) fn change_rollout(&mut self, id: &WorkloadId, change: impl FnOnce(&mut Rollout)) {
        let Some(mut rollout) = self.rollout(id).cloned() else { return };
        change(&mut rollout);
        self.put_rollout(rollout);
    }

    /// Forgets how a workload changed; nobody of it is on trial any more.
    pub(crate) fn delete_rollout(&mut self, id: &WorkloadId) {
        let tried = self.rollouts.get(id).map(|entry| entry.trials.keys().copied().collect::<Vec<_>>());
        for number in tried.unwrap_or_default() {
            self.end_trial(number);
        }
        if self.rollouts.remove(id).is_some() {
            self.unpersist(RecordKey::Rollout(id.clone()));
        }
    }

    /// From now on an instance must show that it works before it counts.
    pub(crate) fn begin_trial(&mut self, number: u64) {
        let Some(id) = self.held(number).map(|held| held.workload().clone()) else { return };
        let (Some(entry), Some(row)) = (self.rollouts.get_mut(&id), self.rows.get_mut(number)) else { return };
        row.flags |= TRIAL;
        entry.trials.insert(number, Trial::default());
        self.touched.workloads.insert(id.clone());
        self.touch_endpoint(id, number);
    }

    /// An instance showed that it works.
    pub(crate) fn end_trial(&mut self, number: u64) {
        let Some(id) = self.held(number).map(|held| held.workload().clone()) else { return };
        if let Some(entry) = self.rollouts.get_mut(&id) {
            entry.trials.remove(&number);
        }
        if let Some(row) = self.rows.get_mut(number) {
            row.flags &= !TRIAL;
        }
        self.touched.workloads.insert(id.clone());
        self.touched.seen = true;
        self.touch_endpoint(id, number);
    }
}

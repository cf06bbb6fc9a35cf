//! The scheduler's disk: a transaction is there whole or not at all, and what was acknowledged is there for good.

use std::collections::{BTreeMap, BTreeSet};

use api_types::{
    counter::Revision,
    id::{InstanceId, NodeId, WorkloadId},
    instance::{Desired, Instance},
    node::NodeSpec,
    rollout::RolloutState,
    workload::{Workload, WorkloadSpec},
};
use scheduler_core::effect::{Effect, KeptRevision, Record, RecordKey, Rollout};

/// All that is durable, with the instances that the records name.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    /// The records.
    pub records: BTreeMap<RecordKey, Record>,
    /// The instances in them.
    pub instances: BTreeMap<InstanceId, Instance>,
    by_record: BTreeMap<RecordKey, Vec<InstanceId>>,
    by_node: BTreeMap<NodeId, BTreeSet<InstanceId>>,
    by_workload: BTreeMap<WorkloadId, BTreeSet<InstanceId>>,
}

impl Disk {
    /// Writes or forgets one record; anything else is not for the disk.
    pub fn write(&mut self, effect: Effect) {
        let Some((key, instances)) = instances_after(&effect) else { return };
        for id in self.by_record.remove(&key).unwrap_or_default() {
            self.remove(&id);
        }
        if !instances.is_empty() {
            self.by_record.insert(key.clone(), instances.iter().map(|held| held.id.clone()).collect());
            instances.into_iter().for_each(|held| self.insert(held));
        }
        match effect {
            Effect::Persist(record) => drop(self.records.insert(key, *record)),
            Effect::Forget(_) => drop(self.records.remove(&key)),
            Effect::Reply { .. } | Effect::AssignmentsChanged(_) => {}
            Effect::ServicesChanged | Effect::NodeRemoved(_) => {}
        }
    }

    fn insert(&mut self, held: Instance) {
        self.by_node.entry(held.node.clone()).or_default().insert(held.id.clone());
        self.by_workload.entry(held.workload.clone()).or_default().insert(held.id.clone());
        self.instances.insert(held.id.clone(), held);
    }

    fn remove(&mut self, id: &InstanceId) {
        let Some(held) = self.instances.remove(id) else { return };
        self.by_node.entry(held.node).or_default().remove(id);
        self.by_workload.entry(held.workload).or_default().remove(id);
    }

    /// The instances on a node.
    pub fn on(&self, node: &NodeId) -> impl Iterator<Item = &Instance> {
        self.by_node.get(node).into_iter().flatten().filter_map(|id| self.instances.get(id))
    }

    /// The instances of a workload.
    pub fn of(&self, workload: &WorkloadId) -> impl Iterator<Item = &Instance> {
        self.by_workload.get(workload).into_iter().flatten().filter_map(|id| self.instances.get(id))
    }

    /// The instances that shall run, and will not once this effect is done.
    #[must_use]
    pub fn ended_by(&self, effect: &Effect) -> Vec<&Instance> {
        let Some((key, after)) = instances_after(effect) else { return Vec::new() };
        let goes_on = |id: &InstanceId| after.iter().any(|held| held.id == *id && held.desired == Desired::Run);
        let before = self.by_record.get(&key).into_iter().flatten().filter_map(|id| self.instances.get(id));
        before.filter(|held| held.desired == Desired::Run && !goes_on(&held.id)).collect()
    }

    /// The instances that are on the books, and will not be once this effect is done.
    #[must_use]
    pub fn gone_by(&self, effect: &Effect) -> Vec<&InstanceId> {
        let Some((key, after)) = instances_after(effect) else { return Vec::new() };
        let before = self.by_record.get(&key).into_iter().flatten();
        before.filter(|id| !after.iter().any(|held| held.id == **id)).collect()
    }

    /// The instances that this effect places.
    #[must_use]
    pub fn placed_by(&self, effect: &Effect) -> Vec<Instance> {
        let after = instances_after(effect).map(|(_, after)| after).unwrap_or_default();
        after
            .into_iter()
            .filter(|held| held.desired == Desired::Run && !self.instances.contains_key(&held.id))
            .collect()
    }

    /// The workloads, as they are wanted.
    pub fn workloads(&self) -> impl Iterator<Item = &Workload> {
        let records = self.records.values();
        records.filter_map(|record| if let Record::Workload(workload) = record { Some(&**workload) } else { None })
    }

    /// A workload, as it is wanted.
    #[must_use]
    pub fn workload(&self, id: &WorkloadId) -> Option<&Workload> {
        let record = self.records.get(&RecordKey::Workload(id.clone()))?;
        if let Record::Workload(workload) = record { Some(workload) } else { None }
    }

    /// How a workload changes.
    #[must_use]
    pub fn rollout(&self, id: &WorkloadId) -> Option<&Rollout> {
        let record = self.records.get(&RecordKey::Rollout(id.clone()))?;
        if let Record::Rollout(rollout) = record { Some(rollout) } else { None }
    }

    /// What is wanted of a workload for which a person asked this: that, or what came back when it did not work.
    #[must_use]
    pub fn wanted(&self, asked: WorkloadSpec) -> WorkloadSpec {
        let is_back = |rollout: &&Rollout| {
            let (state, failed) = (rollout.state, rollout.failed);
            let of_asked = |kept: &KeptRevision| Some(kept.revision) == failed && kept.spec.runs_the_same_as(&asked);
            matches!(state, RolloutState::RollingBack | RolloutState::RolledBack)
                && rollout.revisions.iter().any(of_asked)
        };
        match self.rollout(&asked.id).filter(is_back) {
            Some(rollout) => WorkloadSpec { kind: asked.kind, ..rollout.current().spec.clone() },
            None => asked,
        }
    }

    /// A node, as it is registered.
    #[must_use]
    pub fn node(&self, id: &NodeId) -> Option<&NodeSpec> {
        let record = self.records.get(&RecordKey::Node(id.clone()))?;
        if let Record::Node(node) = record { Some(node) } else { None }
    }

    /// Whether an instance runs what its workload is now: it was placed for that, or for an earlier revision that is the same.
    #[must_use]
    pub fn is_current(&self, instance: &Instance) -> bool {
        self.workload(&instance.workload).is_some_and(|wanted| {
            let is_same = |run: &Workload| run.spec.runs_the_same_as(&wanted.spec);
            instance.revision >= wanted.runs_since || self.run_of(instance).is_some_and(is_same)
        })
    }

    /// The workload that an instance was placed with: the newest that runs since its revision or before.
    #[must_use]
    pub fn run_of(&self, instance: &Instance) -> Option<&Workload> {
        let newest = self.workload(&instance.workload).filter(|workload| workload.runs_since <= instance.revision);
        newest.or_else(|| {
            let first = RecordKey::Revision(instance.workload.clone(), Revision(0));
            let last = RecordKey::Revision(instance.workload.clone(), instance.revision);
            let record = self.records.range(first..=last).next_back().map(|(_, record)| record)?;
            if let Record::Revision(earlier) = record { Some(earlier) } else { None }
        })
    }
}

/// The record that an effect concerns, and the instances in it afterwards.
fn instances_after(effect: &Effect) -> Option<(RecordKey, Vec<Instance>)> {
    match effect {
        Effect::Persist(record) => Some((record.key(), instances_in(record))),
        Effect::Forget(key) => Some((key.clone(), Vec::new())),
        Effect::Reply { .. } | Effect::AssignmentsChanged(_) => None,
        Effect::ServicesChanged | Effect::NodeRemoved(_) => None,
    }
}

fn instances_in(record: &Record) -> Vec<Instance> {
    if let Record::Instances(page) = record { page.instances().collect() } else { Vec::new() }
}

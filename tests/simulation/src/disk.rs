//! The scheduler's disk: a transaction is there whole or not at all, and what was acknowledged is there for good.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use api_types::{
    counter::Revision,
    id::{InstanceId, NodeId, WorkloadId},
    instance::{Desired, Instance},
    node::NodeSpec,
    rollout::RolloutState,
    workload::{Workload, WorkloadKind, WorkloadSpec},
};
use scheduler_core::effect::{Effect, InstancePage, Job, KeptRevision, Record, RecordKey, Rollout};

/// Instances, by id.
type Instances = BTreeMap<InstanceId, Arc<Instance>>;

/// All that is durable, with the instances that the records name.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    /// The records.
    pub records: BTreeMap<RecordKey, Record>,
    /// The instances in them.
    pub instances: Instances,
    by_node: BTreeMap<NodeId, Instances>,
    by_workload: BTreeMap<WorkloadId, Instances>,
    /// The numbers of instances of jobs that ended by themselves: they are in `instances` only, as they hold nothing of their node.
    finished: BTreeSet<u64>,
    /// The workloads among the records: each second everybody looks at all of them.
    workloads: BTreeMap<WorkloadId, Arc<Workload>>,
    /// How many times something was written.
    writes: u64,
}

impl Disk {
    /// Writes or forgets one record; anything else is not for the disk.
    pub fn write(&mut self, effect: Effect) {
        self.writes += 1;
        for (was, is) in self.differences(&effect) {
            if let Some(was) = was {
                self.remove(&was);
                if is.is_none() {
                    self.finished.remove(&number_of(&was.id));
                }
            }
            if let Some(is) = is {
                self.insert(Arc::new(is));
            }
        }
        match effect {
            Effect::Persist(record) => {
                if let Record::Workload(workload) = &*record {
                    self.workloads.insert(workload.spec.id.clone(), Arc::new(Workload::clone(workload)));
                }
                if let Record::Job(job) = &*record {
                    self.finish(job);
                }
                self.records.insert(record.key(), *record);
            }
            Effect::Forget(key) => {
                if let RecordKey::Workload(workload) = &key {
                    self.workloads.remove(workload);
                }
                self.records.remove(&key);
            }
            Effect::Reply { .. } | Effect::AssignmentsChanged(_) => {}
            Effect::ServicesChanged | Effect::NodeRemoved(_) => {}
        }
    }

    /// Instances that ended by themselves give back what they held, for good.
    fn finish(&mut self, job: &Job) {
        let ended: BTreeSet<u64> = finished_by(job).collect();
        let of_job = self.by_workload.get(&job.workload).into_iter().flat_map(Instances::values);
        let over: Vec<_> = of_job.filter(|held| ended.contains(&number_of(&held.id))).cloned().collect();
        for held in over {
            self.remove(&held);
            self.finished.insert(number_of(&held.id));
            self.insert(held);
        }
    }

    fn insert(&mut self, held: Arc<Instance>) {
        if self.is_finished(&held.id) {
            self.instances.insert(held.id.clone(), held);
            return;
        }
        self.by_node.entry(held.node.clone()).or_default().insert(held.id.clone(), held.clone());
        self.by_workload.entry(held.workload.clone()).or_default().insert(held.id.clone(), held.clone());
        self.instances.insert(held.id.clone(), held);
    }

    fn remove(&mut self, held: &Instance) {
        self.instances.remove(&held.id);
        self.by_node.entry(held.node.clone()).or_default().remove(&held.id);
        self.by_workload.entry(held.workload.clone()).or_default().remove(&held.id);
    }

    /// How many times something was written: as long as that stays the same, so does all of it.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.writes
    }

    /// Whether an instance of a job ended by itself, and is there for the sake of what it wrote.
    #[must_use]
    pub fn is_finished(&self, id: &InstanceId) -> bool {
        self.finished.contains(&number_of(id))
    }

    /// The instances on a node, but for those that are finished.
    pub fn on(&self, node: &NodeId) -> impl Iterator<Item = &Instance> {
        self.by_node.get(node).into_iter().flat_map(Instances::values).map(|held| &**held)
    }

    /// The instances of a workload, but for those that are finished.
    pub fn of(&self, workload: &WorkloadId) -> impl Iterator<Item = &Instance> {
        self.by_workload.get(workload).into_iter().flat_map(Instances::values).map(|held| &**held)
    }

    /// The instances that shall run, and will not once this effect is done.
    #[must_use]
    pub fn ended_by(&self, effect: &Effect) -> Vec<Instance> {
        let runs = |held: &Instance| held.desired == Desired::Run;
        let differences = self.differences(effect).into_iter();
        differences.filter(|(_, is)| !is.as_ref().is_some_and(runs)).filter_map(|(was, _)| was.filter(runs)).collect()
    }

    /// The instances that are on the books, and will not be once this effect is done.
    #[must_use]
    pub fn gone_by(&self, effect: &Effect) -> Vec<InstanceId> {
        let differences = self.differences(effect).into_iter();
        differences.filter(|(_, is)| is.is_none()).filter_map(|(was, _)| Some(was?.id)).collect()
    }

    /// The instances that this effect places.
    #[must_use]
    pub fn placed_by(&self, effect: &Effect) -> Vec<Instance> {
        let runs = |held: &Instance| held.desired == Desired::Run;
        let differences = self.differences(effect).into_iter();
        differences.filter(|(was, _)| was.is_none()).filter_map(|(_, is)| is.filter(runs)).collect()
    }

    /// What an effect makes of the instances of its record: each as it was and as it will be, of those that differ.
    fn differences(&self, effect: &Effect) -> Vec<(Option<Instance>, Option<Instance>)> {
        let (number, after) = match effect {
            Effect::Persist(record) => {
                let Some(page) = page(record) else { return Vec::new() };
                (page.number(), Some(page))
            }
            Effect::Forget(RecordKey::Instances(number)) => (*number, None),
            Effect::Forget(_) | Effect::Reply { .. } | Effect::AssignmentsChanged(_) => return Vec::new(),
            Effect::ServicesChanged | Effect::NodeRemoved(_) => return Vec::new(),
        };
        InstancePage::differences(self.records.get(&RecordKey::Instances(number)).and_then(page), after)
    }

    /// The workloads, as they are wanted.
    pub fn workloads(&self) -> impl Iterator<Item = &Workload> {
        self.workloads.values().map(|workload| &**workload)
    }

    /// A workload, as it is wanted.
    #[must_use]
    pub fn workload(&self, id: &WorkloadId) -> Option<&Workload> {
        self.workloads.get(id).map(|workload| &**workload)
    }

    /// How a workload changes.
    #[must_use]
    pub fn rollout(&self, id: &WorkloadId) -> Option<&Rollout> {
        let record = self.records.get(&RecordKey::Rollout(id.clone()))?;
        if let Record::Rollout(rollout) = record { Some(rollout) } else { None }
    }

    /// The runs of a job.
    #[must_use]
    pub fn job(&self, id: &WorkloadId) -> Option<&Job> {
        let record = self.records.get(&RecordKey::Job(id.clone()))?;
        if let Record::Job(job) = record { Some(job) } else { None }
    }

    /// How many replicas a service has that is scaled.
    #[must_use]
    pub fn scale(&self, id: &WorkloadId) -> Option<u32> {
        let record = self.records.get(&RecordKey::Scale(id.clone()))?;
        if let Record::Scale { replicas, .. } = record { Some(*replicas) } else { None }
    }

    /// What kind of workload one is, with the number of replicas that it has now.
    #[must_use]
    pub fn kind_of(&self, spec: &WorkloadSpec) -> WorkloadKind {
        let replicas = spec.scale.as_ref().and_then(|_| self.scale(&spec.id));
        replicas.map_or_else(|| spec.kind.clone(), |replicas| WorkloadKind::Service { replicas })
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

/// The number of an instance: the last part of its id.
#[must_use]
pub fn number_of(id: &InstanceId) -> u64 {
    let digits = id.as_str().rsplit('-').next().unwrap_or_default();
    u64::from_str_radix(digits, 36).expect("the scheduler made the id")
}

/// The numbers of the instances that a job's record names as ended by themselves.
pub fn finished_by(job: &Job) -> impl Iterator<Item = u64> {
    let done = job.run.iter().flat_map(|run| run.done.values().copied());
    done.chain(job.ended.iter().flat_map(|run| run.instances.iter().copied()))
}

fn page(record: &Record) -> Option<&InstancePage> {
    if let Record::Instances(page) = record { Some(page) } else { None }
}

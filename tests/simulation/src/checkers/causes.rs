//! Nothing that is well is stopped, moved or restarted without a cause: every stop is held against what happened before it.

use std::collections::BTreeMap;

use agent_core::effect::Effect as AgentEffect;
use api_types::{
    id::{InstanceId, WorkloadId},
    instance::Desired,
    time::Timestamp,
};
use scheduler_core::effect::{Effect, Record, RecordKey};

use crate::{
    event::{Key, NodeIndex, Wish},
    node::SimNode,
    scheduler::SimScheduler,
    world::World,
};

/// Milliseconds for which a cause explains what follows from it.
const EXPLAINS_MS: u64 = 300_000;

/// Milliseconds of silence, as the scheduler hears it, from which on a node may be given up.
const SILENCE_MS: u64 = 9000;

/// What happened that explains a stop.
#[derive(Debug, Default)]
pub struct Causes {
    workloads: BTreeMap<WorkloadId, Timestamp>,
    slots: BTreeMap<(WorkloadId, u32), Timestamp>,
}

impl Causes {
    /// A person wants something that may move instances.
    pub fn wish(&mut self, now: Timestamp, wish: &Wish, nodes: &[SimNode], scheduler: &SimScheduler) {
        match wish {
            Wish::Apply(spec) => {
                // An equal spec is no cause.
                let key = RecordKey::Workload(spec.id.clone());
                let same = matches!(scheduler.records.get(&key), Some(Record::Workload(held)) if held.spec == **spec);
                if !same {
                    self.workloads.insert(spec.id.clone(), now);
                }
            }
            Wish::Scale(workload, _) | Wish::Delete(workload) => {
                self.workloads.insert(workload.clone(), now);
            }
            Wish::Availability(node, _) | Wish::Remove(node) => self.node(now, &nodes[*node], scheduler),
            Wish::Admit(_) => {}
        }
    }

    /// Something happened to a node that may move its instances.
    fn node(&mut self, now: Timestamp, node: &SimNode, scheduler: &SimScheduler) {
        for record in scheduler.records.values() {
            if let Record::Instance(instance) = record
                && instance.node == node.id
            {
                self.slots.insert((instance.workload.clone(), instance.slot), now);
            }
        }
    }

    fn explain(&self, now: Timestamp, workload: &WorkloadId, slot: u32) -> bool {
        let recent = |at: Option<&Timestamp>| at.is_some_and(|at| now.since(*at) <= EXPLAINS_MS);
        recent(self.workloads.get(workload)) || recent(self.slots.get(&(workload.clone(), slot)))
    }
}

impl World {
    /// Notes nodes that are silent: what is on them may be replaced, and one of both copies may be stopped later.
    pub fn note_silence(&mut self) {
        if self.scheduler.core.is_none() {
            return;
        }
        for index in 0..self.nodes.len() {
            if self.now.since(self.nodes[index].last_heard) >= SILENCE_MS {
                self.causes.node(self.now, &self.nodes[index], &self.scheduler);
            }
        }
    }

    /// The scheduler stops or forgets an instance: only with a cause.
    pub fn check_causes(&mut self, effects: &[Effect]) {
        for effect in effects {
            let key = match effect {
                Effect::Persist(record) => {
                    let ends = matches!(&**record, Record::Instance(instance) if instance.desired == Desired::Stop);
                    ends.then(|| record.key())
                }
                Effect::Forget(key) => matches!(key, RecordKey::Instance(_)).then(|| key.clone()),
                Effect::Reply { .. } | Effect::AssignmentsChanged(_) => None,
                Effect::ServicesChanged | Effect::NodeRemoved(_) => None,
            };
            let Some(key) = key else { continue };
            let Some(Record::Instance(held)) = self.scheduler.records.get(&key) else { continue };
            let workload = self.scheduler.records.get(&RecordKey::Workload(held.workload.clone()));
            // A rollout may take long, and explains the end of what it replaces as long as it takes.
            let outdated =
                !matches!(workload, Some(Record::Workload(held_workload)) if held.revision >= held_workload.runs_since);
            if held.desired == Desired::Run && !outdated && !self.causes.explain(self.now, &held.workload, held.slot) {
                let what = format!(
                    "the scheduler ends {} (slot {} of {}) on {} without a cause",
                    held.id, held.slot, held.workload, held.node
                );
                self.fail(what);
            }
        }
    }

    /// An agent ends a process: only one that the scheduler does not want there.
    pub fn check_stop(&mut self, index: NodeIndex, effect: &AgentEffect) {
        let (AgentEffect::Stop { instance, attempt, .. } | AgentEffect::Remove { instance, attempt }) = effect else {
            return;
        };
        if matches!(effect, AgentEffect::Stop { .. }) {
            self.check_farewell(index, instance);
        }
        let key = (instance.clone(), *attempt);
        let runs = self.nodes[index].runtime.containers.get(&key).is_some_and(|held| held.process.is_some());
        if runs && self.is_wanted(index, instance) {
            self.fail(format!("{}: ends {instance} attempt {attempt}, which runs and is wanted", self.nodes[index].id));
        }
    }

    /// A process is told to end: its node sends it no new connections, unless the kernel is slow or fails.
    fn check_farewell(&mut self, index: NodeIndex, instance: &InstanceId) {
        let node = &self.nodes[index];
        let services = node.balancing.iter().flat_map(|balancing| &balancing.services);
        let listed = services.flat_map(|service| &service.endpoints).any(|endpoint| endpoint.instance == *instance);
        if listed && node.kernel_is_well {
            self.fail(format!("{}: tells {instance} to end and still balances to it", node.id));
        }
    }

    /// A process starts: the instance has no other one.
    pub fn check_spawn(&mut self, index: NodeIndex, key: &Key) {
        for node in &self.nodes {
            let first = (key.0.clone(), 0);
            let last = (key.0.clone(), u32::MAX);
            for (held, container) in node.runtime.containers.range(first..=last) {
                if container.process.is_some() {
                    let (id, own) = (&node.id, &self.nodes[index].id);
                    let what = format!("{own} starts {} attempt {}, and attempt {} runs on {id}", key.0, key.1, held.1);
                    self.fail(what);
                    return;
                }
            }
        }
    }
}

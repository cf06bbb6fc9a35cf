//! Nothing that is well is stopped, moved or restarted without a cause: every stop is held against what happened before it.

use std::collections::{BTreeMap, BTreeSet};

use agent_core::effect::Effect as AgentEffect;
use api_types::{
    id::{InstanceId, NodeId, WorkloadId},
    instance::{Desired, Instance},
    rollout::RolloutState,
    service::Service,
    time::Timestamp,
};
use scheduler_core::effect::{Effect, Record};

use crate::{
    checkers::jobs::changes_runs,
    event::{Key, NodeIndex, Wish},
    node::{SimNode, shift},
    scheduler::SimScheduler,
    world::World,
};

/// Milliseconds for which a cause explains what follows from it.
const EXPLAINS_MS: u64 = 300_000;

/// Milliseconds after the beginning of a rebalancing within which it may move something.
const MOVES_MS: u64 = 1_800_000;

/// Milliseconds within which a process that ended has surely been started again, but for one that ends again and again.
const RESTARTS_MS: u64 = 90_000;

/// Milliseconds of silence, as the scheduler hears it, from which on a node may be given up.
const SILENCE_MS: u64 = 9000;

/// Milliseconds for which a disturbance explains that nobody waited for a node: an instance waits for ten seconds, then drains.
pub(super) const WORD_MS: u64 = 45_000;

/// How many of a workload's last events stand in the report of a failure.
const EVENTS_SHOWN: usize = 12;

/// Milliseconds of silence after which nobody waits for a node's word.
const HEARD_MS: u64 = 2_500;

/// What happened that explains a stop.
#[derive(Debug, Default)]
pub struct Causes {
    workloads: BTreeMap<WorkloadId, Timestamp>,
    slots: BTreeMap<(WorkloadId, u32), Timestamp>,
    rebalanced_at: Option<Timestamp>,
    /// Who was said to have ended for good, whatever was wanted.
    ended: BTreeSet<InstanceId>,
}

impl Causes {
    /// A person wants something that may move instances.
    pub fn wish(&mut self, now: Timestamp, wish: &Wish, nodes: &[SimNode], scheduler: &SimScheduler) {
        match wish {
            Wish::Apply(shape) => {
                // An equal spec is no cause.
                let (id, spec) = (shape.id(), shape.spec());
                if scheduler.disk.workload(&id).is_none_or(|held| held.spec != spec) {
                    self.workloads.insert(id, now);
                }
            }
            Wish::Scale(workload, _) | Wish::Delete(workload) => {
                self.workloads.insert(workload.clone(), now);
            }
            Wish::Availability(node, _) | Wish::Remove(node) => {
                self.on_nodes(now, &BTreeSet::from([&nodes[*node].id]), scheduler);
            }
            // What is on trial is tried anew.
            Wish::TryAgain(workload) => {
                self.workloads.insert(workload.clone(), now);
            }
            Wish::Rebalance => self.rebalanced_at = Some(now),
            Wish::Admit(_) | Wish::ForgetVolume(..) | Wish::Resume(_) => {}
        }
    }

    /// The scheduler gives a service another number of replicas.
    pub(super) fn scaled(&mut self, now: Timestamp, workload: &WorkloadId) {
        self.workloads.insert(workload.clone(), now);
    }

    /// The scheduler takes a revision back that did not work.
    fn note_rollbacks(&mut self, now: Timestamp, effects: &[Effect]) {
        for effect in effects {
            if let Effect::Persist(record) = effect
                && let Record::Rollout(rollout) = record.as_ref()
                && rollout.state == RolloutState::RollingBack
            {
                self.workloads.insert(rollout.workload.clone(), now);
            }
        }
    }

    /// An instance is said to have ended for good, whatever was wanted: its slot gets another.
    pub(super) fn ended(&mut self, now: Timestamp, held: &Instance) {
        self.slots.insert((held.workload.clone(), held.slot), now);
        self.ended.insert(held.id.clone());
    }

    /// Whether the scheduler was told that an instance ended for good.
    pub(super) fn has_ended(&self, instance: &InstanceId) -> bool {
        self.ended.contains(instance)
    }

    /// Something happened to nodes that may move their instances.
    fn on_nodes(&mut self, now: Timestamp, nodes: &BTreeSet<&NodeId>, scheduler: &SimScheduler) {
        for held in nodes.iter().flat_map(|node| scheduler.disk.on(node)) {
            self.slots.insert((held.workload.clone(), held.slot), now);
        }
    }

    /// Whether a person changed a workload so lately that what it had may still be on its way out.
    pub fn is_being_changed(&self, now: Timestamp, workload: &WorkloadId) -> bool {
        self.workloads.get(workload).is_some_and(|at| now.since(*at) <= EXPLAINS_MS)
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
        let silent = self.nodes.iter().filter(|node| self.is_silent(node)).map(|node| &node.id);
        let silent: BTreeSet<&NodeId> = silent.collect();
        if !silent.is_empty() {
            self.causes.on_nodes(self.now, &silent, &self.scheduler);
        }
    }

    /// Whether the scheduler has not heard of a node for so long that it may be given up.
    pub(super) fn is_silent(&self, node: &SimNode) -> bool {
        self.now.since(node.last_heard) >= SILENCE_MS
    }

    /// The scheduler stops or forgets an instance: only with a cause.
    pub fn check_causes(&mut self, effects: &[Effect]) {
        self.causes.note_rollbacks(self.now, effects);
        let disk = &self.scheduler.decided;
        // What of a job ended by itself makes room, too.
        let (mut displaced, mut others) = (Vec::new(), usize::from(changes_runs(effects)));
        let ended: Vec<Instance> = effects.iter().flat_map(|effect| disk.ended_by(effect)).collect();
        for held in &ended {
            // A rollout may take long, and explains the end of what it replaces as long as it takes.
            // So does a rollback what it takes back; what runs the same as the revision that comes back stays.
            let is_caused = !disk.is_current(held) || self.causes.explain(self.now, &held.workload, held.slot);
            if is_caused || self.is_moved(held) || self.is_over(held, effects) {
                others += 1;
            } else if self.is_displaced(held, effects) {
                displaced.push(held.clone());
            } else {
                let what = format!(
                    "the scheduler ends {} (slot {} of {}) on {} without a cause",
                    held.id, held.slot, held.workload, held.node
                );
                let workload = held.workload.clone();
                self.note_events_of(&workload);
                self.fail(what);
                return;
            }
        }
        self.note_ends(&displaced, others > 0, effects);
    }

    /// Adds to the trace what the scheduler itself says of a workload lately: for whoever reads a failure.
    pub(crate) fn note_events_of(&mut self, workload: &WorkloadId) {
        let described = self.scheduler.core.as_ref().and_then(|core| core.describe_workload(workload).ok());
        let events = described.map(|described| described.events).unwrap_or_default();
        for event in &events[events.len().saturating_sub(EVENTS_SHOWN)..] {
            let ago_ms = self.now.since(shift(event.at, -self.scheduler.clock_ms()));
            self.note(&format!("scheduler: {ago_ms} ms ago: {} {}: {}", event.subject, event.kind, event.message));
        }
    }

    /// Whether an instance is ended after a move: another one of its slot goes on, which has a process, or had one a moment ago.
    fn is_moved(&self, held: &Instance) -> bool {
        let lately = self.causes.rebalanced_at.is_some_and(|at| self.now.since(at) <= MOVES_MS);
        let goes_on = |other: &Instance| {
            let Some(node) = self.node_of(&other.node) else { return false };
            let keys = (other.id.clone(), 0)..=(other.id.clone(), u32::MAX);
            let mut there = node.runtime.containers.range(keys);
            let died_at = self.died_at.get(&other.id);
            there.any(|(_, container)| container.process.is_some())
                || died_at.is_some_and(|at| self.now.since(*at) <= RESTARTS_MS)
        };
        let mut others = self.scheduler.decided.of(&held.workload).filter(|other| other.id != held.id);
        (lately || self.scheduler.settings.rebalance_automatic)
            && others.any(|other| other.slot == held.slot && other.desired == Desired::Run && goes_on(other))
    }

    /// An agent ends a process: only one that the scheduler does not want there.
    pub fn check_stop(&mut self, index: NodeIndex, effect: &AgentEffect) {
        let (AgentEffect::Stop { instance, attempt, .. } | AgentEffect::Remove { instance, attempt }) = effect else {
            return;
        };
        if self.is_fenced(index, effect) {
            return;
        }
        if matches!(effect, AgentEffect::Stop { .. }) {
            self.check_farewell(index, instance);
        }
        let key = (instance.clone(), *attempt);
        let runs = self.nodes[index].runtime.containers.get(&key).is_some_and(|held| held.process.is_some());
        if runs && self.is_wanted(index, instance) && !self.lost_a_device(index, &key) {
            self.fail(format!("{}: ends {instance} attempt {attempt}, which runs and is wanted", self.nodes[index].id));
        }
    }

    /// Whether a device of an instance was away since its process began: then a new process gets the device as it is now.
    fn lost_a_device(&self, index: NodeIndex, key: &Key) -> bool {
        let node = &self.nodes[index];
        let Some(held) = self.scheduler.disk.instances.get(&key.0) else { return false };
        let process = node.runtime.containers.get(key).and_then(|container| container.process.as_ref());
        let away = |name: &String| node.away_at.get(name).copied();
        let last = held.devices.iter().filter_map(|grant| away(&grant.device)).max();
        last.zip(process).is_some_and(|(away_at, process)| away_at >= process.born_at)
    }

    /// A process is told to end: its node sends it no new connections, unless the kernel is slow or fails.
    fn check_farewell(&mut self, index: NodeIndex, instance: &InstanceId) {
        // Nobody knows any more whose it was, if it is on no books.
        let of = self.scheduler.disk.instances.get(instance).map(|held| &held.workload);
        let node = &self.nodes[index];
        if node.kernel_is_well && balances_to(node, of, instance) {
            self.fail(format!("{}: tells {instance} to end and still balances to it", node.id));
            return;
        }
        let behind = self.nodes.iter().find(|node| self.must_know(node) && balances_to(node, of, instance));
        if let Some(behind) = behind {
            let what = format!("{instance} is told to end, and {} still balances to it", behind.id);
            self.fail(what);
        }
    }

    /// Whether a node was heard of, stood still and failed at nothing for so long that instances wait for its word.
    fn must_know(&self, node: &SimNode) -> bool {
        let is_open = node.connection.and_then(|id| self.connections.get(&id)).is_some_and(|held| !held.broken);
        let hears = node.session_since.is_some_and(|since| self.now.since(since) >= WORD_MS);
        let is_cut = node.cut_up || node.cut_down || self.now.since(node.last_heard) > HEARD_MS;
        let stood_still = node.frozen.is_some() || self.now < node.stood_still_until + WORD_MS;
        let fails = !node.kernel_is_well || self.now < node.kernel_failed_at + WORD_MS;
        // The word may have come to the scheduler late, and what waits for it longer than it may goes on.
        let is_slow = self.scheduler.frozen.is_some() || self.now < self.scheduler.slow_until + WORD_MS;
        let is_new = self.now.since(self.scheduler.up_since) < WORD_MS;
        node.agent.is_some() && is_open && hears && !is_cut && !stood_still && !fails && !is_slow && !is_new
    }

    /// A process starts: the instance has no other one.
    pub fn check_spawn(&mut self, index: NodeIndex, key: &Key) {
        let (first, last) = ((key.0.clone(), 0), (key.0.clone(), u32::MAX));
        for node in &self.nodes {
            for (held, container) in node.runtime.containers.range::<Key, _>(&first..=&last) {
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

/// Whether a node's kernel sends connections to an instance of this workload, or of whichever.
fn balances_to(node: &SimNode, of: Option<&WorkloadId>, instance: &InstanceId) -> bool {
    let services = node.balancing.as_ref().map_or(&[][..], |balancing| &balancing.services);
    let lists = |service: &Service| service.endpoints.iter().any(|endpoint| endpoint.instance == *instance);
    match of {
        Some(of) => {
            let at = services.binary_search_by(|service| service.id.cmp(of));
            at.is_ok_and(|at| lists(&services[at]))
        }
        None => services.iter().any(|service| lists(service)),
    }
}

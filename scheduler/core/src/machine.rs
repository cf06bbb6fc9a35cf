//! The scheduler: one input in, every decision it touches brought up to date, effects out.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use api_types::{
    assignment::AssignmentSet,
    counter::{Epoch, Generation},
    id::{NodeId, WorkloadId},
    node::NodeSpec,
    service::ServiceTable,
    time::Timestamp,
    workload::WorkloadSpec,
};

use crate::{
    assignments::{self, SetChange, SetOutline},
    autoscale::Scaling,
    barrier::Barriers,
    cluster::Cluster,
    effect::{Effect, Effects, Record, RecordKey},
    endpoints::Balancing,
    history::History,
    input::Input,
    liveness::ladder::Ladder,
    reconcile::{preemption::Claim, rebalance::Rebalancing},
    schedule::Zone,
    settings::Settings,
    timers::{Timer, Timers},
};

/// In debug builds the invariants are checked after each step of a cluster up to this many nodes and instances.
const CHECKED_SIZE_MAX: usize = 64;

/// All that must be so.
#[derive(Clone, Debug)]
pub struct Scheduler {
    pub(crate) settings: Settings,
    pub(crate) epoch: Epoch,
    /// When this run began.
    pub(crate) began_at: Timestamp,
    /// The time of the latest step; it never goes back.
    pub(crate) now: Timestamp,
    /// Whether this step is a tick: what waited in the queue was read before it.
    pub(crate) is_tick: bool,
    /// Whether this is a copy in which time passes at once: nothing in it ends by itself.
    pub(crate) is_rehearsal: bool,
    /// Who asks for what this step does.
    pub(crate) asked_by: String,
    pub(crate) cluster: Cluster,
    pub(crate) balancing: Balancing,
    /// Who waits until all nodes know that it left the table, or came in.
    pub(crate) barriers: Barriers,
    pub(crate) history: History,
    pub(crate) timers: Timers,
    /// Until when nobody is declared silent and nothing is placed; `None` = the warm-up is over.
    pub(crate) warm_up_until: Option<Timestamp>,
    /// When somebody may have fallen silent.
    pub(crate) silence_check_at: Option<Timestamp>,
    /// Silent nodes whose instances are not replaced, because too many fell silent at once.
    pub(crate) frozen: BTreeSet<NodeId>,
    /// Which silent nodes are given up, and which wait for their turn.
    pub(crate) ladder: Ladder,
    /// Nodes on which room is being made for somebody more urgent.
    pub(crate) claims: Vec<Claim>,
    /// What is being moved to better nodes; `None` = nothing.
    pub(crate) rebalancing: Option<Rebalancing>,
    /// What is known of the load of services that are scaled by it.
    pub(crate) scaling: BTreeMap<WorkloadId, Scaling>,
    /// Workloads that wait for room.
    pub(crate) parked: BTreeSet<WorkloadId>,
    /// How many placements this step may still make.
    pub(crate) placements_left: usize,
    /// How many it made.
    pub(crate) placements_made: usize,
    /// How many placements of this step people are told of in one sentence.
    pub(crate) placed_untold: BTreeMap<WorkloadId, usize>,
    /// What leaves after everything durable.
    pub(crate) outbox: Effects,
    /// Inputs, or parts of them, that made no sense.
    pub(crate) ignored: u64,
    view_version: u64,
    events_shown: u64,
}

impl Scheduler {
    /// Makes a scheduler around a cluster.
    pub(crate) fn around(settings: Settings, epoch: Epoch, cluster: Cluster, now: Timestamp) -> Self {
        let mut timers = Timers::default();
        if settings.rebalance_automatic {
            timers.set(now + settings.rebalance_pause_ms, Timer::Rebalance);
        }
        Self {
            settings,
            epoch,
            began_at: now,
            now,
            is_tick: false,
            is_rehearsal: false,
            asked_by: String::new(),
            cluster,
            balancing: Balancing::default(),
            barriers: Barriers::default(),
            history: History::default(),
            timers,
            warm_up_until: None,
            silence_check_at: None,
            frozen: BTreeSet::new(),
            ladder: Ladder::default(),
            claims: Vec::new(),
            rebalancing: None,
            scaling: BTreeMap::new(),
            parked: BTreeSet::new(),
            placements_left: 0,
            placements_made: 0,
            placed_untold: BTreeMap::new(),
            outbox: Effects::new(),
            ignored: 0,
            view_version: 1,
            events_shown: 0,
        }
    }

    /// Applies one input, then brings every decision it touched up to date.
    ///
    /// Deadlines are looked at on [`Input::Tick`] only, so that heartbeats that wait in the same queue are read first.
    pub fn step(&mut self, now: Timestamp, input: Input, effects: &mut Effects) {
        self.now = self.now.max(now);
        self.is_tick = matches!(input, Input::Tick);
        match input {
            Input::Tick => self.tick(),
            Input::Request { request, by, change } => self.request(request, by, change),
            Input::SessionOpened { node, session, facts } => self.session_opened(&node, session, facts),
            // Silence counts from the last heartbeat: the end of a connection says nothing.
            Input::SessionClosed { .. } => {}
            Input::Heartbeat { node, session } => {
                self.heard(&node, session);
            }
            Input::Programmed { node, session, epoch, generation } => {
                self.programmed(&node, session, epoch, generation);
            }
            Input::RanAlone { node, session, jobs } => self.ran_alone(&node, session, jobs),
            Input::Reported { node, session, statuses, gone, complete } => {
                self.reported(&node, session, statuses, gone, complete);
            }
            Input::Zones(zones) => self.cluster.learn_zones(zones),
            Input::NodeReported { node, session, conditions, facts, usage, instances, requests } => {
                self.node_reported(&node, session, (conditions, facts), usage, (instances, requests));
            }
            Input::VolumesMeasured { node, session, volumes } => self.volumes_measured(&node, session, volumes),
        }
        self.open_barriers();
        self.settle();
        self.emit(effects);
        if cfg!(debug_assertions) && self.cluster.nodes.len() + self.cluster.rows.len() <= CHECKED_SIZE_MAX {
            let checked = self.check_invariants();
            debug_assert!(checked.is_ok(), "{}", checked.err().unwrap_or_default());
        }
    }

    /// When `step` wants to be called with [`Input::Tick`], and why. May lie in the past.
    #[must_use]
    pub fn next_deadline(&self) -> Option<(Timestamp, &'static str)> {
        let work_left = (!self.is_warming_up() && !self.cluster.touched.workloads.is_empty())
            .then_some((self.now, "more is to be placed"));
        let warm_up = self.warm_up_until.map(|at| (at, "the warm-up ends"));
        let passing = self.first_passing().map(|_| (self.now, "an instance left the balancers and is to stop"));
        let silence = self.silence_check_at.filter(|_| !self.is_warming_up()).map(|at| (at, "a node may be silent"));
        [work_left, warm_up, passing, silence, self.timers.next()].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// All that this node must do; `None` if it is not registered.
    #[must_use]
    pub fn assignment_set(&self, node: &NodeId) -> Option<Arc<AssignmentSet>> {
        let entry = self.cluster.nodes.get(node)?;
        Some(Arc::new(assignments::make(&self.cluster, self.epoch, entry)))
    }

    /// What leads from the outline of a node's set to the set as it is, and brings the outline up to date. Costs little where
    /// little differs; `None` if the node is not registered.
    #[must_use]
    pub fn set_change(&self, node: &NodeId, outline: &mut SetOutline) -> Option<SetChange> {
        Some(assignments::change(&self.cluster, self.cluster.nodes.get(node)?, outline))
    }

    /// The version of a node's set, for who wants to know whether it changed; `None` if the node is not registered.
    #[must_use]
    pub fn assignment_generation(&self, node: &NodeId) -> Option<Generation> {
        self.cluster.nodes.get(node).map(|entry| entry.set_generation)
    }

    /// How to balance; `None` while the scheduler warms up after a restart.
    #[must_use]
    pub fn service_table(&self) -> Option<Arc<ServiceTable>> {
        if self.is_warming_up() { None } else { self.balancing.table(&self.settings, self.epoch) }
    }

    /// A registered node.
    #[must_use]
    pub fn node(&self, node: &NodeId) -> Option<&NodeSpec> {
        self.cluster.nodes.get(node).map(|entry| &entry.spec)
    }

    /// What is wanted of each workload.
    pub fn specs(&self) -> impl Iterator<Item = &WorkloadSpec> {
        self.cluster.workloads.values().map(|entry| entry.spec())
    }

    /// Learns how the clocks of time zones go, before the first step; later it is told by [`Input::Zones`].
    pub fn learn_zones(&mut self, zones: BTreeMap<String, Zone>) {
        self.cluster.learn_zones(zones);
    }

    /// What an operator tuned.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Which run of the scheduler this is.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Grows with every change that a reader could see; samples (usage, when a node was last seen) do not count.
    #[must_use]
    pub fn view_version(&self) -> u64 {
        self.view_version
    }

    /// How many inputs, or parts of them, made no sense: of unknown nodes, old sessions, other nodes' instances.
    #[must_use]
    pub fn ignored_inputs(&self) -> u64 {
        self.ignored
    }

    fn tick(&mut self) {
        self.check_warm_up();
        self.check_silence();
        while let Some(timer) = self.timers.take_due(self.now) {
            match timer {
                Timer::Barrier(number) => self.barrier_overdue(number),
                Timer::Look(workload) | Timer::Due(workload) => {
                    self.cluster.touched.workloads.insert(workload);
                }
                Timer::Turn(site) => self.give_turns(&site),
                Timer::Rebalance => self.rebalance_by_itself(),
            }
        }
    }

    /// Writes the differences: what is durable first.
    pub(crate) fn emit(&mut self, effects: &mut Effects) {
        if std::mem::take(&mut self.cluster.counted) {
            effects.push(Effect::Persist(Box::new(Record::Counters(self.cluster.counters))));
        }
        effects.append(&mut self.cluster.journal);
        for page in std::mem::take(&mut self.cluster.pages) {
            effects.push(match self.cluster.instance_page(page) {
                Some(page) => Effect::Persist(Box::new(Record::Instances(page))),
                None => Effect::Forget(RecordKey::Instances(page)),
            });
        }
        effects.append(&mut self.outbox);
        self.cluster.settle_dependencies();
        self.emit_sets(effects);
        if !self.is_warming_up() {
            let mut touched = std::mem::take(&mut self.cluster.touched);
            if self.balancing.refresh(&self.cluster, &mut touched, &self.settings) {
                touched.seen = true;
                effects.push(Effect::ServicesChanged);
            }
            self.cluster.follows_all = self.balancing.has_admission();
            self.cluster.touched = touched;
            self.barriers.made(self.balancing.generation());
        }
        if std::mem::take(&mut self.cluster.touched.seen) | (self.events_shown != self.history.last()) {
            self.events_shown = self.history.last();
            self.view_version += 1;
        }
    }

    /// Tells, by name, which nodes' sets differ.
    fn emit_sets(&mut self, effects: &mut Effects) {
        let mut told = Vec::new();
        for index in std::mem::take(&mut self.cluster.touched.sets) {
            let Some(entry) = self.cluster.nodes.at_mut(index) else { continue };
            if std::mem::take(&mut entry.set_differs) {
                entry.set_generation = entry.set_generation.next();
                told.push(entry.spec.id.clone());
            }
        }
        told.sort_unstable();
        effects.extend(told.into_iter().map(Effect::AssignmentsChanged));
    }
}

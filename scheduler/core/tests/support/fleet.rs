//! A scheduler, its store, and agents that do what they are told: enough of a world for stories and random walks.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use api_types::{
    assignment::AssignmentSet,
    counter::{Epoch, Generation, RequestId, SessionId},
    id::{InstanceId, NodeId, WorkloadId},
    instance::{Desired, Exit, Findings, Health, InstanceState, InstanceStatus},
    node::NodeFacts,
    resources::Resources,
    schedule::FollowedAlone,
    time::Timestamp,
};
use scheduler_core::{
    Scheduler, SetOutline, Settings,
    effect::{Accepted, Effect, Effects, Record, RecordKey, Refusal},
    input::{Change, Input},
};

/// The whole world.
pub(crate) struct Fleet {
    pub(crate) scheduler: Scheduler,
    pub(crate) now: Timestamp,
    pub(crate) agents: BTreeMap<NodeId, Agent>,
    /// What is durable.
    pub(crate) records: BTreeMap<RecordKey, Record>,
    /// Where every instance ever seen was placed.
    pub(crate) homes: BTreeMap<InstanceId, NodeId>,
    generations: BTreeMap<NodeId, Generation>,
    /// What sessions would note of each node's set.
    outlines: BTreeMap<NodeId, SetOutline>,
    /// Each node's set as it was told last.
    pub(crate) told_sets: BTreeMap<NodeId, Arc<AssignmentSet>>,
    table_generation: Option<Generation>,
    requests: u64,
    sessions: u64,
    reply: Option<Result<Accepted, Refusal>>,
    /// Nodes that do not say which table they hold.
    pub(crate) mute: BTreeSet<NodeId>,
    /// A table that nobody was told of yet.
    untold_table: Option<Generation>,
    /// Whether a walk's workloads judge their rollouts.
    #[allow(dead_code, reason = "each test program uses a part of it")]
    pub(crate) judges: bool,
}

/// One node's agent.
pub(crate) struct Agent {
    pub(crate) facts: NodeFacts,
    pub(crate) connected: bool,
    pub(crate) session: SessionId,
    pub(crate) set: Option<Arc<AssignmentSet>>,
    pub(crate) statuses: BTreeMap<InstanceId, InstanceStatus>,
    /// What it did by its own clock since it was heard last.
    pub(crate) alone: BTreeMap<WorkloadId, FollowedAlone>,
    addresses: u64,
}

impl Fleet {
    pub(crate) fn new(settings: Settings) -> Self {
        let now = Timestamp(1_000_000);
        let scheduler = Scheduler::recover(settings, Epoch(1), Vec::new(), now);
        let table_generation = scheduler.service_table().map(|table| table.generation);
        Self {
            scheduler,
            now,
            agents: BTreeMap::new(),
            records: BTreeMap::new(),
            homes: BTreeMap::new(),
            generations: BTreeMap::new(),
            outlines: BTreeMap::new(),
            told_sets: BTreeMap::new(),
            table_generation,
            requests: 0,
            sessions: 0,
            reply: None,
            mute: BTreeSet::new(),
            untold_table: None,
            judges: false,
        }
    }

    /// Steps the scheduler, performs its effects, and checks what must always hold.
    pub(crate) fn step(&mut self, input: Input) {
        let shown = format!("{input:?}");
        let mut effects = Effects::new();
        self.scheduler.step(self.now, input, &mut effects);
        self.perform(effects);
        if let Err(broken) = self.scheduler.check_invariants() {
            panic!("after {shown}: {broken}");
        }
        for (node, told) in &self.told_sets {
            let set = self.scheduler.assignment_set(node);
            assert_eq!(set.as_ref(), Some(told), "after {shown}: {node} was not told of its set");
        }
    }

    /// Has all connected nodes say that their kernels hold the latest table, until nothing comes of it.
    fn confirm_tables(&mut self) {
        while self.untold_table.take().is_some() {
            for (node, _) in self.connected() {
                self.confirm_table(&node);
            }
        }
    }

    /// Has a node say that its kernel holds the latest table.
    pub(crate) fn confirm_table(&mut self, node: &NodeId) {
        let Some(agent) = self.agents.get(node).filter(|agent| agent.connected && !self.mute.contains(node)) else {
            return;
        };
        let Some(table) = self.scheduler.service_table() else { return };
        let (node, session, epoch) = (node.clone(), agent.session, table.epoch);
        self.step(Input::Programmed { node, session, epoch, generation: table.generation });
    }

    pub(crate) fn request(&mut self, change: Change) -> Result<Accepted, Refusal> {
        self.requests += 1;
        self.step(Input::Request { request: RequestId(self.requests), by: "tester".to_owned(), change });
        self.reply.take().expect("every request is answered in its step")
    }

    /// Lets time pass: heartbeats every second, ticks when they are due.
    pub(crate) fn advance(&mut self, milliseconds: u64) {
        let end = self.now + milliseconds;
        loop {
            self.confirm_tables();
            let beat = Timestamp((self.now.0 / 1_000 + 1) * 1_000);
            let due = self.scheduler.next_deadline().map(|(at, _)| at.max(self.now));
            // A heartbeat that comes at the very time of a deadline is read before it.
            if let Some(due) = due.filter(|due| *due < beat && *due <= end) {
                self.now = due;
                self.step(Input::Tick);
                continue;
            }
            if beat > end {
                self.now = end;
                return;
            }
            self.now = beat;
            for (node, session) in self.connected() {
                self.step(Input::Heartbeat { node, session });
            }
        }
    }

    /// Opens a session and sends the complete report.
    pub(crate) fn connect(&mut self, node: &NodeId) {
        self.sessions += 1;
        let session = SessionId(self.sessions);
        let agent = self.agents.get_mut(node).expect("a known agent");
        agent.connected = true;
        agent.session = session;
        let (facts, jobs) = (agent.facts.clone(), std::mem::take(&mut agent.alone));
        self.step(Input::SessionOpened { node: node.clone(), session, facts });
        if !jobs.is_empty() {
            self.step(Input::RanAlone { node: node.clone(), session, jobs });
        }
        self.report_all(node);
        self.deliver(node);
        self.confirm_table(node);
    }

    pub(crate) fn report_all(&mut self, node: &NodeId) {
        let Some(agent) = self.agents.get(node).filter(|agent| agent.connected) else { return };
        let (session, statuses) = (agent.session, agent.statuses.values().cloned().collect());
        self.step(Input::Reported { node: node.clone(), session, statuses, gone: Vec::new(), complete: true });
    }

    /// Adds an agent; it connects later.
    pub(crate) fn add_agent(&mut self, node: &NodeId, capacity: Resources, arch: &str) {
        let number = u8::try_from(self.agents.len() % 250).expect("below 250") + 1;
        let facts = NodeFacts {
            arch: arch.to_owned(),
            os: "linux".to_owned(),
            capacity,
            address: Some([192, 168, 0, number].into()),
            ipv6_address: None,
            tunnel: None,
            boot_id: "1".to_owned(),
            cgroup_version: 2,
            ..NodeFacts::default()
        };
        let agent = Agent {
            facts,
            connected: false,
            session: SessionId(0),
            set: None,
            statuses: BTreeMap::new(),
            alone: BTreeMap::new(),
            addresses: 10,
        };
        self.agents.insert(node.clone(), agent);
    }

    /// Takes all processes of a node, as a power cut does.
    pub(crate) fn power_cut(&mut self, node: &NodeId) {
        if let Some(agent) = self.agents.get_mut(node) {
            agent.statuses.clear();
            agent.facts.boot_id.push('1');
        }
    }

    /// Changes what an agent says of an instance, and says it.
    pub(crate) fn say(&mut self, id: &InstanceId, change: impl FnOnce(&mut InstanceStatus)) {
        let node = self.homes.get(id).expect("a placed instance").clone();
        let now = self.now;
        let agent = self.agents.get_mut(&node).expect("a known agent");
        let Some(assignment) = agent.set.as_ref().and_then(|set| set.assignments.iter().find(|a| a.instance == *id))
        else {
            return;
        };
        let address = agent.statuses.get(id).and_then(|status| status.address);
        let address = address.or_else(|| {
            agent.addresses += 1;
            agent.set.as_ref()?.subnet.nth(agent.addresses)
        });
        let fresh = InstanceStatus { address, ..blank(&assignment.instance, now) };
        let status = agent.statuses.entry(id.clone()).or_insert(fresh);
        change(status);
        status.since = now;
        let (status, session) = (status.clone(), agent.session);
        if agent.connected {
            let statuses = vec![status];
            self.step(Input::Reported { node, session, statuses, gone: Vec::new(), complete: false });
        }
    }

    /// Has the agent end an instance that it was told to stop.
    pub(crate) fn end(&mut self, id: &InstanceId) {
        let node = self.homes.get(id).expect("a placed instance").clone();
        let agent = self.agents.get_mut(&node).expect("a known agent");
        agent.statuses.remove(id);
        let session = agent.session;
        if agent.connected {
            let gone = vec![id.clone()];
            self.step(Input::Reported { node, session, statuses: Vec::new(), gone, complete: false });
        }
    }

    /// What connected agents were told to run or to stop, and have not done yet.
    pub(crate) fn to_do(&self, desired: Desired) -> Vec<InstanceId> {
        let mut ids = Vec::new();
        for agent in self.agents.values().filter(|agent| agent.connected) {
            for assignment in agent.set.iter().flat_map(|set| &set.assignments) {
                let status = agent.statuses.get(&assignment.instance);
                let runs = status.is_some_and(|status| {
                    status.state == InstanceState::Running
                        && (assignment.probe.is_none() || status.health == Health::Healthy)
                });
                // What ended for good is the scheduler's business.
                let ended = status.is_some_and(|status| status.state.is_final());
                let runs = runs || ended;
                if assignment.desired == desired && (desired == Desired::Stop || !runs) {
                    ids.push(assignment.instance.clone());
                }
            }
        }
        ids
    }

    /// Does all that agents were told, until nothing is left; `false` if it never ends.
    pub(crate) fn settle(&mut self) -> bool {
        for _ in 0..400 {
            self.confirm_tables();
            let (run, stop) = (self.to_do(Desired::Run), self.to_do(Desired::Stop));
            let due = self.scheduler.next_deadline().is_some_and(|(at, _)| at <= self.now + 1_500);
            if run.is_empty() && stop.is_empty() && !due {
                return true;
            }
            for id in run {
                self.say(&id, well);
            }
            for id in stop {
                self.end(&id);
            }
            self.advance(1_000);
        }
        self.to_do(Desired::Run).is_empty() && self.to_do(Desired::Stop).is_empty()
    }

    /// Kills the scheduler and starts it again from what is durable. Agents are cut off.
    pub(crate) fn restart(&mut self) {
        let epoch = self.scheduler.epoch().next();
        let records = self.records.values().cloned().collect();
        self.scheduler = Scheduler::recover(self.scheduler.settings().clone(), epoch, records, self.now);
        self.generations.clear();
        for (node, _) in self.connected() {
            let set = self.scheduler.assignment_set(&node).expect("a registered node has a set");
            self.generations.insert(node, set.generation);
        }
        self.told_sets.clear();
        self.outlines.clear();
        for agent in self.agents.values_mut() {
            agent.connected = false;
        }
        self.table_generation = self.scheduler.service_table().map(|table| table.generation);
    }

    pub(crate) fn connected(&self) -> Vec<(NodeId, SessionId)> {
        self.agents.iter().filter(|(_, agent)| agent.connected).map(|(id, agent)| (id.clone(), agent.session)).collect()
    }

    pub(crate) fn perform(&mut self, effects: Effects) {
        let mut told = BTreeSet::new();
        for effect in effects {
            match effect {
                Effect::Persist(record) => {
                    if let Record::Instances(page) = record.as_ref() {
                        for instance in page.instances() {
                            let home = self.homes.entry(instance.id.clone()).or_insert_with(|| instance.node.clone());
                            assert_eq!(*home, instance.node, "{} moved", instance.id);
                        }
                    }
                    self.records.insert(record.key(), *record);
                }
                Effect::Forget(key) => {
                    self.records.remove(&key);
                }
                Effect::Reply { outcome, .. } => self.reply = Some(outcome),
                Effect::AssignmentsChanged(node) => {
                    assert!(told.insert(node.clone()), "{node} was told twice in one step");
                    let set = self.scheduler.assignment_set(&node).expect("a changed set is there");
                    let before = self.generations.insert(node.clone(), set.generation);
                    if let Some(before) = before {
                        assert_eq!(set.generation, before.next(), "{node} skipped a generation");
                    }
                    self.follow(&node, &set);
                    self.told_sets.insert(node.clone(), set);
                    self.deliver(&node);
                }
                Effect::ServicesChanged => {
                    let table = self.scheduler.service_table().expect("a changed table is there");
                    if let Some(before) = self.table_generation.replace(table.generation) {
                        assert_eq!(table.generation, before.next(), "the table skipped a generation");
                    }
                    self.untold_table = Some(table.generation);
                }
                Effect::NodeRemoved(node) => {
                    self.agents.remove(&node);
                    self.generations.remove(&node);
                    self.told_sets.remove(&node);
                    self.outlines.remove(&node);
                }
            }
        }
    }

    /// The change from what was told last leads to the set.
    fn follow(&mut self, node: &NodeId, set: &AssignmentSet) {
        let told = self.told_sets.get(node).filter(|_| self.outlines.contains_key(node));
        let mut assignments: BTreeMap<_, _> = told
            .iter()
            .flat_map(|told| {
                told.assignments.iter().map(|assignment| (assignment.instance.clone(), assignment.clone()))
            })
            .collect();
        let outline = self.outlines.entry(node.clone()).or_default();

        let change = self.scheduler.set_change(node, outline).expect("a registered node has a set");

        assert_eq!((change.base, change.generation), (told.map(|told| told.generation), set.generation));
        for gone in &change.removals {
            assert!(assignments.remove(gone).is_some(), "{gone} was not there");
        }
        let ahead = change.ahead.as_deref().or(told.map(|told| told.ahead.as_slice())).unwrap_or_default();
        assert_eq!(ahead, set.ahead, "{node}: the change tells of other coming times");
        assignments.extend(change.upserts.into_iter().map(|assignment| (assignment.instance.clone(), assignment)));
        assert!(assignments.into_values().eq(set.assignments.iter().cloned()), "{node}: the change leads elsewhere");
    }

    fn deliver(&mut self, node: &NodeId) {
        let Some(agent) = self.agents.get_mut(node).filter(|agent| agent.connected) else { return };
        agent.set = self.scheduler.assignment_set(node);
        let named: BTreeSet<_> = agent.set.iter().flat_map(|set| &set.assignments).map(|a| &a.instance).collect();
        agent.statuses.retain(|id, _| named.contains(id));
    }
}

/// Nothing of it runs yet.
pub(crate) fn blank(instance: &InstanceId, now: Timestamp) -> InstanceStatus {
    InstanceStatus {
        instance: instance.clone(),
        state: InstanceState::Preparing,
        health: Health::Unknown,
        address: None,
        pid: None,
        restarts: 0,
        last_exit: None,
        reason: String::new(),
        since: now,
        findings: Findings::default(),
    }
}

/// Runs, and its probe answers.
pub(crate) fn well(status: &mut InstanceStatus) {
    status.state = InstanceState::Running;
    status.health = Health::Healthy;
    status.reason.clear();
    status.findings = Findings::default();
}

/// Its process died and is being started again.
pub(crate) fn crashed(status: &mut InstanceStatus) {
    status.state = InstanceState::Starting;
    status.health = Health::Unknown;
    status.last_exit = Some(Exit::Code(1));
    status.restarts += 1;
    status.reason = "its process ended with code 1, started again in 1 s".to_owned();
}

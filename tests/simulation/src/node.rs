//! The real agent core in a simulated daemon: its disk, its session, its crashes.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
};

use agent_core::{
    Agent, Followed, Settings,
    effect::{Balancing, CompanionWish, Effect, Report},
    input::Input,
};
use api_types::{
    assignment::AssignmentSet,
    counter::SessionId,
    device::Device,
    id::{InstanceId, NodeId},
    instance::Desired,
    job::Tries,
    node::{Condition, NodeFacts},
    probe::{ProbeKind, ProbeSpec},
    resources::Resources,
    service::ServiceTable,
    time::Timestamp,
};

use crate::{
    checkers::companions::StepsDone,
    event::{ConnectionId, Down, Event, Kept, NodeIndex, Up},
    fault::SITES,
    random::Random,
    runtime::SimRuntime,
    world::World,
};

/// How long the disk takes for who is where.
const ADDRESSES_MS: u64 = 60;

/// A node: its agent's daemon, its disk, its kernel and its containerd.
#[derive(Debug)]
pub struct SimNode {
    /// Its number.
    pub index: NodeIndex,
    /// Its name.
    pub id: NodeId,
    /// Its site.
    pub site: usize,
    /// What it says it is.
    pub facts: NodeFacts,
    /// Whether it last said that its container runtime is well.
    pub said_well: bool,
    /// What it last said it is.
    pub told: Option<NodeFacts>,
    /// Whether the scheduler has heard in this session what runs here: before that it places nothing here.
    pub said_all: bool,
    /// The core, while the daemon runs.
    pub agent: Option<Agent>,
    /// Counts the starts of the daemon: what an earlier life waited for, a later one does not get.
    pub life: u64,
    /// Whether it joined the cluster.
    pub joined: bool,
    /// Whether it has power.
    pub powered: bool,
    /// The agent's end of its connection.
    pub connection: Option<ConnectionId>,
    /// Since when the agent has an open session.
    pub session_since: Option<Timestamp>,
    /// Whether what it sends gets lost.
    pub cut_up: bool,
    /// Whether what it is sent gets lost.
    pub cut_down: bool,
    /// When it said what the scheduler surely heard, as the agent knows and leaves for the one after it; gone with the power.
    pub heard_at: Option<Timestamp>,
    /// When it said its last hello.
    pub hello_at: Timestamp,
    /// When it last could not have ended anything.
    pub unable_at: Timestamp,
    /// When the scheduler last heard of it.
    pub last_heard: Timestamp,
    /// The set and the table on its disk.
    pub disk: (Option<Arc<AssignmentSet>>, Option<Arc<ServiceTable>>),
    /// Which instance is where, on its disk.
    pub kept_addresses: Arc<BTreeMap<InstanceId, Ipv4Addr>>,
    /// How processes ended of instances that shall end by themselves, on its disk.
    pub kept_tries: Arc<BTreeMap<InstanceId, Tries>>,
    /// How far it followed schedules by its own clock; what is on disk.
    pub kept_followed: Arc<Followed>,
    /// The init steps that ended well for the next start of their main process.
    pub steps_done: StepsDone,
    /// What its kernel was asked to do, and has not done yet.
    pub programming: Option<(u64, Arc<Balancing>)>,
    /// Whether its kernel did in time what it was asked; not before this life of the agent asked for something.
    pub kernel_is_well: bool,
    /// When its kernel last hung or failed.
    pub kernel_failed_at: Timestamp,
    /// How its kernel balances.
    pub balancing: Option<Arc<Balancing>>,
    /// Its containerd and its networks.
    pub runtime: SimRuntime,
    /// What chance brings here, whatever happens elsewhere.
    pub random: Random,
    /// How wrong the agent's clock is, in milliseconds; it is read when the agent starts.
    pub clock_ms: i64,
    /// What waits for the agent while it is stopped.
    pub frozen: Option<Vec<Event>>,
    /// Until when the agent was stopped, last.
    pub stood_still_until: Timestamp,
    /// The newest session that the scheduler gave it.
    pub session: Option<SessionId>,
    /// A report of an earlier session, to arrive once more.
    pub said: Option<(SessionId, Report)>,
    /// The names of its devices that are not plugged in.
    pub unplugged: BTreeSet<String>,
    /// The names of those that the kernel knows as others since they were plugged in again, until somebody looks.
    pub exchanged: BTreeSet<String>,
    /// When each device was away last.
    pub away_at: BTreeMap<String, Timestamp>,
    /// The devices that the agent offered after its last look; `None` = it did not look yet.
    pub last_look: Option<Vec<Device>>,
    /// Who is probed, and how often in milliseconds.
    pub probes: BTreeMap<(crate::event::Key, ProbeKind), u64>,
    tick_at: Option<Timestamp>,
    /// How wrong the clock is that this life of the agent read.
    offset_ms: i64,
}

impl SimNode {
    /// A machine without power.
    #[must_use]
    pub fn new(index: NodeIndex, seed: u64, now: Timestamp) -> Self {
        let id = NodeId::new(&format!("edge-{index}")).expect("letters, a hyphen and digits");
        let number = u32::try_from(index).expect("fewer nodes than addresses");
        let facts = NodeFacts {
            arch: if index.is_multiple_of(5) { "arm64" } else { "amd64" }.to_owned(),
            os: "linux".to_owned(),
            capacity: Resources { cpu_millis: 4000, memory_bytes: 4 << 30 },
            address: Some(Ipv4Addr::from(u32::from(Ipv4Addr::new(192, 168, 0, 0)) + number)),
            ipv6_address: None,
            tunnel: None,
            boot_id: format!("boot-{index}-0"),
            ..NodeFacts::default()
        };
        Self {
            index,
            id,
            site: index % SITES,
            facts,
            said_well: true,
            told: None,
            said_all: false,
            agent: None,
            life: 0,
            joined: false,
            powered: false,
            connection: None,
            session_since: None,
            cut_up: false,
            cut_down: false,
            heard_at: None,
            hello_at: now,
            unable_at: now,
            last_heard: now,
            disk: (None, None),
            kept_addresses: Arc::default(),
            kept_tries: Arc::default(),
            kept_followed: Arc::default(),
            steps_done: StepsDone::default(),
            programming: None,
            kernel_is_well: true,
            kernel_failed_at: now,
            balancing: None,
            runtime: SimRuntime::default(),
            random: Random::new(seed ^ (u64::from(number) + 1).wrapping_mul(0xD6E8_FEB8_6659_FD93)),
            clock_ms: 0,
            frozen: None,
            stood_still_until: now,
            session: None,
            said: None,
            unplugged: BTreeSet::new(),
            exchanged: BTreeSet::new(),
            away_at: BTreeMap::new(),
            last_look: None,
            probes: BTreeMap::new(),
            tick_at: None,
            offset_ms: 0,
        }
    }

    /// A moment, as the agent's clock shows it.
    #[must_use]
    pub fn by_its_clock(&self, at: Timestamp) -> Timestamp {
        shift(at, self.offset_ms)
    }
}

/// A moment on a clock that is so many milliseconds wrong.
#[must_use]
pub fn shift(at: Timestamp, by_ms: i64) -> Timestamp {
    Timestamp(at.0.saturating_add_signed(by_ms))
}

impl World {
    /// The agent's daemon starts with what its disk has, looks around, and dials.
    pub fn start_agent(&mut self, index: NodeIndex) {
        let sim = &mut self.nodes[index];
        if !sim.powered || sim.agent.is_some() {
            return;
        }
        sim.life += 1;
        sim.tick_at = None;
        sim.kernel_is_well = false;
        sim.last_look = None;
        sim.offset_ms = sim.clock_ms;
        let set = sim.disk.0.as_deref().cloned();
        let table = sim.disk.1.clone();
        let now = sim.by_its_clock(self.now);
        let (addresses, tries) = ((*sim.kept_addresses).clone(), (*sim.kept_tries).clone());
        let alone = (*sim.kept_followed).clone();
        sim.agent = Some(Agent::new(Settings::new(sim.id.clone()), set, table, addresses, (tries, alone), now));
        let line = format!("{}: agent starts", sim.id);
        self.note(&line);
        if let Some(at) = self.nodes[index].heard_at {
            self.step_agent(index, Input::LeaseRenewed { age_ms: self.now.since(at) });
        }
        self.look(index);
        let pause = self.nodes[index].random.between(10, 300);
        self.after(pause, Event::Dial(index));
        self.look_for_devices_first(index);
        self.arm_agent(index);
    }

    /// The agent's daemon dies; containers go on.
    pub fn crash_agent(&mut self, index: NodeIndex) {
        let sim = &mut self.nodes[index];
        if sim.agent.take().is_none() {
            return;
        }
        sim.life += 1;
        sim.frozen = None;
        sim.session_since = None;
        sim.programming = None;
        sim.probes.clear();
        let line = format!("{}: agent dies", sim.id);
        if let Some(id) = sim.connection.take() {
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.agent_open = false;
            }
            self.break_connection(id);
        }
        self.note(&line);
        self.abort_operations(index);
    }

    /// The machine loses power: processes, networks and the kernel's tables are gone.
    pub fn power_off(&mut self, index: NodeIndex) {
        self.crash_agent(index);
        let sim = &mut self.nodes[index];
        sim.powered = false;
        sim.heard_at = None;
        sim.balancing = None;
        let line = format!("{}: power lost", sim.id);
        self.note(&line);
        self.lose_processes(index);
    }

    /// Power is back; the agent comes up with the machine.
    pub fn power_on(&mut self, index: NodeIndex) {
        let sim = &mut self.nodes[index];
        if sim.powered || !sim.joined {
            return;
        }
        sim.powered = true;
        sim.runtime.away = false;
        sim.facts.boot_id = format!("boot-{index}-{}", self.now);
        self.start_agent(index);
    }

    /// Gives the core an input, and performs what it wishes.
    pub fn step_agent(&mut self, index: NodeIndex, input: Input) {
        let now = self.nodes[index].by_its_clock(self.now);
        let Some(agent) = &mut self.nodes[index].agent else { return };
        let mut effects = std::mem::take(&mut self.agent_effects);
        let before = agent.changes();
        agent.step(now, input, &mut effects);
        self.steps += 1;
        if agent.changes() == before {
            // Most answers of probes say nothing new: then its invariants, its wishes and its deadline are as they were.
            self.agent_effects = effects;
            return;
        }
        if let Err(broken) = agent.check_invariants() {
            let line = format!("{}: {broken}", self.nodes[index].id);
            self.fail(line);
        }
        for effect in effects.drain(..) {
            self.perform(index, effect);
        }
        self.agent_effects = effects;
        self.arm_agent(index);
    }

    /// A deadline may be due.
    pub fn agent_tick(&mut self, index: NodeIndex) {
        let now = self.now;
        let sim = &mut self.nodes[index];
        sim.tick_at = sim.tick_at.filter(|at| *at > now);
        let local = sim.by_its_clock(now);
        let due = sim.agent.as_ref().and_then(Agent::next_deadline).is_some_and(|(at, _)| at <= local);
        if due {
            self.step_agent(index, Input::Tick);
        } else {
            self.arm_agent(index);
        }
    }

    /// A message of the scheduler arrives.
    pub fn down(&mut self, id: ConnectionId, message: Down) {
        let Some(connection) = self.connections.get(&id) else { return };
        let index = connection.node;
        if connection.broken || !connection.agent_open || self.nodes[index].connection != Some(id) {
            return;
        }
        if self.nodes[index].cut_down {
            self.break_connection(id);
            return;
        }
        match message {
            Down::Welcome { epoch } => {
                self.nodes[index].session_since = Some(self.now);
                let hello_at = self.nodes[index].hello_at;
                self.surely_heard(index, hello_at);
                self.step_agent(index, Input::SessionOpened { epoch });
                self.after(1000, Event::Heartbeat(id));
            }
            Down::Assignments(set) => {
                self.step_agent(index, Input::Assigned((*set).clone()));
                // The worst moment to die: it acts on what it may not have kept.
                if self.noise.failures && self.nodes[index].random.per_mille(5) {
                    let pause = self.nodes[index].random.between(0, 400);
                    self.after(pause, Event::AgentDies(index));
                }
            }
            Down::Services(table) => self.step_agent(index, Input::Services(table)),
            Down::LeaseRenewed(at) => self.surely_heard(index, at),
        }
    }

    /// The agent knows that the scheduler heard what it said at a moment.
    fn surely_heard(&mut self, index: NodeIndex, at: Timestamp) {
        self.nodes[index].heard_at = self.nodes[index].heard_at.max(Some(at));
        self.step_agent(index, Input::LeaseRenewed { age_ms: self.now.since(at) });
    }

    /// The agent says that it is alive, and will again.
    pub fn heartbeat(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get(&id) else { return };
        if !connection.agent_open || self.nodes[connection.node].connection != Some(id) {
            return;
        }
        let index = connection.node;
        let away = self.nodes[index].runtime.away;
        let is_leased = self.nodes[index].agent.as_ref().is_some_and(Agent::holds_leases);
        self.send_up(id, if is_leased { Up::RenewLease(self.now) } else { Up::Heartbeat });
        if self.nodes[index].random.per_mille(200) {
            let (name, reason) = ("runtime".to_owned(), "connection refused".to_owned());
            let usage = self.usage_on(index);
            self.send_up(id, Up::NodeReport(vec![Condition { name, ok: !away, reason, taken: Vec::new() }], usage));
        }
        let interval = self.nodes[index].random.between(900, 1100);
        self.after(interval, Event::Heartbeat(id));
    }

    fn perform(&mut self, index: NodeIndex, effect: Effect) {
        match effect {
            Effect::KeepAssignments(set) => self.keep(index, Kept::Assignments(set)),
            Effect::KeepServices(table) => self.keep(index, Kept::Services(table)),
            Effect::KeepAddresses(addresses) => {
                let life = self.nodes[index].life;
                self.after(ADDRESSES_MS, Event::Kept { node: index, life, what: Kept::Addresses(addresses) });
            }
            Effect::KeepTries(tries) => {
                self.check_tries(index, &tries);
                // The daemon waits for this write before it does anything else.
                self.nodes[index].kept_tries = tries;
            }
            // The daemon waits for this one, too.
            Effect::KeepFollowed(followed) => self.nodes[index].kept_followed = followed,
            Effect::TellAlone(followed) => {
                if let Some(id) = self.nodes[index].connection {
                    self.send_up(id, Up::Alone(followed));
                }
            }
            Effect::ProgramServices { number, balancing } => {
                self.moves += 1;
                self.nodes[index].programming = Some((number, balancing));
                let life = self.nodes[index].life;
                let hangs = self.is_noisy() && self.nodes[index].random.per_mille(20);
                self.nodes[index].kernel_is_well &= !hangs;
                self.note_kernel(index, hangs);
                let takes = if hangs { 3000 } else { self.nodes[index].random.between(1, 40) };
                self.after(takes, Event::Programmed { node: index, life });
            }
            Effect::Report(report) => {
                let sim = &self.nodes[index];
                if let (Some(id), Some(_)) = (sim.connection, sim.session_since) {
                    let (statuses, gone, complete) = (report.statuses.len(), report.gone.len(), report.complete);
                    let line = format!("{}: reports {statuses}, gone {gone}, complete {complete}", sim.id);
                    self.note(&line);
                    self.send_up(id, Up::Report(report));
                }
            }
            Effect::ConfirmTable(table) => {
                if let (Some(id), Some(_)) = (self.nodes[index].connection, self.nodes[index].session_since) {
                    self.send_up(id, Up::Programmed(table));
                }
            }
            Effect::CountConnections(instances) => self.count_connections(index, instances),
            Effect::Observe => self.look(index),
            Effect::StartProbe { instance, attempt, kind, probe, .. } => {
                self.start_probe(index, (instance, attempt), kind, &probe);
            }
            Effect::StopProbe { instance, kind } => {
                self.nodes[index].probes.retain(|((probed, _), known), _| *probed != instance || *known != kind);
            }
            Effect::ReadLastLines { .. } | Effect::Refresh { .. } => {}
            Effect::Companion { wish: CompanionWish::ReadLastLines { .. }, .. } => {}
            Effect::EnsureImage { .. } | Effect::EnsureNetwork { .. } | Effect::RemoveNetwork { .. } => {
                self.begin(index, effect);
            }
            Effect::Start { .. } | Effect::Stop { .. } | Effect::Remove { .. } | Effect::Companion { .. } => {
                self.moves += 1;
                self.begin(index, effect);
            }
        }
    }

    /// Most instances have nobody connected; a few keep somebody, and sometimes the kernel does not say.
    fn count_connections(&mut self, index: NodeIndex, instances: Vec<(InstanceId, Ipv4Addr)>) {
        let noisy = self.is_noisy();
        let sim = &mut self.nodes[index];
        let open = if noisy && sim.random.per_mille(50) {
            Err("netlink: device or resource busy".to_owned())
        } else {
            let random = &mut sim.random;
            Ok(instances.into_iter().map(|(id, _)| (id, u32::from(noisy && random.per_mille(300)))).collect())
        };
        let (life, takes) = (sim.life, sim.random.between(1, 20));
        self.after(takes, Event::Answer { node: index, life, input: Input::ConnectionsCounted { open } });
    }

    /// Writes take their time; an agent that dies before loses the last one.
    fn keep(&mut self, index: NodeIndex, what: Kept) {
        let life = self.nodes[index].life;
        let takes = self.nodes[index].random.between(1, 150);
        self.after(takes, Event::Kept { node: index, life, what });
    }

    /// A write is done. One that was overtaken by a later one changes nothing.
    pub fn kept(&mut self, index: NodeIndex, life: u64, what: Kept) {
        let sim = &mut self.nodes[index];
        if sim.life != life {
            return;
        }
        match what {
            Kept::Assignments(set) => {
                let held = sim.disk.0.as_ref().map(|held| (held.epoch, held.generation));
                if held < Some((set.epoch, set.generation)) {
                    sim.disk.0 = Some(set);
                }
            }
            Kept::Services(table) => {
                let held = sim.disk.1.as_ref().map(|held| (held.epoch, held.generation));
                if held < Some((table.epoch, table.generation)) {
                    sim.disk.1 = Some(table);
                }
            }
            // They take equally long, so none overtakes another.
            Kept::Addresses(addresses) => sim.kept_addresses = addresses,
        }
    }

    /// The kernel does what it was asked last, or does not. Who asked before that was overtaken.
    pub fn programmed(&mut self, index: NodeIndex, life: u64) {
        if self.nodes[index].life != life {
            return;
        }
        let Some((number, balancing)) = self.nodes[index].programming.take() else { return };
        let fails = self.is_noisy() && self.nodes[index].random.per_mille(5);
        self.nodes[index].kernel_is_well = !fails;
        self.note_kernel(index, fails);
        let input = if fails {
            Input::ServicesFailed { reason: "netlink: device or resource busy".to_owned() }
        } else {
            self.nodes[index].balancing = Some(balancing);
            Input::ServicesProgrammed { number }
        };
        let takes = self.nodes[index].random.between(1, 5);
        self.after(takes, Event::Answer { node: index, life, input });
    }

    fn note_kernel(&mut self, index: NodeIndex, failed: bool) {
        if failed {
            self.nodes[index].kernel_failed_at = self.now;
        }
    }

    fn start_probe(&mut self, index: NodeIndex, key: crate::event::Key, kind: ProbeKind, probe: &ProbeSpec) {
        let life = self.nodes[index].life;
        self.nodes[index].probes.insert((key.clone(), kind), probe.interval_ms);
        let pause = self.nodes[index].random.between(1, 250);
        self.after(pause, Event::Probe { node: index, life, key, kind });
    }

    /// Whether the scheduler's disk says that this instance shall run on this node.
    pub fn is_wanted(&self, index: NodeIndex, instance: &api_types::id::InstanceId) -> bool {
        let held = self.scheduler.disk.instances.get(instance);
        held.is_some_and(|held| held.desired == Desired::Run && held.node == self.nodes[index].id)
    }

    fn arm_agent(&mut self, index: NodeIndex) {
        let now = self.now;
        let sim = &mut self.nodes[index];
        let Some((at, _)) = sim.agent.as_ref().and_then(Agent::next_deadline) else { return };
        let at = shift(at, -sim.offset_ms).max(now);
        if sim.tick_at.is_none_or(|armed| at < armed) {
            sim.tick_at = Some(at);
            self.at(at, Event::AgentTick(index));
        }
    }
}

//! A node that does what the agent wishes, so that a test can watch what comes of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
};

use agent_core::{
    Agent, Followed, Settings, Version,
    effect::{Balancing, CompanionWish, Effect, Report},
    input::{CompanionAttempt, CompanionEvent, Input, ObservedContainer, ObservedNetwork, ObservedProcess},
};
use api_types::{
    assignment::{Assignment, AssignmentSet},
    balance::BalancePolicy,
    companion::{CompanionRole, CompanionSpec},
    container::{ContainerSpec, PortSpec, Protocol},
    counter::{Epoch, Generation, Revision},
    device::DeviceGrant,
    id::{InstanceId, Name, NodeId, WorkloadId},
    instance::{Desired, Exit, InstanceState, InstanceStatus},
    job::Tries,
    net::Cidr,
    probe::{ProbeCheck, ProbeSpec},
    resources::ResourceSpec,
    restart::RestartSpec,
    service::{Endpoint, Peer, Service, ServicePort, ServiceTable},
    site::{Across, Reach},
    time::Timestamp,
};

/// How long each kind of wish takes, in milliseconds.
const PULL_MS: u64 = 300;
const NETWORK_MS: u64 = 20;
const START_MS: u64 = 60;
const END_MS: u64 = 40;
const COUNT_MS: u64 = 5;
const STEP_MS: u64 = 30;

/// Which instance, which attempt.
pub(crate) type Key = (InstanceId, u32);

/// An agent and the node it acts on.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) agent: Agent,
    pub(crate) now: Timestamp,
    /// Containers, and the process id of those that run.
    pub(crate) containers: BTreeMap<Key, Option<u32>>,
    /// Containers beside main ones: the process ids of those that run, and how the others ended.
    pub(crate) companions: BTreeMap<CompanionAttempt, Result<u32, Exit>>,
    /// How init steps end by themselves; `None` = they run on.
    pub(crate) steps_end: Option<Exit>,
    /// When each process was started.
    pub(crate) started_at: BTreeMap<Key, Timestamp>,
    pub(crate) networks: BTreeMap<InstanceId, Ipv4Addr>,
    /// Why an image cannot be had.
    pub(crate) bad_images: BTreeMap<String, String>,
    /// Why the next starts fail.
    pub(crate) bad_starts: Option<String>,
    /// How long programming the kernel takes; `None` = it never answers.
    pub(crate) kernel_ms: Option<u64>,
    /// How many connections each instance has open that is to end.
    pub(crate) connections: u32,
    /// The table that the scheduler was told of last.
    pub(crate) confirmed: Option<Version>,
    /// What is on disk.
    pub(crate) disk: (Option<AssignmentSet>, Option<Arc<ServiceTable>>),
    /// Which instance is where, on disk.
    pub(crate) kept_addresses: BTreeMap<InstanceId, Ipv4Addr>,
    /// How processes ended of instances that shall end by themselves, on disk.
    pub(crate) kept_tries: BTreeMap<InstanceId, Tries>,
    /// How far schedules were followed by its own clock, on disk.
    pub(crate) kept_followed: Followed,
    /// What the scheduler was told of that.
    pub(crate) told_alone: Vec<Followed>,
    /// The instances of which there is something that they wrote.
    pub(crate) outputs: BTreeSet<InstanceId>,
    pub(crate) balancing: Option<Balancing>,
    /// Every wish so far.
    pub(crate) log: Vec<Effect>,
    pub(crate) reports: Vec<Report>,
    coming: BTreeMap<(Timestamp, u64), Input>,
    count: u64,
}

impl Node {
    pub(crate) fn new() -> Self {
        let now = Timestamp(1_000_000);
        Self {
            agent: Agent::new(settings(), None, None, BTreeMap::new(), Default::default(), now),
            now,
            containers: BTreeMap::new(),
            companions: BTreeMap::new(),
            steps_end: Some(Exit::Code(0)),
            started_at: BTreeMap::new(),
            networks: BTreeMap::new(),
            bad_images: BTreeMap::new(),
            bad_starts: None,
            kernel_ms: Some(1),
            connections: 0,
            confirmed: None,
            disk: (None, None),
            kept_addresses: BTreeMap::new(),
            kept_tries: BTreeMap::new(),
            kept_followed: BTreeMap::new(),
            told_alone: Vec::new(),
            outputs: BTreeSet::new(),
            balancing: None,
            log: Vec::new(),
            reports: Vec::new(),
            coming: BTreeMap::new(),
            count: 0,
        }
    }

    /// A node whose agent has looked around, has a session, and runs what it was assigned.
    pub(crate) fn running(assignments: &[Assignment]) -> Self {
        let mut node = Self::new();
        node.observe();
        node.give(Input::SessionOpened { epoch: Epoch(1) });
        node.give(Input::Services(table(1, &["web"], &[])));
        node.give(Input::Assigned(set(1, assignments)));
        node.pass(2000);
        node
    }

    /// Gives the agent an input now, and performs what it wishes.
    pub(crate) fn give(&mut self, input: Input) {
        let mut effects = Vec::new();
        self.agent.step(self.now, input, &mut effects);
        if let Err(broken) = self.agent.check_invariants() {
            panic!("{broken}");
        }
        for effect in effects {
            self.perform(&effect);
            self.log.push(effect);
        }
    }

    /// Lets time pass: answers arrive, deadlines come due.
    pub(crate) fn pass(&mut self, milliseconds: u64) {
        let end = self.now + milliseconds;
        loop {
            let answer = self.coming.keys().next().copied();
            let deadline = self.agent.next_deadline().map(|(at, _)| at.max(self.now));
            let next = [answer.map(|(at, _)| at), deadline].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            match answer.filter(|(at, _)| *at <= next).and_then(|key| self.coming.remove(&key)) {
                Some(input) => self.give(input),
                None => self.give(Input::Tick),
            }
        }
        self.now = end;
    }

    /// Gives the agent the list of what is there.
    pub(crate) fn observe(&mut self) {
        let list = self.list();
        self.give(list);
    }

    /// The list of what is there.
    pub(crate) fn list(&self) -> Input {
        let containers = self.containers.iter().map(|((instance, attempt), pid)| {
            let key = (instance.clone(), *attempt);
            let process = match pid {
                Some(pid) => ObservedProcess::Running {
                    pid: *pid,
                    started_at: self.started_at.get(&key).copied().unwrap_or_default(),
                },
                None => ObservedProcess::Ended(Exit::Unknown),
            };
            ObservedContainer { instance: instance.clone(), companion: None, attempt: *attempt, process }
        });
        let beside = self.companions.iter().map(|(key, state)| {
            let CompanionAttempt { instance, companion, attempt } = key.clone();
            let process = match state {
                Ok(pid) => ObservedProcess::Running { pid: *pid, started_at: self.now },
                Err(exit) => ObservedProcess::Ended(exit.clone()),
            };
            ObservedContainer { instance, companion: Some(companion), attempt, process }
        });
        let networks = self.networks.iter();
        Input::Observed {
            containers: containers.chain(beside).collect(),
            networks: networks
                .map(|(instance, address)| ObservedNetwork { instance: instance.clone(), address: *address })
                .collect(),
        }
    }

    /// A process ends by itself.
    pub(crate) fn exit(&mut self, instance: &str, exit: Exit) {
        let (key, _) = self.process(instance).expect("a process that can end");
        self.containers.insert(key.clone(), None);
        self.give(Input::Exited { instance: key.0, attempt: key.1, exit });
    }

    /// The process of a companion ends by itself.
    pub(crate) fn companion_exit(&mut self, instance: &str, companion: u8, exit: Exit) {
        let key = self.companion(instance, companion).expect("a companion that can end");
        self.companions.insert(key.clone(), Err(exit.clone()));
        self.give(Input::Companion { key, event: CompanionEvent::Exited { exit } });
    }

    /// The attempt of a companion that runs.
    pub(crate) fn companion(&self, instance: &str, companion: u8) -> Option<CompanionAttempt> {
        let is_it = |key: &CompanionAttempt| key.instance.as_str() == instance && key.companion == companion;
        self.companions.iter().find(|(key, state)| is_it(key) && state.is_ok()).map(|(key, _)| key.clone())
    }

    /// The agent starts anew with what the disk has; what it waited for is lost.
    pub(crate) fn restart_agent(&mut self) {
        let (set, table) = self.disk.clone();
        self.coming.clear();
        let (addresses, tries) = (self.kept_addresses.clone(), self.kept_tries.clone());
        let alone = self.kept_followed.clone();
        self.agent = Agent::new(settings(), set, table, addresses, (tries, alone), self.now);
    }

    /// The machine loses power and boots: processes and networks are gone, containers and disk are not.
    pub(crate) fn reboot(&mut self) {
        self.containers.values_mut().for_each(|pid| *pid = None);
        self.companions.values_mut().for_each(|state| *state = Err(Exit::Unknown));
        self.networks.clear();
        self.balancing = None;
        self.restart_agent();
    }

    /// The process of an instance that runs.
    pub(crate) fn process(&self, instance: &str) -> Option<(Key, u32)> {
        let mut found = self.containers.iter().filter(|((id, _), _)| id.as_str() == instance);
        found.find_map(|(key, pid)| pid.map(|pid| (key.clone(), pid)))
    }

    /// What the scheduler knows of an instance from reports.
    pub(crate) fn reported(&self, instance: &str) -> InstanceStatus {
        let statuses = self.reports.iter().rev().flat_map(|report| &report.statuses);
        statuses.into_iter().find(|status| status.instance.as_str() == instance).expect("a report").clone()
    }

    pub(crate) fn state(&self, instance: &str) -> Option<InstanceState> {
        self.agent.instances().find(|(id, ..)| id.as_str() == instance).map(|(_, _, state, _)| state)
    }

    /// The instances that the kernel balances `web` to.
    pub(crate) fn endpoints(&self) -> Vec<String> {
        let services = self.balancing.iter().flat_map(|balancing| &balancing.services);
        let ready = services.flat_map(|service| &service.endpoints).filter(|endpoint| !endpoint.last_resort);
        ready.map(|endpoint| endpoint.instance.to_string()).collect()
    }

    /// How many wishes so far meet the condition.
    pub(crate) fn count(&self, condition: impl Fn(&Effect) -> bool) -> usize {
        self.log.iter().filter(|effect| condition(effect)).count()
    }

    pub(crate) fn starts(&self) -> usize {
        self.count(|effect| matches!(effect, Effect::Start { .. }))
    }

    pub(crate) fn answer(&mut self, after_ms: u64, input: Input) {
        self.count += 1;
        self.coming.insert((self.now + after_ms, self.count), input);
    }

    /// Forgets every answer that is on its way.
    pub(crate) fn drop_answers(&mut self) {
        self.coming.clear();
    }

    fn perform(&mut self, effect: &Effect) {
        match effect.clone() {
            Effect::KeepAssignments(set) => self.disk.0 = Some((*set).clone()),
            Effect::KeepServices(table) => self.disk.1 = Some(table),
            Effect::KeepAddresses(addresses) => self.kept_addresses = (*addresses).clone(),
            Effect::KeepTries(tries) => self.kept_tries = (*tries).clone(),
            Effect::KeepFollowed(followed) => self.kept_followed = (*followed).clone(),
            Effect::Observe => {
                let list = self.list();
                self.answer(END_MS, list);
            }
            Effect::EnsureImage { image } => match self.bad_images.get(&image).cloned() {
                Some(reason) => self.answer(PULL_MS, Input::ImageFailed { image, reason, is_missing: false }),
                None => self.answer(PULL_MS, Input::ImageReady { image }),
            },
            Effect::EnsureNetwork { instance, address, .. } => {
                self.networks.insert(instance.clone(), address);
                self.answer(NETWORK_MS, Input::NetworkReady { instance });
            }
            Effect::RemoveNetwork { instance, keeps_output } => {
                self.networks.remove(&instance);
                if !keeps_output {
                    self.outputs.remove(&instance);
                }
                self.answer(NETWORK_MS, Input::NetworkRemoved { instance });
            }
            Effect::Start { assignment, attempt, .. } => self.start(assignment.instance.clone(), attempt),
            Effect::Stop { instance, attempt, .. } => {
                let key = (instance.clone(), attempt);
                if self.containers.contains_key(&key) {
                    self.containers.insert(key, None);
                }
                self.answer(END_MS, Input::Exited { instance, attempt, exit: Exit::Code(0) });
            }
            Effect::Remove { instance, attempt } => {
                self.containers.remove(&(instance.clone(), attempt));
                self.answer(END_MS, Input::Removed { instance, attempt });
            }
            Effect::Companion { key, wish } => self.perform_beside(key, wish),
            Effect::ProgramServices { number, balancing } => {
                self.balancing = Some((*balancing).clone());
                if let Some(kernel_ms) = self.kernel_ms {
                    self.answer(kernel_ms, Input::ServicesProgrammed { number });
                }
            }
            Effect::CountConnections(instances) => {
                let count = |(id, _): (InstanceId, Ipv4Addr)| (id, self.connections);
                let open = Ok(instances.into_iter().map(count).collect());
                self.answer(COUNT_MS, Input::ConnectionsCounted { open });
            }
            Effect::ConfirmTable(table) => self.confirmed = Some(table),
            Effect::StartProbe { .. } | Effect::StopProbe { .. } | Effect::Refresh { .. } => {}
            Effect::ReadLastLines { instance, attempt, .. } => {
                let lines = format!("the last words of attempt {attempt}");
                self.answer(END_MS, Input::LastLines { instance, attempt, lines });
            }
            Effect::TellAlone(followed) => self.told_alone.push((*followed).clone()),
            Effect::Report(report) => self.reports.push(report),
        }
    }

    fn perform_beside(&mut self, key: CompanionAttempt, wish: CompanionWish) {
        let (after_ms, event) = match wish {
            CompanionWish::Start { assignment, .. } => {
                let spec = &assignment.companions[usize::from(key.companion)];
                self.start_beside(key, spec.is_init());
                return;
            }
            CompanionWish::Stop { .. } => {
                if let Some(state) = self.companions.get_mut(&key).filter(|state| state.is_ok()) {
                    *state = Err(Exit::Code(0));
                }
                (END_MS, CompanionEvent::Exited { exit: Exit::Code(0) })
            }
            CompanionWish::Remove => {
                self.companions.remove(&key);
                (END_MS, CompanionEvent::Removed)
            }
            CompanionWish::ReadLastLines { name, .. } => {
                (END_MS, CompanionEvent::LastLines { lines: format!("the last words of {name}") })
            }
        };
        self.answer(after_ms, Input::Companion { key, event });
    }

    fn start_beside(&mut self, key: CompanionAttempt, is_init: bool) {
        if let Some(reason) = self.bad_starts.clone() {
            self.answer(START_MS, Input::Companion { key, event: CompanionEvent::StartFailed { reason } });
            return;
        }
        self.count += 1;
        let pid = 1000 + u32::try_from(self.count).expect("a short test");
        let before = self.companions.insert(key.clone(), Ok(pid));
        assert!(before.is_none(), "{key:?} was started twice");
        self.answer(START_MS, Input::Companion { key: key.clone(), event: CompanionEvent::Started { pid } });
        if let Some(exit) = self.steps_end.clone().filter(|_| is_init) {
            self.companions.insert(key.clone(), Err(exit.clone()));
            self.answer(START_MS + STEP_MS, Input::Companion { key, event: CompanionEvent::Exited { exit } });
        }
    }

    fn start(&mut self, instance: InstanceId, attempt: u32) {
        if let Some(reason) = self.bad_starts.clone() {
            self.answer(START_MS, Input::StartFailed { instance, attempt, reason });
            return;
        }
        self.count += 1;
        let pid = 1000 + u32::try_from(self.count).expect("a short test");
        let key = (instance.clone(), attempt);
        assert!(!self.containers.contains_key(&key), "{key:?} was started twice");
        self.containers.insert(key.clone(), Some(pid));
        self.outputs.insert(instance.clone());
        self.started_at.insert(key, self.now);
        self.answer(START_MS, Input::Started { instance, attempt, pid });
    }
}

pub(crate) fn node_id(name: &str) -> NodeId {
    NodeId::new(name).expect("a name")
}

pub(crate) fn id(name: &str) -> InstanceId {
    InstanceId::new(name).expect("a name")
}

pub(crate) fn address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 42, 3, last)
}

pub(crate) fn subnet() -> Cidr {
    "10.42.3.0/24".parse().expect("a range")
}

/// An instance of the service `web`.
pub(crate) fn assignment(instance: &str) -> Assignment {
    Assignment {
        devices: Vec::new(),
        instance: id(instance),
        workload: "web".parse().expect("an id"),
        slot: 0,
        revision: Revision(1),
        desired: Desired::Run,
        container: ContainerSpec {
            stop_signal: Some("SIGQUIT".to_owned()),
            stop_grace_ms: 7000,
            ..ContainerSpec::of_image("registry.lan/web:1")
        },
        resources: ResourceSpec::default(),
        companions: Vec::new(),
        after: Vec::new(),
        ports: vec![PortSpec {
            name: "http".to_owned(),
            container: 8080,
            protocol: Protocol::Tcp,
            service: 80,
            publish: None,
            http: false,
            host: None,
            bind: None,
            allow: Vec::new(),
        }],
        probe: None,
        restart: RestartSpec::default(),
        is_judged: false,
        ipv6: false,
        retries: None,
        stop_after_ms: None,
        secrets: BTreeMap::new(),
    }
}

/// An instance with the init steps `fetch` and `migrate` and the sidecar `proxy`, which are companions 0, 1 and 2.
pub(crate) fn accompanied(instance: &str) -> Assignment {
    let companion = |name: &str, role| CompanionSpec {
        name: Name::new(name).expect("a name"),
        role,
        container: ContainerSpec { stop_grace_ms: 3000, ..ContainerSpec::of_image(format!("registry.lan/{name}:1")) },
        resources: ResourceSpec::default(),
    };
    let steps = ["fetch", "migrate"].map(|name| companion(name, CompanionRole::Init));
    let companions = steps.into_iter().chain([companion("proxy", CompanionRole::Sidecar)]).collect();
    Assignment { companions, ..assignment(instance) }
}

/// Where the node itself is reached.
pub(crate) const NODE_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 3);

fn settings() -> Settings {
    Settings { node_address: Some(NODE_ADDRESS), ..Settings::new(node_id("edge-1")) }
}

/// An instance that is probed: two failures put it out, half a minute to start.
pub(crate) fn probed(instance: &str) -> Assignment {
    Assignment { probe: Some(probe(0)), ..assignment(instance) }
}

/// A probe whose second failure counts.
pub(crate) fn probe(grace_ms: u64) -> ProbeSpec {
    let check = ProbeCheck::Tcp { port: 8080 };
    ProbeSpec { check, interval_ms: 2000, timeout_ms: 1000, failures: 2, successes: 1, grace_ms }
}

/// An instance that was given half of the camera `front-door`.
pub(crate) fn with_camera(instance: &str) -> Assignment {
    let grant = DeviceGrant { device: "front-door".to_owned(), kind: "camera".to_owned(), millis: 500 };
    Assignment { devices: vec![grant], ..assignment(instance) }
}

pub(crate) fn stopped(assignment: Assignment) -> Assignment {
    Assignment { desired: Desired::Stop, ..assignment }
}

pub(crate) fn set(generation: u64, assignments: &[Assignment]) -> AssignmentSet {
    AssignmentSet {
        epoch: Epoch(1),
        generation: Generation(generation),
        node: node_id("edge-1"),
        subnet: subnet(),
        assignments: assignments.to_vec(),
        met: Vec::new(),
        ahead: Vec::new(),
        secrets: BTreeMap::new(),
    }
}

/// A table with these services, and these endpoints (instance, node, last byte of the address) for each of them.
pub(crate) fn table(generation: u64, services: &[&str], endpoints: &[(&str, &str, u8)]) -> Arc<ServiceTable> {
    let endpoints: Vec<Endpoint> = endpoints
        .iter()
        .map(|(instance, node, last)| Endpoint::new(id(instance), node_id(node), address(*last)))
        .collect();
    let service = |name: &&str| Service {
        id: name.parse::<WorkloadId>().expect("an id"),
        address: Ipv4Addr::new(10, 43, 0, 10),
        ports: vec![ServicePort {
            name: "http".to_owned(),
            protocol: Protocol::Tcp,
            service: 80,
            container: 8080,
            publish: None,
            http: false,
            bind: None,
            allow: Vec::new(),
        }],
        endpoints: endpoints.clone(),
        balance: BalancePolicy::default(),
        ipv6: false,
        across_sites: false,
        counts_requests: false,
        access: None,
    };
    let peer = |name: &str, last: u8| Peer {
        node: node_id(name),
        address: Ipv4Addr::new(192, 168, 0, last),
        ipv6_address: None,
        subnet: format!("10.42.{last}.0/24").parse().expect("a range"),
        site: String::new(),
        reach: Reach::Routes,
        across: Across::Routes,
        tunnel: None,
    };
    Arc::new(ServiceTable {
        epoch: Epoch(1),
        generation: Generation(generation),
        cluster_range: "10.42.0.0/16".parse().expect("a range"),
        service_range: "10.43.0.0/16".parse().expect("a range"),
        ipv6_prefix: None,
        services: services.iter().map(service).map(Arc::new).collect(),
        peers: [peer("edge-1", 3), peer("edge-2", 4)].into(),
        watch_key: None,
    })
}

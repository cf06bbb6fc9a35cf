//! `Agent::step`: one line for each input, then balancing, containers and reports are brought up to date.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
};

use api_types::{
    assignment::{Assignment, AssignmentSet},
    counter::{Epoch, Generation},
    dependency::Dependency,
    id::{InstanceId, NodeId},
    instance::{Exit, InstanceState},
    job::Tries,
    net::Cidr,
    service::ServiceTable,
    time::Timestamp,
};

use crate::{
    addresses::Addresses,
    alone::{Alone, Followed},
    effect::{Effect, Effects},
    farewell::Counting,
    images::Images,
    input::Input,
    instances::{Claim, Instance},
    lease::{Cover, Lease},
    listings::Listings,
    report::{Gone, Session},
    services::BalancingBooks,
    settings::Settings,
    tries::KeptTries,
};

/// Which assignment set or service table: the greater one is the later one.
pub type Version = (Epoch, Generation);

/// Whether containerd answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Runtime {
    /// Not heard of in this run: nothing is known of the node, and nothing is done to it.
    Unseen,
    /// It answers.
    Present,
    /// It answered, and does not now.
    Lost,
}

/// What is kept of the assignment set beside the instances.
#[derive(Clone, Debug)]
pub(crate) struct SetHeader {
    pub(crate) version: Version,
    pub(crate) subnet: Cidr,
    /// What is so of that for which its instances wait.
    pub(crate) met: Vec<Dependency>,
}

/// The agent's decisions: see the contract of this crate.
#[derive(Debug)]
pub struct Agent {
    pub(crate) settings: Settings,
    pub(crate) set: Option<SetHeader>,
    /// Whether a session gave the set or had no later one; until then, one from disk may be older than what runs.
    pub(crate) confirmed: bool,
    /// When the open session counts as one that has no later set.
    pub(crate) confirm_at: Option<Timestamp>,
    /// The instances that the set names.
    pub(crate) listed: BTreeSet<InstanceId>,
    pub(crate) table: Option<Arc<ServiceTable>>,
    /// Who of this node is listed in it.
    pub(crate) listings: Listings,
    pub(crate) instances: BTreeMap<InstanceId, Instance>,
    pub(crate) gone: Gone,
    pub(crate) images: Images,
    pub(crate) addresses: Addresses,
    pub(crate) tries: KeptTries,
    /// What it does by its own clock.
    pub(crate) alone: Alone,
    pub(crate) runtime: Runtime,
    /// When a list is wanted that settles a doubt.
    pub(crate) look_again_at: Option<Timestamp>,
    pub(crate) balancing: BalancingBooks,
    pub(crate) counting: Counting,
    /// Whether the machine is being shut down: then nobody shall balance to what still runs here.
    pub(crate) machine_ends: bool,
    /// Neighbours that cannot be reached: nobody here balances to them.
    pub(crate) unreachable: BTreeSet<NodeId>,
    /// Endpoints in other sites that a tunnel reaches, and where it begins here.
    pub(crate) detours: BTreeMap<SocketAddrV4, SocketAddrV4>,
    pub(crate) session: Option<Session>,
    /// Since when there is no session.
    pub(crate) cut_off_since: Option<Timestamp>,
    /// When the scheduler surely had heard of this node; `None` = not since the machine was started.
    pub(crate) lease: Option<Lease>,
    /// The first of all deadlines, as the latest change left them.
    deadline: Option<(Timestamp, &'static str)>,
    changes: u64,
}

impl Agent {
    /// Starts from what the disk gave back; `None`, or no addresses, tries and schedules, where it had nothing that could be read.
    #[must_use]
    pub fn new(
        settings: Settings,
        assignments: Option<AssignmentSet>,
        services: Option<Arc<ServiceTable>>,
        addresses: BTreeMap<InstanceId, Ipv4Addr>,
        (tries, followed): (BTreeMap<InstanceId, Tries>, Followed),
        now: Timestamp,
    ) -> Self {
        let addresses = Addresses::recovered(addresses, &settings.node, services.as_deref());
        let mut agent = Self {
            settings,
            set: None,
            confirmed: false,
            confirm_at: None,
            listed: BTreeSet::new(),
            table: services,
            listings: Listings::default(),
            instances: BTreeMap::new(),
            gone: Gone::default(),
            images: Images::default(),
            addresses,
            tries: KeptTries::recovered(tries),
            alone: Alone::recovered(followed),
            runtime: Runtime::Unseen,
            look_again_at: None,
            balancing: BalancingBooks::default(),
            counting: Counting::default(),
            machine_ends: false,
            unreachable: BTreeSet::new(),
            detours: BTreeMap::new(),
            session: None,
            cut_off_since: Some(now),
            lease: None,
            deadline: None,
            changes: 0,
        };
        if let Some(set) = assignments.filter(|set| set.node == agent.settings.node) {
            agent.accept(&set, now);
            agent.instances.values_mut().for_each(|instance| instance.cover = Cover::Given);
        }
        if let Some(table) = &agent.table {
            agent.listings.follow(table, &agent.settings.node);
        }
        agent.deadline = agent.first_deadline();
        agent
    }

    /// Applies one input, then brings every decision it touched up to date. `now` never goes back.
    pub fn step(&mut self, now: Timestamp, input: Input, effects: &mut Effects) {
        if self.is_known(&input) && self.deadline.is_none_or(|(at, _)| at > now) {
            return;
        }
        self.changes += 1;
        let is_awaited = self.is_awaited(&input) || self.deadline.is_some_and(|(at, _)| at <= now);
        self.apply(now, input, effects);
        if !is_awaited {
            self.confirm_table(effects);
            self.deadline = self.first_deadline();
            return;
        }
        self.confirm(now);
        self.fence(now);
        self.begin_due(now, effects);
        for instance in self.instances.values_mut() {
            instance.give_up_without_network(&self.settings, now);
            instance.mature(&self.settings, now);
        }
        // Balancing comes first: an endpoint leaves it before its process is asked to end.
        self.program(now, effects);
        self.confirm_table(effects);
        self.reconcile(now, effects);
        self.report(now, effects);
        self.deadline = self.first_deadline();
    }

    /// Whether an input says nothing new: most are answers of probes of what is well.
    fn is_known(&self, input: &Input) -> bool {
        if let Input::Probed { instance, kind, outcome: Ok(_), .. } = input {
            return self.instances.get(instance).is_none_or(|instance| instance.probes.is_well(*kind));
        }
        matches!(input, Input::Tick)
    }

    /// Whether an input may change what becomes of an instance. That the kernel did as asked matters only to those that leave, and
    /// that the scheduler heard of this node, each second, only to those that wait for it.
    fn is_awaited(&self, input: &Input) -> bool {
        let mut instances = self.instances.values();
        if matches!(input, Input::ServicesProgrammed { .. }) {
            return instances.any(|instance| instance.farewell.is_some());
        }
        !matches!(input, Input::LeaseRenewed { .. }) || instances.any(Instance::awaits_lease)
    }

    /// When `step` wants to be called with [`Input::Tick`], and why.
    #[must_use]
    pub fn next_deadline(&self) -> Option<(Timestamp, &'static str)> {
        self.deadline
    }

    /// How many inputs said something new. While this stays the same, so does everything else that can be asked of an agent.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes
    }

    fn first_deadline(&self) -> Option<(Timestamp, &'static str)> {
        let confirm = self.confirm_at.map(|at| (at, "a session that brings no later set"));
        let (lease, balancing) = (self.fence_deadline(), self.balancing.deadline());
        let deadlines =
            [self.reconcile_deadline(), lease, balancing, self.report_deadline(), confirm, self.due_deadline()];
        deadlines.into_iter().flatten().min()
    }

    /// The versions of the assignment set and of the service table that are held.
    #[must_use]
    pub fn held(&self) -> (Option<Version>, Option<Version>) {
        let table = self.table.as_ref().map(|table| (table.epoch, table.generation));
        (self.set.as_ref().map(|set| set.version), table)
    }

    /// What an instance was assigned, while it is on the books.
    #[must_use]
    pub fn assignment(&self, instance: &InstanceId) -> Option<Arc<Assignment>> {
        self.instances.get(instance)?.assignment().cloned()
    }

    /// Every instance on the books: its latest attempt, its state and its address.
    pub fn instances(&self) -> impl Iterator<Item = (InstanceId, u32, InstanceState, Option<Ipv4Addr>)> {
        self.instances.iter().map(|(id, instance)| {
            let attempt = instance.alive().map_or(instance.attempts.next.saturating_sub(1), |(attempt, _)| attempt);
            (id.clone(), attempt, instance.status.state, instance.address)
        })
    }

    /// Facts in: changes the books, decides nothing but what is kept on disk.
    fn apply(&mut self, now: Timestamp, input: Input, effects: &mut Effects) {
        match input {
            Input::Tick => {}
            Input::Observed { containers, networks } => self.observed(now, &containers, &networks),
            Input::RuntimeLost => {
                if self.runtime == Runtime::Present {
                    self.runtime = Runtime::Lost;
                }
            }
            Input::Assigned(set) => self.assigned(now, set, effects),
            Input::Services(table) => self.services(now, table, effects),
            Input::SessionOpened { epoch: _ } => self.session_opened(now),
            Input::SessionClosed => self.session_closed(now),
            Input::LeaseRenewed { age_ms } => self.lease_renewed(age_ms, now),
            Input::Slept { ms } => self.slept(ms),
            Input::WallClock { ahead_ms } => self.alone.set_wall(ahead_ms),
            Input::MachineEnds => self.machine_ends = true,
            Input::ImageReady { image } => self.images.ready(&image),
            Input::ImageFailed { image, reason, is_missing } => {
                self.images.failed(&self.settings, now, &image, (&reason, is_missing));
            }
            Input::NetworkReady { instance } => self.touch(&instance, |instance, _| instance.network_ready(now)),
            Input::NetworkFailed { instance, reason } => {
                self.touch(&instance, |instance, settings| instance.network_failed(settings, &reason, now));
            }
            Input::NetworkRemoved { instance } => self.touch(&instance, |instance, _| instance.network_removed()),
            Input::Started { instance, attempt, pid } => self.started(now, &instance, attempt, pid),
            Input::StartFailed { instance, attempt, reason } => self.start_failed(now, &instance, attempt, &reason),
            Input::Exited { instance, attempt, exit } => self.exited(now, &instance, attempt, exit),
            Input::Removed { instance, attempt } => self.touch(&instance, |instance, _| instance.removed(attempt)),
            Input::RemoveFailed { instance, attempt, reason } => {
                self.touch(&instance, |instance, settings| instance.removal_failed(settings, attempt, &reason, now));
            }
            Input::Companion { key, event } => self.companion(now, &key, event),
            Input::Probed { instance, attempt, kind, outcome } => {
                self.touch(&instance, |instance, _| instance.probed((attempt, kind), outcome, now));
            }
            Input::LastLines { instance, attempt, lines } => {
                self.touch(&instance, |instance, _| instance.last_lines(attempt, lines));
            }
            Input::DevicesSeen { missing } => {
                for instance in self.instances.values_mut() {
                    instance.devices_seen(&self.settings, &missing, now);
                }
            }
            Input::Unreachable { nodes } => self.unreachable = nodes,
            Input::Tunnelled { detours } => self.detours = detours,
            Input::ConnectionsCounted { open } => self.connections_counted(&open, now),
            Input::ServicesProgrammed { number } => self.balancing.programmed(number),
            Input::ServicesFailed { reason: _ } => self.balancing.failed(&self.settings, now),
        }
    }

    fn touch(&mut self, id: &InstanceId, change: impl FnOnce(&mut Instance, &Settings)) {
        if let Some(instance) = self.instances.get_mut(id) {
            change(instance, &self.settings);
        }
    }

    fn assigned(&mut self, now: Timestamp, set: AssignmentSet, effects: &mut Effects) {
        let is_newer = self.set.as_ref().is_none_or(|held| (set.epoch, set.generation) > held.version);
        if set.node != self.settings.node || !is_newer || self.is_over(set.epoch) {
            return;
        }
        self.accept(&set, now);
        self.confirmed = true;
        self.confirm_at = None;
        effects.push(Effect::KeepAssignments(Arc::new(set)));
    }

    fn services(&mut self, now: Timestamp, table: Arc<ServiceTable>, effects: &mut Effects) {
        let version = (table.epoch, table.generation);
        if self.table.as_ref().is_some_and(|held| version <= (held.epoch, held.generation)) {
            return;
        }
        if self.is_over(table.epoch) {
            return;
        }
        self.listings.follow(&table, &self.settings.node);
        self.table = Some(table.clone());
        self.follow_table(now);
        effects.push(Effect::KeepServices(table));
    }

    /// Whether a later run of the scheduler than this one is known, by its set or by its table: one of both may be lost.
    fn is_over(&self, epoch: Epoch) -> bool {
        let (set, table) = self.held();
        [set, table].into_iter().flatten().any(|(known, _)| known > epoch)
    }

    /// The end of a process that is not on the books yet: a list that is on its way may still show it alive.
    fn exited(&mut self, now: Timestamp, id: &InstanceId, attempt: u32, exit: Exit) {
        match self.instances.get_mut(id).filter(|instance| instance.attempts.knows(attempt)) {
            Some(instance) => instance.ended(&self.settings, attempt, exit, now),
            None => self.look_again_at = Some(now),
        }
    }

    /// A process that nobody here waits for is a leftover like one that a list shows.
    fn started(&mut self, now: Timestamp, id: &InstanceId, attempt: u32, pid: u32) {
        // Nothing was asked for before the first list, which will tell.
        if self.runtime == Runtime::Unseen {
            return;
        }
        self.found(id, now).runs(attempt, pid, now, now);
    }

    /// Gives the instance, booked as found on the node if it is not known.
    pub(crate) fn found(&mut self, id: &InstanceId, now: Timestamp) -> &mut Instance {
        self.gone.remove(id);
        let claim = if self.confirmed { Claim::Leave(None) } else { Claim::Unclaimed };
        let tries = &self.tries;
        self.instances.entry(id.clone()).or_insert_with(|| {
            let mut instance = Instance::new(id.clone(), claim, now);
            instance.remember(tries.of(id));
            instance
        })
    }

    fn session_opened(&mut self, now: Timestamp) {
        self.session = Some(Session::opened(now));
        self.cut_off_since = None;
        self.balancing.session_opened();
        self.trust_own_knowledge();
        if self.set.is_some() && !self.confirmed {
            self.confirm_at = Some(now + self.settings.leftover_patience_ms);
        }
    }

    fn session_closed(&mut self, now: Timestamp) {
        self.session = None;
        self.cut_off_since.get_or_insert(now);
        self.trust_own_knowledge();
        self.confirm_at = None;
    }

    /// The session had time to bring a later set, and did not: the one from disk is the latest.
    fn confirm(&mut self, now: Timestamp) {
        if self.confirm_at.is_none_or(|at| at > now) {
            return;
        }
        self.confirm_at = None;
        self.confirmed = true;
        for instance in self.instances.values_mut() {
            if matches!(instance.claim, Claim::Unclaimed) {
                instance.claim = Claim::Leave(None);
            }
        }
    }

    fn start_failed(&mut self, now: Timestamp, id: &InstanceId, attempt: u32, reason: &str) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        instance.start_failed(attempt, reason, (&self.settings, &mut self.images), now);
    }
}

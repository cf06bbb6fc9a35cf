//! How this node balances: the scheduler's table, overlaid with what this node knows better about its own instances.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
};

use api_types::{
    container::NetworkMode,
    id::{InstanceId, NodeId, WorkloadId},
    instance::Health,
    net::Cidr,
    service::ServiceTable,
    time::Timestamp,
};

use crate::{
    Settings,
    effect::{Balancing, ClosedInstance, Effect, Effects, HostPort, host_ports},
    instances::{Instance, Listing},
    machine::{Agent, Runtime, Version},
    overlay::View,
    policy::Ages,
    restart::backoff_ms,
};

/// What the kernel was asked to do, and from what that was computed.
#[derive(Debug, Default)]
pub(crate) struct BalancingBooks {
    pub(crate) basis: Option<Basis>,
    pub(crate) wanted: Option<Arc<Balancing>>,
    asked: u64,
    programmed: u64,
    failures: u32,
    retry_at: Option<Timestamp>,
    ages: Ages,
    /// When weights of endpoints that joined lately rise next.
    rise_at: Option<Timestamp>,
    /// From which table each number followed that the kernel is not known to have done; the latest, if several did.
    followed: BTreeMap<u64, Version>,
    /// The latest table that the kernel is known to balance by.
    table: Option<Version>,
    /// The one that the open session was told.
    told: Option<Version>,
    /// Whether a session gave the table that is held; until then it may be older than the assignments that were kept with it.
    heard: bool,
}

/// How far the kernel is with what it was asked to do: numbers of [`Effect::ProgramServices`], zero before the first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    /// What it was asked last.
    pub(crate) asked: u64,
    /// What it is known to do.
    pub(crate) programmed: u64,
    /// Whether a session gave the table that this follows from.
    pub(crate) heard: bool,
}

/// An endpoint of this node: of which workload, which instance, where.
pub(crate) type OwnEndpoint = (WorkloadId, InstanceId, Ipv4Addr);

/// All that the balancing follows from.
#[derive(Debug)]
pub(crate) struct Basis {
    pub(crate) table: Arc<ServiceTable>,
    pub(crate) subnet: Cidr,
    pub(crate) local: Local,
    pub(crate) unreachable: BTreeSet<NodeId>,
    pub(crate) view: Arc<View>,
    pub(crate) detours: BTreeMap<SocketAddrV4, SocketAddrV4>,
}

/// This node's own part, which it knows best.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Local {
    /// Instances that run and are well; sorted by instance.
    pub(crate) endpoints: Vec<OwnEndpoint>,
    /// Those that are well, too, but that the scheduler takes out, or has not let in yet: only used where there is nobody else.
    pub(crate) withdrawn: Vec<OwnEndpoint>,
    /// Those that run but fail their probes, were taken over and not probed yet, or shall leave by assignments that may be
    /// later than the table: only used where nobody is ready.
    pub(crate) unready: Vec<OwnEndpoint>,
    /// Ports of the node that lead to one instance; sorted.
    pub(crate) host_ports: Vec<HostPort>,
    /// Instances that only ports of the nodes lead to, from before they run until their network is gone; sorted.
    pub(crate) closed: Vec<ClosedInstance>,
}

impl Local {
    /// All that run, by workload: a connection that crosses sites is made to the one that it was balanced to.
    pub(crate) fn by_workload(&self) -> BTreeMap<&WorkloadId, Vec<(&InstanceId, Ipv4Addr)>> {
        let mut sorted: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (workload, instance, address) in self.endpoints.iter().chain(&self.withdrawn).chain(&self.unready) {
            sorted.entry(workload).or_default().push((instance, *address));
        }
        sorted
    }
}

impl BalancingBooks {
    /// The kernel did as asked.
    pub(crate) fn programmed(&mut self, number: u64) {
        self.programmed = self.programmed.max(number.min(self.asked));
        self.settle_table();
        if self.programmed == self.asked {
            self.failures = 0;
            self.retry_at = None;
        }
    }

    /// A session began: it was told of no table yet.
    pub(crate) fn session_opened(&mut self) {
        self.told = None;
    }

    /// Notes that what the kernel was asked last follows from this table.
    fn follows(&mut self, table: Version) {
        self.followed.insert(self.asked, table);
        self.settle_table();
    }

    fn settle_table(&mut self) {
        let later = self.followed.split_off(&self.programmed.saturating_add(1));
        if let Some((_, table)) = std::mem::replace(&mut self.followed, later).pop_last() {
            self.table = Some(table);
        }
    }

    /// How far the kernel is.
    pub(crate) fn progress(&self) -> Progress {
        Progress { asked: self.asked, programmed: self.programmed, heard: self.heard }
    }

    /// The kernel did not.
    pub(crate) fn failed(&mut self, settings: &Settings, now: Timestamp) {
        if self.wanted.is_none() {
            return;
        }
        self.failures = self.failures.saturating_add(1);
        self.retry_at = Some(now + backoff_ms(settings, self.failures));
    }

    /// When the kernel is asked again.
    pub(crate) fn deadline(&self) -> Option<(Timestamp, &'static str)> {
        let retry = self.retry_at.map(|at| (at, "the next try to program balancing"));
        let rise = self.rise_at.map(|at| (at, "the next step of a slow start"));
        retry.into_iter().chain(rise).min()
    }

    /// The endpoints of this node in what the kernel was last asked to do.
    pub(crate) fn local_endpoints(&self) -> impl Iterator<Item = (&WorkloadId, &InstanceId, Ipv4Addr)> {
        let local = self.basis.iter().flat_map(|basis| basis.local.endpoints.iter().chain(&basis.local.withdrawn));
        local.map(|(workload, instance, address)| (workload, instance, *address))
    }
}

impl Agent {
    /// Asks the kernel for what follows from table and local truth, when that changed or failed.
    pub(crate) fn program(&mut self, now: Timestamp, effects: &mut Effects) {
        // Before the first list nothing is known of what runs here: the kernel keeps what it has.
        let (Some(set), Some(table)) = (&self.set, &self.table) else { return };
        if self.runtime == Runtime::Unseen {
            return;
        }
        let (subnet, table) = (set.subnet, table.clone());
        self.forget_listings();
        let local = self.local(now);
        let rises = self.balancing.rise_at.is_some_and(|at| at <= now);
        let same = |basis: &Basis| {
            Arc::ptr_eq(&basis.table, &table)
                && basis.subnet == subnet
                && basis.local == local
                && basis.unreachable == self.unreachable
                && basis.detours == self.detours
        };
        let unchanged = !rises && self.balancing.basis.as_ref().is_some_and(same);
        let mut ask = self.balancing.retry_at.is_some_and(|at| at <= now);
        if !unchanged {
            let version = (table.epoch, table.generation);
            let view = View::of(&table, &self.settings.node, self.balancing.basis.as_ref().map(|basis| &basis.view));
            let (unreachable, detours) = (self.unreachable.clone(), self.detours.clone());
            let basis = Basis { table, subnet, local, unreachable, view, detours };
            let mut ages = std::mem::take(&mut self.balancing.ages);
            let (wanted, rise_at) = self.overlay(&basis, &mut ages, now);
            (self.balancing.ages, self.balancing.rise_at) = (ages, rise_at);
            self.balancing.basis = Some(basis);
            if self.balancing.wanted.as_deref() != Some(&wanted) {
                self.balancing.wanted = Some(Arc::new(wanted));
                self.balancing.asked += 1;
                self.balancing.failures = 0;
                ask = true;
            }
            self.balancing.follows(version);
        }
        if ask && let Some(wanted) = &self.balancing.wanted {
            self.balancing.retry_at = None;
            effects.push(Effect::ProgramServices { number: self.balancing.asked, balancing: wanted.clone() });
        }
    }

    /// Tells the session which table the kernel balances by, once for each. Of this node's own instances that says nothing: those
    /// leave its balancing before they are told to end.
    pub(crate) fn confirm_table(&mut self, effects: &mut Effects) {
        if self.session.is_none() || self.balancing.table == self.balancing.told {
            return;
        }
        self.balancing.told = self.balancing.table;
        effects.extend(self.balancing.table.map(Effect::ConfirmTable));
    }

    /// The verdict on an instance that runs. One that ran before this program did is still as well as the last service
    /// table says, until its first probe: an agent's restart must not make endpoints come and go.
    pub(crate) fn health(&self, id: &InstanceId, instance: &Instance) -> Health {
        if instance.running().is_none() {
            return Health::Unknown;
        }
        if self.machine_ends || !instance.device_trouble().is_empty() {
            return Health::Unhealthy;
        }
        let assignment = instance.assignment();
        let verdict =
            assignment.map_or(Health::Unknown, |held| instance.probes.verdict(held.probe.as_ref(), &held.restart));
        let verdict = match verdict {
            Health::Unknown if instance.probes.adopted && self.listings.contains(id) => Health::Healthy,
            verdict @ (Health::Unknown | Health::Healthy | Health::Unhealthy) => verdict,
        };
        match verdict {
            Health::Healthy => instance.sidecars_health(),
            verdict @ (Health::Unknown | Health::Unhealthy) => verdict,
        }
    }

    /// Books what a new table says of this node's instances. One that the scheduler takes out is not balanced to from here
    /// either, before it is told to end. Right after a session began, a table that lacks an instance may only have been made
    /// before this node's report was read.
    pub(crate) fn follow_table(&mut self, now: Timestamp) {
        self.balancing.heard = true;
        let first_tables_ms = self.settings.first_tables_ms;
        let settled = self.session.as_ref().is_some_and(|session| session.opened_at + first_tables_ms <= now);
        for (id, instance) in &mut self.instances {
            instance.listing = match instance.listing {
                _ if self.listings.contains(id) => Listing::Listed,
                Listing::Listed if settled => Listing::Withdrawn,
                Listing::Listed | Listing::Unlisted => Listing::Unlisted,
                Listing::Withdrawn => Listing::Withdrawn,
            };
        }
    }

    /// A process that is taken over is one that the table which is held speaks of.
    pub(crate) fn adopt_listings(&mut self) {
        for (id, instance) in &mut self.instances {
            if instance.probes.adopted && self.listings.contains(id) {
                instance.listing = Listing::Listed;
            }
        }
    }

    /// Nobody says any more what is to end: who is well is balanced to.
    pub(crate) fn trust_own_knowledge(&mut self) {
        for instance in self.instances.values_mut().filter(|instance| instance.listing == Listing::Withdrawn) {
            instance.listing = Listing::Unlisted;
        }
    }

    /// What tables said of an instance that is not well does not count when it is well again: they may be behind.
    fn forget_listings(&mut self) {
        let is_unwell = |(id, instance): &(&InstanceId, &Instance)| {
            instance.listing != Listing::Unlisted && self.health(id, instance) != Health::Healthy
        };
        let unwell: Vec<InstanceId> = self.instances.iter().filter(is_unwell).map(|(id, _)| id.clone()).collect();
        for id in unwell {
            if let Some(instance) = self.instances.get_mut(&id) {
                instance.listing = Listing::Unlisted;
            }
        }
    }

    /// What is true of this node's own instances.
    fn local(&self, now: Timestamp) -> Local {
        let mut local = Local::default();
        for (id, instance) in &self.instances {
            let (Some(assignment), Some(address)) = (instance.assignment(), instance.reached_at(&self.settings)) else {
                continue;
            };
            local.closed.extend(ClosedInstance::of(assignment, address));
            if instance.running().is_none() {
                continue;
            }
            if !instance.shall_run() {
                if instance.may_be_asked(self.balancing.heard, now) && !assignment.ports.is_empty() {
                    local.unready.push((assignment.workload.clone(), id.clone(), address));
                }
                continue;
            }
            // Its successor may be there by the time that its connections would end.
            if instance.is_fenced() {
                continue;
            }
            if assignment.container.network != NetworkMode::Host {
                local.host_ports.extend(host_ports(assignment, address));
            }
            if assignment.ports.is_empty() {
                continue;
            }
            // One that is judged may be on trial: its process may end as soon as it began.
            let is_tried = assignment.is_judged && !self.listings.contains(id);
            let endpoints = match (self.health(id, instance), instance.listing) {
                (Health::Healthy, listing) if is_tried || listing == Listing::Withdrawn => &mut local.withdrawn,
                (Health::Healthy, _) => &mut local.endpoints,
                (Health::Unhealthy, _) => &mut local.unready,
                // It may have become ready after the table was kept that an earlier run of this program left.
                (Health::Unknown, _) if instance.probes.adopted => &mut local.unready,
                (Health::Unknown, _) => continue,
            };
            endpoints.push((assignment.workload.clone(), id.clone(), address));
        }
        local.closed.sort();
        local.host_ports.sort();
        local.host_ports.dedup_by_key(|port| (port.protocol, port.host));
        local
    }
}

//! The blocking side: holds what was programmed last, and makes sysctls, routes, ports and table equal to it.

mod differences;

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv4Addr, UdpSocket},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use api_types::{
    fnv,
    id::InstanceId,
    net::{Cidr, IpVersion, Ipv6Prefix},
    service::Peer,
};

use crate::{
    Error, Firewall, Plan, PortConflict, Programmed, Settings, Verified,
    balancer::Balancer,
    conntrack,
    family::Family,
    in_node, instance,
    mirror::{Mirror, Mirrored},
    namespace,
    node_port::NodePorts,
    passes,
    route::{Route, Routing, Way},
    self_check, sysctl,
    table::Base,
    vxlan::MTU_DEFAULT,
    wanted::{Asked, Door, Wanted},
};

/// How long after the kernel's memory of exchanges was swept it is swept again for connections alone: that memory is looked
/// through whole, which takes milliseconds where it is large.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// The addresses of the instances that have a network; shared with the calls that make and remove them.
pub(crate) type Instances = Mutex<BTreeMap<InstanceId, Ipv4Addr>>;

/// What is programmed, and the sockets that do it.
#[derive(Debug)]
pub(crate) struct Kernel {
    pub(crate) settings: Settings,
    pub(crate) balancer: Balancer,
    pub(crate) routing: Routing,
    /// The IPv6 half, while there is one.
    pub(crate) mirror: Option<Mirror>,
    /// Whether an earlier run's IPv6 half may be there.
    pub(crate) may_have_mirror_of_before: bool,
    /// Its prefix, shared with the calls that make instances' networks.
    pub(crate) ipv6_prefix: Arc<Mutex<Option<Ipv6Prefix>>>,
    pub(crate) current: Option<Current>,
    /// At which port names are answered instead of 53.
    pub(crate) names_port: Option<u16>,
    /// The largest packet of the instances' links, shared with the calls that make them.
    pub(crate) mtu: Arc<AtomicU32>,
    /// The same as it was last set on all links of instances; `None` = not by this run yet.
    pub(crate) fitted: Option<u32>,
    ports: NodePorts,
    /// How often the kernel's memory of exchanges is still to be swept: once when endpoints left, and once later, as a packet
    /// that was under way may have met the slot of before.
    sweeps: u8,
    /// When it was swept last.
    swept_at: Option<Instant>,
}

/// The last plan in the form in which it is compared.
#[derive(Debug)]
pub(crate) struct Current {
    pub(crate) cluster_range: Cidr,
    pub(crate) service_range: Cidr,
    pub(crate) subnet: Cidr,
    pub(crate) peers: Vec<Peer>,
    asked: Asked,
    /// What of it is made by IPv6, too.
    pub(crate) mirrored: Option<Arc<Mirrored>>,
    /// Whether some workload admits only some others.
    admission: bool,
    /// Ports for which two parts of the plan ask.
    overlaps: Vec<PortConflict>,
    /// What the table was last programmed with; `None` until that has succeeded.
    pub(crate) applied: Option<Applied>,
}

/// What the table was programmed with, besides what is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Applied {
    pub(crate) base: Base,
    /// Ports of the node that are open, and which of those that asked for each has it.
    doors: BTreeMap<Door, usize>,
}

impl Current {
    /// What the table was programmed with, in full.
    pub(crate) fn applied(&self) -> Option<(Base, Wanted)> {
        let applied = self.applied.as_ref()?;
        Some((applied.base.clone(), self.asked.with(&applied.doors)))
    }

    /// Reads a plan.
    pub(crate) fn of(plan: &Plan) -> Self {
        let (asked, overlaps) = Asked::of(plan);
        Self {
            cluster_range: plan.cluster_range,
            service_range: plan.service_range,
            subnet: plan.subnet,
            peers: plan.peers.clone(),
            asked,
            mirrored: Mirrored::of(plan).map(Arc::new),
            admission: passes::admission(plan),
            overlaps,
            applied: None,
        }
    }
}

impl Kernel {
    /// Opens the sockets.
    pub(crate) fn open(settings: Settings) -> Result<Self, Error> {
        let rotation = fnv::sum(settings.node_address.octets());
        Ok(Self {
            balancer: Balancer::open(settings.table.clone(), Family::V4, settings.table_guard, rotation)?,
            routing: Routing::open()?,
            settings,
            mirror: None,
            ipv6_prefix: Arc::default(),
            current: None,
            mtu: Arc::new(AtomicU32::new(MTU_DEFAULT)),
            fitted: None,
            names_port: None,
            may_have_mirror_of_before: true,
            ports: NodePorts::default(),
            sweeps: 0,
            swept_at: None,
        })
    }

    /// Takes a plan over and makes the kernel equal to it.
    pub(crate) fn program(&mut self, next: Current, instances: &Instances) -> Result<Programmed, Error> {
        self.current = Some(next);
        let (_, programmed) = self.sync()?;
        self.furnish_instances(&lock(instances))?;
        self.forget_lost()?;
        Ok(programmed)
    }

    /// Compares the kernel with the last plan and restores what differs.
    pub(crate) fn verify(&mut self, instances: &Instances) -> Result<Verified, Error> {
        if self.current.is_none() {
            return Ok(Verified::default());
        }
        let table = self.balancer.verify()? | self.verify_mirror()?;
        let (rest, programmed) = self.sync()?;
        let links = self.restore_instances(instances)?;
        self.forget_lost()?;
        Ok(Verified { repaired: table || rest || links, programmed })
    }

    /// Removes everything of ours that can be removed; the first refusal is the error.
    pub(crate) fn remove_all(&mut self, instances: &Instances) -> Result<(), Error> {
        self.current = None;
        self.ports.clear();
        lock(instances).clear();
        let mirror = self.drop_mirror();
        let outcomes = [
            mirror.map(drop),
            self.balancer.remove(),
            self.balancer.close_others(),
            self.remove_routes(),
            self.remove_own_addresses(None),
            self.remove_links(),
            self.remove_namespaces(),
            sysctl::restore(&self.settings.netns_dir),
        ];
        // Whatever else somebody keeps there stays.
        let _ = fs::remove_dir(&self.settings.netns_dir);
        outcomes.into_iter().collect()
    }

    /// The node's address as the source of what the node asks, if it is one of this machine's addresses.
    pub(crate) fn source(&self) -> Option<Ipv4Addr> {
        local(self.settings.node_address)
    }

    /// New routes first, then the table, then routes that nobody needs. Gives whether anything had to be changed.
    fn sync(&mut self) -> Result<(bool, Programmed), Error> {
        let (others, mut dropped_by) = self.look_around()?;
        let forwarding = others.forwarding(sysctl::ensure(&self.settings.netns_dir)?);
        let source = self.source();
        let address_changed = self.claim_address()?;
        let wrapping = self.set_overlay()?;
        let (stale, routes_changed, unreachable_peers) = self.set_routes(source, &wrapping)?;
        let Some(current) = &self.current else { return Err(Error::Unprogrammed) };
        let half = (IpVersion::Four, current.subnet.nth(1).map(IpAddr::from));
        let mut opened = self.ports.open(&current.asked, half, &self.routing)?;
        opened.conflicts.extend(current.overlaps.iter().cloned());
        let Some(current) = &mut self.current else { return Err(Error::Unprogrammed) };
        let base = Base {
            family: Family::V4,
            cluster_range: current.cluster_range,
            service_range: current.service_range,
            subnet: current.subnet,
            node_address: Some(self.settings.node_address.into()),
            interface_prefix: self.settings.interface_prefix.clone(),
            forwarding,
            node_ports: self.settings.node_ports.clone(),
            admission: current.admission,
            names_port: self.names_port,
            others_links: others.others_links(),
            asks_input: self.settings.firewall == Firewall::Respect,
        };
        let next = Applied { base, doors: opened.doors.clone() };
        let table_changed = current.applied.as_ref() != Some(&next);
        if table_changed {
            current.applied = None;
            self.balancer.program(&next.base, &current.asked.with(&next.doors))?;
            current.applied = Some(next);
        }
        for route in &stale {
            self.routing.remove_route(route)?;
        }
        let dropped = self.drop_overlay()?;
        let mirrored = self.sync_mirror()?;
        let ways_changed = wrapping.changed || dropped || routes_changed || !stale.is_empty();
        let changed = address_changed || ways_changed || table_changed || mirrored.changed;
        let (port_conflicts, unbound_ports) = opened.missing(mirrored.opened);
        let ipv6_missing = mirrored.missing;
        dropped_by.extend(mirrored.dropped_by);
        Ok((changed, Programmed { port_conflicts, unbound_ports, unreachable_peers, ipv6_missing, dropped_by }))
    }

    /// The first address of the node's range is its own: name servers and the like are asked there.
    fn claim_address(&self) -> Result<bool, Error> {
        let own = self.current.as_ref().and_then(|current| current.subnet.nth(1));
        let Some(own) = own else { return Ok(false) };
        if local(own).is_some() {
            return Ok(false);
        }
        self.remove_own_addresses(Some(own))?;
        let loopback = self.routing.link("lo")?.unwrap_or(1);
        self.routing.raise(loopback)?;
        self.routing.add_own_address(loopback, own, &self.address_label())?;
        Ok(true)
    }

    fn remove_own_addresses(&self, kept: Option<Ipv4Addr>) -> Result<(), Error> {
        let loopback = self.routing.link("lo")?.unwrap_or(1);
        let addresses = self.routing.own_addresses(&self.address_label())?;
        let mut stale = addresses.into_iter().filter(|address| Some(*address) != kept);
        stale.try_for_each(|address| self.routing.remove_own_address(loopback, address))
    }

    /// What our address is called: at most 15 bytes, the link's name first.
    fn address_label(&self) -> String {
        format!("lo:{}", self.settings.interface_prefix.trim_end_matches('-'))
    }

    fn remove_routes(&self) -> Result<(), Error> {
        self.routing.routes()?.iter().try_for_each(|route| self.routing.remove_route(route))
    }

    fn remove_links(&self) -> Result<(), Error> {
        let links = self.routing.links()?;
        let mut ours = links.keys().filter(|name| name.starts_with(&self.settings.interface_prefix));
        ours.try_for_each(|name| self.routing.remove_link(name))
    }

    fn remove_namespaces(&self) -> Result<(), Error> {
        self_check::clean(self)?;
        let instances = instance::list(&self.settings, &self.routing)?;
        let mut paths = instances.iter().map(|(name, _)| instance::netns_path(&self.settings, name.as_str()));
        paths.try_for_each(|path| namespace::remove(&path))
    }

    /// Makes links and routes of instances again that somebody removed.
    fn restore_instances(&self, instances: &Instances) -> Result<bool, Error> {
        let routes = self.routing.routes()?;
        let reached = |address: &Ipv4Addr| {
            let leads = |route: &Route| route.destination.address == *address && matches!(route.way, Way::Link(_));
            routes.iter().any(leads)
        };
        // Held while repairing, so that nothing is repaired that is being removed.
        let mut instances = lock(instances);
        instances.retain(|name, _| namespace::exists(&instance::netns_path(&self.settings, name.as_str())));
        let mut repaired = false;
        for (name, address) in instances.iter().filter(|(_, address)| !reached(address)) {
            let at = (name.as_str(), *address);
            if namespace::is_own(&instance::netns_path(&self.settings, name.as_str())) {
                in_node::ensure(&self.settings, &self.routing, at)?;
            } else {
                let fit = (self.source(), self.mtu.load(Ordering::Relaxed));
                instance::ensure(&self.settings, &self.routing, at, fit)?;
            }
            repaired = true;
        }
        Ok(repaired | self.furnish_instances(&instances)?)
    }

    /// Makes the kernel forget exchanges with those who left. What fails is done again.
    fn forget_lost(&mut self) -> Result<(), Error> {
        let upset = self.balancer.take_upset() | self.take_mirrors_upset();
        if upset.left || upset.datagrams {
            self.sweeps = 2;
        }
        // A client that sends datagrams does so without end to whoever left; one that connects asks again by itself.
        let lately = self.swept_at.is_some_and(|at| at.elapsed() < SWEEP_EVERY);
        let is_due = self.sweeps > 0 && (upset.datagrams || !lately);
        if upset.left || is_due {
            // Before the change is called done.
            self.forget_clients()?;
        }
        if !is_due {
            return Ok(());
        }
        let (Some(balance), Some(current)) = (self.balancer.balance(), &self.current) else { return Ok(()) };
        let swept = conntrack::sweep(Family::V4, balance, current.service_range, current.cluster_range)?;
        let swept = swept + self.forget_lost_by_mirror()?;
        self.sweeps -= 1;
        self.swept_at = Some(Instant::now());
        if swept > 0 {
            tracing::debug!(swept, "forgot exchanges with endpoints that left");
        }
        Ok(())
    }
}

/// Locks what no thread can leave half changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The address, if it is one of this machine's.
pub(crate) fn local<A: Copy + Into<IpAddr>>(address: A) -> Option<A> {
    UdpSocket::bind((address.into(), 0)).ok().map(|_| address)
}

//! The blocking side: holds what was programmed last, and makes sysctls, routes, ports and table equal to it.

mod differences;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use api_types::{
    container::Protocol,
    id::InstanceId,
    net::{Cidr, Ipv6Prefix},
    service::Peer,
};

use crate::{
    Error, Plan, PortConflict, Programmed, Settings, Verified,
    balancer::Balancer,
    conntrack,
    element::hash,
    family::Family,
    foreign::Dropping,
    host_port::{self, Claim},
    instance,
    mirror::{Mirror, Mirrored},
    namespace, passes,
    route::{Route, Routing, Way},
    self_check, sysctl,
    table::Base,
    vxlan::MTU_DEFAULT,
    wanted::{Front, Wanted},
};

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
    /// Its prefix, shared with the calls that make instances' networks.
    pub(crate) ipv6_prefix: Arc<Mutex<Option<Ipv6Prefix>>>,
    pub(crate) current: Option<Current>,
    /// At which port names are answered instead of 53.
    pub(crate) names_port: Option<u16>,
    /// Who else drops what is forwarded, and at which count of nftables' transactions that was seen.
    pub(crate) foreign: Option<(u32, Vec<Dropping>)>,
    reservations: BTreeMap<(Protocol, u16), OwnedFd>,
    /// The largest packet of the instances' links, shared with the calls that make them.
    pub(crate) mtu: Arc<AtomicU32>,
    /// The same as it was last set on all links of instances; `None` = not by this run yet.
    pub(crate) fitted: Option<u32>,
    /// Who holds a port that we could not have: the socket's number and its process.
    squatters: BTreeMap<(Protocol, u16), (u64, String)>,
}

/// The last plan in the form in which it is compared.
#[derive(Debug)]
pub(crate) struct Current {
    cluster_range: Cidr,
    pub(crate) service_range: Cidr,
    pub(crate) subnet: Cidr,
    pub(crate) peers: Vec<Peer>,
    wanted: Wanted,
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
    /// Ports that were left out because others hold them.
    without: BTreeSet<(Protocol, u16)>,
}

impl Current {
    /// What is wanted, without the ports that cannot be had.
    pub(crate) fn wanted_without(&self, ports: &BTreeSet<(Protocol, u16)>) -> Cow<'_, Wanted> {
        self.wanted.without(ports)
    }

    /// What the table was programmed with, in full.
    pub(crate) fn applied(&self) -> Option<(Base, Wanted)> {
        let applied = self.applied.as_ref()?;
        Some((applied.base.clone(), self.wanted_without(&applied.without).into_owned()))
    }

    /// Reads a plan.
    pub(crate) fn of(plan: &Plan) -> Self {
        let (wanted, overlaps) = Wanted::of(plan);
        Self {
            cluster_range: plan.cluster_range,
            service_range: plan.service_range,
            subnet: plan.subnet,
            peers: plan.peers.clone(),
            wanted,
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
        let rotation = hash(settings.node_address.octets());
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
            foreign: None,
            reservations: BTreeMap::new(),
            squatters: BTreeMap::new(),
        })
    }

    /// Takes a plan over and makes the kernel equal to it.
    pub(crate) fn program(&mut self, next: Current) -> Result<Programmed, Error> {
        self.current = Some(next);
        let before = self.endpoints();
        let (_, programmed) = self.sync()?;
        let after = self.endpoints();
        // Nobody was balanced to before a start: whatever the kernel remembers is an earlier run's.
        let left = before.is_none_or(|before| !before.is_subset(&after.unwrap_or_default()));
        if left || self.has_udp() {
            self.forget_lost()?;
        }
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
        Ok(Verified { repaired: table || rest || links, programmed })
    }

    /// Removes everything of ours that can be removed; the first refusal is the error.
    pub(crate) fn remove_all(&mut self, instances: &Instances) -> Result<(), Error> {
        self.current = None;
        self.reservations.clear();
        lock(instances).clear();
        let mirror = self.drop_mirror();
        let outcomes = [
            mirror.map(drop),
            self.balancer.remove(),
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
        let forwarding = sysctl::ensure(&self.settings.netns_dir)?;
        let source = self.source();
        let address_changed = self.claim_address()?;
        let wrapping = self.set_overlay()?;
        let (stale, routes_changed, unreachable_peers) = self.set_routes(source, &wrapping)?;
        let port_conflicts = self.claim_ports();
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
        };
        let without = port_conflicts.iter().map(|conflict| (conflict.protocol, conflict.port)).collect();
        let next = Applied { base, without };
        let table_changed = current.applied.as_ref() != Some(&next);
        if table_changed {
            current.applied = None;
            self.balancer.program(&next.base, &current.wanted_without(&next.without))?;
            current.applied = Some(next);
        }
        for route in &stale {
            self.routing.remove_route(route)?;
        }
        let without = port_conflicts.iter().map(|conflict| (conflict.protocol, conflict.port)).collect();
        let port_conflicts = current.overlaps.iter().cloned().chain(port_conflicts).collect();
        let dropped = self.drop_overlay()?;
        let (mirror_changed, ipv6_missing) = self.sync_mirror(without)?;
        let ways_changed = wrapping.changed || dropped || routes_changed || !stale.is_empty();
        let changed = address_changed || ways_changed || table_changed || mirror_changed;
        let dropped_by = self.look_around()?;
        Ok((changed, Programmed { port_conflicts, unreachable_peers, ipv6_missing, dropped_by }))
    }

    /// Reserves every port of the plan, gives up the others, and names who holds what cannot be had.
    fn claim_ports(&mut self) -> Vec<PortConflict> {
        let Some(current) = &self.current else { return Vec::new() };
        let (ports, own) = (&current.wanted.ports, current.subnet.nth(1));
        self.reservations.retain(|port, _| ports.contains(port));
        let mut squatters = BTreeMap::new();
        for &(protocol, port) in ports {
            if self.reservations.contains_key(&(protocol, port)) {
                continue;
            }
            match host_port::claim(protocol, port, own) {
                Claim::Reserved(socket) => {
                    self.reservations.insert((protocol, port), socket);
                }
                Claim::Free => {}
                Claim::Taken(socket) => {
                    let known = self.squatters.remove(&(protocol, port)).filter(|(number, _)| *number == socket);
                    squatters.insert((protocol, port), known.unwrap_or_else(|| (socket, host_port::owner(socket))));
                }
            }
        }
        self.squatters = squatters;
        let conflict = |(&(protocol, port), (_, owner)): (&_, &(u64, String))| PortConflict {
            port,
            protocol,
            owner: owner.clone(),
        };
        self.squatters.iter().map(conflict).collect()
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
            let fit = (self.source(), self.mtu.load(Ordering::Relaxed));
            instance::ensure(&self.settings, &self.routing, (name.as_str(), *address), fit)?;
            repaired = true;
        }
        Ok(repaired | self.furnish_instances(&instances)?)
    }

    /// All who are balanced to; `None` before the first plan.
    fn endpoints(&self) -> Option<BTreeSet<SocketAddrV4>> {
        let balance = self.balancer.balance()?;
        Some(balance.fronts.values().flat_map(|slots| slots.iter().copied()).collect())
    }

    fn has_udp(&self) -> bool {
        let balance = self.balancer.balance();
        balance.is_some_and(|balance| {
            balance.fronts.keys().any(|front| match front {
                Front::Service(_, protocol, _) | Front::Port(protocol, _) => *protocol == Protocol::Udp,
            })
        })
    }

    fn forget_lost(&self) -> Result<(), Error> {
        let (Some(balance), Some(current)) = (self.balancer.balance(), &self.current) else { return Ok(()) };
        let swept = conntrack::sweep(Family::V4, balance, current.service_range, current.cluster_range)?;
        let swept = swept + self.forget_lost_by_mirror()?;
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
pub(crate) fn local(address: Ipv4Addr) -> Option<Ipv4Addr> {
    UdpSocket::bind((address, 0)).ok().map(|_| address)
}

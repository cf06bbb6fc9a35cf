//! The IPv6 half: what is decided for IPv4 is made once more, under the prefix in which the cluster's addresses are embedded.
//!
//! An instance has a /128 that ends with its IPv4 address, a service that asks for it has its virtual address, and a second
//! table balances with the same maps. Nothing is decided here.

mod differences;
mod routes;

use std::{
    collections::BTreeMap,
    fs, io,
    net::{Ipv4Addr, Ipv6Addr},
    path::Path,
    sync::Arc,
};

use api_types::{
    fnv,
    id::InstanceId,
    net::{Cidr, IpVersion, Ipv6Prefix},
    service::Peer,
    site::Reach,
};

use crate::{
    Error, Firewall, Plan, PortConflict, Settings,
    balancer::Balancer,
    conntrack,
    family::Family,
    instance,
    kernel::{Kernel, lock},
    namespace,
    node_port::{NodePorts, Opened},
    passes,
    route::{
        Routing,
        changes::Changes,
        found,
        v6::{RouteV6, WayV6},
    },
    slots::Upset,
    sysctl,
    table::Base,
    wanted::{Asked, Door},
};

/// The gateway that every instance sees; like its IPv4 twin it exists nowhere.
const GATEWAY: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const EVERYTHING: (Ipv6Addr, u8) = (Ipv6Addr::UNSPECIFIED, 0);
/// Of the range for documents (RFC 3849): no machine has such an address.
const NOBODY: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0);
/// It is there if the kernel has IPv6.
const SWITCH: &str = "/proc/sys/net/ipv6/conf/all/disable_ipv6";

/// What of a plan is mirrored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mirrored {
    pub(crate) prefix: Ipv6Prefix,
    cluster_range: Cidr,
    service_range: Cidr,
    subnet: Cidr,
    /// Ranges of other nodes' instances, and how they are reached.
    peers: Vec<(Cidr, Reached)>,
    asked: Asked,
    /// Ports for which two parts of the plan ask.
    overlaps: Vec<PortConflict>,
    /// Whether some workload admits only some others.
    admission: bool,
}

/// How another node's instances are reached by IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reached {
    /// By that node's own address.
    By(Ipv6Addr),
    /// By the device that wraps.
    Wrapped,
}

/// The IPv6 half of the kernel's networking.
#[derive(Debug)]
pub(crate) struct Mirror {
    pub(crate) prefix: Ipv6Prefix,
    balancer: Balancer,
    ports: NodePorts,
    applied: Option<Applied>,
    /// On which links other nodes were found, and what says that this may be otherwise now.
    links: BTreeMap<Ipv6Addr, Option<u32>>,
    changes: Changes,
}

/// What the second table was programmed with.
#[derive(Debug, PartialEq, Eq)]
struct Applied {
    base: Base,
    half: Arc<Mirrored>,
    /// Ports of the node that are open, and which of those that asked for each has it.
    doors: BTreeMap<Door, usize>,
}

/// What came of bringing the IPv6 half up to date.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Whether anything had to be changed.
    pub(crate) changed: bool,
    /// Why there is no such half where there should be one.
    pub(crate) missing: Option<String>,
    /// What came of the ports of this node.
    pub(crate) opened: Opened,
    /// Other programs' tables of this version alone that drop what instances send and get, in lines for people.
    pub(crate) dropped_by: Vec<String>,
}

impl Mirrored {
    /// Reads a plan: the services that answer by IPv6, as far as nodes can be reached by it. `None`: there are none, and so the
    /// node's IPv6 is left as it is.
    pub(crate) fn of(plan: &Plan) -> Option<Self> {
        let is_asked = plan.services.iter().any(|service| service.ipv6) || plan.host_ports.iter().any(|port| port.ipv6);
        let prefix = plan.ipv6_prefix.filter(|_| is_asked)?;
        let reached = |address: Ipv4Addr| {
            let peer = plan.peers.iter().find(|peer| peer.subnet.contains(address));
            plan.subnet.contains(address) || peer.is_some_and(|peer| peer.ipv6_address.is_some())
        };
        let peers = plan.peers.iter().filter(|peer| peer.subnet != plan.subnet);
        let (asked, overlaps) = Asked::mirrored(plan, reached);
        Some(Self {
            prefix,
            cluster_range: plan.cluster_range,
            service_range: plan.service_range,
            subnet: plan.subnet,
            peers: peers.filter_map(|peer| Some((peer.subnet, Reached::of(peer)?))).collect(),
            asked,
            overlaps,
            admission: passes::admission(plan),
        })
    }
}

impl Reached {
    /// Wrapped as by IPv4. Who has no IPv6 address may have no IPv6 at all, so nothing is sent there.
    fn of(peer: &Peer) -> Option<Self> {
        let address = peer.ipv6_address?;
        Some(match peer.reach {
            Reach::Routes => Self::By(address),
            Reach::Vxlan => Self::Wrapped,
        })
    }
}

impl Mirror {
    /// Opens the way to the second table.
    fn open(settings: &Settings, prefix: Ipv6Prefix) -> Result<Self, Error> {
        let (family, rotation) = (Family::V6(prefix), fnv::sum(settings.node_address.octets()));
        let balancer = Balancer::open(settings.table.clone(), family, settings.table_guard, rotation)?;
        let (ports, links) = (NodePorts::default(), BTreeMap::new());
        Ok(Self { prefix, balancer, ports, applied: None, links, changes: Changes::open()? })
    }

    /// Makes the kernel equal to what is wanted.
    fn sync(&mut self, settings: &Settings, routing: &Routing, half: Arc<Mirrored>) -> Result<Outcome, Error> {
        let (prefix, family) = (&settings.interface_prefix, Family::V6(self.prefix));
        let is_open = settings.firewall == Firewall::Open;
        let others = self.balancer.look_around(prefix, half.cluster_range, is_open)?;
        let dropped_by = others.describe(prefix, half.cluster_range, &[family]);
        let forwarding = others.forwarding(sysctl::ensure_v6(&settings.netns_dir)?);
        let routes_changed = self.set_routes(settings, routing, &half)?;
        let own = half.subnet.nth(1).map(|own| family.address(own));
        let mut opened = self.ports.open(&half.asked, (IpVersion::Six, own), routing)?;
        opened.conflicts.extend(half.overlaps.iter().cloned());
        let base = Base {
            family,
            cluster_range: half.cluster_range,
            service_range: half.service_range,
            subnet: half.subnet,
            // What the node itself asks, it asks from the first address of its own range.
            node_address: None,
            interface_prefix: prefix.clone(),
            forwarding,
            node_ports: settings.node_ports.clone(),
            admission: half.admission,
            // Names are answered by IPv4.
            names_port: None,
            others_links: others.others_links(),
            asks_input: settings.firewall == Firewall::Respect,
        };
        let next = Applied { base, half, doors: opened.doors.clone() };
        let table_changed = self.applied.as_ref() != Some(&next);
        if table_changed {
            self.applied = None;
            self.balancer.program(&next.base, &next.half.asked.with(&next.doors))?;
            self.applied = Some(next);
        }
        Ok(Outcome { changed: routes_changed || table_changed, missing: None, opened, dropped_by })
    }

    /// Removes table, rules in others' tables, routes and the node's own address.
    fn remove(&mut self, routing: &Routing) -> Result<(), Error> {
        let table = self.balancer.remove().and(self.balancer.close_others());
        let routes = routing.routes_v6()?.iter().try_for_each(|route| routing.remove_route_v6(route));
        let loopback = found(routing, "lo")?;
        let own = routing.addresses_v6(loopback)?.into_iter().filter(|address| self.prefix.extract(*address).is_some());
        let addresses = own.into_iter().try_for_each(|address| routing.remove_address_v6(loopback, address));
        table.and(routes).and(addresses)
    }
}

/// How the whole kernel and its IPv6 half go together.
impl Kernel {
    /// Brings the IPv6 half up to date, or removes it where nothing asks for it.
    pub(crate) fn sync_mirror(&mut self) -> Result<Outcome, Error> {
        let Some(half) = self.current.as_ref().and_then(|current| current.mirrored.clone()) else {
            return Ok(Outcome { changed: self.drop_mirror()?, ..Outcome::default() });
        };
        if let Some(reason) = missing() {
            return Ok(Outcome { changed: self.drop_mirror()?, missing: Some(reason), ..Outcome::default() });
        }
        if self.mirror.as_ref().is_some_and(|mirror| mirror.prefix != half.prefix) {
            self.drop_mirror()?;
        }
        let mut mirror = match self.mirror.take() {
            Some(mirror) => mirror,
            None => Mirror::open(&self.settings, half.prefix)?,
        };
        let outcome = mirror.sync(&self.settings, &self.routing, half);
        *lock(&self.ipv6_prefix) = Some(mirror.prefix);
        self.mirror = Some(mirror);
        outcome
    }

    /// Restores the second table if somebody changed it; gives whether that was so.
    pub(crate) fn verify_mirror(&mut self) -> Result<bool, Error> {
        self.mirror.as_mut().map_or(Ok(false), |mirror| mirror.balancer.verify())
    }

    /// Removes the IPv6 half, if there is one; gives whether there may have been.
    pub(crate) fn drop_mirror(&mut self) -> Result<bool, Error> {
        *lock(&self.ipv6_prefix) = None;
        let mirror = match self.mirror.take() {
            None => self.mirror_of_before()?,
            mirror => mirror,
        };
        let Some(mut mirror) = mirror else { return Ok(false) };
        mirror.remove(&self.routing)?;
        self.may_have_mirror_of_before = false;
        Ok(true)
    }

    /// What an earlier run may have left, if this one has not looked yet.
    fn mirror_of_before(&self) -> Result<Option<Mirror>, Error> {
        if !self.may_have_mirror_of_before || !Path::new(SWITCH).exists() {
            return Ok(None);
        }
        let own = self.routing.routes_v6()?.iter().find_map(|route| route.source);
        Mirror::open(&self.settings, prefix_of(own.unwrap_or(NOBODY))).map(Some)
    }

    /// What happened to exchanges by IPv6 since this was asked last.
    pub(crate) fn take_mirrors_upset(&mut self) -> Upset {
        self.mirror.as_mut().map(|mirror| mirror.balancer.take_upset()).unwrap_or_default()
    }

    /// Forgets clients that are remembered with endpoints which left.
    pub(crate) fn forget_clients(&mut self) -> Result<(), Error> {
        self.balancer.forget_clients()?;
        self.mirror.as_mut().map_or(Ok(()), |mirror| mirror.balancer.forget_clients())
    }

    /// Forgets exchanges by IPv6 with endpoints that left; gives how many.
    pub(crate) fn forget_lost_by_mirror(&mut self) -> Result<usize, Error> {
        let Some(mirror) = &self.mirror else { return Ok(0) };
        let (Some(balance), Some(applied)) = (mirror.balancer.balance(), &mirror.applied) else { return Ok(0) };
        let half = &applied.half;
        conntrack::sweep(Family::V6(mirror.prefix), balance, half.service_range, half.cluster_range)
    }

    /// The family of the mirror, if there is one.
    pub(crate) fn mirrored(&self) -> Option<Family> {
        self.mirror.as_ref().map(|mirror| Family::V6(mirror.prefix))
    }

    /// Gives IPv6 to the instances that were there before it, or lost it; gives whether there were any.
    pub(crate) fn furnish_instances(&self, instances: &BTreeMap<InstanceId, Ipv4Addr>) -> Result<bool, Error> {
        let Some(mirror) = &self.mirror else { return Ok(false) };
        let routes = self.routing.routes_v6()?;
        let reached = |address: Ipv4Addr| {
            let destination = (mirror.prefix.embed(address), 128);
            routes.iter().any(|route| route.destination == destination)
        };
        let mut furnished = false;
        let in_node = |name: &InstanceId| namespace::is_own(&instance::netns_path(&self.settings, name.as_str()));
        for (name, address) in instances.iter().filter(|(name, address)| !reached(**address) && !in_node(name)) {
            furnish(&self.settings, &self.routing, (name.as_str(), *address), mirror.prefix)?;
            furnished = true;
        }
        Ok(furnished)
    }
}

/// The prefix with which one of our addresses begins.
fn prefix_of(address: Ipv6Addr) -> Ipv6Prefix {
    let first = Ipv6Addr::from_bits(address.to_bits() & !u128::from(u32::MAX));
    Ipv6Prefix::new(first).expect("its last 32 bits are zero")
}

/// Why this kernel has no IPv6 for us; `None` = it has.
pub(crate) fn missing() -> Option<String> {
    match fs::read_to_string(SWITCH) {
        Ok(value) if value.trim() == "0" => None,
        Ok(_) => Some("IPv6 is switched off on this node (net.ipv6.conf.all.disable_ipv6)".to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some("this kernel has no IPv6".to_owned()),
        Err(error) => Some(format!("whether IPv6 is on cannot be read: {error}")),
    }
}

/// Gives an instance, whose network is there, its IPv6 address and the way to it. Again: changes nothing.
pub(crate) fn furnish(
    settings: &Settings,
    routing: &Routing,
    (instance, address): (&str, Ipv4Addr),
    prefix: Ipv6Prefix,
) -> Result<(), Error> {
    let mirrored = prefix.embed(address);
    let [outside_mac, inside_mac] = instance::macs(instance);
    let namespace = namespace::open(&instance::netns_path(settings, instance))?;
    let inside = namespace::inside(&namespace, Routing::open)?;
    let index = found(&inside, instance::INSIDE)?;
    let default = RouteV6 { destination: EVERYTHING, way: WayV6::Gateway(GATEWAY, index), source: None };
    inside.add_address_v6(index, mirrored)?;
    inside.set_neighbour(index, GATEWAY, outside_mac)?;
    // Replaced, as somebody else may be at it.
    inside.set_route_v6(&default, &[default])?;
    let link = instance::link_name(settings, instance);
    sysctl::with_ipv6(&link)?;
    let outside = found(routing, &link)?;
    routing.set_neighbour(outside, mirrored, inside_mac)?;
    let route = RouteV6 { destination: (mirrored, 128), way: WayV6::Link(outside), source: None };
    routing.set_route_v6(&route, &[route])
}

/// The IPv6 address of this node on the link that has its IPv4 address: what other nodes reach it by.
pub(crate) fn address_beside(routing: &Routing, address: Ipv4Addr) -> Result<Option<Ipv6Addr>, Error> {
    match routing.link_with(address)? {
        Some(link) => Ok(routing.addresses_v6(link)?.into_iter().next()),
        None => Ok(None),
    }
}

//! What a plan asks of balancing: fronts, to which clients connect, and the endpoints behind each.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, SocketAddrV4},
    sync::Arc,
};

use api_types::{
    balance::Bind,
    container::Protocol,
    id::WorkloadId,
    net::{Cidr, IpRange, IpVersion},
    service::Service,
};

use crate::{
    passes::{self, Pass},
    plan::{HostPort, Plan, PortConflict},
    table::Memory,
};

/// What a client connects to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Front {
    /// A port of a service's virtual address.
    Service(Ipv4Addr, Protocol, u16),
    /// A port of one address of this node.
    Bound(IpAddr, Protocol, u16),
    /// A port of this node, at whatever address.
    Port(Protocol, u16),
}

impl Front {
    /// The transport.
    pub(crate) fn protocol(self) -> Protocol {
        match self {
            Self::Service(_, protocol, _) | Self::Bound(_, protocol, _) | Self::Port(protocol, _) => protocol,
        }
    }
}

/// Who answers at a front.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Behind {
    /// Sorted endpoints without repetition, each with its weight; not empty.
    pub(crate) endpoints: Vec<(SocketAddrV4, u16)>,
    /// For how long clients are remembered, if they are.
    pub(crate) memory: Option<Memory>,
}

impl From<SocketAddrV4> for Behind {
    fn from(endpoint: SocketAddrV4) -> Self {
        Self { endpoints: vec![(endpoint, 1)], memory: None }
    }
}

/// A port of this node for which the plan asks, in one version of the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodePort {
    /// Where it answers; `None` = at every address of the node.
    pub(crate) bind: Option<Bind>,
    /// Who alone may connect from beyond the node, no range within another; `None` = everybody.
    kept_for: Option<Vec<IpRange>>,
    /// Who answers; `None` = nobody yet.
    behind: Option<Arc<Behind>>,
}

impl NodePort {
    /// What is asked of a port in this version of the protocol; `None` = nothing, as it is bound to an address of the other.
    fn of(version: IpVersion, (bind, allow): (Option<&Bind>, &[IpRange]), behind: Option<Arc<Behind>>) -> Option<Self> {
        let is_here = bind.is_none_or(|bind| bind.has(version));
        let heard = || allow.iter().copied().filter(|range| range.version() == version);
        let kept_for = (!allow.is_empty()).then(|| outermost(heard()));
        is_here.then(|| Self { bind: bind.cloned(), kept_for, behind })
    }
}

/// Every front and the endpoints behind it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Who is behind each front; a front without endpoints is absent.
    pub(crate) fronts: BTreeMap<Front, Arc<Behind>>,
    /// Fronts of this node that are kept for some clients, and for whom.
    pub(crate) guards: BTreeMap<Front, Vec<IpRange>>,
    /// Addresses of endpoints on this node.
    pub(crate) hairpins: BTreeSet<Ipv4Addr>,
    /// What instances may ask besides services.
    pub(crate) passes: BTreeSet<Pass>,
}

/// What a plan asks for, before it is known which ports of this node can be had and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    /// The services' fronts.
    services: BTreeMap<Front, Arc<Behind>>,
    /// Ports of this node that lead somewhere, now or as soon as there is an endpoint.
    pub(crate) ports: BTreeMap<(Protocol, u16), Vec<NodePort>>,
    /// What instances may ask besides services.
    pub(crate) passes: BTreeSet<Pass>,
    /// Where this node's instances are.
    subnet: Option<Cidr>,
}

/// Where a port of this node is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Opening {
    /// At every address.
    Everywhere,
    /// At this one.
    At(IpAddr),
}

/// A port of this node, and one place where it is opened.
pub(crate) type Door = (Protocol, u16, Opening);

impl Asked {
    /// Reads a plan. Two parts of it that ask for the same port of the node: the first has it, the other is a conflict.
    pub(crate) fn of(plan: &Plan) -> (Self, Vec<PortConflict>) {
        let version = IpVersion::Four;
        let (asked, conflicts) = Self::read(version, &plan.services, (&plan.host_ports, &plan.detours), |_| true);
        (Self { subnet: Some(plan.subnet), passes: passes::of(plan, version), ..asked }, conflicts)
    }

    /// Reads what of a plan is made by IPv6: services and ports that ask for it, with those endpoints that can be `reached` by it.
    pub(crate) fn mirrored(plan: &Plan, reached: impl Fn(Ipv4Addr) -> bool) -> (Self, Vec<PortConflict>) {
        let version = IpVersion::Six;
        let services = plan.services.iter().filter(|service| service.ipv6);
        let host_ports = plan.host_ports.iter().filter(|port| port.ipv6);
        let (asked, conflicts) = Self::read(version, services, (host_ports, &BTreeMap::new()), reached);
        // Instances have an IPv6 address whether their service answers by it or not.
        (Self { subnet: Some(plan.subnet), passes: passes::of(plan, version), ..asked }, conflicts)
    }

    fn read<'p>(
        version: IpVersion,
        services: impl IntoIterator<Item = &'p Service>,
        (host_ports, detours): (impl IntoIterator<Item = &'p HostPort>, &BTreeMap<SocketAddrV4, SocketAddrV4>),
        reached: impl Fn(Ipv4Addr) -> bool,
    ) -> (Self, Vec<PortConflict>) {
        let (mut asked, mut ledger) = (Self::default(), Ledger::default());
        for service in services {
            let memory = service.balance.affinity_ms.map(Memory::of_ms);
            for port in &service.ports {
                let mut endpoints: Vec<_> = service
                    .endpoints
                    .iter()
                    .filter(|found| found.weight > 0 && reached(found.address))
                    .map(|found| {
                        let place = SocketAddrV4::new(found.address, port.container);
                        (detours.get(&place).copied().unwrap_or(place), found.weight)
                    })
                    .collect();
                endpoints.sort_unstable();
                endpoints.dedup_by_key(|(endpoint, _)| *endpoint);
                let behind = (!endpoints.is_empty()).then(|| Arc::new(Behind { endpoints, memory }));
                // The agent itself listens where HTTP is shared out.
                let node_port = NodePort::of(version, (port.bind.as_ref(), &port.allow), behind.clone());
                if let (Some(publish), Some(node_port)) = (port.publish.filter(|_| !port.http), node_port) {
                    ledger.claim((port.protocol, publish), node_port, || describe(&service.id));
                }
                if let Some(behind) = behind.filter(|_| !service.address.is_unspecified()) {
                    asked.services.insert(Front::Service(service.address, port.protocol, port.service), behind);
                }
            }
        }
        for port in host_ports {
            let behind = Some(Arc::new(SocketAddrV4::new(port.address, port.container).into()));
            let owner = || format!("the host port of the instance at {}", port.address);
            if let Some(node_port) = NodePort::of(version, (port.bind.as_ref(), &port.allow), behind) {
                ledger.claim((port.protocol, port.host), node_port, owner);
            }
        }
        asked.ports = ledger.ports;
        (asked, ledger.conflicts)
    }

    /// What the table shall hold where these doors can be had.
    pub(crate) fn with(&self, doors: &BTreeMap<Door, usize>) -> Wanted {
        let (fronts, passes) = (self.services.clone(), self.passes.clone());
        let mut wanted = Wanted { fronts, passes, ..Wanted::default() };
        for (&(protocol, port, opening), index) in doors {
            let Some(asked) = self.ports.get(&(protocol, port)).and_then(|ports| ports.get(*index)) else { continue };
            let front = match opening {
                Opening::Everywhere => Front::Port(protocol, port),
                Opening::At(address) => Front::Bound(address, protocol, port),
            };
            if let Some(kept_for) = &asked.kept_for {
                wanted.guards.insert(front, kept_for.clone());
            }
            if let Some(behind) = &asked.behind {
                wanted.fronts.insert(front, behind.clone());
            }
        }
        let endpoints = wanted.fronts.values().flat_map(|behind| &behind.endpoints).map(|(endpoint, _)| *endpoint.ip());
        wanted.hairpins =
            endpoints.filter(|address| self.subnet.is_some_and(|subnet| subnet.contains(*address))).collect();
        wanted
    }
}

/// Who asked for which port of the node.
#[derive(Default)]
struct Ledger {
    ports: BTreeMap<(Protocol, u16), Vec<NodePort>>,
    owners: BTreeMap<(Protocol, u16), Vec<String>>,
    conflicts: Vec<PortConflict>,
}

impl Ledger {
    /// Two may have the same number where each is bound, and not to the same.
    fn claim(&mut self, (protocol, port): (Protocol, u16), wish: NodePort, owner: impl FnOnce() -> String) {
        let ports = self.ports.entry((protocol, port)).or_default();
        let owners = self.owners.entry((protocol, port)).or_default();
        let clashes = |other: &NodePort| other.bind.is_none() || wish.bind.is_none() || other.bind == wish.bind;
        match ports.iter().position(clashes) {
            Some(first) => {
                let owner = format!("{} and {}", owners[first], owner());
                self.conflicts.push(PortConflict { port, protocol, owner });
            }
            None => {
                ports.push(wish);
                owners.push(owner());
            }
        }
    }
}

/// Without ranges that lie within others: the kernel's set takes none that overlap.
fn outermost(ranges: impl Iterator<Item = IpRange>) -> Vec<IpRange> {
    let mut sorted: Vec<IpRange> = ranges.collect();
    sorted.sort_unstable_by_key(|range| (range.prefix(), range.first()));
    let mut kept: Vec<IpRange> = Vec::new();
    for range in sorted {
        if !kept.iter().any(|wider| wider.overlaps(range)) {
            kept.push(range);
        }
    }
    kept
}

fn describe(service: &WorkloadId) -> String {
    format!("service {service}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_within_another_says_nothing() {
        let ranges = |texts: &[&str]| texts.iter().map(|text| text.parse().expect("a range")).collect::<Vec<IpRange>>();
        let kept = |texts| outermost(ranges(texts).into_iter());

        assert_eq!(kept(&["10.1.0.0/16", "10.0.0.0/8", "192.0.2.7/32"]), ranges(&["10.0.0.0/8", "192.0.2.7/32"]));
        assert_eq!(kept(&["2001:db8:1::/48", "2001:db8::/32"]), ranges(&["2001:db8::/32"]));
    }

    #[test]
    fn a_port_is_kept_for_those_of_its_version_alone_and_not_opened_where_it_is_bound_elsewhere() {
        let allow = ["10.0.0.0/8", "2001:db8::/32"].map(|text| text.parse().expect("a range"));
        let kept = |version, bind: Option<&str>, allow: &[IpRange]| {
            let bind: Option<Bind> = bind.map(|bind| bind.parse().expect("an address or a link"));
            let port = NodePort::of(version, (bind.as_ref(), allow), None);
            port.map(|port| port.kept_for.map(|ranges| ranges.iter().map(ToString::to_string).collect::<Vec<_>>()))
        };

        assert_eq!(kept(IpVersion::Four, None, &[]), Some(None), "open to everybody");
        assert_eq!(kept(IpVersion::Four, None, &allow), Some(Some(vec!["10.0.0.0/8".to_owned()])));
        assert_eq!(kept(IpVersion::Six, Some("eth0"), &allow), Some(Some(vec!["2001:db8::/32".to_owned()])));
        assert_eq!(kept(IpVersion::Six, None, &allow[..1]), Some(Some(Vec::new())), "nobody is let in");
        assert_eq!(kept(IpVersion::Six, Some("192.0.2.7"), &allow), None);
        assert_eq!(kept(IpVersion::Four, Some("2001:db8::7"), &allow), None);
    }
}

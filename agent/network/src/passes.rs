//! What instances may ask besides services: elements of the guard's sets, decided here from a plan.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
};

use api_types::{
    access::Access,
    container::Protocol,
    net::IpVersion,
    service::{Peer, Service, ServicePort},
};

use crate::{
    collection::Collection,
    plan::Plan,
    slots::{Element, Step},
};

/// One element of the guard's sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Pass {
    /// An address of another node: its own ports are closed to instances.
    Node(IpAddr),
    /// A port that every node publishes.
    Published(Protocol, u16),
    /// An instance here that everybody may ask.
    Open(Ipv4Addr),
    /// Somebody, and an instance here that admits him. What neither is open nor admits is closed.
    Admitted(Ipv4Addr, Ipv4Addr),
    /// An instance here that only ports of the nodes lead to.
    Closed(Ipv4Addr),
    /// A port of such an instance to which other nodes lead what comes to theirs.
    Entrance(Ipv4Addr, Protocol, u16),
    /// Such an instance on another node: what is led there comes from this node.
    ClosedElsewhere(Ipv4Addr),
}

impl Pass {
    /// The set in which it is.
    pub(crate) fn collection(self) -> Collection {
        match self {
            Self::Node(_) => Collection::Nodes,
            Self::Published(..) => Collection::Published,
            Self::Open(_) => Collection::Open,
            Self::Admitted(..) => Collection::Admitted,
            Self::Closed(_) => Collection::Closed,
            Self::Entrance(..) => Collection::Entrances,
            Self::ClosedElsewhere(_) => Collection::ClosedElsewhere,
        }
    }
}

/// Whether some workload of the plan admits only some others.
pub(crate) fn admission(plan: &Plan) -> bool {
    plan.services.iter().any(|service| service.access.is_some())
}

/// Reads a plan. Nodes have an address of their own in each version of the protocol.
pub(crate) fn of(plan: &Plan, version: IpVersion) -> BTreeSet<Pass> {
    let others = plan.peers.iter().filter(|peer| peer.subnet != plan.subnet);
    let mut passes: BTreeSet<Pass> = others.flat_map(|peer| addresses(plan, peer, version)).map(Pass::Node).collect();
    passes.extend(closed(plan));
    let ports = plan.services.iter().flat_map(|service| &service.ports);
    passes.extend(ports.filter_map(|port| Some(Pass::Published(port.protocol, port.publish?))));
    for (service, access) in with_access(plan) {
        let here: Vec<Ipv4Addr> =
            access.instances.iter().copied().filter(|address| plan.subnet.contains(*address)).collect();
        let Some(sources) = &access.allow_from else {
            passes.extend(here.into_iter().map(Pass::Open));
            continue;
        };
        // Nodes ask from the first two addresses of their ranges where they wrap packets, and by IPv6.
        let nodes = plan.peers.iter().map(|peer| peer.subnet).chain([plan.subnet]);
        let nodes = nodes.flat_map(|subnet| [subnet.nth(0), subnet.nth(1)]).flatten();
        passes.extend(nodes.flat_map(|node| here.iter().map(move |to| Pass::Admitted(node, *to))));
        let admits = |other: &Service| other.id == service.id || sources.iter().any(|source| source.is(&other.id));
        for (_, other) in with_access(plan).filter(|(other, _)| admits(other)) {
            let pairs = other.instances.iter().flat_map(|source| here.iter().map(|to| Pass::Admitted(*source, *to)));
            passes.extend(pairs);
        }
    }
    passes
}

/// Where another node is asked, and whence it asks: its own address and the first two of its range.
fn addresses(plan: &Plan, peer: &Peer, version: IpVersion) -> impl Iterator<Item = IpAddr> {
    let own = match version {
        IpVersion::Four => Some(IpAddr::V4(peer.address)),
        IpVersion::Six => peer.ipv6_address.map(IpAddr::V6),
    };
    let of_range = |address: Ipv4Addr| match version {
        IpVersion::Four => Some(IpAddr::V4(address)),
        IpVersion::Six => plan.ipv6_prefix.map(|prefix| IpAddr::V6(prefix.embed(address))),
    };
    let first = [peer.subnet.nth(0), peer.subnet.nth(1)].into_iter().flatten().filter_map(of_range);
    own.into_iter().chain(first.collect::<Vec<_>>())
}

/// What only ports of the nodes lead to.
fn closed(plan: &Plan) -> impl Iterator<Item = Pass> {
    let here = plan.closed.iter().flat_map(|instance| {
        let services = plan.services.iter().filter(|service| service.id == instance.workload);
        let published = services.flat_map(|service| &service.ports).filter(|port| port.publish.is_some());
        let entrance = |port: &ServicePort| Pass::Entrance(instance.address, port.protocol, port.container);
        published.map(entrance).chain([Pass::Closed(instance.address)])
    });
    let services = plan.services.iter().filter(|service| service.is_published_only());
    let endpoints = services.flat_map(|service| &service.endpoints).map(|endpoint| endpoint.address);
    here.chain(endpoints.filter(|address| !plan.subnet.contains(*address)).map(Pass::ClosedElsewhere))
}

/// Appends what differs to the steps of a change: what is let through newly comes first, what no longer is goes last.
pub(crate) fn change(old: &BTreeSet<Pass>, new: &BTreeSet<Pass>, make: &mut Step, after: &mut Step) {
    make.add.extend(new.difference(old).copied().map(Element::Pass));
    after.delete.extend(old.difference(new).copied().map(Element::Pass));
}

fn with_access(plan: &Plan) -> impl Iterator<Item = (&Service, &Access)> {
    plan.services.iter().filter_map(|service| Some((service, service.access.as_ref()?)))
}

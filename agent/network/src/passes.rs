//! What instances may ask besides services: elements of the guard's sets, decided here from a plan.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
};

use api_types::{
    access::Access,
    container::Protocol,
    service::{Peer, Service},
};

use crate::{
    collection::Collection,
    plan::Plan,
    slots::{Element, Step},
};

/// One element of the guard's sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Pass {
    /// The address of another node: its own ports are closed to instances.
    Node(IpAddr),
    /// A port that every node publishes.
    Published(Protocol, u16),
    /// An instance here that everybody may ask.
    Open(Ipv4Addr),
    /// Somebody, and an instance here that admits him. What neither is open nor admits is closed.
    Admitted(Ipv4Addr, Ipv4Addr),
}

impl Pass {
    /// The set in which it is.
    pub(crate) fn collection(self) -> Collection {
        match self {
            Self::Node(_) => Collection::Nodes,
            Self::Published(..) => Collection::Published,
            Self::Open(_) => Collection::Open,
            Self::Admitted(..) => Collection::Admitted,
        }
    }
}

/// For which version of the protocol: nodes have an address of their own in each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    Four,
    Six,
}

/// Whether some workload of the plan admits only some others.
pub(crate) fn admission(plan: &Plan) -> bool {
    plan.services.iter().any(|service| service.access.is_some())
}

/// Reads a plan.
pub(crate) fn of(plan: &Plan, version: Version) -> BTreeSet<Pass> {
    let address = |peer: &Peer| match version {
        Version::Four => Some(IpAddr::V4(peer.address)),
        Version::Six => peer.ipv6_address.map(IpAddr::V6),
    };
    let others = plan.peers.iter().filter(|peer| peer.subnet != plan.subnet);
    let mut passes: BTreeSet<Pass> = others.filter_map(address).map(Pass::Node).collect();
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

/// Appends what differs to the steps of a change: what is let through newly comes first, what no longer is goes last.
pub(crate) fn change(old: &BTreeSet<Pass>, new: &BTreeSet<Pass>, make: &mut Step, after: &mut Step) {
    make.add.extend(new.difference(old).copied().map(Element::Pass));
    after.delete.extend(old.difference(new).copied().map(Element::Pass));
}

fn with_access(plan: &Plan) -> impl Iterator<Item = (&Service, &Access)> {
    plan.services.iter().filter_map(|service| Some((service, service.access.as_ref()?)))
}

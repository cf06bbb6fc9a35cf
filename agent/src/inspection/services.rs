//! Which ways lead to a service: what is tried of each of its ports, and by whom.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
};

use agent_core::effect::Balancing;
use agent_network::{Asker, Try};
use api_types::{
    container::Protocol,
    service::{Service, ServicePort},
    view::CheckKind,
};

use super::{Planned, trace};

/// Each port of a service that somebody answers, as an instance asks it, and each endpoint, as the node asks it. What has no
/// virtual address is asked by its published ports, at this node's `own` address.
pub(super) fn ways(service: &Service, own: Ipv4Addr, detours: &BTreeMap<SocketAddrV4, SocketAddrV4>) -> Vec<Planned> {
    let mut planned = Vec::new();
    for port in service.ports.iter().filter(|_| !service.endpoints.is_empty()) {
        let front = front(service, port, own);
        let number = port.publish.filter(|_| service.is_published_only()).unwrap_or(port.service);
        let subject = format!("{} {}/{number}", service.id, port.protocol.as_str());
        planned.extend(front.map(|(asker, front)| {
            let asked =
                if service.is_published_only() { front.to_string() } else { format!("{}:{number}", service.id) };
            let remedy = format!(
                "follow it: wherry net trace NODE {asked}{}; if the node reaches the endpoints, look for a firewall that \
                     drops what is forwarded: nft list ruleset",
                flag(port.protocol)
            );
            plan(CheckKind::Service, (&subject, subject.clone()), remedy, asked_by(asker, port.protocol, front.into()))
        }));
        planned.extend(service.endpoints.iter().map(|endpoint| {
            let place = SocketAddrV4::new(endpoint.address, port.container);
            let to = detours.get(&place).copied().unwrap_or(place);
            plan(
                CheckKind::Endpoint,
                (&subject, format!("{} {subject}", endpoint.instance)),
                format!(
                    "see that it listens on port {} of all addresses: wherry describe instance {}",
                    port.container, endpoint.instance
                ),
                asked_by(Asker::Node, port.protocol, to.into()),
            )
        }));
    }
    planned
}

/// The same by IPv6 of a service that answers so, as the node asks it: its virtual address, and each endpoint on a node that has IPv6.
pub(super) fn ways_by_ipv6(balancing: &Balancing, service: &Service) -> Vec<Planned> {
    let Some(prefix) = balancing.ipv6_prefix.filter(|_| service.ipv6) else { return Vec::new() };
    let reached: Vec<_> =
        service.endpoints.iter().filter(|endpoint| trace::has_ipv6(balancing, endpoint.address)).collect();
    let mut planned = Vec::new();
    for port in service.ports.iter().filter(|_| !reached.is_empty()) {
        let at = |address, number| SocketAddr::new(prefix.embed(address).into(), number);
        let subject = format!("{} {}/{} by IPv6", service.id, port.protocol.as_str(), port.service);
        if !service.is_published_only() {
            let front = at(service.address, port.service);
            let remedy = format!("follow it: wherry net trace NODE {front}{}", flag(port.protocol));
            let wanted = asked_by(Asker::Node, port.protocol, front);
            planned.push(plan(CheckKind::Service, (&subject, subject.clone()), remedy, wanted));
        }
        planned.extend(reached.iter().map(|endpoint| {
            let remedy = format!(
                "see that it listens on port {} of `::`: wherry describe instance {}",
                port.container, endpoint.instance
            );
            let wanted = asked_by(Asker::Node, port.protocol, at(endpoint.address, port.container));
            plan(CheckKind::Endpoint, (&subject, format!("{} {subject}", endpoint.instance)), remedy, wanted)
        }));
    }
    planned
}

fn plan(kind: CheckKind, (port, subject): (&str, String), remedy: String, wanted: Try) -> Planned {
    Planned { kind, port: port.to_owned(), subject, remedy, wanted }
}

fn asked_by(from: Asker, protocol: Protocol, to: SocketAddr) -> Try {
    match protocol {
        Protocol::Tcp => Try::Connect { from, to },
        Protocol::Udp => Try::Datagram { from, to },
    }
}

/// What `wherry net trace` is told of the protocol.
fn flag(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "",
        Protocol::Udp => " --udp",
    }
}

/// Who asks a port of a service, and where; `None`: it answers at no address of this node that is known here.
fn front(service: &Service, port: &ServicePort, own: Ipv4Addr) -> Option<(Asker, SocketAddrV4)> {
    if !service.is_published_only() {
        return Some((Asker::Scratch, SocketAddrV4::new(service.address, port.service)));
    }
    // As the node: the port may be kept for some clients, and instances of this node need not be among them.
    match port.bind {
        None => Some((Asker::Node, SocketAddrV4::new(own, port.publish?))),
        Some(_) => None,
    }
}

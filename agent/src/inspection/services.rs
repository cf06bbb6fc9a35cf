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

#[cfg(test)]
mod tests {
    use api_types::{balance::BalancePolicy, id::InstanceId, service::Endpoint};

    use super::*;

    #[test]
    fn each_port_is_asked_by_its_protocol_and_what_is_too_much_is_counted() {
        let own = Ipv4Addr::new(192, 0, 2, 1);
        let few = ways(&service(2), own, &BTreeMap::new());
        let mut many = ways(&service(600), own, &BTreeMap::new());

        let beyond = super::super::bound(&mut many);

        let by_datagram = few.iter().filter(|one| matches!(one.wanted, Try::Datagram { .. }));
        let subjects: Vec<&str> = by_datagram.map(|one| one.subject.as_str()).collect();
        assert_eq!(subjects, ["shop/dns udp/53", "dns-0 shop/dns udp/53", "dns-1 shop/dns udp/53"]);
        assert_eq!(few.len(), 6, "the same by connections");
        // Two ports, each asked at the virtual address and at every endpoint.
        assert_eq!((many.len(), beyond), (1000, 2 * 601 - 1000));
    }

    fn service(endpoints: u16) -> Service {
        let port = |protocol| ServicePort {
            name: "dns".to_owned(),
            protocol,
            service: 53,
            container: 5353,
            publish: None,
            http: false,
            bind: None,
            allow: Vec::new(),
        };
        let endpoint = |number: u16| Endpoint {
            instance: InstanceId::new(&format!("dns-{number}")).expect("an id"),
            node: api_types::id::NodeId::new("edge-1").expect("a name"),
            address: Ipv4Addr::from_bits(0x0a2a_0100 + u32::from(number)),
            weight: 1,
            last_resort: false,
        };
        Service {
            id: "shop/dns".parse().expect("an id"),
            address: Ipv4Addr::new(10, 43, 0, 1),
            ports: vec![port(Protocol::Tcp), port(Protocol::Udp)],
            balance: BalancePolicy::default(),
            endpoints: (0..endpoints).map(endpoint).collect(),
            ipv6: false,
            across_sites: false,
            counts_requests: false,
            access: None,
        }
    }
}

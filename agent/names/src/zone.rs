//! The names of the cluster, looked up in the very table that the node balances by; pure.
//!
//! ```text
//! SERVICE.NAMESPACE.wherry.internal                  A    its virtual address
//! endpoints.SERVICE.NAMESPACE.wherry.internal        A    the addresses of those who answer
//! INSTANCE.SERVICE.NAMESPACE.wherry.internal         A    one of them
//! _PORT._PROTOCOL.SERVICE.NAMESPACE.wherry.internal  SRV  a port of its virtual address
//! NODE.node.wherry.internal                          A    the node's address
//! D.C.B.A.in-addr.arpa                               PTR  of addresses in both ranges of the cluster
//! ```

use std::net::{IpAddr, Ipv4Addr};

use api_types::{
    container::Protocol,
    id::{Name, WorkloadId},
    net::Cidr,
    service::{Endpoint, Peer, Service},
};

/// The domain of all our names; `internal` is reserved for private use.
pub const ORIGIN: &str = "wherry.internal";

/// Below this label stand the names of nodes.
const NODES: &str = "node";

/// Below this label stand the addresses behind a service.
const ENDPOINTS: &str = "endpoints";

/// The domain of reverse names (RFC 1035 §3.5).
const REVERSE: &str = "in-addr.arpa";

/// What there is to know about names, as the node holds it.
#[derive(Clone, Copy, Debug)]
pub struct Zone<'d> {
    /// This node's name and the address under which others reach it.
    pub node: (&'d str, Ipv4Addr),
    /// The range of all instances' addresses.
    pub cluster_range: Cidr,
    /// The range of all virtual addresses.
    pub service_range: Cidr,
    /// The services, sorted by id.
    pub services: &'d [Service],
    /// The other nodes, sorted by node.
    pub peers: &'d [Peer],
}

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// It is not one of ours.
    Elsewhere,
    /// It would be ours, but is not there.
    Nothing,
    /// It is there and has these records; there may be names below it, and no records.
    Records(Vec<Record>),
}

/// One thing that is known of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    /// Its address.
    Address(Ipv4Addr),
    /// A port, at this name with this address.
    Port(u16, String, Ipv4Addr),
    /// The name of an address.
    Pointer(String),
}

impl Zone<'_> {
    /// Whether somebody at this address is answered: an instance, or the node itself. Others could use us to flood a third.
    pub(crate) fn serves(&self, from: IpAddr) -> bool {
        match from {
            IpAddr::V4(from) => self.cluster_range.contains(from) || from.is_loopback() || from == self.node.1,
            IpAddr::V6(_) => false,
        }
    }

    /// Looks up a name in lower case without a dot at its end.
    pub(crate) fn look_up(&self, name: &str) -> Found {
        if let Some(inner) = below(name, ORIGIN) {
            return self.own(inner);
        }
        match below(name, REVERSE) {
            Some(digits) => self.reverse(digits),
            None => Found::Elsewhere,
        }
    }

    /// Whether a name is one of ours without the domain at its end: a service in its namespace and what stands below it.
    pub(crate) fn has_below_origin(&self, name: &str) -> bool {
        name.contains('.') && matches!(self.own(name), Found::Records(_))
    }

    fn own(&self, inner: &str) -> Found {
        let labels: Vec<&str> = if inner.is_empty() { Vec::new() } else { inner.rsplit('.').collect() };
        let records = match labels.as_slice() {
            // The domain itself and a namespace are there, as names with names below them.
            [] | [NODES] => return Found::Records(Vec::new()),
            [namespace] => {
                let there = self.services.iter().any(|service| service.id.namespace.as_str() == *namespace);
                return if there { Found::Records(Vec::new()) } else { Found::Nothing };
            }
            [namespace, service, rest @ ..] => match self.service(namespace, service) {
                Some(service) => service_records(service, rest),
                None if *namespace == NODES && rest.is_empty() => self.node_address(service).map(address),
                None => None,
            },
        };
        records.map_or(Found::Nothing, Found::Records)
    }

    fn service(&self, namespace: &str, name: &str) -> Option<&Service> {
        let id = WorkloadId { namespace: Name::new(namespace).ok()?, name: Name::new(name).ok()? };
        let index = self.services.binary_search_by(|service| service.id.cmp(&id)).ok()?;
        // One without an address is in the table only as somebody who asks.
        Some(&self.services[index]).filter(|service| !service.address.is_unspecified())
    }

    fn node_address(&self, name: &str) -> Option<Ipv4Addr> {
        if name == self.node.0 {
            return Some(self.node.1);
        }
        self.peers.iter().find(|peer| peer.node.as_str() == name).map(|peer| peer.address)
    }

    fn reverse(&self, digits: &str) -> Found {
        let Some(address) = reversed(digits) else { return Found::Elsewhere };
        if !self.cluster_range.contains(address) && !self.service_range.contains(address) {
            return Found::Elsewhere;
        }
        let virtual_address =
            self.services.iter().find(|service| service.address == address).map(|service| name_of(&service.id));
        let name = virtual_address.or_else(|| {
            let endpoint = |service: &Service| -> Option<String> {
                let endpoint = service.endpoints.iter().find(|endpoint| endpoint.address == address)?;
                Some(format!("{}.{}", endpoint.instance, name_of(&service.id)))
            };
            self.services.iter().find_map(endpoint)
        });
        name.map_or(Found::Nothing, |name| Found::Records(vec![Record::Pointer(name)]))
    }
}

/// What stands below a service; the labels from right to left.
fn service_records(service: &Service, rest: &[&str]) -> Option<Vec<Record>> {
    match rest {
        [] => Some(address(service.address)),
        [ENDPOINTS] => Some(service.endpoints.iter().map(|endpoint| Record::Address(endpoint.address)).collect()),
        ["_tcp" | "_udp"] => Some(Vec::new()),
        [protocol @ ("_tcp" | "_udp"), port] => {
            let protocol = if *protocol == "_udp" { Protocol::Udp } else { Protocol::Tcp };
            let name = port.strip_prefix('_')?;
            let port = service.ports.iter().find(|port| port.name == name && port.protocol == protocol)?;
            Some(vec![Record::Port(port.service, name_of(&service.id), service.address)])
        }
        [instance] => {
            let called = |endpoint: &&Endpoint| endpoint.instance.as_str() == *instance;
            service.endpoints.iter().find(called).map(|endpoint| address(endpoint.address))
        }
        _ => None,
    }
}

fn address(address: Ipv4Addr) -> Vec<Record> {
    vec![Record::Address(address)]
}

fn name_of(id: &WorkloadId) -> String {
    format!("{}.{}.{ORIGIN}", id.name, id.namespace)
}

/// What stands before a domain in a name; empty for the domain itself.
fn below<'n>(name: &'n str, domain: &str) -> Option<&'n str> {
    let rest = name.strip_suffix(domain)?;
    if rest.is_empty() { Some(rest) } else { rest.strip_suffix('.') }
}

fn reversed(digits: &str) -> Option<Ipv4Addr> {
    let mut octets = [0_u8; 4];
    let mut labels = digits.split('.');
    for octet in octets.iter_mut().rev() {
        *octet = labels.next()?.parse().ok()?;
    }
    labels.next().is_none().then(|| octets.into())
}

#[cfg(test)]
mod tests {
    use api_types::{balance::BalancePolicy, service::ServicePort};

    use super::*;

    fn services() -> Vec<Service> {
        let port = |name: &str, protocol| ServicePort {
            name: name.to_owned(),
            protocol,
            service: 53,
            container: 5353,
            publish: None,
            bind: None,
            allow: Vec::new(),
        };
        let endpoint = |name: &str, last| {
            Endpoint::new(name.parse().unwrap(), "n1".parse().unwrap(), Ipv4Addr::new(10, 42, 1, last))
        };
        let service = |id: &str, last, endpoints| Service {
            id: id.parse().unwrap(),
            address: Ipv4Addr::new(10, 43, 0, last),
            ports: vec![port("query", Protocol::Udp)],
            balance: BalancePolicy::default(),
            endpoints,
            ipv6: false,
            access: None,
        };
        vec![service("dns", 1, vec![endpoint("dns-1", 7), endpoint("dns-2", 8)]), service("prod/dns", 2, Vec::new())]
    }

    fn look_up(name: &str) -> Found {
        let peers = [Peer {
            node: "n2".parse().unwrap(),
            address: Ipv4Addr::new(192, 0, 2, 2),
            ipv6_address: None,
            subnet: "10.42.2.0/24".parse().unwrap(),
            site: "default".to_owned(),
            reach: api_types::site::Reach::Routes,
            across: api_types::site::Across::Routes,
        }];
        let services = services();
        let zone = Zone {
            node: ("n1", Ipv4Addr::new(192, 0, 2, 1)),
            cluster_range: "10.42.0.0/16".parse().unwrap(),
            service_range: "10.43.0.0/16".parse().unwrap(),
            services: &services,
            peers: &peers,
        };
        zone.look_up(name)
    }

    fn at(octets: [u8; 4]) -> Found {
        Found::Records(vec![Record::Address(octets.into())])
    }

    #[test]
    fn services_instances_and_nodes_have_their_addresses() {
        assert_eq!(look_up("dns.default.wherry.internal"), at([10, 43, 0, 1]));
        assert_eq!(look_up("dns.prod.wherry.internal"), at([10, 43, 0, 2]));
        assert_eq!(look_up("dns-2.dns.default.wherry.internal"), at([10, 42, 1, 8]));
        assert_eq!(look_up("n1.node.wherry.internal"), at([192, 0, 2, 1]));
        assert_eq!(look_up("n2.node.wherry.internal"), at([192, 0, 2, 2]));
        let Found::Records(all) = look_up("endpoints.dns.default.wherry.internal") else { panic!("it is there") };
        assert_eq!(all.len(), 2);
    }

    #[test]
    fn a_port_is_found_by_its_name_and_protocol() {
        let target = "dns.default.wherry.internal";

        let port = Record::Port(53, target.to_owned(), Ipv4Addr::new(10, 43, 0, 1));
        assert_eq!(look_up(&format!("_query._udp.{target}")), Found::Records(vec![port]));
        assert_eq!(look_up(&format!("_query._tcp.{target}")), Found::Nothing);
    }

    #[test]
    fn addresses_have_names() {
        let pointer = |name: &str| Found::Records(vec![Record::Pointer(name.to_owned())]);

        assert_eq!(look_up("1.0.43.10.in-addr.arpa"), pointer("dns.default.wherry.internal"));
        assert_eq!(look_up("8.1.42.10.in-addr.arpa"), pointer("dns-2.dns.default.wherry.internal"));
        assert_eq!(look_up("9.1.42.10.in-addr.arpa"), Found::Nothing);
        assert_eq!(look_up("1.0.0.127.in-addr.arpa"), Found::Elsewhere);
    }

    #[test]
    fn a_name_with_names_below_it_is_there_without_records() {
        for name in
            ["wherry.internal", "default.wherry.internal", "node.wherry.internal", "endpoints.dns.prod.wherry.internal"]
        {
            assert_eq!(look_up(name), Found::Records(Vec::new()), "{name}");
        }
        for name in [
            "web.default.wherry.internal",
            "x.wherry.internal",
            "n3.node.wherry.internal",
            "a.b.dns.default.wherry.internal",
        ] {
            assert_eq!(look_up(name), Found::Nothing, "{name}");
        }
        for name in ["example.com", "xwherry.internal", "internal", ""] {
            assert_eq!(look_up(name), Found::Elsewhere, "{name}");
        }
    }
}

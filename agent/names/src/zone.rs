//! The names of the cluster, looked up in the very table that the node balances by; pure.
//!
//! ```text
//! SERVICE.NAMESPACE.wherry.internal                  A AAAA its virtual address
//! endpoints.SERVICE.NAMESPACE.wherry.internal        A AAAA the addresses of those who answer
//! INSTANCE.SERVICE.NAMESPACE.wherry.internal         A AAAA one of them
//! _PORT._PROTOCOL.SERVICE.NAMESPACE.wherry.internal  SRV  a port of its virtual address
//! NODE.node.wherry.internal                          A AAAA the node's address
//! D.C.B.A.in-addr.arpa                               PTR  of addresses in both ranges of the cluster
//! (32 hexadecimal digits).ip6.arpa                    PTR  of the same, embedded in IPv6
//! ```

use std::{
    iter,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use api_types::{
    container::Protocol,
    id::{Name, WorkloadId},
    net::{Cidr, Ipv6Prefix},
    service::{Endpoint, Peer, Service},
};

/// The domain of all our names; `internal` is reserved for private use.
pub const ORIGIN: &str = "wherry.internal";

/// Below this label stand the names of nodes.
const NODES: &str = "node";

/// Below this label stand the addresses behind a service.
const ENDPOINTS: &str = "endpoints";

/// The domains of reverse names (RFC 1035 §3.5, RFC 3596 §2.5).
const REVERSE: &str = "in-addr.arpa";
const REVERSE_V6: &str = "ip6.arpa";

/// What there is to know about names, as the node holds it.
#[derive(Clone, Copy, Debug)]
pub struct Zone<'d> {
    /// This node.
    pub node: Own<'d>,
    /// The range of all instances' addresses.
    pub cluster_range: Cidr,
    /// The range of all virtual addresses.
    pub service_range: Cidr,
    /// Where both ranges are embedded in IPv6; `None` = no name of ours has an IPv6 address here.
    pub ipv6_prefix: Option<Ipv6Prefix>,
    /// The services, sorted by id.
    pub services: &'d [Arc<Service>],
    /// The other nodes, sorted by node.
    pub peers: &'d [Peer],
}

/// What there is to know about the node itself.
#[derive(Clone, Copy, Debug)]
pub struct Own<'d> {
    /// Its name.
    pub name: &'d str,
    /// The address under which others reach it.
    pub address: Ipv4Addr,
    /// The same in IPv6, if it has one.
    pub ipv6_address: Option<Ipv6Addr>,
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
    /// Its IPv6 address.
    Ipv6Address(Ipv6Addr),
    /// A port, at this name with this address.
    Port(u16, String, Ipv4Addr),
    /// The name of an address.
    Pointer(String),
}

impl Zone<'_> {
    /// Whether somebody at this address is answered: an instance, or the node itself. Others could use us to flood a third.
    pub(crate) fn serves(&self, from: IpAddr) -> bool {
        match from {
            IpAddr::V4(from) => self.cluster_range.contains(from) || from.is_loopback() || from == self.node.address,
            IpAddr::V6(_) => false,
        }
    }

    /// Looks up a name in lower case without a dot at its end.
    pub(crate) fn look_up(&self, name: &str) -> Found {
        if let Some(inner) = below(name, ORIGIN) {
            return self.own(inner);
        }
        let address = match (below(name, REVERSE), below(name, REVERSE_V6)) {
            (Some(digits), _) => reversed(digits),
            (_, Some(digits)) => reversed_v6(digits).and_then(|address| self.ipv6_prefix?.extract(address)),
            (None, None) => None,
        };
        address.map_or(Found::Elsewhere, |address| self.reverse(address))
    }

    /// Looks up a name that may be one of ours without the domain at its end: a service in its namespace and what stands below it.
    pub(crate) fn look_up_below_origin(&self, name: &str) -> Option<Vec<Record>> {
        match self.own(name) {
            Found::Records(records) if name.contains('.') => Some(records),
            Found::Records(_) | Found::Nothing | Found::Elsewhere => None,
        }
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
                Some(service) => self.service_records(service, rest),
                None if *namespace == NODES && rest.is_empty() => self.node_records(service),
                None => None,
            },
        };
        records.map_or(Found::Nothing, Found::Records)
    }

    /// What stands below a service; the labels from right to left.
    fn service_records(&self, service: &Service, rest: &[&str]) -> Option<Vec<Record>> {
        let prefix = self.prefix_of(service);
        match rest {
            [] => Some(addresses(service.address, prefix)),
            [ENDPOINTS] => {
                let each = service.endpoints.iter().flat_map(|endpoint| addresses(endpoint.address, prefix));
                Some(each.collect())
            }
            ["_tcp" | "_udp"] => Some(Vec::new()),
            [protocol @ ("_tcp" | "_udp"), port] => {
                let protocol = if *protocol == "_udp" { Protocol::Udp } else { Protocol::Tcp };
                let name = port.strip_prefix('_')?;
                let port = service.ports.iter().find(|port| port.name == name && port.protocol == protocol)?;
                Some(vec![Record::Port(port.service, name_of(&service.id), service.address)])
            }
            [instance] => {
                let called = |endpoint: &&Endpoint| endpoint.instance.as_str() == *instance;
                service.endpoints.iter().find(called).map(|endpoint| addresses(endpoint.address, prefix))
            }
            _ => None,
        }
    }

    /// Where a service's addresses are embedded, if it answers by IPv6 and this node reaches all of its endpoints so: clients take
    /// an IPv6 address before an IPv4 one, and not all try the other.
    fn prefix_of(&self, service: &Service) -> Option<Ipv6Prefix> {
        let has_address = |endpoint: &Endpoint| {
            let peer = self.peers.iter().find(|peer| peer.node == endpoint.node);
            endpoint.node.as_str() == self.node.name || peer.is_some_and(|peer| peer.ipv6_address.is_some())
        };
        let reached = service.ipv6 && self.node.ipv6_address.is_some() && service.endpoints.iter().all(has_address);
        self.ipv6_prefix.filter(|_| reached)
    }

    fn service(&self, namespace: &str, name: &str) -> Option<&Service> {
        let id = WorkloadId { namespace: Name::new(namespace).ok()?, name: Name::new(name).ok()? };
        let index = self.services.binary_search_by(|service| service.id.cmp(&id)).ok()?;
        // One without an address is in the table only as somebody who asks.
        Some(&*self.services[index]).filter(|service| !service.address.is_unspecified())
    }

    fn node_records(&self, name: &str) -> Option<Vec<Record>> {
        let (address, ipv6_address) = if name == self.node.name {
            (self.node.address, self.node.ipv6_address)
        } else {
            let peer = self.peers.iter().find(|peer| peer.node.as_str() == name)?;
            (peer.address, peer.ipv6_address)
        };
        Some(iter::once(Record::Address(address)).chain(ipv6_address.map(Record::Ipv6Address)).collect())
    }

    fn reverse(&self, address: Ipv4Addr) -> Found {
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
            self.services.iter().find_map(|service| endpoint(service))
        });
        name.map_or(Found::Nothing, |name| Found::Records(vec![Record::Pointer(name)]))
    }
}

/// An address of ours, and the one that ends with it.
fn addresses(address: Ipv4Addr, prefix: Option<Ipv6Prefix>) -> Vec<Record> {
    let embedded = prefix.map(|prefix| Record::Ipv6Address(prefix.embed(address)));
    iter::once(Record::Address(address)).chain(embedded).collect()
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

fn reversed_v6(digits: &str) -> Option<Ipv6Addr> {
    let mut bits = 0_u128;
    let mut labels = digits.split('.');
    for place in 0..32 {
        let label = labels.next().filter(|label| label.len() == 1)?;
        bits |= u128::from_str_radix(label, 16).ok()? << (4 * place);
    }
    labels.next().is_none().then(|| Ipv6Addr::from_bits(bits))
}

#[cfg(test)]
mod tests {
    use api_types::{balance::BalancePolicy, service::ServicePort};

    use super::*;

    fn services() -> Vec<Arc<Service>> {
        let port = |name: &str, protocol| ServicePort {
            name: name.to_owned(),
            protocol,
            service: 53,
            container: 5353,
            publish: None,
            http: false,
            bind: None,
            allow: Vec::new(),
        };
        let endpoint = |name: &str, last| {
            Endpoint::new(name.parse().unwrap(), "n1".parse().unwrap(), Ipv4Addr::new(10, 42, 1, last))
        };
        let service = |id: &str, last, endpoints| {
            Arc::new(Service {
                id: id.parse().unwrap(),
                address: Ipv4Addr::new(10, 43, 0, last),
                ports: vec![port("query", Protocol::Udp)],
                balance: BalancePolicy::default(),
                endpoints,
                ipv6: false,
                across_sites: false,
                counts_requests: false,
                access: None,
            })
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
            tunnel: None,
        }];
        let services = services();
        let zone = Zone {
            node: Own { name: "n1", address: Ipv4Addr::new(192, 0, 2, 1), ipv6_address: "fd99::1".parse().ok() },
            ipv6_prefix: "fd01:203:405::/96".parse().ok(),
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
        let both = vec![Record::Address([192, 0, 2, 1].into()), Record::Ipv6Address("fd99::1".parse().unwrap())];
        assert_eq!(look_up("n1.node.wherry.internal"), Found::Records(both));
        assert_eq!(look_up("n2.node.wherry.internal"), at([192, 0, 2, 2]));
        let Found::Records(all) = look_up("endpoints.dns.default.wherry.internal") else { panic!("it is there") };
        assert_eq!(all.len(), 2);
    }

    #[test]
    fn a_service_that_answers_by_ipv6_has_both_addresses_where_all_of_it_is_reached_so() {
        let mut services = services();
        Arc::make_mut(&mut services[0]).ipv6 = true;
        let peers = [];
        let zone = |node: Own<'static>, services: &[Arc<Service>]| {
            let zone = Zone {
                node,
                ipv6_prefix: "fd01:203:405::/96".parse().ok(),
                cluster_range: "10.42.0.0/16".parse().unwrap(),
                service_range: "10.43.0.0/16".parse().unwrap(),
                services,
                peers: &peers,
            };
            zone.look_up("dns.default.wherry.internal")
        };
        let own = Own { name: "n1", address: Ipv4Addr::new(192, 0, 2, 1), ipv6_address: "fd99::1".parse().ok() };

        let both = zone(own, &services);
        let without = zone(Own { ipv6_address: None, ..own }, &services);
        Arc::make_mut(&mut services[0]).endpoints[0].node = "n2".parse().unwrap();
        let partly = zone(own, &services);

        let embedded = Record::Ipv6Address("fd01:203:405::a2b:1".parse().unwrap());
        assert_eq!(both, Found::Records(vec![Record::Address(Ipv4Addr::new(10, 43, 0, 1)), embedded]));
        assert_eq!(without, at([10, 43, 0, 1]), "this node has no IPv6 address");
        assert_eq!(partly, at([10, 43, 0, 1]), "an endpoint is on a node that has none");
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
        let embedded = "1.0.0.0.b.2.a.0.0.0.0.0.0.0.0.0.0.0.0.0.5.0.4.0.3.0.2.0.1.0.d.f.ip6.arpa";
        assert_eq!(look_up(embedded), pointer("dns.default.wherry.internal"));
        assert_eq!(look_up(&embedded.replace("d.f.", "e.f.")), Found::Elsewhere);
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

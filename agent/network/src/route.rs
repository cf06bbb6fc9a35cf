//! Routes, links and addresses by rtnetlink, in the network namespace in which the socket was opened.

pub(crate) mod changes;
mod lookup;
pub(crate) mod neighbour;
pub(crate) mod v6;
mod way;

use std::{collections::BTreeMap, net::Ipv4Addr, os::fd::AsRawFd};

use api_types::net::Cidr;
use nix::{poll::poll, sys::socket::SockProtocol};

use crate::{
    Error,
    message::{Attributes, Message, Requests, attribute, attributes, flag, text, u32_at},
    socket::Socket,
};

pub(crate) const NEW_LINK: u16 = 16;
const DELETE_LINK: u16 = 17;
pub(crate) const GET_LINK: u16 = 18;
const NEW_ADDRESS: u16 = 20;
const DELETE_ADDRESS: u16 = 21;
const GET_ADDRESS: u16 = 22;
const NEW_ROUTE: u16 = 24;
const DELETE_ROUTE: u16 = 25;
const GET_ROUTE: u16 = 26;
pub(crate) const NEW_NEIGHBOUR: u16 = 28;

pub(crate) const FAMILY: u8 = 2;
pub(crate) const LINK_HEADER_BYTES: usize = 16;
const ROUTE_HEADER_BYTES: usize = 12;
pub(crate) const LINK_ADDRESS: u16 = 1;
pub(crate) const LINK_NAME: u16 = 3;
const LINK_STATE: u16 = 16;
pub(crate) const LINK_DETAILS: u16 = 18;
const LINK_NAMESPACE: u16 = 28;
const ROUTE_DESTINATION: u16 = 1;
const ROUTE_LINK: u16 = 4;
const ROUTE_GATEWAY: u16 = 5;
const ROUTE_SOURCE: u16 = 7;
const TABLE_MAIN: u8 = 254;
const SCOPE_UNIVERSE: u8 = 0;
const SCOPE_LINK: u8 = 253;
const SCOPE_HOST: u8 = 254;
const ADDRESS_HEADER_BYTES: usize = 8;
const ADDRESS_LOCAL: u16 = 2;
const ADDRESS_LABEL: u16 = 3;
/// The gateway is taken to be on the link (`RTNH_F_ONLINK`).
const ROUTE_ON_LINK: u32 = 4;
const UNICAST: u8 = 1;
const UNREACHABLE: u8 = 7;
pub(crate) const NEIGHBOUR_PERMANENT: u16 = 0x80;
pub(crate) const UP: u32 = 1;
const NO_ARP: u32 = 0x80;
/// A link's operational state (RFC 2863) as the kernel numbers it.
const STATE_UP: u8 = 6;
const LOOKS_MAX: u32 = 1000;
const LOOK_EVERY_MS: u16 = 5;

/// Who made a route, as the kernel remembers it: ours, and nobody else's (the registered numbers end below).
const PROTOCOL_OURS: u8 = 0x77;

/// A hardware address.
pub(crate) type Mac = [u8; 6];

/// One of our routes in the main table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Route {
    /// Where to.
    pub(crate) destination: Cidr,
    /// How.
    pub(crate) way: Way,
    /// The address from which this node itself asks; the kernel's choice where absent.
    pub(crate) source: Option<Ipv4Addr>,
}

/// How a route's packets leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    /// By a neighbour.
    Gateway(Ipv4Addr),
    /// By a neighbour that is only known on the link with this index, whatever addresses that has.
    Beyond {
        /// The neighbour.
        gateway: Ipv4Addr,
        /// The link.
        link: u32,
    },
    /// Straight into the link with this index.
    Link(u32),
    /// Not at all: the sender is told.
    Unreachable,
}

/// What makes a new pair of linked interfaces.
#[derive(Debug)]
pub(crate) struct Pair<'a> {
    /// The name on this side.
    pub(crate) name: &'a str,
    /// The hardware address on this side.
    pub(crate) mac: Mac,
    /// The name on the other side.
    pub(crate) peer_name: &'a str,
    /// The hardware address on the other side.
    pub(crate) peer_mac: Mac,
    /// The namespace of the other side.
    pub(crate) peer_namespace: &'a std::fs::File,
}

/// The way to the kernel's routing.
#[derive(Debug)]
pub(crate) struct Routing {
    pub(crate) socket: Socket,
}

impl Routing {
    /// Opens a socket in the calling thread's network namespace.
    pub(crate) fn open() -> Result<Self, Error> {
        Ok(Self { socket: Socket::open(SockProtocol::NetlinkRoute)? })
    }

    /// The index of the link with this name.
    pub(crate) fn link(&self, name: &str) -> Result<Option<u32>, Error> {
        let mut requests = Requests::default();
        requests.push("look for a link", (GET_LINK, 0), &link_header(0, 0), |link| link.text(LINK_NAME, name));
        match self.socket.ask(&requests, |message| u32_at(message.payload, 4)) {
            Ok(index) => Ok(Some(index)),
            Err(error) if error.errno() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All links by name, with their indices.
    pub(crate) fn links(&self) -> Result<BTreeMap<String, u32>, Error> {
        let mut requests = Requests::default();
        requests.push("list the links", (GET_LINK, flag::DUMP), &link_header(0, 0), |_| {});
        let found = self.socket.dump(&requests, |message| {
            let name = attribute(message.payload.get(LINK_HEADER_BYTES..)?, LINK_NAME).map(text)?;
            Some((name.to_owned(), u32_at(message.payload, 4)?))
        })?;
        Ok(found.into_iter().collect())
    }

    /// Makes a pair of linked interfaces, still down. The hardware addresses are given so that nobody else sets them.
    pub(crate) fn add_pair(&self, pair: &Pair<'_>) -> Result<(), Error> {
        let flags = flag::ACK | flag::CREATE | flag::EXCLUSIVE;
        let mut requests = Requests::default();
        requests.push("make a veth pair", (NEW_LINK, flags), &link_header(0, 0), |link| {
            link.text(LINK_NAME, pair.name);
            link.bytes(LINK_ADDRESS, &pair.mac);
            link.nest(LINK_DETAILS, |details| {
                details.text(1, "veth");
                details.nest(2, |kind| {
                    kind.nest(1, |peer| {
                        peer.raw(&link_header(0, 0));
                        peer.text(LINK_NAME, pair.peer_name);
                        peer.bytes(LINK_ADDRESS, &pair.peer_mac);
                        peer.native(LINK_NAMESPACE, pair.peer_namespace.as_raw_fd().cast_unsigned());
                    });
                });
            });
        });
        self.socket.demand(&requests).map_err(|error| match error.errno() {
            Some(libc::EOPNOTSUPP) => Error::KernelLacks { what: "veth links".to_owned(), module: "veth".to_owned() },
            _ => error,
        })
    }

    /// Removes a link, if it is there.
    pub(crate) fn remove_link(&self, name: &str) -> Result<(), Error> {
        let mut requests = Requests::default();
        let kind = (DELETE_LINK, flag::ACK);
        requests.push("remove a link", kind, &link_header(0, 0), |link| link.text(LINK_NAME, name));
        tolerate(self.socket.demand(&requests), &[libc::ENODEV])
    }

    /// Takes a link up.
    pub(crate) fn raise(&self, index: u32) -> Result<(), Error> {
        let mut requests = Requests::default();
        requests.push("take a link up", (NEW_LINK, flag::ACK), &link_header(index, UP), |_| {});
        self.socket.demand(&requests)
    }

    /// Takes a link up that neither asks nor answers ARP, so that its other end can claim no address by it.
    pub(crate) fn raise_without_arp(&self, index: u32) -> Result<(), Error> {
        let mut requests = Requests::default();
        requests.push("take a link up", (NEW_LINK, flag::ACK), &link_header(index, UP | NO_ARP), |_| {});
        self.socket.demand(&requests)
    }

    /// Waits until a link sends what it is given. A link that went up because its other end did sends nothing until the
    /// kernel has noticed, and the first packet would be lost. Newer kernels notice when asked.
    pub(crate) fn await_link(&self, index: u32) -> Result<(), Error> {
        let mut requests = Requests::default();
        requests.push("wait for a link", (GET_LINK, 0), &link_header(index, 0), |_| {});
        for _ in 0..LOOKS_MAX {
            let state = self.socket.ask(&requests, |message| {
                attribute(message.payload.get(LINK_HEADER_BYTES..)?, LINK_STATE)?.first().copied()
            })?;
            if state == STATE_UP {
                return Ok(());
            }
            // Waits for nothing but the time.
            let _ = poll(&mut [], LOOK_EVERY_MS);
        }
        Err(Error::refused(requests.what(0), nix::errno::Errno::ETIMEDOUT.into()))
    }

    /// The link that has an address.
    pub(crate) fn link_with(&self, address: Ipv4Addr) -> Result<Option<u32>, Error> {
        let mut requests = Requests::default();
        let header = [FAMILY, 0, 0, 0, 0, 0, 0, 0];
        requests.push("list the addresses", (GET_ADDRESS, flag::DUMP), &header, |_| {});
        let found = self.socket.dump(&requests, |message| {
            let local = attribute(message.payload.get(ADDRESS_HEADER_BYTES..)?, ADDRESS_LOCAL)?;
            u32_at(message.payload, 4).filter(|_| local == address.octets())
        })?;
        Ok(found.first().copied())
    }

    /// Gives a link a /32 address; again: nothing.
    pub(crate) fn add_address(&self, index: u32, address: Ipv4Addr) -> Result<(), Error> {
        let kind = (NEW_ADDRESS, flag::ACK | flag::CREATE | flag::EXCLUSIVE);
        let requests = address_request("add an address", kind, (index, SCOPE_UNIVERSE), address, None);
        tolerate(self.socket.demand(&requests), &[libc::EEXIST])
    }

    /// Gives the node an address that it never asks from by itself, under a label by which it is found again.
    pub(crate) fn add_own_address(&self, loopback: u32, address: Ipv4Addr, label: &str) -> Result<(), Error> {
        let kind = (NEW_ADDRESS, flag::ACK | flag::CREATE | flag::EXCLUSIVE);
        let requests = address_request("add the node's address", kind, (loopback, SCOPE_HOST), address, Some(label));
        tolerate(self.socket.demand(&requests), &[libc::EEXIST])
    }

    /// Takes such an address away, if it is there.
    pub(crate) fn remove_own_address(&self, loopback: u32, address: Ipv4Addr) -> Result<(), Error> {
        let kind = (DELETE_ADDRESS, flag::ACK);
        let requests = address_request("remove the node's address", kind, (loopback, SCOPE_HOST), address, None);
        tolerate(self.socket.demand(&requests), &[libc::EADDRNOTAVAIL])
    }

    /// The addresses under a label.
    pub(crate) fn own_addresses(&self, label: &str) -> Result<Vec<Ipv4Addr>, Error> {
        self.addresses(|_, body| attribute(body, ADDRESS_LABEL).map(text) == Some(label))
    }

    /// The addresses of the link with this index.
    pub(crate) fn addresses_of(&self, index: u32) -> Result<Vec<Ipv4Addr>, Error> {
        self.addresses(|payload, _| u32_at(payload, 4) == Some(index))
    }

    fn addresses(&self, is_meant: impl Fn(&[u8], &[u8]) -> bool) -> Result<Vec<Ipv4Addr>, Error> {
        let mut requests = Requests::default();
        requests.push("list the addresses", (GET_ADDRESS, flag::DUMP), &[FAMILY, 0, 0, 0, 0, 0, 0, 0], |_| {});
        self.socket.dump(&requests, |message| {
            let body = message.payload.get(ADDRESS_HEADER_BYTES..)?;
            let octets = attribute(body, ADDRESS_LOCAL).filter(|_| is_meant(message.payload, body))?;
            <[u8; 4]>::try_from(octets).map(Ipv4Addr::from).ok()
        })
    }

    /// All routes that we made.
    pub(crate) fn routes(&self) -> Result<Vec<Route>, Error> {
        let header = [FAMILY, 0, 0, 0, TABLE_MAIN, PROTOCOL_OURS, 0, 0, 0, 0, 0, 0];
        let mut requests = Requests::default();
        requests.push("list the routes", (GET_ROUTE, flag::DUMP), &header, |_| {});
        self.socket.dump(&requests, read_route)
    }

    /// Adds a route, or replaces ours to the same destination. A route of somebody else to it is an error.
    pub(crate) fn set_route(&self, route: &Route, existing: &[Route]) -> Result<(), Error> {
        let ours = existing.iter().any(|other| other.destination == route.destination);
        let flags = flag::CREATE | if ours { flag::REPLACE } else { flag::EXCLUSIVE };
        self.socket.demand(&route_request("add a route", (NEW_ROUTE, flag::ACK | flags), route))
    }

    /// Removes a route, if it is there.
    pub(crate) fn remove_route(&self, route: &Route) -> Result<(), Error> {
        let requests = route_request("remove a route", (DELETE_ROUTE, flag::ACK), route);
        tolerate(self.socket.demand(&requests), &[libc::ESRCH])
    }
}

/// The index of a link that must be there.
pub(crate) fn found(routing: &Routing, name: &str) -> Result<u32, Error> {
    let missing = || Error::refused(format!("look for the link {name}"), nix::errno::Errno::ENODEV.into());
    routing.link(name)?.ok_or_else(missing)
}

fn tolerate(outcome: Result<(), Error>, numbers: &[i32]) -> Result<(), Error> {
    match outcome {
        Err(error) if error.errno().is_some_and(|number| numbers.contains(&number)) => Ok(()),
        other => other,
    }
}

pub(crate) fn link_header(index: u32, up: u32) -> Vec<u8> {
    let mut header = vec![0; 4];
    header.extend(index.to_ne_bytes());
    header.extend(up.to_ne_bytes());
    header.extend(up.to_ne_bytes());
    header
}

/// `to` is the link's index and the scope.
fn address_request(
    what: &'static str,
    kind: (u16, u16),
    to: (u32, u8),
    address: Ipv4Addr,
    label: Option<&str>,
) -> Requests {
    let mut header = vec![FAMILY, 32, 0, to.1];
    header.extend(to.0.to_ne_bytes());
    let mut requests = Requests::default();
    requests.push(what, kind, &header, |attributes| {
        attributes.bytes(ADDRESS_LOCAL, &address.octets());
        attributes.bytes(1, &address.octets());
        if let Some(label) = label {
            attributes.text(ADDRESS_LABEL, label);
        }
    });
    requests
}

fn route_request(what: &'static str, kind: (u16, u16), route: &Route) -> Requests {
    let (scope, action) = match route.way {
        Way::Gateway(_) | Way::Beyond { .. } => (SCOPE_UNIVERSE, UNICAST),
        Way::Link(_) => (SCOPE_LINK, UNICAST),
        Way::Unreachable => (SCOPE_UNIVERSE, UNREACHABLE),
    };
    let prefix = route.destination.prefix;
    let flags = if matches!(route.way, Way::Beyond { .. }) { ROUTE_ON_LINK } else { 0 };
    let mut header = vec![FAMILY, prefix, 0, 0, TABLE_MAIN, PROTOCOL_OURS, scope, action];
    header.extend(flags.to_ne_bytes());
    let mut requests = Requests::default();
    requests.push(what, kind, &header, |attributes| write_route(attributes, route));
    requests
}

fn write_route(attributes: &mut Attributes<'_>, route: &Route) {
    if route.destination.prefix > 0 {
        attributes.bytes(ROUTE_DESTINATION, &route.destination.address.octets());
    }
    match route.way {
        Way::Gateway(gateway) => attributes.bytes(ROUTE_GATEWAY, &gateway.octets()),
        Way::Beyond { gateway, link } => {
            attributes.bytes(ROUTE_GATEWAY, &gateway.octets());
            attributes.native(ROUTE_LINK, link);
        }
        Way::Link(index) => attributes.native(ROUTE_LINK, index),
        Way::Unreachable => {}
    }
    if let Some(source) = route.source {
        attributes.bytes(ROUTE_SOURCE, &source.octets());
    }
}

/// Kernels that cannot filter list everything.
fn read_route(message: &Message<'_>) -> Option<Route> {
    let header = message.payload.get(..ROUTE_HEADER_BYTES)?;
    if header[0] != FAMILY || header[4] != TABLE_MAIN || header[5] != PROTOCOL_OURS {
        return None;
    }
    let (mut destination, mut gateway, mut link, mut source) = (Ipv4Addr::UNSPECIFIED, None, None, None);
    for (kind, value) in attributes(&message.payload[ROUTE_HEADER_BYTES..]) {
        let address = || <[u8; 4]>::try_from(value).map(Ipv4Addr::from).ok();
        match kind {
            ROUTE_DESTINATION => destination = address()?,
            ROUTE_GATEWAY => gateway = address(),
            ROUTE_SOURCE => source = address(),
            ROUTE_LINK => link = u32_at(value, 0),
            _ => {}
        }
    }
    let on_link = u32_at(header, 8)? & ROUTE_ON_LINK != 0;
    let way = match (header[7], gateway, link) {
        (UNREACHABLE, ..) => Way::Unreachable,
        (_, Some(gateway), Some(link)) if on_link => Way::Beyond { gateway, link },
        (_, Some(gateway), _) => Way::Gateway(gateway),
        (_, None, link) => Way::Link(link?),
    };
    Some(Route { destination: Cidr::new(destination, header[1]).ok()?, way, source })
}

//! Addresses and routes of IPv6, where the kernel wants other headers than for IPv4.

use std::net::Ipv6Addr;

use crate::{
    Error,
    message::{Message, Requests, attribute, attributes, flag, u32_at},
    route::{
        ADDRESS_HEADER_BYTES, DELETE_ADDRESS, DELETE_ROUTE, GET_ADDRESS, GET_ROUTE, NEW_ADDRESS, NEW_ROUTE,
        PROTOCOL_OURS, ROUTE_DESTINATION, ROUTE_GATEWAY, ROUTE_HEADER_BYTES, ROUTE_LINK, ROUTE_ON_LINK, ROUTE_SOURCE,
        Routing, SCOPE_UNIVERSE, TABLE_MAIN, UNICAST, UNREACHABLE, tolerate,
    },
};

pub(super) const FAMILY: u8 = 10;
const ADDRESS: u16 = 1;
/// The address is used at once, without asking whether somebody else has it (`IFA_F_NODAD`).
const UNASKED: u8 = 0x02;
/// Of an address: it is for a while, or not to be used (temporary, failed, deprecated or tentative).
const UNFIT: u8 = 0x01 | 0x08 | 0x20 | 0x40;

/// One of our IPv6 routes in the main table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RouteV6 {
    /// Where to: the first address and the length of the prefix.
    pub(crate) destination: (Ipv6Addr, u8),
    /// How.
    pub(crate) way: WayV6,
    /// The address from which this node itself asks; the kernel's choice where absent.
    pub(crate) source: Option<Ipv6Addr>,
}

/// How an IPv6 route's packets leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WayV6 {
    /// By a neighbour on the link with this index.
    Gateway(Ipv6Addr, u32),
    /// By a neighbour that is only known on the link with this index, whatever addresses that has.
    Beyond(Ipv6Addr, u32),
    /// Straight into the link with this index.
    Link(u32),
    /// Not at all: the sender is told.
    Unreachable,
}

impl Routing {
    /// Gives a link a /128 address; again: nothing.
    pub(crate) fn add_address_v6(&self, index: u32, address: Ipv6Addr) -> Result<(), Error> {
        let kind = (NEW_ADDRESS, flag::ACK | flag::CREATE | flag::EXCLUSIVE);
        tolerate(self.socket.demand(&address_request("add an IPv6 address", kind, index, address)), &[libc::EEXIST])
    }

    /// Takes an address away, if it is there.
    pub(crate) fn remove_address_v6(&self, index: u32, address: Ipv6Addr) -> Result<(), Error> {
        let kind = (DELETE_ADDRESS, flag::ACK);
        let requests = address_request("remove an IPv6 address", kind, index, address);
        tolerate(self.socket.demand(&requests), &[libc::EADDRNOTAVAIL])
    }

    /// The lasting addresses of a link beyond those of the link alone, in order.
    pub(crate) fn addresses_v6(&self, index: u32) -> Result<Vec<Ipv6Addr>, Error> {
        let mut requests = Requests::default();
        requests.push("list the IPv6 addresses", (GET_ADDRESS, flag::DUMP), &[FAMILY, 0, 0, 0, 0, 0, 0, 0], |_| {});
        let mut found = self.socket.dump(&requests, |message| {
            let header = message.payload.get(..ADDRESS_HEADER_BYTES)?;
            let fit = header[0] == FAMILY && header[2] & UNFIT == 0 && header[3] == SCOPE_UNIVERSE;
            let octets = attribute(&message.payload[ADDRESS_HEADER_BYTES..], ADDRESS)?;
            let here = fit && u32_at(message.payload, 4) == Some(index);
            <[u8; 16]>::try_from(octets).ok().filter(|_| here).map(Ipv6Addr::from)
        })?;
        found.sort_unstable();
        Ok(found)
    }

    /// The link on which a neighbour is reached; `None` = none of ours leads straight there.
    pub(crate) fn link_towards_v6(&self, neighbour: Ipv6Addr) -> Result<Option<u32>, Error> {
        let header = [FAMILY, 128, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let mut requests = Requests::default();
        requests.push("ask for a way to an IPv6 neighbour", (GET_ROUTE, 0), &header, |attributes| {
            attributes.bytes(ROUTE_DESTINATION, &neighbour.octets());
        });
        let answer = self.socket.ask(&requests, |message| {
            let header = message.payload.get(..ROUTE_HEADER_BYTES)?;
            let body = &message.payload[ROUTE_HEADER_BYTES..];
            let straight = header[7] == UNICAST && attribute(body, ROUTE_GATEWAY).is_none();
            Some(attribute(body, ROUTE_LINK).and_then(|link| u32_at(link, 0)).filter(|_| straight))
        });
        match answer {
            Err(error) if matches!(error.errno(), Some(libc::ENETUNREACH | libc::EHOSTUNREACH)) => Ok(None),
            answer => answer,
        }
    }

    /// All IPv6 routes that we made.
    pub(crate) fn routes_v6(&self) -> Result<Vec<RouteV6>, Error> {
        let header = [FAMILY, 0, 0, 0, TABLE_MAIN, PROTOCOL_OURS, 0, 0, 0, 0, 0, 0];
        let mut requests = Requests::default();
        requests.push("list the IPv6 routes", (GET_ROUTE, flag::DUMP), &header, |_| {});
        self.socket.dump(&requests, read_route)
    }

    /// Adds a route, or replaces ours to the same destination. A route of somebody else to it is an error.
    pub(crate) fn set_route_v6(&self, route: &RouteV6, existing: &[RouteV6]) -> Result<(), Error> {
        let ours = existing.iter().any(|other| other.destination == route.destination);
        let flags = flag::CREATE | if ours { flag::REPLACE } else { flag::EXCLUSIVE };
        self.socket.demand(&route_request("add an IPv6 route", (NEW_ROUTE, flag::ACK | flags), route))
    }

    /// Removes a route, if it is there.
    pub(crate) fn remove_route_v6(&self, route: &RouteV6) -> Result<(), Error> {
        let requests = route_request("remove an IPv6 route", (DELETE_ROUTE, flag::ACK), route);
        tolerate(self.socket.demand(&requests), &[libc::ESRCH])
    }
}

fn address_request(what: &'static str, kind: (u16, u16), index: u32, address: Ipv6Addr) -> Requests {
    let mut header = vec![FAMILY, 128, UNASKED, SCOPE_UNIVERSE];
    header.extend(index.to_ne_bytes());
    let mut requests = Requests::default();
    requests.push(what, kind, &header, |attributes| attributes.bytes(ADDRESS, &address.octets()));
    requests
}

fn route_request(what: &'static str, kind: (u16, u16), route: &RouteV6) -> Requests {
    let action = match route.way {
        WayV6::Gateway(..) | WayV6::Beyond(..) | WayV6::Link(_) => UNICAST,
        WayV6::Unreachable => UNREACHABLE,
    };
    let (destination, prefix) = route.destination;
    let flags = if matches!(route.way, WayV6::Beyond(..)) { ROUTE_ON_LINK } else { 0 };
    let mut header = vec![FAMILY, prefix, 0, 0, TABLE_MAIN, PROTOCOL_OURS, SCOPE_UNIVERSE, action];
    header.extend(flags.to_ne_bytes());
    let mut requests = Requests::default();
    requests.push(what, kind, &header, |attributes| {
        if prefix > 0 {
            attributes.bytes(ROUTE_DESTINATION, &destination.octets());
        }
        if let WayV6::Gateway(gateway, _) | WayV6::Beyond(gateway, _) = route.way {
            attributes.bytes(ROUTE_GATEWAY, &gateway.octets());
        }
        if let WayV6::Gateway(_, link) | WayV6::Beyond(_, link) | WayV6::Link(link) = route.way {
            attributes.native(ROUTE_LINK, link);
        }
        if let Some(source) = route.source {
            attributes.bytes(ROUTE_SOURCE, &source.octets());
        }
    });
    requests
}

/// Kernels that cannot filter list everything.
fn read_route(message: &Message<'_>) -> Option<RouteV6> {
    let header = message.payload.get(..ROUTE_HEADER_BYTES)?;
    if header[0] != FAMILY || header[4] != TABLE_MAIN || header[5] != PROTOCOL_OURS {
        return None;
    }
    let (mut destination, mut gateway, mut link, mut source) = (Ipv6Addr::UNSPECIFIED, None, None, None);
    for (kind, value) in attributes(&message.payload[ROUTE_HEADER_BYTES..]) {
        let address = || <[u8; 16]>::try_from(value).map(Ipv6Addr::from).ok();
        match kind {
            ROUTE_DESTINATION => destination = address()?,
            ROUTE_GATEWAY => gateway = address(),
            ROUTE_SOURCE => source = address(),
            ROUTE_LINK => link = u32_at(value, 0),
            _ => {}
        }
    }
    let is_on_link = u32_at(header, 8).is_some_and(|flags| flags & ROUTE_ON_LINK != 0);
    let way = match (header[7], gateway, link) {
        (UNREACHABLE, ..) => WayV6::Unreachable,
        (_, Some(gateway), Some(link)) if is_on_link => WayV6::Beyond(gateway, link),
        (_, Some(gateway), Some(link)) => WayV6::Gateway(gateway, link),
        (_, _, link) => WayV6::Link(link?),
    };
    Some(RouteV6 { destination: (destination, header[1]), way, source })
}

//! Which way the kernel would send a packet.

use std::net::IpAddr;

use api_types::net::IpVersion;

use super::{FAMILY, GET_ROUTE, ROUTE_DESTINATION, ROUTE_GATEWAY, ROUTE_HEADER_BYTES, ROUTE_LINK, Routing, v6};
use crate::{
    Error,
    family::octets,
    message::{Requests, attribute, u32_at},
};

/// The type of a route to an address of the node itself (`RTN_LOCAL`).
const LOCAL: u8 = 2;

impl Routing {
    /// Which way the kernel would send a packet of the node to this address, for people.
    pub(crate) fn way_to(&self, address: IpAddr) -> Result<String, Error> {
        let family = if address.is_ipv4() { FAMILY } else { v6::FAMILY };
        let header = [family, IpVersion::of(address).bits(), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let mut requests = Requests::default();
        requests.push("ask for the way", (GET_ROUTE, 0), &header, |request| {
            request.bytes(ROUTE_DESTINATION, &octets(address));
        });
        let (kind, gateway, link) = self.socket.ask(&requests, |message| {
            let kind = *message.payload.get(7)?;
            let body = message.payload.get(ROUTE_HEADER_BYTES..)?;
            Some((
                kind,
                attribute(body, ROUTE_GATEWAY).and_then(gateway),
                attribute(body, ROUTE_LINK).and_then(|index| u32_at(index, 0)),
            ))
        })?;
        if kind == LOCAL {
            return Ok("on this node".to_owned());
        }
        let links = self.links()?;
        let name = links.iter().find(|(_, index)| Some(**index) == link).map(|(name, _)| name.as_str());
        let name = name.unwrap_or("an unknown link");
        Ok(gateway.map_or_else(|| format!("by link {name}"), |gateway| format!("by {gateway} on link {name}")))
    }
}

fn gateway(octets: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    four.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok()
}

//! Which way the kernel would send a packet.

use std::net::Ipv4Addr;

use super::{FAMILY, GET_ROUTE, ROUTE_DESTINATION, ROUTE_GATEWAY, ROUTE_HEADER_BYTES, ROUTE_LINK, Routing};
use crate::{
    Error,
    message::{Requests, attribute, u32_at},
};

/// The type of a route to an address of the node itself (`RTN_LOCAL`).
const LOCAL: u8 = 2;

impl Routing {
    /// Which way the kernel would send a packet of the node to this address, for people.
    pub(crate) fn way_to(&self, address: Ipv4Addr) -> Result<String, Error> {
        let header = [FAMILY, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let mut requests = Requests::default();
        requests.push("ask for the way", (GET_ROUTE, 0), &header, |request| {
            request.bytes(ROUTE_DESTINATION, &address.octets());
        });
        let (kind, gateway, link) = self.socket.ask(&requests, |message| {
            let kind = *message.payload.get(7)?;
            let body = message.payload.get(ROUTE_HEADER_BYTES..)?;
            let gateway = attribute(body, ROUTE_GATEWAY).and_then(|octets| <[u8; 4]>::try_from(octets).ok());
            Some((kind, gateway.map(Ipv4Addr::from), attribute(body, ROUTE_LINK).and_then(|index| u32_at(index, 0))))
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

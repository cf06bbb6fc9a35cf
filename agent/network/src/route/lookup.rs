//! What lies between this node and an address.

use std::net::Ipv4Addr;

use super::{FAMILY, GET_ROUTE, ROUTE_DESTINATION, ROUTE_GATEWAY, ROUTE_HEADER_BYTES, Routing};
use crate::{
    Error,
    message::{Requests, attribute},
};

impl Routing {
    /// Whether packets to an address go to a router first, and not straight to whoever has it.
    pub(crate) fn is_behind_router(&self, address: Ipv4Addr) -> Result<bool, Error> {
        let header = [FAMILY, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let mut requests = Requests::default();
        requests.push("look for the way to a node", (GET_ROUTE, 0), &header, |route| {
            route.bytes(ROUTE_DESTINATION, &address.octets());
        });
        let gateway = self.socket.ask(&requests, |message| {
            Some(attribute(message.payload.get(ROUTE_HEADER_BYTES..)?, ROUTE_GATEWAY).is_some())
        });
        match gateway {
            // No way at all: the route that is asked about says so itself.
            Err(error) if error.errno().is_some() => Ok(false),
            outcome => outcome,
        }
    }
}

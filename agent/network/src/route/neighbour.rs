//! Neighbours whose hardware address is known for good: nobody is asked, so nobody can lie.

use std::net::IpAddr;

use crate::{
    Error,
    family::octets,
    message::{Requests, flag},
    route::{FAMILY, Mac, NEIGHBOUR_PERMANENT, NEW_NEIGHBOUR, Routing, tolerate, v6},
};

pub(crate) const DELETE_NEIGHBOUR: u16 = 29;
pub(crate) const NEIGHBOUR_ADDRESS: u16 = 1;
pub(crate) const NEIGHBOUR_MAC: u16 = 2;

impl Routing {
    /// Tells a link for good which hardware address a neighbour has.
    pub(crate) fn set_neighbour(&self, index: u32, address: impl Into<IpAddr>, mac: Mac) -> Result<(), Error> {
        let address = address.into();
        let mut requests = Requests::default();
        let kind = (NEW_NEIGHBOUR, flag::ACK | flag::CREATE | flag::REPLACE);
        requests.push("set a neighbour", kind, &header(address, index, NEIGHBOUR_PERMANENT), |attributes| {
            attributes.bytes(NEIGHBOUR_ADDRESS, &octets(address));
            attributes.bytes(NEIGHBOUR_MAC, &mac);
        });
        self.socket.demand(&requests)
    }

    /// Forgets a neighbour, if it is known.
    pub(crate) fn remove_neighbour(&self, index: u32, address: impl Into<IpAddr>) -> Result<(), Error> {
        let address = address.into();
        let mut requests = Requests::default();
        let kind = (DELETE_NEIGHBOUR, flag::ACK);
        requests.push("forget a neighbour", kind, &header(address, index, 0), |attributes| {
            attributes.bytes(NEIGHBOUR_ADDRESS, &octets(address));
        });
        tolerate(self.socket.demand(&requests), &[libc::ENOENT, libc::ENODEV])
    }
}

fn header(address: IpAddr, index: u32, state: u16) -> Vec<u8> {
    let family = if address.is_ipv4() { FAMILY } else { v6::FAMILY };
    let mut header = vec![family, 0, 0, 0];
    header.extend(index.to_ne_bytes());
    header.extend(state.to_ne_bytes());
    header.extend([0, 0]);
    header
}

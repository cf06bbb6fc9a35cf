//! Neighbours whose hardware address is known for good: nobody is asked, so nobody can lie.

use std::net::IpAddr;

use crate::{
    Error,
    message::{Requests, flag},
    route::{FAMILY, Mac, NEIGHBOUR_PERMANENT, NEW_NEIGHBOUR, Routing, v6},
};

impl Routing {
    /// Tells a link for good which hardware address a neighbour has.
    pub(crate) fn set_neighbour(&self, index: u32, address: impl Into<IpAddr>, mac: Mac) -> Result<(), Error> {
        self.socket.demand(&request(address.into(), index, mac))
    }
}

fn request(address: IpAddr, index: u32, mac: Mac) -> Requests {
    let (family, octets) = match address {
        IpAddr::V4(address) => (FAMILY, address.octets().to_vec()),
        IpAddr::V6(address) => (v6::FAMILY, address.octets().to_vec()),
    };
    let mut header = vec![family, 0, 0, 0];
    header.extend(index.to_ne_bytes());
    header.extend(NEIGHBOUR_PERMANENT.to_ne_bytes());
    header.extend([0, 0]);
    let mut requests = Requests::default();
    let kind = (NEW_NEIGHBOUR, flag::ACK | flag::CREATE | flag::REPLACE);
    requests.push("set a neighbour", kind, &header, |attributes| {
        attributes.bytes(1, &octets);
        attributes.bytes(2, &mac);
    });
    requests
}

//! The device that wraps packets to nodes behind routers (VXLAN, RFC 7348), one for all of them. It learns nothing and
//! asks nobody: who is where stands in its forwarding table, which is a copy of the plan's peers.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use api_types::{fnv, net::Cidr};

use crate::{
    Error,
    message::{Requests, attribute, flag, text, u32_at},
    route::{
        FAMILY, GET_LINK, LINK_ADDRESS, LINK_DETAILS, LINK_HEADER_BYTES, LINK_NAME, Mac, NEIGHBOUR_PERMANENT, NEW_LINK,
        NEW_NEIGHBOUR, Routing, UP, found, link_header,
        neighbour::{DELETE_NEIGHBOUR, NEIGHBOUR_ADDRESS, NEIGHBOUR_MAC},
    },
};

/// The UDP port, on every node. Not the registered 4789 and not Linux' old 8472, which others on the node may use and some
/// networks drop.
const PORT: u16 = 7448;
/// The network's number in the wrapping.
const NUMBER: u32 = 7448;
/// What the wrapping adds to each packet: Ethernet 14, VXLAN 8, UDP 8, IPv4 20 bytes.
const OVERHEAD_BYTES: u32 = 50;
/// The smallest packet that every IPv4 link takes.
const MTU_MIN: u32 = 576;
/// What an ordinary link takes.
pub(crate) const MTU_DEFAULT: u32 = 1500;

const GET_NEIGHBOUR: u16 = 30;
const FAMILY_BRIDGE: u8 = 7;
const NEIGHBOUR_HEADER_BYTES: usize = 12;
const NEIGHBOUR_NO_ARP: u16 = 0x40;
/// The entry is the device's own, not that of a bridge above it.
const NEIGHBOUR_SELF: u8 = 2;
const LINK_MTU: u16 = 4;
const DETAILS_KIND: u16 = 1;
const DETAILS_DATA: u16 = 2;
const VXLAN_NUMBER: u16 = 1;
const VXLAN_LOCAL: u16 = 4;
const VXLAN_LEARNING: u16 = 7;
const VXLAN_PORT: u16 = 15;

/// The device as it shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Overlay {
    /// Its name.
    pub(crate) name: String,
    /// The node's address, from which the wrapped packets leave.
    pub(crate) local: Ipv4Addr,
    /// This node's part of the cluster range.
    pub(crate) subnet: Cidr,
    /// The largest packet that it takes, in bytes.
    pub(crate) mtu: u32,
    /// The parts of the other nodes, and where these are.
    pub(crate) far: BTreeMap<Cidr, Ipv4Addr>,
}

/// The name of our device.
pub(crate) fn name(interface_prefix: &str) -> String {
    format!("{interface_prefix}vxlan")
}

/// The address by which a node is the neighbour of others on this device: the first of its range, which no instance gets.
pub(crate) fn gateway(subnet: Cidr) -> Ipv4Addr {
    subnet.address
}

/// What fits into a packet once it is wrapped.
pub(crate) fn mtu_within(link_mtu: u32) -> u32 {
    link_mtu.saturating_sub(OVERHEAD_BYTES).max(MTU_MIN)
}

/// Makes the device as it shall be; gives its index, and whether something had to be changed.
pub(crate) fn ensure(routing: &Routing, overlay: &Overlay) -> Result<(u32, bool), Error> {
    let mut changed = false;
    let index = match routing.vxlan(&overlay.name)? {
        Some((index, local)) if local == Some(overlay.local) => index,
        unfit => {
            if unfit.is_some() {
                routing.remove_link(&overlay.name)?;
            }
            routing.add_vxlan(overlay)?;
            changed = true;
            found(routing, &overlay.name)?
        }
    };
    if routing.mtu(index)? != Some(overlay.mtu) {
        routing.set_mtu(index, overlay.mtu)?;
        changed = true;
    }
    if changed {
        routing.add_address(index, gateway(overlay.subnet))?;
    }
    let wanted: BTreeMap<Mac, Ipv4Addr> =
        overlay.far.iter().map(|(subnet, node)| (mac(gateway(*subnet)), *node)).collect();
    let existing = routing.forwarding(index)?;
    for (subnet, node) in &overlay.far {
        let mac = mac(gateway(*subnet));
        if existing.get(&mac) != Some(node) {
            routing.set_forwarding(index, mac, *node)?;
            changed = true;
        }
    }
    let neighbours = routing.neighbours(index)?;
    for gateway in overlay.far.keys().map(|subnet| gateway(*subnet)) {
        if !neighbours.contains(&(gateway, mac(gateway))) {
            routing.set_neighbour(index, gateway, mac(gateway))?;
            changed = true;
        }
    }
    for mac in existing.keys().filter(|mac| !wanted.contains_key(*mac)) {
        routing.remove_forwarding(index, *mac)?;
        changed = true;
    }
    let kept: BTreeSet<Ipv4Addr> = overlay.far.keys().map(|subnet| gateway(*subnet)).collect();
    for (address, _) in neighbours.iter().filter(|(address, _)| !kept.contains(address)) {
        routing.remove_neighbour(index, *address)?;
        changed = true;
    }
    Ok((index, changed))
}

/// The hardware address of a node on this device, by its address there: the same on every node, so that none has to ask.
pub(crate) fn mac(gateway: Ipv4Addr) -> Mac {
    let [.., a, b, c, d, e] = fnv::sum(gateway.octets()).to_be_bytes();
    [0x02, a, b, c, d, e]
}

impl Routing {
    /// The largest packet of the link that has this address, in bytes; of an ordinary link if none has it.
    pub(crate) fn mtu_at(&self, address: Ipv4Addr) -> Result<u32, Error> {
        let Some(index) = self.link_with(address)? else { return Ok(MTU_DEFAULT) };
        Ok(self.mtu(index)?.unwrap_or(MTU_DEFAULT))
    }

    /// The largest packet that a link takes, in bytes.
    pub(crate) fn mtu(&self, index: u32) -> Result<Option<u32>, Error> {
        let mut requests = Requests::default();
        requests.push("look at a link", (GET_LINK, 0), &link_header(index, 0), |_| {});
        self.socket.ask(&requests, |message| {
            Some(attribute(message.payload.get(LINK_HEADER_BYTES..)?, LINK_MTU).and_then(|mtu| u32_at(mtu, 0)))
        })
    }

    /// The links by name with their indices and the largest packets they take.
    pub(crate) fn mtus(&self) -> Result<BTreeMap<String, (u32, u32)>, Error> {
        let mut requests = Requests::default();
        requests.push("list the links", (GET_LINK, flag::DUMP), &link_header(0, 0), |_| {});
        let found = self.socket.dump(&requests, |message| {
            let body = message.payload.get(LINK_HEADER_BYTES..)?;
            let name = attribute(body, LINK_NAME).map(text)?.to_owned();
            Some((name, (u32_at(message.payload, 4)?, u32_at(attribute(body, LINK_MTU)?, 0)?)))
        })?;
        Ok(found.into_iter().collect())
    }

    /// Sets the largest packet that a link takes.
    pub(crate) fn set_mtu(&self, index: u32, mtu: u32) -> Result<(), Error> {
        let mut requests = Requests::default();
        let kind = (NEW_LINK, flag::ACK);
        requests.push("set a link's MTU", kind, &link_header(index, 0), |link| link.native(LINK_MTU, mtu));
        self.socket.demand(&requests)
    }

    /// The index of a device of ours and the address it sends from; `None` if there is no such link. One of another kind
    /// has no address.
    fn vxlan(&self, name: &str) -> Result<Option<(u32, Option<Ipv4Addr>)>, Error> {
        let mut requests = Requests::default();
        requests.push("look for a link", (GET_LINK, 0), &link_header(0, 0), |link| link.text(LINK_NAME, name));
        let look = self.socket.ask(&requests, |message| {
            let body = message.payload.get(LINK_HEADER_BYTES..)?;
            Some((u32_at(message.payload, 4)?, details(body)))
        });
        match look {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.errno() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn add_vxlan(&self, overlay: &Overlay) -> Result<(), Error> {
        let flags = flag::ACK | flag::CREATE | flag::EXCLUSIVE;
        let mut requests = Requests::default();
        requests.push("make a VXLAN device", (NEW_LINK, flags), &link_header(0, UP), |link| {
            link.text(LINK_NAME, &overlay.name);
            link.bytes(LINK_ADDRESS, &mac(gateway(overlay.subnet)));
            link.native(LINK_MTU, overlay.mtu);
            link.nest(LINK_DETAILS, |details| {
                details.text(DETAILS_KIND, "vxlan");
                details.nest(DETAILS_DATA, |vxlan| {
                    vxlan.native(VXLAN_NUMBER, NUMBER);
                    vxlan.bytes(VXLAN_LOCAL, &overlay.local.octets());
                    vxlan.bytes(VXLAN_LEARNING, &[0]);
                    vxlan.bytes(VXLAN_PORT, &PORT.to_be_bytes());
                });
            });
        });
        self.socket.demand(&requests).map_err(|error| match error.errno() {
            Some(libc::EOPNOTSUPP) => Error::KernelLacks { what: "VXLAN".to_owned(), module: "vxlan".to_owned() },
            _ => error,
        })
    }

    /// Where a device sends what is meant for each hardware address.
    fn forwarding(&self, index: u32) -> Result<BTreeMap<Mac, Ipv4Addr>, Error> {
        let entries = self.neighbour_entries(FAMILY_BRIDGE, index)?;
        Ok(entries.into_iter().collect())
    }

    /// The neighbours on a device.
    fn neighbours(&self, index: u32) -> Result<BTreeSet<(Ipv4Addr, Mac)>, Error> {
        let entries = self.neighbour_entries(FAMILY, index)?;
        Ok(entries.into_iter().map(|(mac, address)| (address, mac)).collect())
    }

    fn neighbour_entries(&self, family: u8, index: u32) -> Result<Vec<(Mac, Ipv4Addr)>, Error> {
        let mut requests = Requests::default();
        let header = neighbour_header(family, index, 0, 0);
        requests.push("list the neighbours", (GET_NEIGHBOUR, flag::DUMP), &neighbour_header(family, 0, 0, 0), |_| {});
        self.socket.dump(&requests, |message| {
            // Kernels that cannot filter list everything.
            if message.payload.get(..8)? != &header[..8] {
                return None;
            }
            let body = message.payload.get(NEIGHBOUR_HEADER_BYTES..)?;
            let address = <[u8; 4]>::try_from(attribute(body, NEIGHBOUR_ADDRESS)?).ok()?;
            Some((Mac::try_from(attribute(body, NEIGHBOUR_MAC)?).ok()?, Ipv4Addr::from(address)))
        })
    }

    fn set_forwarding(&self, index: u32, mac: Mac, node: Ipv4Addr) -> Result<(), Error> {
        let header = neighbour_header(FAMILY_BRIDGE, index, NEIGHBOUR_PERMANENT | NEIGHBOUR_NO_ARP, NEIGHBOUR_SELF);
        let kind = (NEW_NEIGHBOUR, flag::ACK | flag::CREATE | flag::REPLACE);
        let mut requests = Requests::default();
        requests.push("set where a node is", kind, &header, |entry| {
            entry.bytes(NEIGHBOUR_MAC, &mac);
            entry.bytes(NEIGHBOUR_ADDRESS, &node.octets());
        });
        self.socket.demand(&requests)
    }

    fn remove_forwarding(&self, index: u32, mac: Mac) -> Result<(), Error> {
        let header = neighbour_header(FAMILY_BRIDGE, index, 0, NEIGHBOUR_SELF);
        let mut requests = Requests::default();
        requests.push("forget where a node is", (DELETE_NEIGHBOUR, flag::ACK), &header, |entry| {
            entry.bytes(NEIGHBOUR_MAC, &mac);
        });
        self.socket.demand(&requests)
    }
}

/// The address from which a device sends, if it is a VXLAN device with our number and port.
fn details(link: &[u8]) -> Option<Ipv4Addr> {
    let details = attribute(link, LINK_DETAILS)?;
    let data =
        attribute(details, DETAILS_DATA).filter(|_| attribute(details, DETAILS_KIND).map(text) == Some("vxlan"))?;
    let value = |kind| attribute(data, kind);
    let ours = u32_at(value(VXLAN_NUMBER)?, 0) == Some(NUMBER) && value(VXLAN_PORT)? == PORT.to_be_bytes();
    let local = value(VXLAN_LOCAL).filter(|_| ours)?;
    Some(Ipv4Addr::from(<[u8; 4]>::try_from(local).ok()?))
}

fn neighbour_header(family: u8, index: u32, state: u16, flags: u8) -> Vec<u8> {
    let mut header = vec![family, 0, 0, 0];
    header.extend(index.to_ne_bytes());
    header.extend(state.to_ne_bytes());
    header.extend([flags, 0]);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_and_its_wrapping_fit_the_link_below() {
        assert_eq!(mtu_within(1500), 1450);
        assert_eq!(mtu_within(9000), 8950);
    }

    #[test]
    fn a_link_too_small_for_any_packet_still_gives_a_size_that_the_kernel_takes() {
        assert_eq!(mtu_within(100), MTU_MIN);
    }

    #[test]
    fn every_node_has_a_hardware_address_of_its_own_that_is_administered_locally() {
        let macs: BTreeSet<Mac> = (0..=255).map(|number| mac([10, 42, number, 0].into())).collect();

        assert_eq!(macs.len(), 256);
        assert!(macs.iter().all(|mac| mac[0] == 0x02));
    }
}

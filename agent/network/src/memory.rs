//! Clients that are remembered with endpoints which left, and must be forgotten.
//!
//! Rules write the map of clients, so nobody else knows what is in it. It is compared with the slots whenever endpoints left:
//! before the change is called done, and once more later, as a packet under way may have met a slot of before.

use std::net::SocketAddrV4;

use api_types::container::Protocol;

use crate::{
    Error,
    collection::Collection,
    element::{self, protocol_number},
    family::Family,
    message::attributes,
    slots::Balance,
    socket::Socket,
    table::{FAMILY_HEADER_BYTES, Place, transaction},
    wanted::Front,
};

/// How many are forgotten in one transaction.
const AT_ONCE: usize = 400;

/// Forgets every client whose endpoint may not answer it any more. Gives how many transactions that took.
pub(crate) fn forget(socket: &Socket, table: Place<'_>, balance: &Balance) -> Result<u32, Error> {
    let mut stale = Vec::new();
    socket.dump(&element::dump(table, Collection::Clients), |message| {
        stale.extend(stale_keys(table.family, message.payload, balance));
        None::<()>
    })?;
    let mut transactions = 0;
    for part in stale.chunks(AT_ONCE) {
        match forget_together(socket, table, part) {
            Ok(()) => transactions += 1,
            // The time of one of them was over meanwhile; the others are still there.
            Err(error) if error.errno() == Some(libc::ENOENT) => {
                for key in part {
                    match forget_together(socket, table, std::slice::from_ref(key)) {
                        Ok(()) => transactions += 1,
                        Err(error) if error.errno() == Some(libc::ENOENT) => {}
                        Err(error) => return Err(error),
                    }
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(transactions)
}

fn forget_together(socket: &Socket, table: Place<'_>, keys: &[Vec<u8>]) -> Result<(), Error> {
    socket.demand(&transaction(|requests| element::write_deletions(requests, table, Collection::Clients, keys)))
}

/// The keys of a listing's clients whose endpoints may not answer them.
fn stale_keys(family: Family, payload: &[u8], balance: &Balance) -> Vec<Vec<u8>> {
    let list = element::listed(payload.get(FAMILY_HEADER_BYTES..).unwrap_or_default());
    let keys = attributes(list).filter_map(|(_, element)| {
        let (key, data) = element::key_and_data(element)?;
        let kept = read(family, key, data).is_some_and(|(fronts, endpoint)| balance.may_keep(fronts, endpoint));
        (!kept).then(|| key.to_vec())
    });
    keys.collect()
}

/// Reads `client . address . protocol . port` and `endpoint . port`: the fronts that may be meant, best first, and the endpoint.
fn read(family: Family, key: &[u8], data: &[u8]) -> Option<(Vec<Front>, SocketAddrV4)> {
    let bytes = usize::try_from(family.address_bytes()).ok()?;
    let port = |bytes: &[u8]| Some(u16::from_be_bytes(bytes.get(..2)?.try_into().ok()?));
    let number = *key.get(2 * bytes)?;
    let mut known = [Protocol::Tcp, Protocol::Udp].into_iter();
    let protocol = known.find(|protocol| protocol_number(*protocol) == number)?;
    let (asked, asked_port) = (family.read(key.get(bytes..2 * bytes)?)?, port(key.get(2 * bytes + 4..)?)?);
    let service = family.own(asked).map(|address| Front::Service(address, protocol, asked_port));
    let at_node = [Front::Bound(asked, protocol, asked_port), Front::Port(protocol, asked_port)];
    let endpoint = family.own(family.read(data.get(..bytes)?)?)?;
    Some((service.into_iter().chain(at_node).collect(), SocketAddrV4::new(endpoint, port(data.get(bytes..)?)?)))
}

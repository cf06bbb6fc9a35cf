//! Clients that are remembered with endpoints which left, and must be forgotten.
//!
//! Rules write the map of clients, so nobody else knows what is in it. It is compared with the slots whenever endpoints left:
//! before the change is called done, and once more later, as a packet under way may have met a slot of before.

use std::net::{Ipv4Addr, SocketAddrV4};

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
        let kept = read(family, key, data).is_some_and(|(asked, endpoint)| balance.may_keep(asked, endpoint));
        (!kept).then(|| key.to_vec())
    });
    keys.collect()
}

/// Reads `client . address . protocol . port` and `endpoint . port`. Each of our addresses ends with its form in version 4.
fn read(family: Family, key: &[u8], data: &[u8]) -> Option<((Ipv4Addr, Protocol, u16), SocketAddrV4)> {
    let bytes = usize::try_from(family.address_bytes()).ok()?;
    let address =
        |bytes: &[u8]| <[u8; 4]>::try_from(bytes.get(bytes.len().checked_sub(4)?..)?).ok().map(Ipv4Addr::from);
    let port = |bytes: &[u8]| Some(u16::from_be_bytes(bytes.get(..2)?.try_into().ok()?));
    let number = *key.get(2 * bytes)?;
    let mut known = [Protocol::Tcp, Protocol::Udp].into_iter();
    let protocol = known.find(|protocol| protocol_number(*protocol) == number)?;
    let asked = (address(key.get(bytes..2 * bytes)?)?, protocol, port(key.get(2 * bytes + 4..)?)?);
    Some((asked, SocketAddrV4::new(address(data.get(..bytes)?)?, port(data.get(bytes..)?)?)))
}

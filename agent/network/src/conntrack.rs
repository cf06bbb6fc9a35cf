//! What the kernel remembers of exchanges with endpoints that left, and must forget.
//!
//! Datagrams have no end of connection: a client that keeps sending stays with an endpoint that left, for ever. And a
//! connection whose opening packet went to a dead endpoint goes there again with every repetition, and so does every later
//! connection from the same port, for two minutes. So both are compared with the endpoints that are, and what leads
//! elsewhere is forgotten: the next packet is balanced anew. Connections that were answered are left alone; they drain.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, SocketAddrV4},
};

use api_types::{container::Protocol, net::Cidr};
use nix::sys::socket::SockProtocol;

use crate::{
    Error,
    element::protocol_number,
    family::Family,
    kernel::local,
    message::{Requests, attribute, flag, nested},
    slots::Balance,
    socket::Socket,
    table::FAMILY_HEADER_BYTES,
    wanted::Front,
};

const SUBSYSTEM: u16 = 1 << 8;
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const STATUS: u16 = 3;
const PROTOCOL_STATE: u16 = 4;
const ID: u16 = 12;
const ADDRESSES: u16 = 1;
const PORTS: u16 = 2;
/// Of the sides of an exchange: source and destination, in the form of each family.
const SOURCE: [u16; 2] = [1, 3];
const DESTINATION: [u16; 2] = [2, 4];
const PROTOCOL: u16 = 1;
const SOURCE_PORT: u16 = 2;
const DESTINATION_PORT: u16 = 3;
const TCP: u16 = 1;
const TCP_STATE: u16 = 1;
const TCP_ESTABLISHED: u8 = 3;
const STATUS_ANSWERED: u32 = 0x2;
const STATUS_DESTINATION_TRANSLATED: u32 = 0x20;

/// What the kernel remembers of one exchange of datagrams, or of one connection that nobody answered.
#[derive(Debug)]
struct Exchange {
    /// The client's view, as the kernel wants it back.
    original: Vec<u8>,
    id: Vec<u8>,
    protocol: Protocol,
    /// Whom the client asks, and on which port.
    asked: (IpAddr, u16),
    /// Who answers, and on which port.
    answers: (IpAddr, u16),
    translated: bool,
}

/// Forgets every exchange with a service or a published port whose answering side is not an endpoint of it.
pub(crate) fn sweep(
    family: Family,
    balance: &Balance,
    service_range: Cidr,
    cluster_range: Cidr,
) -> Result<usize, Error> {
    let socket = Socket::open(SockProtocol::NetlinkNetFilter)?;
    let mut requests = Requests::default();
    requests.push("list the connections", (GET, flag::DUMP), &family.header(), |_| {});
    let exchanges = socket.dump(&requests, |message| read(family, message.payload))?;
    let mut swept = 0;
    let ranges = (service_range, cluster_range);
    for exchange in exchanges.iter().filter(|exchange| is_stale(family, exchange, balance, ranges)) {
        let mut requests = Requests::default();
        requests.push("forget a connection", (DELETE, flag::ACK), &family.header(), |attributes| {
            attributes.nest(ORIGINAL, |tuple| tuple.raw(&exchange.original));
            attributes.bytes(ID, &exchange.id);
        });
        match socket.demand(&requests) {
            Ok(()) => swept += 1,
            // It ended by itself meanwhile.
            Err(error) if error.errno() == Some(libc::ENOENT) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(swept)
}

/// Counts the open TCP connections of one family that each of these addresses answers; who has none is left out.
pub(crate) fn count_open(
    family: Family,
    addresses: &BTreeSet<Ipv4Addr>,
    counts: &mut BTreeMap<Ipv4Addr, u32>,
) -> Result<(), Error> {
    let socket = Socket::open(SockProtocol::NetlinkNetFilter)?;
    let mut requests = Requests::default();
    requests.push("list the connections", (GET, flag::DUMP), &family.header(), |_| {});
    let answering = socket.dump(&requests, |message| open_connection(family, message.payload))?;
    for address in answering.iter().filter(|address| addresses.contains(*address)) {
        *counts.entry(*address).or_default() += 1;
    }
    Ok(())
}

/// Who answers an open TCP connection, if that is an address of ours.
fn open_connection(family: Family, payload: &[u8]) -> Option<Ipv4Addr> {
    let payload = payload.get(FAMILY_HEADER_BYTES..)?;
    let is_tcp = nested(attribute(payload, ORIGINAL)?, &[PORTS, PROTOCOL])? == [protocol_number(Protocol::Tcp)];
    let is_open = nested(attribute(payload, PROTOCOL_STATE)?, &[TCP, TCP_STATE])? == [TCP_ESTABLISHED];
    let (answers, _) = end(family, attribute(payload, REPLY)?, (SOURCE, SOURCE_PORT))?;
    family.own(answers).filter(|_| is_tcp && is_open)
}

fn is_stale(
    family: Family,
    exchange: &Exchange,
    balance: &Balance,
    (service_range, cluster_range): (Cidr, Cidr),
) -> bool {
    let (asked, port) = exchange.asked;
    let (answers, answering_port) = exchange.answers;
    let answering = family.own(answers);
    let bound = Front::Bound(asked, exchange.protocol, port);
    let front = match (family.own(asked), answering) {
        (Some(asked), _) if service_range.contains(asked) => Front::Service(asked, exchange.protocol, port),
        _ if balance.fronts.contains_key(&bound) => bound,
        (_, Some(answering)) if exchange.translated && cluster_range.contains(answering) => {
            Front::Port(exchange.protocol, port)
        }
        // Asked before anybody served there, and asked again and again since: never translated.
        _ if asked == answers && exchange.protocol == Protocol::Udp => {
            let front = Front::Port(exchange.protocol, port);
            return balance.fronts.contains_key(&front) && local(asked).is_some();
        }
        _ => return false,
    };
    let endpoint = answering.map(|address| SocketAddrV4::new(address, answering_port));
    let front = balance.fronts.get(&front);
    !front.is_some_and(|front| endpoint.is_some_and(|endpoint| front.slots.contains(&endpoint)))
}

fn read(family: Family, payload: &[u8]) -> Option<Exchange> {
    let payload = payload.get(FAMILY_HEADER_BYTES..)?;
    let original = attribute(payload, ORIGINAL)?;
    let number = nested(original, &[PORTS, PROTOCOL])?;
    let protocol =
        [Protocol::Tcp, Protocol::Udp].into_iter().find(|protocol| number == [protocol_number(*protocol)])?;
    let status = u32::from_be_bytes(attribute(payload, STATUS)?.try_into().ok()?);
    if protocol == Protocol::Tcp && status & STATUS_ANSWERED != 0 {
        return None;
    }
    Some(Exchange {
        original: original.to_vec(),
        id: attribute(payload, ID)?.to_vec(),
        protocol,
        asked: end(family, original, (DESTINATION, DESTINATION_PORT))?,
        answers: end(family, attribute(payload, REPLY)?, (SOURCE, SOURCE_PORT))?,
        translated: status & STATUS_DESTINATION_TRANSLATED != 0,
    })
}

/// One side of an exchange.
fn end(family: Family, tuple: &[u8], (address, port): ([u16; 2], u16)) -> Option<(IpAddr, u16)> {
    let port = u16::from_be_bytes(nested(tuple, &[PORTS, port])?.try_into().ok()?);
    let kind = match family {
        Family::V4 => address[0],
        Family::V6(_) => address[1],
    };
    Some((family.read(nested(tuple, &[ADDRESSES, kind])?)?, port))
}

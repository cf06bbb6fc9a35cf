//! What the kernel remembers of exchanges with endpoints that left, and must forget.
//!
//! Datagrams have no end of connection: a client that keeps sending stays with an endpoint that left, for ever. And a
//! connection whose opening packet went to a dead endpoint goes there again with every repetition, and so does every later
//! connection from the same port, for two minutes. So both are compared with the endpoints that are, and what leads
//! elsewhere is forgotten: the next packet is balanced anew. Connections that were answered are left alone; they drain.

use std::net::{Ipv4Addr, SocketAddrV4};

use api_types::{container::Protocol, net::Cidr};
use nix::sys::socket::SockProtocol;

use crate::{
    Error,
    element::protocol_number,
    message::{Requests, attribute, flag, nested},
    slots::Balance,
    socket::Socket,
    wanted::Front,
};

const SUBSYSTEM: u16 = 1 << 8;
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;
const HEADER: [u8; 4] = [FAMILY_IPV4, 0, 0, 0];
const FAMILY_IPV4: u8 = 2;
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const STATUS: u16 = 3;
const ID: u16 = 12;
const ADDRESSES: u16 = 1;
const PORTS: u16 = 2;
const SOURCE: u16 = 1;
const DESTINATION: u16 = 2;
const PROTOCOL: u16 = 1;
const SOURCE_PORT: u16 = 2;
const DESTINATION_PORT: u16 = 3;
const STATUS_ANSWERED: u32 = 0x2;
const STATUS_DESTINATION_TRANSLATED: u32 = 0x20;

/// What the kernel remembers of one exchange of datagrams, or of one connection that nobody answered.
#[derive(Debug)]
struct Exchange {
    /// The client's view, as the kernel wants it back.
    original: Vec<u8>,
    id: Vec<u8>,
    protocol: Protocol,
    /// Whom the client asks.
    asked: SocketAddrV4,
    /// Who answers.
    answers: SocketAddrV4,
    translated: bool,
}

/// Forgets every exchange with a service or a published port whose answering side is not an endpoint of it.
pub(crate) fn sweep(balance: &Balance, service_range: Cidr, cluster_range: Cidr) -> Result<usize, Error> {
    let socket = Socket::open(SockProtocol::NetlinkNetFilter)?;
    let mut requests = Requests::default();
    requests.push("list the connections", (GET, flag::DUMP), &HEADER, |_| {});
    let exchanges = socket.dump(&requests, |message| read(message.payload))?;
    let mut swept = 0;
    for exchange in exchanges.iter().filter(|exchange| is_stale(exchange, balance, service_range, cluster_range)) {
        let mut requests = Requests::default();
        requests.push("forget a connection", (DELETE, flag::ACK), &HEADER, |attributes| {
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

fn is_stale(exchange: &Exchange, balance: &Balance, service_range: Cidr, cluster_range: Cidr) -> bool {
    let port = exchange.asked.port();
    let front = if service_range.contains(*exchange.asked.ip()) {
        Front::Service(*exchange.asked.ip(), exchange.protocol, port)
    } else if exchange.translated && cluster_range.contains(*exchange.answers.ip()) {
        Front::Port(exchange.protocol, port)
    } else {
        return false;
    };
    !balance.fronts.get(&front).is_some_and(|slots| slots.contains(&exchange.answers))
}

fn read(payload: &[u8]) -> Option<Exchange> {
    let payload = payload.get(HEADER.len()..)?;
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
        asked: end(original, DESTINATION, DESTINATION_PORT)?,
        answers: end(attribute(payload, REPLY)?, SOURCE, SOURCE_PORT)?,
        translated: status & STATUS_DESTINATION_TRANSLATED != 0,
    })
}

fn end(tuple: &[u8], address: u16, port: u16) -> Option<SocketAddrV4> {
    let address: [u8; 4] = nested(tuple, &[ADDRESSES, address])?.try_into().ok()?;
    let port = u16::from_be_bytes(nested(tuple, &[PORTS, port])?.try_into().ok()?);
    Some(SocketAddrV4::new(Ipv4Addr::from(address), port))
}

//! Asks this node's server of names for every service, as its instances do.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use agent_core::effect::Balancing;
use api_types::{
    service::Service,
    view::{CheckKind, NetworkCheck},
};
use tokio::{
    net::UdpSocket,
    time::{Instant, timeout},
};

const PORT: u16 = 53;
const PATIENCE: Duration = Duration::from_secs(1);
/// The most names that are asked for.
const NAMES_MAX: usize = 200;
const IDENTIFIER: [u8; 2] = [0x77, 0x68];
const HEADER_BYTES: usize = 12;
const TYPE_ADDRESS: u16 = 1;
const CLASS_INTERNET: u16 = 1;

/// One check for each of these services with an address, and how many were left out because there are too many.
pub(super) async fn check(balancing: &Balancing, services: &[&Service]) -> (Vec<NetworkCheck>, usize) {
    let Some(server) = balancing.subnet.nth(1) else { return (Vec::new(), 0) };
    let mut checks = Vec::new();
    let named: Vec<_> = services.iter().filter(|service| !service.address.is_unspecified()).collect();
    for service in named.iter().take(NAMES_MAX) {
        let name = format!("{}.{}.{}", service.id.name, service.id.namespace, agent_names::ORIGIN);
        let begin = Instant::now();
        let remedy =
            "see condition `names` in `wherry describe node`: another program may hold port 53 of that address";
        checks.push(match ask(server, &name).await {
            Ok(address) if address == service.address => {
                NetworkCheck::passed(CheckKind::Names, name, super::micros(begin.elapsed()))
            }
            Ok(address) => {
                let reason = format!("{server} answers {address}, but its address is {}", service.address);
                NetworkCheck::failed(CheckKind::Names, name, reason, remedy)
            }
            Err(reason) => NetworkCheck::failed(CheckKind::Names, name, format!("{server}: {reason}"), remedy),
        });
        if checks.last().is_some_and(|check| check.failure.is_some()) {
            // A server that is silent is silent for all names.
            break;
        }
    }
    (checks, named.len().saturating_sub(NAMES_MAX))
}

async fn ask(server: Ipv4Addr, name: &str) -> Result<Ipv4Addr, String> {
    let exchange = async {
        let socket = UdpSocket::bind((server, 0)).await?;
        socket.connect(SocketAddrV4::new(server, PORT)).await?;
        socket.send(&question(name)).await?;
        let mut answer = vec![0; 512];
        let length = socket.recv(&mut answer).await?;
        answer.truncate(length);
        Ok::<_, std::io::Error>(answer)
    };
    let answer = timeout(PATIENCE, exchange).await.map_err(|_| "no answer within a second".to_owned())?;
    let answer = answer.map_err(|error| error.to_string())?;
    // Our server's answers to one question about one service end with its one address.
    let count = answer.get(6..8).map_or(0, |count| u16::from_be_bytes([count[0], count[1]]));
    let tail = answer.len().checked_sub(4).and_then(|start| <[u8; 4]>::try_from(&answer[start..]).ok());
    match tail {
        Some(octets) if count == 1 && answer.get(..2) == Some(&IDENTIFIER) => Ok(octets.into()),
        _ => Err("no such name".to_owned()),
    }
}

/// A question for an address (RFC 1035).
fn question(name: &str) -> Vec<u8> {
    let mut question = vec![0; HEADER_BYTES];
    question[..2].copy_from_slice(&IDENTIFIER);
    // Recursion desired; one question.
    (question[2], question[5]) = (1, 1);
    for label in name.trim_end_matches('.').split('.') {
        question.push(u8::try_from(label.len()).expect("labels have at most 63 bytes"));
        question.extend(label.as_bytes());
    }
    question.push(0);
    question.extend(TYPE_ADDRESS.to_be_bytes());
    question.extend(CLASS_INTERNET.to_be_bytes());
    question
}

//! Dials another node and says what for.

use std::{io, net::SocketAddrV4, time::Duration};

use api_daemon::identity::tls::server_name;
use api_types::id::NodeId;
use thiserror::Error;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, TlsStream};

use crate::{
    carry::{Connection, tune},
    identity::Identity,
    wire::{Answer, Purpose, greet},
};

/// How long the other end may take for each step.
const STEP_LIMIT: Duration = Duration::from_secs(3);

/// Why there is no connection.
#[derive(Debug, Error)]
pub(crate) enum DialError {
    /// Nobody answers, or the handshake failed.
    #[error("{place}: {source}")]
    Io {
        /// Where.
        place: SocketAddrV4,
        /// Why.
        source: io::Error,
    },
    /// Somebody else is there: behind NAT the same address is another machine's.
    #[error("{place} is not node {node}")]
    Other {
        /// Where.
        place: SocketAddrV4,
        /// Who was meant.
        node: NodeId,
    },
    /// The node does not want it.
    #[error("{place}: {}", .answer.describe())]
    Answered {
        /// Where.
        place: SocketAddrV4,
        /// What it said.
        answer: Answer,
    },
}

/// Dials a node for a purpose that it agrees to.
pub(crate) async fn dial(
    identity: &Identity,
    (node, place): (&NodeId, SocketAddrV4),
    purpose: Purpose,
) -> Result<Connection, DialError> {
    let failed = |source| DialError::Io { place, source };
    let stream = in_time(TcpStream::connect(place)).await.map_err(failed)?;
    tune(&stream).map_err(failed)?;
    let connector = TlsConnector::from(identity.client.clone());
    let stream = in_time(connector.connect(server_name(), stream)).await.map_err(failed)?;
    if identity.other(stream.get_ref().1).as_ref() != Some(node) {
        return Err(DialError::Other { place, node: node.clone() });
    }
    let mut stream = TlsStream::Client(stream);
    match in_time(greet(&mut stream, purpose)).await.map_err(failed)? {
        Answer::Yes => Ok(stream),
        answer @ (Answer::NotNeeded
        | Answer::Stranger
        | Answer::Unknown
        | Answer::NotAdmitted
        | Answer::Refused
        | Answer::Full) => Err(DialError::Answered { place, answer }),
    }
}

async fn in_time<T>(step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(STEP_LIMIT, step).await.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no answer"))?
}

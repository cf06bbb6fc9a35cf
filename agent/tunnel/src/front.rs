//! Listens here for one port of an endpoint elsewhere, and passes clients' connections on.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::Arc,
    time::Duration,
};

use api_types::id::{InstanceId, NodeId};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    carry::{carry, reset},
    tunnel::Shared,
    way::Way,
    wire::{Answer, Question, ask},
};

const BACKLOG: i32 = 1024;
/// How long the other node may take to connect the instance.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// How often another connection is tried: one that waited may have died just now.
const TRIES: u32 = 3;
/// How long accepting rests when the process has no file descriptor left.
const REST: Duration = Duration::from_millis(100);
/// How long a listener outlives its endpoint: clients that were balanced to it just before still come.
pub(crate) const LULL: Duration = Duration::from_secs(5);

/// Whom a listener is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) instance: InstanceId,
    pub(crate) node: NodeId,
    pub(crate) place: SocketAddrV4,
}

/// Listens at a port of this address that nobody else has. The address may be given to the node a little later.
pub(crate) fn listen(here: Ipv4Addr) -> io::Result<(TcpListener, SocketAddrV4)> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_freebind_v4(true)?;
    socket.bind(&SocketAddr::from((here, 0)).into())?;
    socket.listen(BACKLOG)?;
    let listener = TcpListener::from_std(socket.into())?;
    match listener.local_addr()? {
        SocketAddr::V4(place) => Ok((listener, place)),
        SocketAddr::V6(_) => Err(io::ErrorKind::AddrNotAvailable.into()),
    }
}

/// Accepts until a lull after the token is cancelled.
pub(crate) async fn accept(shared: Arc<Shared>, target: Target, listener: TcpListener, token: CancellationToken) {
    // For those who come in the lull.
    let mut last = shared.way(&target.node);
    let ends = async {
        token.cancelled().await;
        sleep(LULL).await;
    };
    tokio::pin!(ends);
    loop {
        // At the limit clients wait in the kernel's queue.
        let place = shared.room_to_ask().await;
        // Both arms are cancel-safe.
        let accepted = tokio::select! {
            () = &mut ends => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, client)) => {
                last = shared.way(&target.node).or(last);
                let way = last.clone();
                let (shared, target) = (Arc::clone(&shared), target.clone());
                drop(tokio::spawn(async move {
                    pass(&shared, way, &target, (stream, client)).await;
                    drop(place);
                }));
            }
            Err(error) => {
                tracing::debug!(%error, "a client could not be accepted");
                sleep(REST).await;
            }
        }
    }
}

async fn pass(shared: &Shared, way: Option<Arc<Way>>, target: &Target, (stream, client): (TcpStream, SocketAddr)) {
    // Connections live as long as the node is spoken to, whatever becomes of the endpoint.
    let (Some(client), Some(way), Some(token)) = (client_of(&stream, client), way, shared.token_of(&target.node))
    else {
        return reset(stream);
    };
    let question = Question { instance: target.instance.clone(), place: target.place, client };
    for _ in 0..TRIES {
        let mut connection = match way.connect().await {
            Ok(connection) => connection,
            Err(reason) => {
                tracing::debug!(instance = %target.instance, reason, "not connected");
                return reset(stream);
            }
        };
        match timeout(ANSWER_LIMIT, ask(&mut connection, &question)).await {
            Ok(Ok(Answer::Yes)) => {
                // Both arms are cancel-safe: what is dropped ends the connection.
                tokio::select! {
                    () = carry(stream, connection) => {}
                    () = token.cancelled() => {}
                }
                return;
            }
            Ok(Ok(answer)) => {
                tracing::debug!(instance = %target.instance, answer = answer.describe(), "not connected");
                return reset(stream);
            }
            Ok(Err(_)) | Err(_) => {}
        }
    }
    reset(stream);
}

/// Who asks; `None` = somebody who came by another way than balancing, which is not open. The node itself is 0.0.0.0.
fn client_of(stream: &TcpStream, client: SocketAddr) -> Option<Ipv4Addr> {
    let (IpAddr::V4(asker), Ok(SocketAddr::V4(here))) = (client.ip(), stream.local_addr()) else { return None };
    if asker == *here.ip() {
        return Some(Ipv4Addr::UNSPECIFIED);
    }
    let asked = SockRef::from(stream).original_dst_v4().ok()?.as_socket_ipv4()?;
    (asked != here).then_some(asker)
}

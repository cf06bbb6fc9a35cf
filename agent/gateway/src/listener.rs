//! Accepts clients on one port and serves their connections.

use std::{
    convert::Infallible,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use api_types::balance::Bind;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use crate::{exchange, front::Live};

/// How long a client may take for a head, and how long its connection may wait for the next.
const HEAD_LIMIT: Duration = Duration::from_secs(60);
/// The largest head, and the most that is kept of a body on its way.
const BUFFER_BYTES_MAX: usize = 16 << 10;
const BACKLOG: i32 = 1024;
/// Linux' numbers of `EAFNOSUPPORT` and `EADDRNOTAVAIL`: IPv6 is not in the kernel, or is switched off.
const NO_SUCH_FAMILY: i32 = 97;
const NO_SUCH_ADDRESS: i32 = 99;
/// How long accepting rests when the process has no file descriptor left.
const REST: Duration = Duration::from_millis(100);

/// Listens where a front answers.
pub(crate) fn bind(bind: Option<&Bind>, port: u16) -> io::Result<TcpListener> {
    match bind {
        Some(Bind::Address(address)) => listen((*address, port).into(), None),
        Some(Bind::Link(link)) => everywhere(port, Some(link)),
        None => everywhere(port, None),
    }
}

/// By both versions of the protocol where the kernel has both.
fn everywhere(port: u16, link: Option<&str>) -> io::Result<TcpListener> {
    match listen((Ipv6Addr::UNSPECIFIED, port).into(), link) {
        Err(error) if matches!(error.raw_os_error(), Some(NO_SUCH_FAMILY | NO_SUCH_ADDRESS)) => {
            listen((Ipv4Addr::UNSPECIFIED, port).into(), link)
        }
        outcome => outcome,
    }
}

fn listen(address: SocketAddr, link: Option<&str>) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind_device(link.map(str::as_bytes))?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Accepts until the token is cancelled. Connections that are open then end with their next answer.
pub(crate) async fn accept(listener: TcpListener, front: Arc<Live>, room: Arc<Semaphore>, token: CancellationToken) {
    loop {
        // At the limit clients wait in the kernel's queue.
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        // Both arms are cancel-safe.
        let accepted = tokio::select! {
            () = token.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, client)) if front.admits(client.ip()) => {
                let (front, token) = (Arc::clone(&front), token.clone());
                drop(tokio::spawn(async move {
                    serve(stream, client, front, token).await;
                    drop(place);
                }));
            }
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(%error, "a client could not be accepted");
                sleep(REST).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, client: SocketAddr, front: Arc<Live>, token: CancellationToken) {
    // Without it, answers are only later.
    stream.set_nodelay(true).ok();
    let service = service_fn(|request| {
        let front = Arc::clone(&front);
        async move { Ok::<_, Infallible>(exchange::answer(&front, client, request).await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_LIMIT).max_buf_size(BUFFER_BYTES_MAX);
    let connection = builder.serve_connection(TokioIo::new(stream), service).with_upgrades();
    tokio::pin!(connection);
    tokio::select! {
        // The client knows what became of its connection.
        _ = connection.as_mut() => return,
        () = token.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    connection.await.ok();
}

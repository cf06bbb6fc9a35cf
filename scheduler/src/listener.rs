//! The two doors: accept, handshake within a limit, then HTTP within limits. One bad client costs nobody else anything.

use std::{future::Future, io, pin::pin, sync::Arc, time::Duration};

use api_daemon::identity::tls::NodeIdentity;
use api_server::control_plane::ControlPlane;
use api_types::id::NodeId;
use hyper::{Request, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use proto::limits;
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::Service;

use crate::{
    dispatcher::{Dispatcher, Peer},
    shares::Shares,
};

/// The TLS set-up of a door; it changes when the scheduler's certificate is renewed.
pub(crate) type Tls = watch::Receiver<Arc<ServerConfig>>;

/// Handshakes at once; more wait in the kernel's queue.
const HANDSHAKES_MAX: usize = 64;
/// Connections of people and programs at once.
const API_CONNECTIONS_MAX: usize = 512;
/// Connections of one address among them: no stranger can take all.
const API_CONNECTIONS_PER_ADDRESS_MAX: usize = 128;
/// Connections of one node at once: its own, and earlier ones that nobody noticed to be dead yet.
const CONNECTIONS_PER_NODE_MAX: usize = 16;
/// How long a client may take to send its headers.
const HEADER_LIMIT: Duration = Duration::from_secs(5);
/// The largest headers of a request, in bytes.
const HEADER_BYTES_MAX: u32 = 16 << 10;
/// Requests at once on one connection.
const REQUESTS_MAX: u32 = 100;
/// How many streams a client may open and drop before it is cut off (rapid reset).
const RESETS_MAX: usize = 20;
/// How long open connections may take to finish when the scheduler ends.
const END_LIMIT: Duration = Duration::from_secs(5);
/// The pause after an accept failed, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves people and programs until `stop`.
pub(crate) async fn serve_api<C: ControlPlane>(
    listener: TcpListener,
    tls: Tls,
    control_plane: C,
    stop: CancellationToken,
) -> io::Result<()> {
    let router = api_server::router(control_plane);
    let connections = Arc::new(Semaphore::new(API_CONNECTIONS_MAX));
    let addresses = Shares::new(API_CONNECTIONS_PER_ADDRESS_MAX);
    let ended = stop.clone();
    let serve = move |stream: TlsStream<TcpStream>| {
        let (router, connections, stop) = (router.clone(), Arc::clone(&connections), ended.clone());
        let share = stream.get_ref().0.peer_addr().ok().and_then(|peer| addresses.take(peer.ip()));
        async move {
            let (Some(_share), Ok(_permit)) = (share, connections.try_acquire()) else {
                tracing::debug!("too many connections: one is refused");
                return;
            };
            let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            let builder = api_builder();
            // The protocol was agreed on in the handshake: waiting for the first bytes to tell would have no limit.
            let builder = if http2 { builder.http2_only() } else { builder.http1_only() };
            let service = TowerToHyperService::new(router);
            let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
            // Both arms are cancel-safe: the connection is only polled again.
            let served = tokio::select! {
                served = connection.as_mut() => served,
                () = stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = served {
                tracing::debug!(%error, "a connection of the API broke");
            }
        }
    };
    accept(listener, tls, stop, serve).await
}

/// Serves agents until `stop`.
pub(crate) async fn serve_sessions(
    listener: TcpListener,
    tls: Tls,
    dispatcher: Arc<Dispatcher>,
    stop: CancellationToken,
) -> io::Result<()> {
    let rpcs = dispatcher.service();
    let nodes = Shares::new(CONNECTIONS_PER_NODE_MAX);
    let ended = stop.clone();
    let serve = move |stream: TlsStream<TcpStream>| {
        let (rpcs, stop, nodes) = (rpcs.clone(), ended.clone(), nodes.clone());
        async move {
            let Some(peer) = peer_of(&stream) else { return };
            let Some(_share) = nodes.take(peer.node.clone()) else {
                tracing::debug!(node = %peer.node, "too many connections of this node: one is refused");
                return;
            };
            let node = peer.node.clone();
            let service = service_fn(move |mut request: Request<Incoming>| {
                request.extensions_mut().insert(peer.clone());
                rpcs.clone().call(request)
            });
            let mut connection = pin!(session_builder().serve_connection(TokioIo::new(stream), service));
            // Both arms are cancel-safe: the connection is only polled again.
            let served = tokio::select! {
                served = connection.as_mut() => served,
                () = stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = served {
                tracing::debug!(%node, %error, "an agent's connection broke");
            }
        }
    };
    accept(listener, tls, stop, serve).await
}

async fn accept<F, S>(listener: TcpListener, tls: Tls, stop: CancellationToken, serve: S) -> io::Result<()>
where
    S: Fn(TlsStream<TcpStream>) -> F,
    F: Future<Output = ()> + Send + 'static,
    S: Clone + Send + 'static,
{
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let connections = TaskTracker::new();
    loop {
        let permit = Arc::clone(&handshakes).acquire_owned().await.map_err(io::Error::other)?;
        // Both arms are cancel-safe: a connection that was not accepted stays in the kernel's queue.
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Without it small messages wait for acknowledgements of earlier ones; a socket that refuses works all the same.
        stream.set_nodelay(true).ok();
        let acceptor = TlsAcceptor::from(Arc::clone(&tls.borrow()));
        let serve = serve.clone();
        connections.spawn(async move {
            let shaken = timeout(limits::HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await;
            drop(permit);
            match shaken {
                Ok(Ok(stream)) => serve(stream).await,
                Ok(Err(error)) => tracing::debug!(%from, %error, "a handshake failed"),
                Err(_) => tracing::debug!(%from, "a handshake took too long"),
            }
        });
    }
    drop(listener);
    connections.close();
    if timeout(END_LIMIT, connections.wait()).await.is_err() {
        tracing::debug!(open = connections.len(), "connections did not end in time");
    }
    Ok(())
}

fn api_builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_LIMIT).max_buf_size(64 << 10);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(REQUESTS_MAX)
        .max_header_list_size(HEADER_BYTES_MAX)
        .max_pending_accept_reset_streams(RESETS_MAX)
        .keep_alive_interval(Some(limits::KEEP_ALIVE_INTERVAL))
        .keep_alive_timeout(limits::KEEP_ALIVE_TIMEOUT);
    builder
}

fn session_builder() -> hyper::server::conn::http2::Builder<TokioExecutor> {
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(limits::WINDOW_BYTES)
        .initial_connection_window_size(limits::CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(limits::STREAMS_MAX)
        .max_header_list_size(limits::HEADER_LIST_BYTES_MAX)
        .max_pending_accept_reset_streams(RESETS_MAX)
        .max_send_buf_size(64 << 10)
        .keep_alive_interval(Some(limits::KEEP_ALIVE_INTERVAL))
        .keep_alive_timeout(limits::KEEP_ALIVE_TIMEOUT);
    builder
}

/// The node at the other end; the handshake has verified the certificate.
fn peer_of(stream: &TlsStream<TcpStream>) -> Option<Peer> {
    let certificate = stream.get_ref().1.peer_certificates()?.first()?;
    let identity = NodeIdentity::of(certificate).ok()?;
    Some(Peer { node: NodeId::new(&identity.node).ok()?, pin: identity.pin })
}

//! One who answers: how many requests are open there, and which connections to it wait for the next one.

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{Either, Empty};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

use crate::front::Upstream;

/// What is sent with a request: what the client sends, or nothing.
pub(crate) type Sent = Either<Incoming, Empty<Bytes>>;
/// A connection to an endpoint.
pub(crate) type Connection = http1::SendRequest<Sent>;

/// Connections of one endpoint that wait; more are closed.
const IDLE_MAX: usize = 32;
/// Endpoints are one or two links away.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);

/// One who answers.
#[derive(Debug)]
pub(crate) struct Endpoint {
    upstream: Upstream,
    open: AtomicU64,
    /// Requests that began since somebody asked last.
    begun: AtomicU64,
    retired: AtomicBool,
    idle: Mutex<Vec<Connection>>,
}

/// A request that is open at an endpoint, until it is dropped.
#[derive(Debug)]
pub(crate) struct OpenRequest(Arc<Endpoint>);

impl Endpoint {
    pub(crate) fn new(upstream: Upstream) -> Self {
        let (open, begun) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { upstream, open, begun, retired: AtomicBool::new(false), idle: Mutex::default() }
    }

    pub(crate) fn upstream(&self) -> Upstream {
        self.upstream
    }

    /// How busy it would be with one more request, for its weight, in millionths.
    pub(crate) fn load(&self) -> u64 {
        (self.open.load(Ordering::Relaxed) + 1) * 1_000_000 / u64::from(self.upstream.weight.max(1))
    }

    /// Counts a request that begins.
    pub(crate) fn open(self: Arc<Self>) -> OpenRequest {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.begun.fetch_add(1, Ordering::Relaxed);
        OpenRequest(self)
    }

    /// How many requests began since this was asked last.
    pub(crate) fn take_begun(&self) -> u64 {
        self.begun.swap(0, Ordering::Relaxed)
    }

    /// It leaves: nobody waits for it any more, so that it sees no open connection but those in use.
    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
        self.lock().clear();
    }

    /// A connection that waits, if there is one that is still open.
    pub(crate) fn waiting(&self) -> Option<Connection> {
        let mut idle = self.lock();
        while let Some(connection) = idle.pop() {
            if connection.is_ready() {
                return Some(connection);
            }
        }
        None
    }

    /// Connects anew.
    pub(crate) async fn connect(&self) -> io::Result<Connection> {
        let connecting = TcpStream::connect(self.upstream.address);
        let stream = timeout(CONNECT_LIMIT, connecting).await.map_err(|_| io::ErrorKind::TimedOut)??;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        drop(tokio::spawn(async move {
            // What goes wrong is seen by whoever waits for the answer.
            connection.with_upgrades().await.ok();
        }));
        Ok(sender)
    }

    /// Lets a connection, whose answer was read to the end, wait for the next request.
    fn keep(&self, connection: Connection) {
        let mut idle = self.lock();
        if idle.len() < IDLE_MAX && !self.retired.load(Ordering::Relaxed) {
            idle.push(connection);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenRequest {
    pub(crate) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.0
    }

    /// Stays open until the answer is read to the end; the connection waits for the next request then.
    pub(crate) fn finish(self, mut connection: Connection) {
        drop(tokio::spawn(async move {
            if connection.ready().await.is_ok() {
                self.0.keep(connection);
            }
        }));
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

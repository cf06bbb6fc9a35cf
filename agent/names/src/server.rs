//! Listens on the node's own address, by datagram and by stream, and answers instances and the node itself.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream, UdpSocket},
    sync::Semaphore,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    answer::{Transport, Verdict, answer},
    forward::{Forwarder, read_message, write_message},
    resolver::{Resolver, Upstream},
    zone::Zone,
};

/// The largest question, in bytes; real ones have less than 300.
const REQUEST_BYTES_MAX: usize = 1_500;

/// The most connections at once.
const STREAMS_MAX: usize = 64;

/// How long a connection may be silent.
const STREAM_IDLE: Duration = Duration::from_secs(10);

/// How many that came at once wait until they are accepted.
const BACKLOG: i32 = 64;

/// Where the server gets the table from, as it is now.
pub trait Directory: Send + Sync + 'static {
    /// Shows the zone; `None` while the node holds no table: then every name is somebody else's.
    fn with_zone<T>(&self, look: impl FnOnce(Option<&Zone<'_>>) -> T) -> T;
}

/// What does not change while a server runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where to listen: an address of this node alone, never all of them.
    pub address: Ipv4Addr,
    /// The port; 53.
    pub port: u16,
    /// Where names that are not ours are asked for.
    pub upstream: Upstream,
}

/// A server of names.
#[derive(Debug)]
pub struct Server<D> {
    shared: Arc<Shared<D>>,
    datagrams: Arc<UdpSocket>,
    streams: TcpListener,
}

#[derive(Debug)]
struct Shared<D> {
    directory: D,
    forwarder: Forwarder,
    turns: AtomicUsize,
}

impl<D: Directory> Server<D> {
    /// Begins to listen. The address need not be there yet.
    ///
    /// # Errors
    /// When the port is taken on that address, or the caller may not have it.
    pub fn bind(settings: Settings, directory: D) -> io::Result<Self> {
        let address = SocketAddr::from((settings.address, settings.port));
        let datagrams = UdpSocket::from_std(socket(address, Type::DGRAM, Protocol::UDP)?.into())?;
        // Port 0 is for tests: both transports then share the port that the kernel chose.
        let address = datagrams.local_addr()?;
        let streams = socket(address, Type::STREAM, Protocol::TCP)?;
        streams.listen(BACKLOG)?;
        let streams = TcpListener::from_std(streams.into())?;
        let forwarder = Forwarder::new(address, Resolver::new(settings.upstream));
        let shared = Shared { directory, forwarder, turns: AtomicUsize::new(0) };
        Ok(Self { shared: Arc::new(shared), datagrams: Arc::new(datagrams), streams })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.datagrams.local_addr()
    }

    /// Answers until the token is cancelled.
    pub async fn run(self, token: CancellationToken) {
        let Self { shared, datagrams, streams } = self;
        tokio::select! {
            () = token.cancelled() => {}
            () = serve_datagrams(&shared, &datagrams) => {}
            () = serve_streams(&shared, &streams) => {}
        }
    }
}

impl<D: Directory> Shared<D> {
    /// What can be said at once; `None` = somebody else must be asked.
    fn at_once(&self, request: &[u8], from: IpAddr, transport: Transport) -> Option<Vec<u8>> {
        let turn = self.turns.fetch_add(1, Ordering::Relaxed);
        let verdict = self.directory.with_zone(|zone| {
            let serves = zone.is_none_or(|zone| zone.serves(from));
            if serves { answer(zone, request, transport, turn) } else { Verdict::Drop }
        });
        match verdict {
            Verdict::Answer(answer) => Some(answer),
            Verdict::Drop => Some(Vec::new()),
            Verdict::Forward => self.forwarder.remembered(request, transport),
        }
    }
}

fn socket(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, kind.nonblocking().cloexec(), Some(protocol))?;
    // The address comes with the node's first plan.
    socket.set_freebind_v4(true)?;
    if kind == Type::STREAM {
        // Connections of an earlier run may still be closing.
        socket.set_reuse_address(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

async fn serve_datagrams<D: Directory>(shared: &Arc<Shared<D>>, socket: &Arc<UdpSocket>) {
    let mut buffer = [0; REQUEST_BYTES_MAX];
    loop {
        let (length, from) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                // An earlier answer met nobody; the socket goes on.
                tracing::debug!(%error, "a question could not be received");
                tokio::task::yield_now().await;
                continue;
            }
        };
        let request = &buffer[..length];
        if let Some(answer) = shared.at_once(request, from.ip(), Transport::Udp) {
            send(socket, &answer, from).await;
            continue;
        }
        let (shared, socket, request) = (shared.clone(), socket.clone(), request.to_vec());
        tokio::spawn(async move {
            if let Some(answer) = shared.forwarder.forward(&request, Transport::Udp).await {
                send(&socket, &answer, from).await;
            }
        });
    }
}

async fn send(socket: &UdpSocket, answer: &[u8], to: SocketAddr) {
    if answer.is_empty() {
        return;
    }
    if let Err(error) = socket.send_to(answer, to).await {
        tracing::debug!(%to, %error, "an answer could not be sent");
    }
}

async fn serve_streams<D: Directory>(shared: &Arc<Shared<D>>, listener: &TcpListener) {
    let places = Arc::new(Semaphore::new(STREAMS_MAX));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, from)) => {
                let shared = shared.clone();
                tokio::spawn(async move {
                    // Whoever asked hung up or was silent: there is nobody to tell.
                    serve_stream(&shared, stream, from.ip()).await.ok();
                    drop(place);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve_stream<D: Directory>(shared: &Shared<D>, mut stream: TcpStream, from: IpAddr) -> io::Result<()> {
    loop {
        let request = timeout(STREAM_IDLE, read_message(&mut stream)).await??;
        let answer = match shared.at_once(&request, from, Transport::Tcp) {
            Some(answer) => Some(answer),
            None => shared.forwarder.forward(&request, Transport::Tcp).await,
        };
        match answer.filter(|answer| !answer.is_empty()) {
            Some(answer) => timeout(STREAM_IDLE, write_message(&mut stream, &answer)).await??,
            None => return Ok(()),
        }
    }
}

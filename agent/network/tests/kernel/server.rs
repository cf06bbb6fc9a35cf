//! A server that says who it is and whom it sees, then echoes; and its clients.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket},
    os::fd::AsRawFd,
    path::Path,
    thread,
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::{
        socket::{
            self, AddressFamily, Shutdown as Both, SockFlag, SockType, SockaddrStorage, bind, setsockopt, shutdown,
            sockopt,
        },
        time::TimeVal,
    },
};
use tests_support::netns::inside;

/// The port on which every test server listens.
pub(crate) const PORT: u16 = 8080;
/// Far longer than anything takes on a slow and busy machine; only a fault waits for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How long packets are waited for that are dropped.
const SHUT_OUT: Duration = Duration::from_secs(1);

/// A server on TCP and UDP; it ends with its value.
pub(crate) struct Server {
    listener: TcpListener,
    datagrams: UdpSocket,
}

/// What a server said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) server: String,
    pub(crate) client: Ipv4Addr,
}

/// An open connection to some server.
pub(crate) struct Connection {
    pub(crate) answer: Answer,
    reader: BufReader<TcpStream>,
}

impl Server {
    pub(crate) fn start(netns: &Path, name: &str) -> Self {
        let (listener, datagrams) =
            inside(netns, || (TcpListener::bind(("0.0.0.0", PORT)), UdpSocket::bind(("0.0.0.0", PORT))))
                .expect("enter");
        let (listener, datagrams) = (listener.expect("listen"), datagrams.expect("bind"));
        let (accepting, answering) = (listener.try_clone().expect("clone"), datagrams.try_clone().expect("clone"));
        let (stream_name, datagram_name) = (name.to_owned(), name.to_owned());
        thread::spawn(move || {
            while let Ok((stream, peer)) = accepting.accept() {
                let name = stream_name.clone();
                thread::spawn(move || serve(stream, peer, &name));
            }
        });
        thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((_, peer)) = answering.recv_from(&mut buffer) {
                if answering.send_to(datagram_name.as_bytes(), peer).is_err() {
                    return;
                }
            }
        });
        Self { listener, datagrams }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both are as good as gone if this fails.
        let _ = shutdown(self.listener.as_raw_fd(), Both::Both);
        let _ = shutdown(self.datagrams.as_raw_fd(), Both::Both);
    }
}

impl Connection {
    /// Connects from inside a namespace and reads who answers.
    pub(crate) fn open(netns: &Path, to: SocketAddrV4) -> io::Result<Self> {
        connect(netns, to).and_then(Self::greet)
    }

    /// Reads who answers.
    pub(crate) fn greet(stream: TcpStream) -> io::Result<Self> {
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let (server, client) = line.trim().split_once(' ').ok_or_else(|| io::Error::other("nobody said anything"))?;
        let client = client.parse().map_err(io::Error::other)?;
        Ok(Self { answer: Answer { server: server.to_owned(), client }, reader })
    }

    /// Sends a word and reads it back.
    pub(crate) fn echo(&mut self) -> io::Result<()> {
        let mut word = [0; 4];
        self.reader.get_mut().write_all(b"ping")?;
        self.reader.read_exact(&mut word)?;
        if &word == b"ping" { Ok(()) } else { Err(io::Error::other("something else came back")) }
    }
}

/// Sends so many bytes and reads them back, both at once.
pub(crate) fn exchange(netns: &Path, to: SocketAddrV4, bytes: usize) -> io::Result<Answer> {
    let mut connection = Connection::open(netns, to)?;
    let mut writer = connection.reader.get_ref().try_clone()?;
    let sender = thread::spawn(move || writer.write_all(&vec![7; bytes]));
    let mut back = vec![0; bytes];
    connection.reader.read_exact(&mut back)?;
    sender.join().map_err(|_| io::Error::other("the sender panicked"))??;
    if back.iter().all(|byte| *byte == 7) {
        Ok(connection.answer)
    } else {
        Err(io::Error::other("other bytes came back"))
    }
}

/// One connection: who answered.
pub(crate) fn ask(netns: &Path, to: SocketAddrV4) -> io::Result<Answer> {
    Connection::open(netns, to).map(|connection| connection.answer)
}

/// One connection from an address of the crowd: who answered.
pub(crate) fn ask_from(netns: &Path, from: Ipv4Addr, to: SocketAddrV4) -> io::Result<Answer> {
    let stream = connect_from(netns, from.into(), to.into(), PATIENCE)?;
    Connection::greet(stream).map(|connection| connection.answer)
}

/// Whether packets from an address of the crowd get no answer at all. Waits for that only a little: a machine that is
/// slower than that passes a test too much, never one too few.
pub(crate) fn is_shut_out(netns: &Path, from: impl Into<IpAddr>, to: impl Into<SocketAddr>) -> bool {
    let outcome = connect_from(netns, from.into(), to.into(), SHUT_OUT);
    outcome.is_err_and(|error| matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock))
}

/// Connects from inside a namespace.
pub(crate) fn connect(netns: &Path, to: impl Into<SocketAddr>) -> io::Result<TcpStream> {
    connect_within(netns, to, PATIENCE)
}

/// Connects from inside a namespace, or gives up after this long.
pub(crate) fn connect_within(netns: &Path, to: impl Into<SocketAddr>, limit: Duration) -> io::Result<TcpStream> {
    let to = to.into();
    inside(netns, || TcpStream::connect_timeout(&to, limit))?
}

/// Connects from one of the namespace's addresses.
pub(crate) fn connect_from(netns: &Path, from: IpAddr, to: SocketAddr, patience: Duration) -> io::Result<TcpStream> {
    let connect = || {
        let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let socket = socket::socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        // An attempt to connect lasts as long as sending may.
        let seconds = i64::try_from(patience.as_secs()).unwrap_or(i64::MAX);
        setsockopt(&socket, sockopt::SendTimeout, &TimeVal::new(seconds, 0))?;
        bind(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(from, 0)))?;
        socket::connect(socket.as_raw_fd(), &SockaddrStorage::from(to)).map_err(|errno| {
            let timed_out = errno == Errno::EINPROGRESS;
            if timed_out { io::Error::from(io::ErrorKind::TimedOut) } else { errno.into() }
        })?;
        Ok(TcpStream::from(socket))
    };
    inside(netns, connect)?
}

/// A client that keeps sending datagrams from one port.
pub(crate) fn datagram_client(netns: &Path, to: SocketAddrV4) -> UdpSocket {
    let client = inside(netns, || {
        let client = UdpSocket::bind("0.0.0.0:0")?;
        client.connect(to)?;
        client.set_read_timeout(Some(PATIENCE))?;
        Ok::<_, io::Error>(client)
    });
    client.expect("enter").expect("a client")
}

/// Sends a datagram and reads who answers.
pub(crate) fn ask_by_datagram(client: &UdpSocket) -> io::Result<String> {
    let mut buffer = [0; 64];
    client.send(b"who?")?;
    let length = client.recv(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

fn serve(mut stream: TcpStream, peer: SocketAddr, name: &str) {
    if stream.write_all(format!("{name} {}\n", peer.ip()).as_bytes()).is_err() {
        return;
    }
    let mut buffer = vec![0; 16 << 10];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
    // The client is gone; so is this side.
    let _ = stream.shutdown(Shutdown::Both);
}

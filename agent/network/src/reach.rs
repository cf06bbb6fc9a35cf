//! Tries ways as a packet would go them: echoes as large as the link takes, and connections and datagrams from the node, from
//! an instance or from a scratch instance made for it.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, TcpStream, UdpSocket},
    os::fd::{AsRawFd, OwnedFd},
    thread,
    time::{Duration, Instant},
};

use api_types::id::InstanceId;
use nix::sys::{
    socket::{
        AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, bind, recv, sendto, setsockopt, socket,
        sockopt,
    },
    time::TimeVal,
};

use crate::{Error, Settings, instance, kernel::local, namespace, route::Routing};

/// Not a name that an instance can have.
const SCRATCH: &str = ".reach";
/// Outside the cluster range, so it is nobody's.
const SCRATCH_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 77, 2);
/// How long one try may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// Tries at once: a thousand that nobody answers are over within half a minute.
const AT_ONCE: usize = 40;
/// How often a datagram is sent within that time: one that is lost on the way shall not look like silence.
const DATAGRAMS: u32 = 2;
/// An empty line: programs that read lines may answer it, and an empty datagram is the end to some.
const DATAGRAM: &[u8] = b"\n";
const IP_HEADER_BYTES: usize = 20;
const ICMP_HEADER_BYTES: usize = 8;
const ICMP_ECHO: u8 = 8;
const ICMP_ECHO_REPLY: u8 = 0;
const PACKET_BYTES_MAX: usize = 65_535;

/// One way to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Try {
    /// An echo of a packet as large as the link on the way takes, and undivided.
    Echo {
        /// The node's address that asks.
        from: Ipv4Addr,
        /// Who is asked.
        to: Ipv4Addr,
    },
    /// A TCP connection.
    Connect {
        /// Who asks.
        from: Asker,
        /// Who is asked.
        to: SocketAddr,
    },
    /// A UDP datagram with an empty line, and a second one when nothing comes back.
    Datagram {
        /// Who asks.
        from: Asker,
        /// Who is asked.
        to: SocketAddr,
    },
}

/// What came of a try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An answer, after so long.
    Answered(Duration),
    /// Nothing came back of a datagram, which proves nothing.
    Silent,
    /// Somebody said that nobody listens there.
    Refused,
    /// It failed otherwise: why, in a line for people.
    Failed(String),
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asker {
    /// The node itself.
    Node,
    /// An instance made for it, which is gone afterwards.
    Scratch,
    /// An instance of this node.
    Instance(InstanceId),
}

/// Tries each; what came of them is in the same order.
pub(crate) fn try_all((settings, mtu): (&Settings, u32), tries: &[Try]) -> Vec<Outcome> {
    let scratch = tries.iter().any(|one| one.asker() == Some(&Asker::Scratch));
    let made = if scratch { make_scratch(settings, mtu) } else { Ok(()) };
    let run = |one: &Try| {
        let outcome = match one.asker() {
            None | Some(Asker::Node) => Ok(one.run()),
            Some(Asker::Scratch) => made.clone().and_then(|()| run_inside(settings, SCRATCH, one)),
            Some(Asker::Instance(instance)) => run_inside(settings, instance.as_str(), one),
        };
        outcome.unwrap_or_else(Outcome::Failed)
    };
    let mut answers = Vec::with_capacity(tries.len());
    for some in tries.chunks(AT_ONCE) {
        answers.extend(thread::scope(|scope| {
            let threads: Vec<_> = some.iter().map(|one| scope.spawn(|| run(one))).collect();
            let joined = threads.into_iter().map(|thread| thread.join());
            joined.map(|answer| answer.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect::<Vec<_>>()
        }));
    }
    if scratch && let Err(error) = clean(settings) {
        tracing::warn!(%error, "the instance made for a try cannot be removed");
    }
    answers
}

/// Removes what a try left when the agent was killed in it.
pub(crate) fn clean(settings: &Settings) -> Result<(), Error> {
    instance::remove(settings, &Routing::open()?, SCRATCH)
}

fn make_scratch(settings: &Settings, mtu: u32) -> Result<(), String> {
    let made = Routing::open().and_then(|routing| {
        instance::ensure(settings, &routing, (SCRATCH, SCRATCH_ADDRESS), (local(settings.node_address), mtu))
    });
    made.map(drop).map_err(|error| format!("no instance can be made to ask from: {error}"))
}

impl Try {
    /// Who asks, where that is not said by an address.
    fn asker(&self) -> Option<&Asker> {
        match self {
            Self::Echo { .. } => None,
            Self::Connect { from, .. } | Self::Datagram { from, .. } => Some(from),
        }
    }

    /// Tries it from the network that the thread is in.
    fn run(&self) -> Outcome {
        let begin = Instant::now();
        let done = match self {
            Self::Echo { from, to } => return echo(*from, *to).map_or_else(Outcome::Failed, Outcome::Answered),
            Self::Connect { to, .. } => TcpStream::connect_timeout(to, PATIENCE).map(drop),
            Self::Datagram { to, .. } => exchange_datagrams(*to),
        };
        match done {
            Ok(()) => Outcome::Answered(begin.elapsed()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Outcome::Refused,
            Err(error) if error.kind() != io::ErrorKind::TimedOut => Outcome::Failed(error.to_string()),
            Err(_) if matches!(self, Self::Datagram { .. }) => Outcome::Silent,
            Err(_) => Outcome::Failed("no answer within a second".to_owned()),
        }
    }
}

fn run_inside(settings: &Settings, name: &str, one: &Try) -> Result<Outcome, String> {
    let path = instance::netns_path(settings, name);
    let inside = namespace::open(&path).and_then(|namespace| namespace::inside(&namespace, || Ok(one.run())));
    inside.map_err(|error| error.to_string())
}

/// Waits for whatever comes back: an answer, or the message that says that there is none to come.
fn exchange_datagrams(to: SocketAddr) -> io::Result<()> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(PATIENCE / DATAGRAMS))?;
    for _ in 0..DATAGRAMS {
        socket.send(DATAGRAM)?;
        match socket.recv(&mut [0]) {
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            received => return received.map(drop),
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// First as large as the link takes; if that gets no answer, small, to tell a way that is too narrow from none.
fn echo(from: Ipv4Addr, to: Ipv4Addr) -> Result<Duration, String> {
    let bytes = largest(from, to).map_err(|error| format!("no way to {to}: {error}"))?;
    match exchange(from, to, bytes) {
        Ok(took) => Ok(took),
        Err(large) => Err(match exchange(from, to, IP_HEADER_BYTES + ICMP_HEADER_BYTES) {
            Ok(_) => format!("small packets arrive, packets of {bytes} bytes do not ({large})"),
            Err(small) => small.to_string(),
        }),
    }
}

/// How many bytes a packet may have on the way's first link.
fn largest(from: Ipv4Addr, to: Ipv4Addr) -> io::Result<usize> {
    let probe = UdpSocket::bind((from, 0))?;
    probe.connect((to, 9))?;
    let (mut value, mut length) = (0 as libc::c_int, socklen_of_int());
    #[expect(unsafe_code, reason = "nix does not know this option")]
    // SAFETY: the descriptor is open; value and length live across the call and are as long as said.
    let outcome = unsafe {
        let value = (&raw mut value).cast();
        libc::getsockopt(probe.as_raw_fd(), libc::IPPROTO_IP, libc::IP_MTU, value, &raw mut length)
    };
    if outcome != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(usize::try_from(value).unwrap_or(0).clamp(IP_HEADER_BYTES + ICMP_HEADER_BYTES, PACKET_BYTES_MAX))
}

fn exchange(from: Ipv4Addr, to: Ipv4Addr, bytes: usize) -> io::Result<Duration> {
    let socket = socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Icmp)?;
    undivided(&socket)?;
    bind(socket.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(from, 0)))?;
    // Who asks is told by where he asks: each try has a destination of its own, or a socket bound elsewhere.
    let [_, _, high, low] = (u32::from(from) ^ u32::from(to)).to_be_bytes();
    let request = packet([high, low], bytes - IP_HEADER_BYTES);
    let begin = Instant::now();
    sendto(socket.as_raw_fd(), &request, &SockaddrIn::from(SocketAddrV4::new(to, 0)), MsgFlags::empty())?;
    let mut buffer = vec![0; PACKET_BYTES_MAX];
    loop {
        let left = PATIENCE.checked_sub(begin.elapsed()).filter(|left| !left.is_zero());
        let left = left.ok_or_else(|| io::Error::new(io::ErrorKind::TimedOut, "no answer within a second"))?;
        let limit = TimeVal::new(0, i64::from(left.subsec_micros()).max(1));
        setsockopt(&socket, sockopt::ReceiveTimeout, &if left.as_secs() > 0 { TimeVal::new(1, 0) } else { limit })?;
        let length = match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => continue,
            received => received?,
        };
        if is_answer(&buffer[..length], to, [high, low]) {
            return Ok(begin.elapsed());
        }
    }
}

/// An echo request (RFC 792), padded to this many bytes.
fn packet(identifier: [u8; 2], bytes: usize) -> Vec<u8> {
    let mut packet = vec![0; bytes.max(ICMP_HEADER_BYTES)];
    packet[0] = ICMP_ECHO;
    packet[4..6].copy_from_slice(&identifier);
    let sum: u32 =
        packet.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    let [_, _, high, low] = (!folded).to_be_bytes();
    packet[2..4].copy_from_slice(&[high, low]);
    packet
}

/// What a raw socket receives begins with the IPv4 header.
fn is_answer(received: &[u8], from: Ipv4Addr, identifier: [u8; 2]) -> bool {
    let header = received.first().map_or(0, |first| usize::from(first & 0xf) * 4);
    let (source, message) = (received.get(12..16), received.get(header..).unwrap_or_default());
    source == Some(from.octets().as_slice())
        && message.first() == Some(&ICMP_ECHO_REPLY)
        && message.get(4..6) == Some(identifier.as_slice())
}

/// Nobody on the way may cut the packet into pieces, and what the kernel remembers of the way does not count.
fn undivided(socket: &OwnedFd) -> io::Result<()> {
    let choice: libc::c_int = libc::IP_PMTUDISC_PROBE;
    #[expect(unsafe_code, reason = "nix does not know this option")]
    // SAFETY: the descriptor is open; the choice lives across the call and is as long as said.
    let outcome = unsafe {
        let value = (&raw const choice).cast();
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, value, socklen_of_int())
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn socklen_of_int() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<libc::c_int>()).expect("an int is 4 bytes")
}

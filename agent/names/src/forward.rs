//! Names that are not ours: asked of the node's name servers as they came, and remembered.

use std::{
    hash::{BuildHasher as _, RandomState},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use domain::base::{Message, iana::Rcode};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
    sync::Semaphore,
    time::{Instant, timeout},
};

use crate::{
    answer::{Transport, Verdict, cut, failure, taken_bytes_max},
    cache::{self, Cache},
    resolver::Resolver,
};

/// How long one server may take.
const SERVER_LIMIT: Duration = Duration::from_secs(1);

/// How long a server that did not answer is asked last.
const SHUNNED_FOR: Duration = Duration::from_secs(10);

/// The most questions that wait for other servers at once; who comes then is told to try again.
const WAITING_MAX: usize = 128;

/// The largest answer in a datagram, in bytes.
const DATAGRAM_BYTES_MAX: usize = 4_096;

/// Asks other servers.
#[derive(Debug)]
pub(crate) struct Forwarder {
    own: SocketAddr,
    memory: Mutex<Memory>,
    waiting: Semaphore,
    random: RandomState,
}

#[derive(Debug)]
struct Memory {
    resolver: Resolver,
    cache: Cache,
    /// Servers that did not answer, and until when they are asked last.
    shunned: Vec<(SocketAddr, Instant)>,
    asked: u64,
}

impl Forwarder {
    /// Makes a forwarder for the server on this address.
    pub(crate) fn new(own: SocketAddr, resolver: Resolver) -> Self {
        let memory = Memory { resolver, cache: Cache::default(), shunned: Vec::new(), asked: 0 };
        Self { own, memory: Mutex::new(memory), waiting: Semaphore::new(WAITING_MAX), random: RandomState::new() }
    }

    /// An answer from memory.
    pub(crate) fn remembered(&self, request: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let key = cache::key(request)?;
        let answer = self.memory(|memory| memory.cache.fresh(&key, request, Instant::now()))?;
        Some(fitting(answer, request, transport))
    }

    /// Asks the servers one after the other; an answer there always is.
    pub(crate) async fn forward(&self, request: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let Ok(_place) = self.waiting.try_acquire() else { return failed(request) };
        let servers = self.memory(|memory| memory.servers(self.own));
        for server in servers {
            match timeout(SERVER_LIMIT, self.ask(server, request, transport)).await {
                Ok(Ok(answer)) => {
                    self.memory(|memory| memory.answered(server, request, &answer));
                    return Some(answer);
                }
                Ok(Err(error)) => tracing::debug!(%server, %error, "a name server does not answer"),
                Err(_) => tracing::debug!(%server, "a name server takes too long"),
            }
            self.memory(|memory| memory.shun(server));
        }
        // Nobody answers: what was so before is likelier than nothing.
        let key = cache::key(request)?;
        let stale = self.memory(|memory| memory.cache.stale(&key, request, Instant::now()));
        stale.map(|answer| fitting(answer, request, transport)).or_else(|| failed(request))
    }

    async fn ask(&self, server: SocketAddr, request: &[u8], transport: Transport) -> io::Result<Vec<u8>> {
        let number = self.memory(|memory| {
            memory.asked += 1;
            memory.asked
        });
        // Whoever guesses must guess this, and the port that the kernel chose for this question alone.
        let id = self.random.hash_one(number).to_be_bytes();
        let mut question = request.to_vec();
        question[..2].copy_from_slice(&id[..2]);
        let mut answer = match transport {
            Transport::Udp => ask_by_datagram(server, &question).await?,
            Transport::Tcp => ask_by_stream(server, &question).await?,
        };
        answer[..2].copy_from_slice(&request[..2]);
        Ok(answer)
    }

    fn memory<T>(&self, look: impl FnOnce(&mut Memory) -> T) -> T {
        look(&mut self.memory.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Memory {
    /// The servers, those that did not answer last.
    fn servers(&mut self, own: SocketAddr) -> Vec<SocketAddr> {
        let now = Instant::now();
        self.shunned.retain(|(_, until)| now < *until);
        let mut servers = self.resolver.servers(own);
        servers.sort_by_key(|server| self.shunned.iter().any(|(shunned, _)| shunned == server));
        servers
    }

    fn shun(&mut self, server: SocketAddr) {
        self.shunned.retain(|(shunned, _)| *shunned != server);
        self.shunned.push((server, Instant::now() + SHUNNED_FOR));
    }

    fn answered(&mut self, server: SocketAddr, request: &[u8], answer: &[u8]) {
        self.shunned.retain(|(shunned, _)| *shunned != server);
        if let Some(key) = cache::key(request) {
            self.cache.keep(key, answer, Instant::now());
        }
    }
}

async fn ask_by_datagram(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // Anything else is an answer to another question, or a guess.
        if answers(&buffer[..length], question) {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

async fn ask_by_stream(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    write_message(&mut stream, question).await?;
    let answer = read_message(&mut stream).await?;
    let fits = answers(&answer, question);
    fits.then_some(answer).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "an answer to another question"))
}

/// Reads a message with its length before it (RFC 1035 §4.2.2).
pub(crate) async fn read_message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut message = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

/// Writes a message with its length before it.
pub(crate) async fn write_message(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(message);
    stream.write_all(&framed).await
}

fn answers(answer: &[u8], question: &[u8]) -> bool {
    match (Message::from_octets(answer), Message::from_octets(question)) {
        (Ok(answer), Ok(question)) => answer.is_answer(&question),
        _ => false,
    }
}

/// What was kept for somebody else may be larger than a datagram that this one takes.
fn fitting(answer: Vec<u8>, request: &[u8], transport: Transport) -> Vec<u8> {
    match (Message::from_octets(answer.as_slice()), Message::from_octets(request)) {
        (Ok(kept), Ok(request)) if transport == Transport::Udp && answer.len() > taken_bytes_max(&request) => {
            cut(&request, kept.header().rcode())
        }
        _ => answer,
    }
}

/// "The server failed": for whoever asks better than silence, which costs seconds.
fn failed(request: &[u8]) -> Option<Vec<u8>> {
    match failure(&Message::from_octets(request).ok()?, Rcode::SERVFAIL) {
        Verdict::Answer(answer) => Some(answer),
        Verdict::Forward | Verdict::Drop => None,
    }
}

//! Steady traffic from inside a network namespace, with every answer and every failure counted.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{http::get, netns::inside, wait::pace};

/// How long one request may take before it counts as failed.
const LIMIT: Duration = Duration::from_secs(2);
/// How long a client rests between two requests where nothing else is said.
const REST: Duration = Duration::from_millis(5);

/// Traffic that goes on until [`Load::finish`].
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<io::Result<Tally>>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    /// How many requests have ended, however they did.
    ended: AtomicU64,
}

/// What a client does with its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connections {
    /// It makes one for each request.
    Each,
    /// It keeps one for as long as the server does.
    Kept,
}

/// What became of the requests.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Answers by their text.
    pub answers: BTreeMap<String, u32>,
    /// When each failed request had begun, and what was wrong.
    pub failures: Vec<(Instant, String)>,
}

impl Tally {
    /// How many requests were answered.
    #[must_use]
    pub fn answered(&self) -> u32 {
        self.answers.values().sum()
    }
}

impl Load {
    /// Has `clients` clients inside the namespace at `netns` ask `server` for `/` without end, each request on a
    /// connection of its own.
    #[must_use]
    pub fn start(netns: &Path, server: SocketAddr, clients: usize) -> Self {
        Self::with(netns, server, (clients, Connections::Each), REST)
    }

    /// The same with each client on one connection for as long as the server keeps it.
    #[must_use]
    pub fn start_kept(netns: &Path, server: SocketAddr, clients: usize) -> Self {
        Self::with(netns, server, (clients, Connections::Kept), REST)
    }

    /// The same with connections of either kind, and with another rest between two requests of a client.
    #[must_use]
    pub fn with(
        netns: &Path,
        server: SocketAddr,
        (clients, connections): (usize, Connections),
        rest: Duration,
    ) -> Self {
        let shared = Arc::new(Shared::default());
        let client = |_| {
            let (shared, netns) = (Arc::clone(&shared), netns.to_owned());
            thread::spawn(move || inside(&netns, || ask_on(server, connections, rest, &shared)))
        };
        Self { clients: (0..clients).map(client).collect(), shared }
    }

    /// How many requests have ended so far, however they did.
    #[must_use]
    pub fn ended(&self) -> u64 {
        self.shared.ended.load(Ordering::Relaxed)
    }

    /// Ends the traffic.
    ///
    /// # Errors
    /// If the namespace could not be entered.
    pub fn finish(self) -> io::Result<Tally> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut whole = Tally::default();
        for client in self.clients {
            let part = client.join().map_err(|_| io::Error::other("a client panicked"))??;
            whole.failures.extend(part.failures);
            for (text, count) in part.answers {
                *whole.answers.entry(text).or_default() += count;
            }
        }
        whole.failures.sort();
        Ok(whole)
    }
}

fn ask_on(server: SocketAddr, connections: Connections, rest: Duration, shared: &Shared) -> Tally {
    let mut tally = Tally::default();
    let mut kept = None;
    while !shared.stop.load(Ordering::Relaxed) {
        let begin = Instant::now();
        let outcome = match connections {
            Connections::Each => ask_once(server),
            Connections::Kept => ask_kept(&mut kept, server),
        };
        match outcome {
            Ok(text) => *tally.answers.entry(text).or_default() += 1,
            Err(error) => {
                kept = None;
                tally.failures.push((begin, error.to_string()));
            }
        }
        shared.ended.fetch_add(1, Ordering::Relaxed);
        pace(rest);
    }
    tally
}

/// One request on a connection of its own.
fn ask_once(server: SocketAddr) -> io::Result<String> {
    let reply = get(server, "/", LIMIT)?;
    if reply.status == 200 { Ok(reply.text()) } else { Err(io::Error::other(format!("status {}", reply.status))) }
}

/// One request on the connection that is kept, or on a new one that is kept then, unless the server closes it.
fn ask_kept(kept: &mut Option<BufReader<TcpStream>>, server: SocketAddr) -> io::Result<String> {
    let reader = match kept {
        Some(reader) => reader,
        None => {
            let stream = TcpStream::connect_timeout(&server, LIMIT)?;
            stream.set_read_timeout(Some(LIMIT))?;
            stream.set_nodelay(true)?;
            kept.insert(BufReader::new(stream))
        }
    };
    reader.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: wherry\r\n\r\n")?;
    let (mut length, mut closes, mut line, mut is_first) = (0, false, String::new(), true);
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let header = line.trim_end().to_ascii_lowercase();
        if is_first && !header.contains(" 200 ") {
            return Err(io::Error::other(header));
        }
        is_first = false;
        if header.is_empty() {
            break;
        }
        closes |= header == "connection: close";
        if let Some(text) = header.strip_prefix("content-length:") {
            length = text.trim().parse().map_err(io::Error::other)?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    if closes {
        *kept = None;
    }
    Ok(String::from_utf8_lossy(&body).trim().to_owned())
}

//! The listener before real servers on the loopback address.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use agent_gateway::{Front, Gateway, Upstream};
use api_types::balance::Bind;
use tokio::runtime::Runtime;

/// Far longer than anything takes; only a fault waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a server of the tests behaves.
#[derive(Clone, Copy)]
enum Manner {
    /// Answers each request with its name and what it was told of the client.
    Answers,
    /// Reads a request and closes without a word.
    Dies,
    /// Changes the protocol and echoes.
    Echoes,
}

/// A server, and how many requests it has read.
struct Server {
    address: SocketAddrV4,
    requests: Arc<AtomicUsize>,
}

/// A gateway with one front.
struct Bed {
    runtime: Runtime,
    gateway: Gateway,
    front: Front,
}

#[test]
fn requests_of_one_connection_are_shared_out() {
    let servers = [Server::start("one", Manner::Answers), Server::start("two", Manner::Answers)];
    let bed = Bed::new(&servers);
    let mut client = bed.connect();

    let mut answers: Vec<String> = (0..4).map(|_| client.ask("GET / HTTP/1.1\r\nhost: shop\r\n\r\n").1).collect();

    answers.sort();
    assert_eq!(answers, ["one for 127.0.0.1", "one for 127.0.0.1", "two for 127.0.0.1", "two for 127.0.0.1"]);
}

#[test]
fn requests_are_counted_where_they_were_asked_and_once() {
    let servers = [Server::start("one", Manner::Answers), Server::start("two", Manner::Answers)];
    let bed = Bed::new(&servers);
    let mut client = bed.connect();
    for _ in 0..6 {
        client.ask("GET / HTTP/1.1\r\nhost: shop\r\n\r\n");
    }

    let (first, then) = (bed.gateway.take_requests(), bed.gateway.take_requests());

    let both = servers.map(|server| server.address);
    assert_eq!(first, both.map(|address| (address, 3)).into());
    assert_eq!(then, both.map(|address| (address, 0)).into());
}

#[test]
fn who_leaves_gets_no_request_more_and_the_clients_connection_stays() {
    let [first, second] = [Server::start("one", Manner::Answers), Server::start("two", Manner::Answers)];
    let mut bed = Bed::new(&[first, second]);
    let mut client = bed.connect();
    client.ask("GET / HTTP/1.1\r\nhost: shop\r\n\r\n");

    bed.keep_only(1);

    for _ in 0..6 {
        assert_eq!(client.ask("GET / HTTP/1.1\r\nhost: shop\r\n\r\n"), (200, "two for 127.0.0.1".to_owned()));
    }
}

#[test]
fn a_client_does_not_notice_an_endpoint_that_dies_before_it_answers() {
    let servers = [Server::start("dead", Manner::Dies), Server::start("two", Manner::Answers)];
    let bed = Bed::new(&servers);

    for _ in 0..4 {
        assert_eq!(bed.connect().ask("GET / HTTP/1.1\r\nhost: shop\r\n\r\n").0, 200);
    }

    assert!(servers[0].requests.load(Ordering::Relaxed) > 0, "it was asked");
}

#[test]
fn what_may_have_done_something_is_not_asked_twice() {
    let servers = [Server::start("dead", Manner::Dies), Server::start("dead, too", Manner::Dies)];
    let bed = Bed::new(&servers);

    let (status, said) = bed.connect().ask("POST / HTTP/1.1\r\nhost: shop\r\ncontent-length: 3\r\n\r\nbuy");

    assert_eq!(status, 502, "{said}");
    assert_eq!(servers.iter().map(|server| server.requests.load(Ordering::Relaxed)).sum::<usize>(), 1);
}

#[test]
fn an_endpoint_that_refuses_is_passed_over_for_every_method() {
    let closed = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
    let SocketAddr::V4(closed) = closed else { panic!("it is IPv4") };
    let refusing = Server { address: closed, requests: Arc::default() };
    let bed = Bed::new(&[refusing, Server::start("two", Manner::Answers)]);

    for _ in 0..4 {
        let answer = bed.connect().ask("POST / HTTP/1.1\r\nhost: shop\r\ncontent-length: 3\r\n\r\nbuy");
        assert_eq!(answer, (200, "two for 127.0.0.1".to_owned()));
    }
}

#[test]
fn a_changed_protocol_goes_through_both_ways() {
    let bed = Bed::new(&[Server::start("echo", Manner::Echoes)]);
    let mut client = bed.connect();

    client.send("GET /chat HTTP/1.1\r\nhost: shop\r\nconnection: Upgrade\r\nupgrade: echo\r\n\r\n");
    let (status, head) = client.head();
    client.send("ping");
    let mut word = [0; 4];
    client.0.read_exact(&mut word).expect("an echo");

    assert_eq!((status, &word), (101, b"ping"));
    assert!(head.contains("upgrade: echo"), "{head}");
}

#[test]
fn nobody_ready_is_said() {
    let mut bed = Bed::new(&[Server::start("one", Manner::Answers)]);

    bed.keep_only(9);

    let (status, said) = bed.connect().ask("GET / HTTP/1.1\r\nhost: shop\r\n\r\n");
    assert_eq!((status, said.as_str()), (503, "no instance of shop/web is ready\n"));
}

#[test]
fn a_length_that_is_said_in_two_ways_smuggles_nothing() {
    let servers = [Server::start("one", Manner::Answers)];
    let bed = Bed::new(&servers);
    let inner = "0\r\n\r\nGET /admin HTTP/1.1\r\nhost: shop\r\n\r\n";
    let outer = format!(
        "POST / HTTP/1.1\r\nhost: shop\r\ntransfer-encoding: chunked\r\ncontent-length: {}\r\n\r\n",
        inner.len()
    );
    let mut client = bed.connect();

    client.ask(&(outer + inner));

    assert_eq!(client.ask("").0, 0, "nothing that follows on this connection is read");
    assert_eq!(servers[0].requests.load(Ordering::Relaxed), 1);
}

#[test]
fn a_port_that_is_taken_is_said_and_a_front_that_goes_frees_it() {
    let bed = Bed::new(&[Server::start("one", Manner::Answers)]);

    let taken = bed.follow(vec![bed.front.clone(), Front { bind: None, ..bed.front.clone() }]);
    let gone = bed.follow(Vec::new());

    assert_eq!(taken.len(), 1, "two cannot listen on one port");
    assert_eq!(gone.len(), 0);
    bed.runtime.block_on(async {
        // The listener's task ends at its next turn.
        while TcpListener::bind((Ipv4Addr::LOCALHOST, bed.front.port)).is_err() {
            tokio::task::yield_now().await;
        }
    });
}

impl Server {
    fn start(name: &'static str, manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let Ok(SocketAddr::V4(address)) = listener.local_addr() else { panic!("it is IPv4") };
        let requests = Arc::new(AtomicUsize::new(0));
        let read = Arc::clone(&requests);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (Ok(stream), read) = (stream, Arc::clone(&read)) else { return };
                // The test sees it if this fails.
                thread::spawn(move || serve(stream, name, manner, &read).ok());
            }
        });
        Self { address, requests }
    }
}

fn serve(stream: TcpStream, name: &str, manner: Manner, read: &AtomicUsize) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut head, mut client, mut length) = (String::new(), String::new(), 0);
        while reader.read_line(&mut head)? > 2 {
            let line = head.lines().next_back().unwrap_or_default().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("x-forwarded-for: ") {
                value.clone_into(&mut client);
            }
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.parse().map_err(io::Error::other)?;
            }
        }
        if head.is_empty() {
            return Ok(());
        }
        io::copy(&mut reader.by_ref().take(length), &mut io::sink())?;
        if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
            // The tests send nothing in chunks: the last chunk is all there is.
            reader.read_line(&mut head)?;
            reader.read_line(&mut head)?;
        }
        read.fetch_add(1, Ordering::Relaxed);
        match manner {
            Manner::Dies => return Ok(()),
            Manner::Answers => {
                let body = format!("{name} for {client}");
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                reader.get_mut().write_all(head.as_bytes())?;
            }
            Manner::Echoes => {
                let head = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
                reader.get_mut().write_all(head.as_bytes())?;
                let mut word = [0; 4];
                reader.read_exact(&mut word)?;
                return reader.get_mut().write_all(&word);
            }
        }
    }
}

#[test]
fn a_front_that_is_bound_to_an_ipv6_address_answers_there_alone() {
    let servers = [Server::start("one", Manner::Answers)];
    let mut bed = Bed::new(&servers);
    bed.front.bind = Some(Bind::Address(Ipv6Addr::LOCALHOST.into()));

    assert!(bed.follow(vec![bed.front.clone()]).is_empty(), "it can be had");

    let stream = TcpStream::connect((Ipv6Addr::LOCALHOST, bed.front.port)).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let answer = Client(BufReader::new(stream)).ask("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
    assert_eq!(answer, (200, "one for ::1".to_owned()));
    let elsewhere = TcpStream::connect((Ipv4Addr::LOCALHOST, bed.front.port));
    assert!(elsewhere.is_err(), "nothing answers by IPv4");
}

impl Bed {
    fn new(servers: &[Server]) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let upstreams = servers.iter().map(|server| Upstream { address: server.address, weight: 1 }).collect();
        let front = Front {
            service: "shop/web".to_owned(),
            port: 0,
            bind: Some(Bind::Address(Ipv4Addr::LOCALHOST.into())),
            allow: Vec::new(),
            upstreams,
        };
        let mut bed = Self { runtime: runtime.expect("a runtime"), gateway: Gateway::default(), front };
        // Somebody may take a port that was free a moment ago.
        loop {
            let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
            bed.front.port = free.expect("a free port").port();
            if bed.follow(vec![bed.front.clone()]).is_empty() {
                return bed;
            }
        }
    }

    fn follow(&self, fronts: Vec<Front>) -> Vec<agent_gateway::Refused> {
        let _entered = self.runtime.enter();
        self.gateway.follow(fronts)
    }

    /// Takes all out but the one with this index, if there is one.
    fn keep_only(&mut self, index: usize) {
        self.front.upstreams = self.front.upstreams.get(index).copied().into_iter().collect();
        assert!(self.follow(vec![self.front.clone()]).is_empty());
    }

    fn connect(&self) -> Client {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.front.port)).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        Client(BufReader::new(stream))
    }
}

/// A connection to the gateway.
struct Client(BufReader<TcpStream>);

impl Client {
    fn send(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).expect("it is sent");
    }

    /// Reads the status and the head of an answer.
    fn head(&mut self) -> (u16, String) {
        let mut head = String::new();
        while self.0.read_line(&mut head).expect("a line") > 2 {}
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
        (status, head.to_ascii_lowercase())
    }

    /// Sends a request and reads the whole answer.
    fn ask(&mut self, request: &str) -> (u16, String) {
        self.send(request);
        let (status, head) = self.head();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).expect("a body");
        (status, String::from_utf8(body).expect("plain text"))
    }
}

//! The server over real sockets on the loopback, asked as resolvers ask.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use agent_names::{Directory, Own, Server, Settings, Upstream, Zone};
use api_types::service::{Endpoint, Peer, Service, ServicePort};
use domain::{
    base::{
        Message, MessageBuilder, Name, Rtype, Ttl,
        iana::{Class, Rcode},
    },
    rdata::{A, AllRecordData},
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// For a machine that does many other things.
const LIMIT: Duration = Duration::from_secs(30);

struct Fixture {
    services: Vec<Arc<Service>>,
    peers: Vec<Peer>,
}

impl Directory for Fixture {
    fn with_zone<T>(&self, look: impl FnOnce(Option<&Zone<'_>>) -> T) -> T {
        look(Some(&Zone {
            node: Own { name: "n1", address: Ipv4Addr::new(192, 0, 2, 1), ipv6_address: None },
            ipv6_prefix: None,
            cluster_range: "10.42.0.0/16".parse().expect("valid"),
            service_range: "10.43.0.0/16".parse().expect("valid"),
            services: &self.services,
            peers: &self.peers,
        }))
    }
}

/// A server that runs, and what it stands on.
struct Bed {
    address: SocketAddr,
    _stop: DropGuard,
}

fn bed(endpoints: u8, upstream: Vec<SocketAddr>) -> Bed {
    let endpoint = |number: u8| {
        let instance = format!("web-{number}").parse().expect("valid");
        Endpoint::new(instance, "n1".parse().expect("valid"), Ipv4Addr::new(10, 42, 1, number))
    };
    let port = ServicePort {
        name: "http".to_owned(),
        protocol: api_types::container::Protocol::Tcp,
        service: 80,
        container: 8080,
        publish: None,
        http: false,
        bind: None,
        allow: Vec::new(),
    };
    let service = Service {
        id: "web".parse().expect("valid"),
        address: Ipv4Addr::new(10, 43, 0, 1),
        ports: vec![port],
        balance: api_types::balance::BalancePolicy::default(),
        endpoints: (1..=endpoints).map(endpoint).collect(),
        ipv6: false,
        across_sites: false,
        access: None,
    };
    let directory = Fixture { services: vec![Arc::new(service)], peers: Vec::new() };
    let token = CancellationToken::new();
    let (stop, (told, hear)) = (token.clone(), std::sync::mpsc::channel());
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("the loopback works");
        runtime.block_on(async {
            let settings = Settings { address: Ipv4Addr::LOCALHOST, port: 0, upstream: Upstream::Servers(upstream) };
            let server = Server::bind(settings, directory).expect("built");
            told.send(server.local_addr().expect("the loopback works")).expect("the loopback works");
            server.run(token).await;
        });
    });
    Bed { address: hear.recv_timeout(LIMIT).expect("the loopback works"), _stop: stop.drop_guard() }
}

fn question(name: &str, kind: Rtype) -> Vec<u8> {
    let mut builder = MessageBuilder::new_vec().question();
    builder.header_mut().set_id(4_711);
    builder.header_mut().set_rd(true);
    builder.push((name.parse::<Name<Vec<u8>>>().expect("valid"), kind)).expect("valid");
    builder.finish()
}

fn ask_bytes(server: SocketAddr, request: &[u8]) -> Message<Vec<u8>> {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("the loopback works");
    socket.set_read_timeout(Some(LIMIT)).expect("the loopback works");
    socket.send_to(request, server).expect("the loopback works");
    let mut buffer = vec![0; 65_535];
    let length = socket.recv(&mut buffer).expect("the loopback works");
    buffer.truncate(length);
    Message::from_octets(buffer).expect("a whole message")
}

fn ask(server: SocketAddr, name: &str, kind: Rtype) -> Message<Vec<u8>> {
    ask_bytes(server, &question(name, kind))
}

fn ask_by_stream(server: SocketAddr, name: &str, kind: Rtype) -> Message<Vec<u8>> {
    let mut stream = TcpStream::connect(server).expect("the loopback works");
    stream.set_read_timeout(Some(LIMIT)).expect("the loopback works");
    let request = question(name, kind);
    stream
        .write_all(&u16::try_from(request.len()).expect("the loopback works").to_be_bytes())
        .expect("the loopback works");
    stream.write_all(&request).expect("the loopback works");
    let mut length = [0; 2];
    stream.read_exact(&mut length).expect("the loopback works");
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer).expect("the loopback works");
    Message::from_octets(answer).expect("a whole message")
}

fn records(answer: &Message<Vec<u8>>) -> Vec<String> {
    let records = answer.answer().expect("a whole message").limit_to::<AllRecordData<_, _>>();
    records.map(|record| record.expect("a whole message").data().to_string()).collect()
}

/// Another name server, which answers every name with one address and counts.
fn other_server() -> (SocketAddr, Arc<AtomicUsize>) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("the loopback works");
    let (address, asked) = (socket.local_addr().expect("the loopback works"), Arc::new(AtomicUsize::new(0)));
    let counter = asked.clone();
    thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            counter.fetch_add(1, Ordering::SeqCst);
            let request = Message::from_octets(&buffer[..length]).expect("a whole message");
            let name =
                request.sole_question().expect("valid").qname().to_string().parse::<Name<Vec<u8>>>().expect("valid");
            let mut answer = MessageBuilder::new_vec().start_answer(&request, Rcode::NOERROR).expect("a whole message");
            answer
                .push((name, Class::IN, Ttl::from_secs(60), A::new([198, 51, 100, 7].into())))
                .expect("a whole message");
            socket.send_to(&answer.finish(), from).expect("the loopback works");
        }
    });
    (address, asked)
}

#[test]
fn names_of_the_cluster_are_answered_by_datagram_and_by_stream() {
    let bed = bed(2, Vec::new());

    let answer = ask(bed.address, "Web.default.wherry.internal", Rtype::A);
    let streamed = ask_by_stream(bed.address, "web.default.wherry.internal", Rtype::A);

    assert_eq!(records(&answer), ["10.43.0.1"]);
    assert_eq!(records(&streamed), ["10.43.0.1"]);
    assert!(answer.header().aa() && answer.header().qr() && answer.header().ra());
    assert_eq!(answer.header().id(), 4_711);
    assert_eq!(answer.sole_question().expect("a whole message").qname().to_string(), "Web.default.wherry.internal");
    assert_eq!(
        records(&ask(bed.address, "_http._tcp.web.default.wherry.internal", Rtype::SRV)),
        ["0 0 80 web.default.wherry.internal"]
    );
    assert_eq!(records(&ask(bed.address, "1.0.43.10.in-addr.arpa", Rtype::PTR)), ["web.default.wherry.internal."]);
}

#[test]
fn a_name_without_such_a_record_is_no_missing_name() {
    let bed = bed(1, Vec::new());

    let none = ask(bed.address, "web.default.wherry.internal", Rtype::AAAA);
    let missing = ask(bed.address, "api.default.wherry.internal", Rtype::A);

    assert_eq!((none.header().rcode(), none.header_counts().ancount()), (Rcode::NOERROR, 0));
    assert_eq!(missing.header().rcode(), Rcode::NXDOMAIN);
    for answer in [none, missing] {
        let authority: Vec<_> = answer.authority().expect("a whole message").map(Result::unwrap).collect();
        assert_eq!(authority.len(), 1, "whoever asks must learn how long that holds");
        assert!(authority[0].ttl().as_secs() <= 5);
    }
}

#[test]
fn a_short_name_of_ours_is_not_asked_elsewhere() {
    let (other, asked) = other_server();
    let bed = bed(1, vec![other]);

    let answer = ask(bed.address, "web.default", Rtype::A);

    assert_eq!(answer.header().rcode(), Rcode::NXDOMAIN, "then resolvers go on with the search list");
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}

#[test]
fn many_addresses_are_given_in_turn_and_all_of_them_by_stream() {
    let bed = bed(100, Vec::new());
    let name = "endpoints.web.default.wherry.internal";

    let first = ask(bed.address, name, Rtype::A);
    let second = ask(bed.address, name, Rtype::A);
    let all = ask_by_stream(bed.address, name, Rtype::A);

    assert!(first.as_slice().len() <= 512 && !first.header().tc());
    assert_eq!(records(&first).len(), 8);
    assert_ne!(records(&first)[0], records(&second)[0]);
    assert_eq!(records(&all).len(), 100);
}

#[test]
fn other_names_are_asked_elsewhere_and_remembered() {
    let (other, asked) = other_server();
    let bed = bed(1, vec![other]);

    let first = ask(bed.address, "example.com", Rtype::A);
    let second = ask(bed.address, "EXAMPLE.com", Rtype::A);

    assert_eq!(records(&first), ["198.51.100.7"]);
    assert_eq!(records(&second), ["198.51.100.7"]);
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[test]
fn a_server_that_is_silent_is_passed_over_and_what_was_so_stands_in() {
    let silent = UdpSocket::bind("127.0.0.1:0").expect("the loopback works");
    let (other, asked) = other_server();
    let bed = bed(1, vec![silent.local_addr().expect("the loopback works"), other]);

    let answer = ask(bed.address, "example.com", Rtype::A);
    let next = ask(bed.address, "example.org", Rtype::A);

    assert_eq!(records(&answer), ["198.51.100.7"]);
    assert_eq!(records(&next), ["198.51.100.7"]);
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    silent.set_nonblocking(true).expect("built");
    let heard = std::iter::from_fn(|| silent.recv(&mut [0; 512]).ok()).count();
    assert_eq!(heard, 1, "who was silent is asked last");
}

#[test]
fn without_other_servers_the_answer_is_a_failure_at_once() {
    let bed = bed(1, Vec::new());

    let answer = ask(bed.address, "example.com", Rtype::A);

    assert_eq!(answer.header().rcode(), Rcode::SERVFAIL);
}

#[test]
fn nonsense_is_refused_and_answers_are_not_answered() {
    let bed = bed(1, Vec::new());
    let mut reply = question("web.default.wherry.internal", Rtype::A);
    reply[2] |= 0x80;
    let mut status = question("web.default.wherry.internal", Rtype::A);
    status[2] |= 2 << 3;
    let cut = &question("web.default.wherry.internal", Rtype::A)[..20];

    let socket = UdpSocket::bind("127.0.0.1:0").expect("the loopback works");
    for silent in [&reply[..], b"", b"\0"] {
        socket.send_to(silent, bed.address).expect("the loopback works");
    }

    assert_eq!(ask_bytes(bed.address, &status).header().rcode(), Rcode::NOTIMP);
    assert_eq!(ask_bytes(bed.address, cut).header().rcode(), Rcode::FORMERR);
    socket.set_nonblocking(true).expect("the loopback works");
    // The two answers above came after these questions, so an answer to them would be there.
    assert!(socket.recv(&mut [0; 512]).is_err(), "silence was promised");
}

//! A server of names with a table of its own, and another that it may ask.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
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
        Message, MessageBuilder, Name, Ttl,
        iana::{Class, Rcode},
    },
    rdata::A,
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Any port of the loopback.
pub(crate) const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// For a machine that does many other things.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

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
pub(crate) struct Bed {
    pub(crate) address: SocketAddr,
    _stop: DropGuard,
}

/// A server at any port of the loopback that asks these servers for other names.
pub(crate) fn bed(endpoints: u8, upstream: Vec<SocketAddr>) -> Bed {
    bed_at((Ipv4Addr::LOCALHOST, 0), endpoints, Upstream::Servers(upstream))
}

/// A server at this address and port.
pub(crate) fn bed_at((address, port): (Ipv4Addr, u16), endpoints: u8, upstream: Upstream) -> Bed {
    let endpoint = |number: u8| {
        let instance = format!("web-{number}").parse().expect("valid");
        Endpoint::new(instance, "n1".parse().expect("valid"), Ipv4Addr::new(10, 42, 1, number))
    };
    let http = ServicePort {
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
        ports: vec![http],
        balance: api_types::balance::BalancePolicy::default(),
        endpoints: (1..=endpoints).map(endpoint).collect(),
        ipv6: false,
        across_sites: false,
        counts_requests: false,
        access: None,
    };
    let directory = Fixture { services: vec![Arc::new(service)], peers: Vec::new() };
    let token = CancellationToken::new();
    let (stop, (told, hear)) = (token.clone(), std::sync::mpsc::channel());
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("the loopback works");
        runtime.block_on(async {
            let settings = Settings { address, port, upstream };
            let server = Server::bind(settings, directory).expect("built");
            told.send(server.local_addr().expect("the loopback works")).expect("the loopback works");
            server.run(token).await;
        });
    });
    Bed { address: hear.recv_timeout(LIMIT).expect("the loopback works"), _stop: stop.drop_guard() }
}

/// Another name server at this address, which answers every name with so many addresses and counts.
pub(crate) fn other_server(address: SocketAddr, addresses: u8) -> (SocketAddr, Arc<AtomicUsize>) {
    let socket = UdpSocket::bind(address).expect("the loopback works");
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
            for number in 7..7 + addresses {
                let address = A::new([198, 51, 100, number].into());
                answer.push((&name, Class::IN, Ttl::from_secs(60), address)).expect("a whole message");
            }
            socket.send_to(&answer.finish(), from).expect("the loopback works");
        }
    });
    (address, asked)
}

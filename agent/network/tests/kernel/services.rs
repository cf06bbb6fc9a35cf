//! Balancing: who reaches whom through virtual addresses and published ports, and as whom.

use std::{
    collections::BTreeMap,
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket},
    thread,
};

use agent_network::{HostPort, TableGuard};
use api_types::container::Protocol;
use tests_support::{netns::inside, program::within, wait::wait_until};

use crate::{
    server::{PATIENCE, PORT, Server, ask, ask_by_datagram, datagram_client},
    world::{PUBLISHED, SERVICE, World, repeated_asks, service_address},
};

#[test]
fn a_service_is_reached_from_the_node_and_from_instances_which_keep_their_address() {
    let mut world = World::new();
    let node = world.node(1, TableGuard::Owned);
    let [server, client] = [node.start("web-1", 2), node.start("client-1", 3)];
    node.serve(&[&server], &[]);

    let from_node = ask(&node.netns, service_address()).expect("reached from the node");
    let from_instance = ask(&client.netns, service_address()).expect("reached from an instance");

    assert_eq!((from_node.server.as_str(), from_node.client), ("web-1", node.address()));
    assert_eq!((from_instance.server.as_str(), from_instance.client), ("web-1", client.address));
}

#[test]
fn an_instance_reaches_itself_through_its_service() {
    let mut world = World::new();
    let node = world.node(1, TableGuard::Owned);
    let instance = node.start("web-1", 2);
    node.serve(&[&instance], &[]);

    assert_eq!(ask(&instance.netns, service_address()).expect("reached").server, "web-1");
    assert_eq!(ask(&instance.netns, node.published()).expect("reached by port").server, "web-1");
}

#[test]
fn a_service_is_reached_across_nodes() {
    let mut world = World::new();
    let [here, there] = [1, 2].map(|number| world.node(number, TableGuard::Owned));
    let (client, server) = (here.start("client-1", 2), there.start("web-1", 2));
    here.serve(&[&server], &[&there]);
    there.serve(&[&server], &[&here]);

    let from_node = ask(&here.netns, service_address()).expect("reached from the node");
    let from_instance = ask(&client.netns, service_address()).expect("reached from an instance");

    assert_eq!((from_node.server.as_str(), from_node.client), ("web-1", here.address()));
    assert_eq!((from_instance.server.as_str(), from_instance.client), ("web-1", client.address));
}

#[test]
fn every_node_answers_on_a_published_port() {
    let mut world = World::new();
    let outside = world.outsider();
    let [with, without] = [1, 2].map(|number| world.node(number, TableGuard::Owned));
    let (server, client) = (with.start("web-1", 2), without.start("client-1", 2));
    with.serve(&[&server], &[&without]);
    without.serve(&[&server], &[&with]);

    for node in [&with, &without] {
        for from in [&outside, &client.netns, &with.netns, &without.netns, &server.netns] {
            let answer =
                ask(from, node.published()).unwrap_or_else(|error| panic!("{from:?} {}: {error}", node.number));
            assert_eq!(answer.server, "web-1");
        }
    }
    // Where the instance is, it sees its client; elsewhere the node stands in, or answers would not come back.
    assert_eq!(ask(&outside, with.published()).expect("reached").client.octets(), [10, 99, 0, 100]);
    assert_eq!(ask(&outside, without.published()).expect("reached").client, without.address());
}

#[test]
fn connections_are_spread_over_all_endpoints() {
    let mut world = World::new();
    let outside = world.outsider();
    let [first, second] = [1, 2].map(|number| world.node(number, TableGuard::Owned));
    let instances = [first.start("web-1", 2), first.start("web-2", 3), second.start("web-3", 2)];
    let endpoints: Vec<_> = instances.iter().collect();
    first.serve(&endpoints, &[&second]);
    second.serve(&endpoints, &[&first]);

    for (from, to) in [(&first.netns, service_address()), (&outside, second.published())] {
        let mut counts = BTreeMap::<String, u32>::new();
        for _ in 0..300 {
            *counts.entry(ask(from, to).expect("an answer").server).or_default() += 1;
        }
        // A third of 300 each; 50 is six standard deviations.
        assert_eq!(counts.len(), 3, "{counts:?}");
        assert!(counts.values().all(|count| (50..=150).contains(count)), "{counts:?}");
    }
}

#[test]
fn a_service_without_endpoints_refuses_at_once() {
    let mut world = World::new();
    let node = world.node(1, TableGuard::Owned);
    let client = node.start("client-1", 2);
    node.serve(&[], &[]);

    for from in [&node.netns, &client.netns] {
        for to in [service_address(), SocketAddrV4::new(SERVICE, 81), node.published()] {
            let error = ask(from, to).expect_err("nobody serves there");
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{from:?} {to}");
        }
    }
}

#[test]
fn a_host_port_leads_to_its_instance_alone() {
    let mut world = World::new();
    let outside = world.outsider();
    let node = world.node(1, TableGuard::Owned);
    let instances = [node.start("web-1", 2), node.start("web-2", 3)];
    let mut plan = node.plan(&[&instances[0], &instances[1]], &[]);
    plan.host_ports = vec![HostPort {
        protocol: Protocol::Tcp,
        host: 9000,
        address: instances[1].address,
        container: PORT,
        bind: None,
        allow: Vec::new(),
        ipv6: false,
    }];

    node.program(&plan);
    for _ in 0..10 {
        let answer = ask(&outside, SocketAddrV4::new(node.address(), 9000)).expect("an answer");
        assert_eq!(answer.server, "web-2");
    }
}

#[test]
fn a_client_that_keeps_sending_datagrams_follows_the_endpoints() {
    let mut world = World::new();
    let node = world.node(1, TableGuard::Owned);
    let [first, second] = [node.start("web-1", 2), node.start("web-2", 3)];
    node.serve(&[&first], &[]);
    let client = datagram_client(&node.netns, service_address());
    assert_eq!(ask_by_datagram(&client).expect("an answer"), "web-1");

    node.serve(&[&second], &[]);

    assert_eq!(ask_by_datagram(&client).expect("an answer"), "web-2");
}

#[test]
fn a_connection_that_nobody_answered_is_opened_anew_with_an_endpoint_that_is_there() {
    let mut world = World::new();
    let node = world.node(1, TableGuard::Owned);
    let [dead, second] = [node.start("web-1", 2), node.start("web-2", 3)];
    let unplug = ["ip", "link", "set", "dev", "eth0", "down"];
    assert!(within(Some(&dead.netns), &unplug).status().expect("ip runs").success());
    node.serve(&[&dead], &[]);
    let before = repeated_asks(&node.netns);
    let opening = {
        let netns = node.netns.clone();
        thread::spawn(move || ask(&netns, service_address()))
    };
    wait_until(PATIENCE, || repeated_asks(&node.netns) > before);

    node.serve(&[&second], &[]);

    let answer = opening.join().expect("no panic").expect("an answer");
    assert_eq!(answer.server, "web-2");
}

#[test]
fn names_are_answered_at_another_port_where_a_program_holds_theirs_on_all_addresses() {
    let mut world = World::new();
    let node = world.node(1, TableGuard::Owned);
    let instance = node.start("web-1", 2);
    node.serve(&[&instance], &[]);
    let _everywhere = inside(&node.netns, || UdpSocket::bind("0.0.0.0:53")).expect("enter").expect("another server");
    let own = Ipv4Addr::new(10, 42, 1, 1);
    let (datagrams, streams) = inside(&node.netns, || {
        let datagrams = UdpSocket::bind((own, 0)).expect("a free port");
        let streams = TcpListener::bind((own, datagrams.local_addr().expect("a port").port()));
        (datagrams, streams.expect("the same port"))
    })
    .expect("enter");
    let port = datagrams.local_addr().expect("a port").port();

    node.wait(node.network.lead_names_to(Some(port)));
    node.wait(node.network.verify()).expect("verified");

    for from in [&instance.netns, &node.netns] {
        let client = datagram_client(from, SocketAddrV4::new(own, 53));
        client.send(b"where?").expect("sent");
        let mut question = [0; 6];
        let (_, sender) = datagrams.recv_from(&mut question).expect("a question");
        datagrams.send_to(b"here", sender).expect("answered");
        let mut answer = [0; 4];
        client.recv(&mut answer).expect("an answer from the address that was asked");
        assert_eq!((&question, &answer), (b"where?", b"here"));
        let stream = inside(from, || TcpStream::connect((own, 53))).expect("enter").expect("connected");
        let (_, peer) = streams.accept().expect("accepted");
        assert_eq!(peer, stream.local_addr().expect("an address"));
    }
}

#[test]
fn an_instance_reaches_the_world_outside_which_has_no_route_back() {
    let mut world = World::new();
    let outside = world.outsider();
    let node = world.node(1, TableGuard::Owned);
    let client = node.start("client-1", 2);
    node.serve(&[], &[]);
    let _server = Server::start(&outside, "far");

    let answer = ask(&client.netns, SocketAddrV4::new([10, 99, 0, 100].into(), PORT)).expect("an answer");

    assert_eq!((answer.server.as_str(), answer.client), ("far", node.address()));
}

#[test]
fn the_first_address_of_the_range_is_the_nodes_own_whatever_is_published() {
    let mut world = World::new();
    let mut node = world.node(1, TableGuard::Watched);
    node.settings.node_ports = vec![(Protocol::Tcp, PUBLISHED)];
    node.restart();
    let instance = node.start("web-1", 2);
    let own = SocketAddrV4::new(Ipv4Addr::new(10, 42, 1, 1), PUBLISHED);
    node.run("ip", &["address", "add", "10.42.1.1/32", "dev", "lo"]).expect("as it will be");
    let listener = inside(&node.netns, || TcpListener::bind(own)).expect("enter").expect("our own address");

    node.serve(&[&instance], &[]);
    let (connected, accepted) = (
        inside(&instance.netns, || TcpStream::connect(own)).expect("enter").expect("connected"),
        listener.accept().expect("accepted").1,
    );

    assert_eq!(accepted.ip(), instance.address, "not the published port's instance answers, but the node");
    drop((listener, connected));
    node.run("ip", &["address", "del", "10.42.1.1/32", "dev", "lo"]).expect("taken away");
    assert!(node.wait(node.network.verify()).expect("verified").repaired);
    assert!(node.run("ip", &["-o", "address"]).expect("listed").contains("10.42.1.1/32"));
    node.wait(node.network.remove_all()).expect("removed");
    assert!(!node.run("ip", &["-o", "address"]).expect("listed").contains("10.42.1.1/32"));
}

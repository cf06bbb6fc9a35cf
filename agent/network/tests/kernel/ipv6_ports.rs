//! Ports of the node by IPv6: where they answer, whom, and who may have them instead.

use std::{
    io::{self, ErrorKind},
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
    path::{Path, PathBuf},
};

use agent_network::{HostPort, Plan, Programmed, UnboundPort};
use api_types::{balance::Bind, container::Protocol};
use tests_support::netns::inside;

use crate::{
    ipv6::{answer_as, ask_v6, dual, give_address, greet_v6, lan, plan},
    server::{PATIENCE, PORT, ask, ask_by_datagram, connect_from, is_shut_out},
    world::{Instance, Node, PUBLISHED, World},
};

/// The node's second address.
const SECOND: u8 = 201;
const FRIEND: u8 = 101;
const STRANGER: u8 = 102;
const HOST_PORT: u16 = 9000;

#[test]
fn a_port_bound_to_an_ipv6_address_answers_there_alone_as_soon_as_the_node_has_it() {
    let (mut world, outside) = site();
    let (node, instance) = serving(&mut world);
    let bind = Bind::Address(lan(SECOND));
    let plan = bound(&node, &instance, &bind);

    let before = node.wait(node.network.program(&plan)).expect("programmed");
    give_address(&node.netns, SECOND);
    let after = node.wait(node.network.verify()).expect("verified").programmed;

    answer_as(&instance);
    let missing = UnboundPort { port: PUBLISHED, protocol: Protocol::Tcp, bind };
    assert_eq!(before, Programmed { unbound_ports: vec![missing], ..Programmed::default() });
    assert_eq!(after, Programmed::default());
    assert_eq!(ask_v6(&outside, published(SECOND)).expect("reached").0, "web-1");
    let elsewhere = ask_v6(&outside, published(1)).expect_err("only the second address answers");
    assert_eq!(elsewhere.kind(), ErrorKind::ConnectionRefused);
    let by_ipv4 = ask(&outside, node.published()).expect_err("and nothing by IPv4");
    assert_eq!(by_ipv4.kind(), ErrorKind::ConnectionRefused);
    // Where it does not answer, a program of the node may have the port.
    let own = inside(&node.netns, || TcpListener::bind(published(1))).expect("enter");
    own.expect("the port is free at the other address");
}

#[test]
fn a_port_bound_to_a_link_answers_by_both_versions_of_the_protocol() {
    let (mut world, outside) = site();
    let (node, instance) = serving(&mut world);

    let programmed = node.wait(node.network.program(&bound(&node, &instance, &Bind::Link("eth0".to_owned()))));

    answer_as(&instance);
    assert_eq!(programmed.expect("programmed"), Programmed::default());
    assert_eq!(ask_v6(&outside, published(1)).expect("reached").0, "web-1");
    assert_eq!(ask(&outside, node.published()).expect("reached").server, "web-1");
}

#[test]
fn a_port_is_kept_for_those_who_are_allowed_by_ipv6() {
    let (mut world, outside) = site();
    give_address(&outside, FRIEND);
    give_address(&outside, STRANGER);
    let (node, instance) = serving(&mut world);
    answer_once_programmed(&node, &instance);
    for bind in [None, Some(Bind::Address(lan(1)))] {
        for (allow, friend_comes_in, stranger_comes_in) in [
            (vec!["fd99::65/128", "2001:db8::/32"], true, false),
            (vec!["fd99::/64", "fd99::65/128"], true, true),
            (Vec::new(), true, true),
            (vec!["2001:db8::/32"], false, false),
            // Who names clients of one version alone lets nobody of the other in.
            (vec!["0.0.0.0/0"], false, false),
        ] {
            let mut plan = plan(&node, &[&instance], &[]);
            let ranges: Vec<_> = allow.iter().map(|text| text.parse().expect("a range")).collect();
            for port in plan.services[0].ports.iter_mut().filter(|port| port.publish.is_some()) {
                (port.bind, port.allow) = (bind.clone(), ranges.clone());
            }
            plan.host_ports = vec![HostPort { bind: bind.clone(), allow: ranges, ..host_port(&instance, true) }];
            node.program(&plan);

            for to in [published(1), SocketAddr::new(lan(1), HOST_PORT)] {
                for (from, comes_in) in [(FRIEND, friend_comes_in), (STRANGER, stranger_comes_in)] {
                    if comes_in {
                        let answer = ask_from(&outside, from, to);
                        assert_eq!(answer.unwrap_or_else(|error| panic!("{from} {to} {allow:?}: {error}")).0, "web-1");
                    } else {
                        assert!(is_shut_out(&outside, lan(from), to), "{from} {to} {allow:?}");
                    }
                }
            }
            ask_v6(&node.netns, published(1)).expect("the node itself is not shut out");
            assert!(!node.wait(node.network.verify()).expect("verified").repaired, "the table is as it was left");
        }
    }
}

#[test]
fn a_host_port_answers_by_ipv6_where_its_workload_does_though_no_service_asks_for_it() {
    let (mut world, outside) = site();
    let (node, instance) = serving(&mut world);
    let to = SocketAddr::new(lan(1), HOST_PORT);
    let program = |has_ipv6| {
        let mut plan = plan(&node, &[&instance], &[]);
        plan.services[0].ipv6 = false;
        plan.host_ports = vec![host_port(&instance, has_ipv6)];
        node.wait(node.network.program(&plan)).expect("programmed")
    };

    let programmed = program(true);
    answer_as(&instance);
    let answer = ask_v6(&outside, to).expect("reached");
    let service = ask_v6(&outside, published(1)).expect_err("the service does not ask for it");
    program(false);
    let after = ask_v6(&outside, to).expect_err("nobody asks for it");

    assert_eq!(programmed, Programmed::default());
    assert_eq!(answer, ("web-1".to_owned(), lan(100)), "it sees its client");
    assert_eq!(service.kind(), ErrorKind::ConnectionRefused);
    assert_eq!(after.kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn a_program_that_has_a_port_by_ipv6_alone_keeps_it_and_is_named() {
    let (mut world, outside) = site();
    let (node, instance) = serving(&mut world);
    let listen = |address: IpAddr| {
        let listener = inside(&node.netns, || TcpListener::bind((address, PUBLISHED)));
        listener.expect("enter").expect("listens")
    };
    let own = format!("pid {})", std::process::id());

    let listener = listen(lan(1));
    let taken = node.wait(node.network.program(&plan(&node, &[&instance], &[]))).expect("programmed");
    let by_ipv4 = ask(&outside, node.published());
    drop(listener);
    let freed = node.wait(node.network.verify()).expect("verified").programmed;
    answer_as(&instance);
    let by_ipv6 = ask_v6(&outside, published(1));

    assert_eq!(taken.port_conflicts.len(), 1, "{taken:?}");
    assert!(taken.port_conflicts[0].owner.ends_with(&format!("{own}, by IPv6")), "{taken:?}");
    assert_eq!(by_ipv4.expect("by IPv4 the port is the service's").server, "web-1");
    assert_eq!(freed, Programmed::default());
    assert_eq!(by_ipv6.expect("now by IPv6, too").0, "web-1");
    let held = inside(&node.netns, || TcpListener::bind((Ipv6Addr::UNSPECIFIED, PUBLISHED))).expect("enter");
    assert_eq!(held.expect_err("the port is kept for the service").kind(), ErrorKind::AddrInUse);
}

#[test]
fn a_program_that_has_a_port_by_both_versions_is_named_once() {
    let (mut world, _outside) = site();
    let (node, instance) = serving(&mut world);
    let listener = inside(&node.netns, || TcpListener::bind((Ipv6Addr::UNSPECIFIED, PUBLISHED)));
    let _listener = listener.expect("enter").expect("listens");

    let taken = node.wait(node.network.program(&plan(&node, &[&instance], &[]))).expect("programmed");

    assert_eq!(taken.port_conflicts.len(), 1, "{taken:?}");
    assert!(taken.port_conflicts[0].owner.ends_with(&format!("pid {})", std::process::id())), "{taken:?}");
}

#[test]
fn datagrams_to_a_published_port_follow_the_endpoints_by_ipv6() {
    let (mut world, outside) = site();
    let node = dual(&mut world, 1);
    let [first, second] = [node.start("web-1", 2), node.start("web-2", 3)];
    let program = |endpoints: &[&Instance]| {
        let mut plan = plan(&node, endpoints, &[]);
        let datagrams = plan.services[0].ports.iter_mut().find(|port| port.protocol == Protocol::Udp);
        datagrams.expect("a port").publish = Some(PUBLISHED);
        node.wait(node.network.program(&plan)).expect("programmed");
    };
    program(&[]);
    answer_as(&first);
    answer_as(&second);
    let client = inside(&outside, || {
        let client = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?;
        client.connect(published(1))?;
        client.set_read_timeout(Some(PATIENCE)).map(|()| client)
    });
    let client = client.expect("enter").expect("a client");

    // Asked before anybody serves: the kernel remembers an exchange that leads nowhere.
    client.send(b"who?").expect("sent");
    program(&[&first]);
    let answered_by_first = ask_by_datagram(&client);
    program(&[&second]);
    let answered_by_second = ask_by_datagram(&client);

    assert_eq!(answered_by_first.expect("an answer"), "web-1");
    assert_eq!(answered_by_second.expect("an answer"), "web-2");
}

/// A site with somebody outside.
fn site() -> (World, PathBuf) {
    let mut world = World::new();
    let outside = world.outsider();
    give_address(&outside, 100);
    (world, outside)
}

/// A node with an instance.
fn serving(world: &mut World) -> (Node, Instance) {
    let node = dual(world, 1);
    let instance = node.start("web-1", 2);
    (node, instance)
}

/// Lets an instance answer by IPv6, which it can only once a plan asked for that.
fn answer_once_programmed(node: &Node, instance: &Instance) {
    node.wait(node.network.program(&plan(node, &[instance], &[]))).expect("programmed");
    answer_as(instance);
}

/// The service with its published port bound.
fn bound(node: &Node, endpoint: &Instance, bind: &Bind) -> Plan {
    let mut plan = plan(node, &[endpoint], &[]);
    for port in plan.services[0].ports.iter_mut().filter(|port| port.publish.is_some()) {
        port.bind = Some(bind.clone());
    }
    plan
}

fn host_port(instance: &Instance, ipv6: bool) -> HostPort {
    HostPort {
        protocol: Protocol::Tcp,
        host: HOST_PORT,
        address: instance.address,
        container: PORT,
        bind: None,
        allow: Vec::new(),
        ipv6,
    }
}

/// The published port at an address of the local network.
fn published(number: u8) -> SocketAddr {
    SocketAddr::new(lan(number), PUBLISHED)
}

/// One connection from one address of the local network: who answered, and whom it saw.
fn ask_from(netns: &Path, from: u8, to: SocketAddr) -> io::Result<(String, IpAddr)> {
    greet_v6(connect_from(netns, lan(from), to, PATIENCE)?)
}

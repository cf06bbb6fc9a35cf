//! Ports of the node: where they answer, and whom.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddrV4, TcpListener},
};

use agent_network::{HostPort, Plan, Programmed, TableGuard, UnboundPort};
use api_types::{balance::Bind, container::Protocol};
use tests_support::netns::{inside, ip};

use crate::{
    server::{PORT, ask, ask_from, is_shut_out},
    world::{Instance, Node, PUBLISHED, World, netns_name, service_address},
};

const SECOND: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 201);
const STRANGER: Ipv4Addr = Ipv4Addr::new(10, 97, 0, 1);
const FRIEND: Ipv4Addr = Ipv4Addr::new(10, 97, 1, 1);

#[test]
fn a_bound_port_answers_at_its_address_alone_as_soon_as_the_node_has_it() {
    let mut world = World::new();
    let outside = world.outsider();
    let node = world.node(1, TableGuard::Owned);
    let instance = node.start("web-1", 2);
    let bind = Bind::Address(SECOND.into());
    let plan = bound(&node, &[&instance], &bind);

    let before = node.wait(node.network.program(&plan)).expect("programmed");
    node.run("ip", &["address", "add", "10.99.0.201/24", "dev", "eth0"]).expect("a second address");
    let after = node.wait(node.network.verify()).expect("verified").programmed;

    let missing = UnboundPort { port: PUBLISHED, protocol: Protocol::Tcp, bind };
    assert_eq!(before, Programmed { unbound_ports: vec![missing], ..Programmed::default() });
    assert_eq!(after, Programmed::default());
    assert_eq!(ask(&outside, SocketAddrV4::new(SECOND, PUBLISHED)).expect("reached").server, "web-1");
    let elsewhere = ask(&outside, node.published()).expect_err("only the second address answers");
    assert_eq!(elsewhere.kind(), ErrorKind::ConnectionRefused);
    // Where it does not answer, a program of the node may have the port.
    let own = inside(&node.netns, || TcpListener::bind(node.published())).expect("enter");
    own.expect("the port is free at the other address");
}

#[test]
fn a_port_bound_to_a_link_answers_at_its_addresses() {
    let mut world = World::new();
    let outside = world.outsider();
    let node = world.node(1, TableGuard::Owned);
    let instance = node.start("web-1", 2);
    let plan = bound(&node, &[&instance], &Bind::Link("wan0".to_owned()));
    let before = node.wait(node.network.program(&plan)).expect("programmed");
    assert_eq!(before.unbound_ports.len(), 1, "there is no such link yet");

    node.run("ip", &["link", "add", "wan0", "type", "veth", "peer", "name", "wan1"]).expect("a link");
    for address in ["198.51.100.1/32", "198.51.100.2/32"] {
        node.run("ip", &["address", "add", address, "dev", "wan0"]).expect("an address");
    }
    node.run("ip", &["link", "set", "wan0", "up"]).expect("a link that is up");
    let verified = node.wait(node.network.verify()).expect("verified");

    assert_eq!(verified.programmed, Programmed::default());
    ip(&["-n", netns_name(&outside), "route", "add", "198.51.100.0/24", "via", "10.99.0.1"]).expect("a route");
    for last in [1, 2] {
        let to = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, last), PUBLISHED);
        assert_eq!(ask(&outside, to).expect("reached").server, "web-1");
    }
    assert!(ask(&outside, node.published()).is_err(), "the other link's address does not answer");
}

#[test]
fn one_number_leads_to_two_services_at_two_addresses() {
    let mut world = World::new();
    let outside = world.outsider();
    let node = world.node(1, TableGuard::Owned);
    node.run("ip", &["address", "add", "10.99.0.201/24", "dev", "eth0"]).expect("a second address");
    let [first, second] = [node.start("web-1", 2), node.start("web-2", 3)];
    let mut plan = bound(&node, &[&first], &Bind::Address(node.address().into()));
    let mut other = bound(&node, &[&second], &Bind::Address(SECOND.into())).services.remove(0);
    other.id = "other".parse().expect("a name");
    other.address = Ipv4Addr::new(10, 43, 0, 11);
    plan.services.push(other);

    node.program(&plan);
    assert_eq!(ask(&outside, node.published()).expect("reached").server, "web-1");
    assert_eq!(ask(&outside, SocketAddrV4::new(SECOND, PUBLISHED)).expect("reached").server, "web-2");
}

#[test]
fn a_bound_port_that_a_program_has_at_that_address_is_its_own() {
    let mut world = World::new();
    let node = world.node(1, TableGuard::Owned);
    let instance = node.start("web-1", 2);
    let listener = inside(&node.netns, || TcpListener::bind(node.published())).expect("enter").expect("listens");

    let plan = bound(&node, &[&instance], &Bind::Address(node.address().into()));
    let taken = node.wait(node.network.program(&plan)).expect("programmed");
    drop(listener);
    let freed = node.wait(node.network.verify()).expect("verified").programmed;

    assert_eq!(taken.port_conflicts.len(), 1, "{taken:?}");
    assert!(taken.port_conflicts[0].owner.contains(&format!("pid {}", std::process::id())), "{taken:?}");
    assert_eq!(freed, Programmed::default());
}

#[test]
fn a_port_is_kept_for_those_who_are_allowed() {
    let mut world = World::new();
    let crowd = world.crowd();
    let node = world.node(1, TableGuard::Owned);
    node.run("ip", &["route", "add", "10.97.0.0/16", "via", "10.99.0.100"]).expect("a way back");
    let instance = node.start("web-1", 2);
    let host_port = SocketAddrV4::new(node.address(), 9000);
    for bind in [None, Some(Bind::Address(node.address().into()))] {
        for (allow, friend_comes_in, stranger_comes_in) in [
            (vec!["10.97.1.0/24", "10.97.1.7/32", "192.0.2.0/24"], true, false),
            (vec!["10.97.0.0/16"], true, true),
            (vec!["10.97.0.1/32"], false, true),
            (Vec::new(), true, true),
            (vec!["192.0.2.0/24"], false, false),
        ] {
            let allow: Vec<_> = allow.iter().map(|text| text.parse().expect("a range")).collect();
            let mut plan = node.plan(&[&instance], &[]);
            for port in plan.services[0].ports.iter_mut().filter(|port| port.publish.is_some()) {
                (port.bind, port.allow) = (bind.clone(), allow.clone());
            }
            let (protocol, address, container) = (Protocol::Tcp, instance.address, PORT);
            let (host, bind) = (host_port.port(), bind.clone());
            let ipv6 = false;
            plan.host_ports = vec![HostPort { protocol, host, address, container, bind, allow: allow.clone(), ipv6 }];
            node.program(&plan);

            for to in [node.published(), host_port] {
                for (from, comes_in) in [(FRIEND, friend_comes_in), (STRANGER, stranger_comes_in)] {
                    if comes_in {
                        ask_from(&crowd, from, to).unwrap_or_else(|error| panic!("{from} {to} {allow:?}: {error}"));
                    } else {
                        assert!(is_shut_out(&crowd, from, to), "{from} {to} {allow:?}");
                    }
                }
            }
            ask(&node.netns, node.published()).expect("the node itself is not shut out");
            assert!(!node.wait(node.network.verify()).expect("verified").repaired, "the table is as it was left");
        }
    }
    ask(&instance.netns, service_address()).expect("the virtual address is open to all");
}

/// The service with its published port bound.
fn bound(node: &Node, endpoints: &[&Instance], bind: &Bind) -> Plan {
    let mut plan = node.plan(endpoints, &[]);
    for port in plan.services[0].ports.iter_mut().filter(|port| port.publish.is_some()) {
        port.bind = Some(bind.clone());
    }
    plan
}

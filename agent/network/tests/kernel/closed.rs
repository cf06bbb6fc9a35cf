//! Instances that only ports of the nodes lead to.

use std::{
    io::{self, ErrorKind},
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream},
    path::Path,
};

use agent_network::{ClosedInstance, HostPort, Plan, TableGuard};
use api_types::container::Protocol;
use tests_support::netns::inside;

use crate::{
    server::{PATIENCE, PORT, ask},
    world::{Instance, Node, World, service_address},
};

/// A port of the instance that nobody publishes.
const INNER: u16 = 9100;
/// A port of its node alone that leads to it.
const HOST_PORT: u16 = 9101;

#[test]
fn who_comes_by_a_published_port_of_any_node_is_let_in() {
    let mut world = World::new();
    let outside = world.outsider();
    let [near, far] = [1, 2].map(|number| world.node(number, TableGuard::Owned));
    let server = near.start("web-1", 2);
    let [near_client, far_client] = [near.start("client-1", 3), far.start("client-2", 3)];
    program(&near, &closed(&near, &server, &[&far]));
    program(&far, &closed(&far, &server, &[&near]));

    for client in [&outside, &near.netns, &far.netns, &near_client.netns, &far_client.netns, &server.netns] {
        for node in [&near, &far] {
            assert_eq!(ask(client, node.published()).expect("by the port").server, "web-1", "{client:?}");
        }
    }
    assert_eq!(ask(&outside, near.published()).expect("by its own node").client, Ipv4Addr::new(10, 99, 0, 100));
}

#[test]
fn nobody_is_let_in_by_another_way() {
    let mut world = World::new();
    let outside = world.outsider();
    let [near, far] = [1, 2].map(|number| world.node(number, TableGuard::Owned));
    let server = near.start("web-1", 2);
    let [near_client, far_client] = [near.start("client-1", 3), far.start("client-2", 3)];
    program(&near, &closed(&near, &server, &[&far]));
    program(&far, &closed(&far, &server, &[&near]));
    let route = ["route", "add", "10.42.1.0/24", "via", "10.99.0.1"];
    inside(&outside, || std::process::Command::new("ip").args(route).status()).expect("enter").expect("a route");
    let _inner = inside(&server.netns, || TcpListener::bind(("0.0.0.0", INNER))).expect("enter").expect("bound");

    for client in [&outside, &near_client.netns, &far_client.netns] {
        for port in [PORT, INNER] {
            assert_refused(client, (server.address, port));
        }
        assert!(ask(client, service_address()).is_err(), "it has no virtual address");
    }
    assert_refused(&far.netns, (server.address, INNER));
    connect(&near.netns, (server.address, INNER)).expect("its own node, which probes it");
    assert_eq!(ask(&server.netns, at(&far_client)).expect("it asks whom it likes").server, "client-2");
}

#[test]
fn a_port_of_its_own_node_leads_to_it() {
    let mut world = World::new();
    let outside = world.outsider();
    let [near, far] = [1, 2].map(|number| world.node(number, TableGuard::Owned));
    let server = near.start("web-1", 2);
    let far_client = far.start("client-2", 3);
    let mut plan = closed(&near, &server, &[&far]);
    plan.services.clear();
    plan.host_ports = vec![HostPort {
        protocol: Protocol::Tcp,
        host: HOST_PORT,
        address: server.address,
        container: PORT,
        bind: None,
        allow: Vec::new(),
        ipv6: false,
    }];

    program(&near, &plan);
    program(&far, &far.plan(&[], &[&near]));

    let host_port = SocketAddrV4::new(near.address(), HOST_PORT);
    assert_eq!(ask(&outside, host_port).expect("by the host port").server, "web-1");
    for client in [&far.netns, &far_client.netns] {
        assert_refused(client, (server.address, PORT));
    }
}

#[test]
fn an_instance_is_closed_and_opened_by_elements_and_open_connections_go_on() {
    let mut world = World::new();
    let node = world.node(1, TableGuard::Watched);
    let [server, client] = [node.start("web-1", 2), node.start("client-1", 3)];
    node.serve(&[&server], &[]);
    let mut connection = crate::server::Connection::open(&client.netns, at(&server)).expect("open");
    let handle = || node.run("nft", &["-a", "list", "chain", "ip", "wherry", "filter_forward"]).expect("listed");
    let before = handle();

    program(&node, &closed(&node, &server, &[]));
    assert_refused(&client.netns, (server.address, PORT));
    connection.echo().expect("what was open goes on");
    node.run("nft", &["flush", "set", "ip", "wherry", "closed"]).expect("sabotage");
    assert!(node.wait(node.network.verify()).expect("verified").repaired);
    assert_refused(&client.netns, (server.address, PORT));
    node.serve(&[&server], &[]);

    connect(&client.netns, (server.address, PORT)).expect("open again");
    assert_eq!(handle(), before, "the rules were not loaded anew");
}

/// The node's plan in which the service under test is reached by its published port alone.
fn closed(node: &Node, server: &Instance, peers: &[&Node]) -> Plan {
    let mut plan = node.plan(&[server], peers);
    let service = &mut plan.services[0];
    service.address = Ipv4Addr::UNSPECIFIED;
    service.ports.retain(|port| port.publish.is_some());
    let is_here = plan.subnet.contains(server.address);
    let closed = ClosedInstance { address: server.address, workload: plan.services[0].id.clone() };
    plan.closed = is_here.then_some(closed).into_iter().collect();
    plan
}

fn program(node: &Node, plan: &Plan) {
    node.wait(node.network.program(plan)).expect("programmed");
}

fn at(instance: &Instance) -> SocketAddrV4 {
    SocketAddrV4::new(instance.address, PORT)
}

fn connect(netns: &Path, (address, port): (Ipv4Addr, u16)) -> io::Result<TcpStream> {
    inside(netns, || TcpStream::connect_timeout(&SocketAddrV4::new(address, port).into(), PATIENCE))?
}

fn assert_refused(netns: &Path, place: (Ipv4Addr, u16)) {
    let refused = connect(netns, place).expect_err("it is closed");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{netns:?} to {place:?}");
}

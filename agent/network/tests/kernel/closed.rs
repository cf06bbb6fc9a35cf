//! Instances that only ports of the nodes lead to.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener},
    path::Path,
};

use agent_network::{ClosedInstance, HostPort, Plan, TableGuard};
use api_types::container::Protocol;
use tests_support::netns::inside;

use crate::{
    server::{Connection, PORT, ask, connect},
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
    near.program(&closed(&near, &server, &[&far]));
    far.program(&closed(&far, &server, &[&near]));

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
    near.program(&closed(&near, &server, &[&far]));
    far.program(&closed(&far, &server, &[&near]));
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
    assert_eq!(ask(&server.netns, far_client.at()).expect("it asks whom it likes").server, "client-2");
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

    near.program(&plan);
    far.program(&far.plan(&[], &[&near]));

    let host_port = SocketAddrV4::new(near.address(), HOST_PORT);
    assert_eq!(ask(&outside, host_port).expect("by the host port").server, "web-1");
    for client in [&far.netns, &far_client.netns] {
        assert_refused(client, server.at());
    }
}

#[test]
fn an_instance_is_closed_and_opened_by_elements_and_open_connections_go_on() {
    let mut world = World::new();
    let node = world.node(1, TableGuard::Watched);
    let [server, client] = [node.start("web-1", 2), node.start("client-1", 3)];
    node.serve(&[&server], &[]);
    let mut connection = Connection::open(&client.netns, server.at()).expect("open");
    let handle = || node.run("nft", &["-a", "list", "chain", "ip", "wherry", "filter_forward"]).expect("listed");
    let before = handle();

    node.program(&closed(&node, &server, &[]));
    assert_refused(&client.netns, server.at());
    connection.echo().expect("what was open goes on");
    node.run("nft", &["flush", "set", "ip", "wherry", "closed"]).expect("sabotage");
    assert!(node.wait(node.network.verify()).expect("verified").repaired);
    assert_refused(&client.netns, server.at());
    node.serve(&[&server], &[]);

    connect(&client.netns, server.at()).expect("open again");
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

fn assert_refused(netns: &Path, to: impl Into<SocketAddr>) {
    let to = to.into();
    let refused = connect(netns, to).expect_err("it is closed");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{netns:?} to {to}");
}

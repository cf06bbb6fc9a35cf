//! The IPv6 half: who reaches whom by the embedded addresses, and as whom.

use std::{
    fs,
    io::{self, BufRead, BufReader, ErrorKind, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::Path,
    thread,
};

use agent_network::{ClosedInstance, Plan, TableGuard};
use api_types::{net::Ipv6Prefix, site::Reach};
use tests_support::netns::{inside, ip};

use crate::{
    server::{PATIENCE, PORT, ask, ask_by_datagram, connect},
    world::{Instance, Node, PUBLISHED, SERVICE, SERVICE_PORT, World, netns_name, service_address},
};

#[test]
fn a_service_that_asks_for_it_is_reached_by_ipv6_from_nodes_and_instances_which_keep_their_address() {
    let mut world = World::new();
    let [here, there] = [1, 2].map(|number| dual(&mut world, number));
    let [client, server] = [here.start("client-1", 2), there.start("web-1", 2)];
    program(&here, &[&server], &[&there]);
    program(&there, &[&server], &[&here]);
    answer_as(&server);

    let from_instance = ask_v6(&client.netns, front()).expect("reached from an instance");
    let from_node = ask_v6(&here.netns, front()).expect("reached from the node");
    let from_own_node = ask_v6(&there.netns, front()).expect("reached from the server's node");
    let from_itself = ask_v6(&server.netns, front()).expect("reached from the server itself");

    assert_eq!(from_instance, ("web-1".to_owned(), embedded(client.address)));
    // What a node itself asks, it asks from the first address of its own range.
    assert_eq!(from_node, ("web-1".to_owned(), embedded(Ipv4Addr::new(10, 42, 1, 1))));
    assert_eq!(from_own_node, ("web-1".to_owned(), embedded(Ipv4Addr::new(10, 42, 2, 1))));
    assert_eq!(from_itself.0, "web-1");
}

#[test]
fn every_node_answers_on_a_published_port_by_ipv6() {
    let mut world = World::new();
    let outside = world.outsider();
    give_address(&outside, 100);
    let [with, without] = [1, 2].map(|number| dual(&mut world, number));
    let server = with.start("web-1", 2);
    program(&with, &[&server], &[&without]);
    program(&without, &[&server], &[&with]);
    answer_as(&server);

    let near = ask_v6(&outside, SocketAddr::new(lan(1), PUBLISHED)).expect("reached where the instance is");
    let far = ask_v6(&outside, SocketAddr::new(lan(2), PUBLISHED)).expect("reached elsewhere");

    assert_eq!(near, ("web-1".to_owned(), lan(100)), "it sees its client");
    assert_eq!(far.0, "web-1");
    assert_ne!(far.1, lan(100), "the node stands in for the client");
}

#[test]
fn only_published_ports_lead_to_a_closed_instance_by_ipv6() {
    let mut world = World::new();
    let outside = world.outsider();
    give_address(&outside, 100);
    let [near, far] = [1, 2].map(|number| dual(&mut world, number));
    let [server, far_client] = [near.start("web-1", 2), far.start("client-2", 3)];
    for (node, other) in [(&near, &far), (&far, &near)] {
        let mut plan = plan(node, &[&server], &[other]);
        plan.services[0].address = Ipv4Addr::UNSPECIFIED;
        let closed = ClosedInstance { address: server.address, workload: plan.services[0].id.clone() };
        plan.closed = if node.number == near.number { vec![closed] } else { Vec::new() };
        node.wait(node.network.program(&plan)).expect("programmed");
    }
    answer_as(&server);

    for client in [&outside, &far_client.netns, &far.netns] {
        for number in [1, 2] {
            let answer = ask_v6(client, SocketAddr::new(lan(number), PUBLISHED)).expect("by the port");
            assert_eq!(answer.0, "web-1", "{client:?}");
        }
    }
    let direct = SocketAddr::new(embedded(server.address), PORT);
    let refused = ask_v6(&far_client.netns, direct).expect_err("by another way");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    assert_eq!(ask_v6(&near.netns, direct).expect("its own node").0, "web-1");
}

#[test]
fn instances_of_nodes_on_different_networks_reach_each_other_by_ipv6_when_packets_are_wrapped() {
    let mut world = World::new();
    let outside = world.outsider();
    give_address(&outside, 100);
    let near = dual(&mut world, 1);
    let far = world.node_behind_router(2, &[&near]);
    // An address that looks as if it were on one link with the others: nothing gets there by it.
    give_address(&far.netns, 2);
    let [client, server] = [near.start("client-1", 2), far.start("web-1", 2)];
    let wrapped = |node: &Node, other: &Node| {
        let mut plan = plan(node, &[&server], &[other]);
        plan.peers.iter_mut().for_each(|peer| peer.reach = Reach::Vxlan);
        node.program(&plan);
    };
    wrapped(&near, &far);
    wrapped(&far, &near);
    answer_as(&server);

    let from_instance = ask_v6(&client.netns, front()).expect("reached from an instance");
    let from_node = ask_v6(&near.netns, front()).expect("reached from the node");
    let from_outside = ask_v6(&outside, SocketAddr::new(lan(1), PUBLISHED)).expect("reached from outside");

    assert_eq!(from_instance, ("web-1".to_owned(), embedded(client.address)), "it sees its client");
    assert_eq!(from_node, ("web-1".to_owned(), embedded(Ipv4Addr::new(10, 42, 1, 1))));
    assert_eq!(from_outside, ("web-1".to_owned(), embedded(Ipv4Addr::new(10, 42, 1, 0))), "the node on that device");
    assert!(!near.wait(near.network.verify()).expect("verified").repaired);
    // Back to routes: nothing of the device is left.
    near.wait(near.network.program(&plan(&near, &[&server], &[&far]))).expect("programmed");
    let routes = near.run("ip", &["-6", "route"]).expect("routes");
    assert!(!routes.contains("wh-vxlan"), "{routes}");
}

#[test]
fn a_service_that_does_not_ask_for_it_is_refused_by_ipv6_and_works_by_ipv4() {
    let mut world = World::new();
    let node = dual(&mut world, 1);
    let server = node.start("web-1", 2);
    let mut plan = plan(&node, &[&server], &[]);
    let mut other = plan.services[0].clone();
    (other.id, other.address) = ("api".parse().expect("a name"), [10, 43, 0, 9].into());
    other.ports.retain(|port| port.publish.is_none());
    plan.services[0].ipv6 = false;
    plan.services.insert(0, other);
    node.wait(node.network.program(&plan)).expect("programmed");
    answer_as(&server);

    let refused = ask_v6(&node.netns, front()).expect_err("it does not answer");

    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    assert_eq!(ask(&node.netns, service_address()).expect("reached").server, "web-1");
}

#[test]
fn endpoints_come_and_go_by_ipv6_as_by_ipv4() {
    let mut world = World::new();
    let node = dual(&mut world, 1);
    let [first, second] = [node.start("web-1", 2), node.start("web-2", 3)];
    program(&node, &[&first], &[]);
    answer_as(&first);
    answer_as(&second);
    let client = inside(&node.netns, || {
        let client = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?;
        client.connect(front())?;
        client.set_read_timeout(Some(PATIENCE)).map(|()| client)
    });
    let client = client.expect("enter").expect("a client");
    assert_eq!(ask_by_datagram(&client).expect("an answer"), "web-1");

    program(&node, &[&second], &[]);

    // Neither a new connection nor a datagram from the same port goes to who left.
    assert_eq!(ask_v6(&node.netns, front()).expect("reached").0, "web-2");
    assert_eq!(ask_by_datagram(&client).expect("an answer"), "web-2");
}

#[test]
fn an_instance_from_before_has_its_address_when_the_first_service_asks_for_it() {
    let mut world = World::new();
    let node = dual(&mut world, 1);
    let server = node.start("web-1", 2);
    node.wait(node.network.program(&plan(&node, &[&server], &[]))).expect("programmed");

    answer_as(&server);
    assert!(!node.wait(node.network.verify()).expect("verified").repaired);
    assert_eq!(ask_v6(&node.netns, front()).expect("reached").0, "web-1");
}

#[test]
fn a_node_without_ipv6_says_so_and_balances_by_ipv4() {
    let mut world = World::new();
    let node = world.node(1, TableGuard::Owned);
    let off = || fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1");
    inside(&node.netns, off).expect("enter").expect("switched off");
    let server = node.start("web-1", 2);

    let programmed = node.wait(node.network.program(&plan(&node, &[&server], &[]))).expect("programmed");

    let reason = programmed.ipv6_missing.expect("a reason");
    assert!(reason.contains("disable_ipv6"), "{reason}");
    assert_eq!(ask(&node.netns, service_address()).expect("reached").server, "web-1");
}

#[test]
fn the_ipv6_half_goes_without_a_trace_and_the_distributions_tool_lists_it_before() {
    let mut world = World::new();
    let node = dual(&mut world, 1);
    let server = node.start("web-1", 2);
    program(&node, &[&server], &[]);
    let listed = node.run("nft", &["list", "table", "ip6", "wherry"]).expect("listed");
    assert!(listed.contains("fd01:203:405::a2b:a"), "{listed}");
    assert!(node.run("ip", &["-6", "route"]).expect("routes").contains("fd01:203:405::a2b:0/112"));

    node.wait(node.network.remove_all()).expect("removed");

    assert!(node.run("nft", &["list", "table", "ip6", "wherry"]).is_err());
    for look in [["-6", "route"], ["-6", "addr"]] {
        let left = node.run("ip", &look).expect("a listing");
        assert!(!left.contains("fd01:203:405:"), "{left}");
    }
    let forwarding = inside(&node.netns, || fs::read_to_string("/proc/sys/net/ipv6/conf/all/forwarding"));
    assert_eq!(forwarding.expect("enter").expect("read").trim(), "0");
}

fn prefix() -> Ipv6Prefix {
    Ipv6Prefix::local([1, 2, 3, 4, 5])
}

fn embedded(address: Ipv4Addr) -> IpAddr {
    prefix().embed(address).into()
}

pub(crate) fn front() -> SocketAddr {
    SocketAddr::new(embedded(SERVICE), SERVICE_PORT)
}

/// The address of a member of the local network.
pub(crate) fn lan(number: u8) -> IpAddr {
    Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, number.into()).into()
}

/// A node with an IPv6 address on the local network.
pub(crate) fn dual(world: &mut World, number: u8) -> Node {
    let node = world.node(number, TableGuard::Owned);
    give_address(&node.netns, number);
    node
}

pub(crate) fn give_address(netns: &Path, number: u8) {
    ip(&["-n", netns_name(netns), "addr", "add", &format!("{}/64", lan(number)), "dev", "eth0", "nodad"])
        .expect("an address");
}

/// The service under test for both families.
pub(crate) fn plan(node: &Node, endpoints: &[&Instance], peers: &[&Node]) -> Plan {
    let mut plan = node.plan(endpoints, peers);
    plan.ipv6_prefix = Some(prefix());
    plan.services[0].ipv6 = true;
    for (peer, other) in plan.peers.iter_mut().zip(peers) {
        let found = other.wait(other.network.ipv6_address()).expect("read").expect("an address");
        assert_eq!(IpAddr::V6(found), lan(other.number));
        peer.ipv6_address = Some(found);
    }
    plan
}

/// Programs the service under test for both families.
pub(crate) fn program(node: &Node, endpoints: &[&Instance], peers: &[&Node]) {
    node.program(&plan(node, endpoints, peers));
}

/// Lets an instance answer by IPv6, too, once it has its address: on TCP with its name and whom it sees, on UDP with its name.
pub(crate) fn answer_as(instance: &Instance) {
    let (address, name) = (embedded(instance.address), instance.id.to_string());
    let bound = inside(&instance.netns, || {
        Ok::<_, io::Error>((TcpListener::bind((address, PORT))?, UdpSocket::bind((address, PORT))?))
    });
    let (listener, datagrams) = bound.expect("enter").expect("listening");
    let datagram_name = name.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let Ok(peer) = stream.peer_addr() else { continue };
            // The client sees it if this fails.
            let _ = stream.write_all(format!("{name} {}\n", peer.ip()).as_bytes());
        }
    });
    thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, peer)) = datagrams.recv_from(&mut buffer) {
            // As above.
            let _ = datagrams.send_to(datagram_name.as_bytes(), peer);
        }
    });
}

/// One connection: who answered, and whom it saw.
pub(crate) fn ask_v6(netns: &Path, to: SocketAddr) -> io::Result<(String, IpAddr)> {
    connect(netns, to).and_then(greet_v6)
}

/// Reads who answers, and whom it sees.
pub(crate) fn greet_v6(stream: TcpStream) -> io::Result<(String, IpAddr)> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    let (server, client) = line.trim().split_once(' ').ok_or_else(|| io::Error::other("nobody said anything"))?;
    Ok((server.to_owned(), client.parse().map_err(io::Error::other)?))
}

//! What instances may not do: speak in another's name, reach the node's own programs or a cloud's metadata, or ask whom
//! they may not.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket},
    time::Duration,
};

use agent_network::{Plan, TableGuard};
use api_types::{
    access::{Access, Source},
    container::Protocol,
    service::Service,
};
use tests_support::{
    netns::{self, inside},
    program::within,
};

use crate::{
    server::{Connection, PATIENCE, PORT, Server, ask, ask_by_datagram, connect, connect_within, datagram_client},
    world::{Instance, World, netns_name, service_address},
};

/// What is dropped is asked for again without end, and must not take a test that long.
const DROPPED: Duration = Duration::from_millis(1500);

#[test]
fn an_instance_sends_from_its_own_address_only() {
    let mut world = World::new();
    let node = world.node(1, TableGuard::Owned);
    let [victim, forger, server] = [node.start("web-1", 2), node.start("forger-1", 3), node.start("api-1", 4)];
    node.serve(&[&server], &[]);
    let lent = format!("{}/32", victim.address);
    assert!(within(Some(&forger.netns), &["ip", "addr", "add", &lent, "dev", "lo"]).status().expect("ip").success());
    let heard = inside(&server.netns, || UdpSocket::bind((server.address, 9))).expect("enter").expect("a socket");
    heard.set_read_timeout(Some(PATIENCE)).expect("a limit");

    for (source, word) in [(victim.address, b"forged"), (forger.address, b"honest")] {
        let socket = inside(&forger.netns, || UdpSocket::bind((source, 0))).expect("enter").expect("a socket");
        socket.send_to(word, (server.address, 9)).expect("sent");
    }

    // Both took the same way in order, so what comes first is all that came before.
    let mut word = [0; 6];
    let (_, sender) = heard.recv_from(&mut word).expect("a datagram");
    assert_eq!((&word, sender.ip()), (b"honest", forger.address.into()));
}

#[test]
fn an_instance_claims_no_address_on_its_link() {
    let mut world = World::new();
    let node = world.node(1, TableGuard::Owned);
    let instance = node.start("web-1", 2);
    node.serve(&[&instance], &[]);
    let link = node.links().into_iter().map(|(_, name)| name).find(|name| name.starts_with("wh-")).expect("a link");

    let shown = node.run("ip", &["-o", "link", "show", &link]).expect("shown");
    let addresses = node.run("ip", &["-o", "-6", "address", "show", "dev", &link]).expect("listed");

    assert!(shown.contains("NOARP"), "{shown}");
    assert_eq!(addresses, "", "by such an address an instance would reach what listens on all of them");
}

#[test]
fn an_instance_reaches_no_program_of_its_node_but_names_and_what_is_opened() {
    let mut world = World::new();
    let mut node = world.node(1, TableGuard::Owned);
    node.settings.node_ports = vec![(Protocol::Tcp, 5432)];
    node.restart();
    let instance = node.start("web-1", 2);
    node.serve(&[&instance], &[]);
    let own = Ipv4Addr::new(10, 42, 1, 1);
    let listen =
        |address, port| inside(&node.netns, || TcpListener::bind((address, port))).expect("enter").expect("bound");
    let _programs = [(Ipv4Addr::UNSPECIFIED, 7443), (Ipv4Addr::UNSPECIFIED, 5432), (own, 53)]
        .map(|(address, port)| listen(address, port));

    for address in [node.address(), own] {
        let refused = connect(&instance.netns, (address, 7443)).expect_err("the node's own program");
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        connect(&instance.netns, (address, 5432)).expect("opened by the node's settings");
    }
    connect(&instance.netns, (own, 53)).expect("names");
    assert!(connect(&instance.netns, (node.address(), 53)).is_err(), "names are on one address only");
    connect(&node.netns, (node.address(), 7443)).expect("the node itself");
    assert_eq!(ask(&instance.netns, node.published()).expect("a published port").server, "web-1");
    assert_eq!(ask(&node.netns, instance.at()).expect("the node asks its instance").server, "web-1");
}

#[test]
fn an_instance_reaches_other_nodes_by_what_they_publish_only() {
    let mut world = World::new();
    let outside = world.outsider();
    let [here, there] = [1, 2].map(|number| world.node(number, TableGuard::Owned));
    let (client, server) = (here.start("client-1", 2), there.start("web-1", 2));
    here.serve(&[&server], &[&there]);
    there.serve(&[&server], &[&here]);
    let _program = inside(&there.netns, || TcpListener::bind(("0.0.0.0", 7443))).expect("enter").expect("bound");
    let _world = Server::start(&outside, "outside");

    // The first two addresses of its range are the other node's own as well.
    for address in [there.address(), [10, 42, 2, 1].into()] {
        let refused = connect(&client.netns, (address, 7443)).expect_err("another node's own program");
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{address}");
    }
    connect(&here.netns, (there.address(), 7443)).expect("its node may");
    assert_eq!(ask(&client.netns, there.published()).expect("a published port").server, "web-1");
    assert_eq!(ask(&client.netns, server.at()).expect("an instance there").server, "web-1");
    let far = SocketAddrV4::new([10, 99, 0, 100].into(), PORT);
    assert_eq!(ask(&client.netns, far).expect("the world outside").server, "outside");
}

#[test]
fn an_instance_reaches_no_metadata_of_a_cloud() {
    let mut world = World::new();
    let outside = world.outsider();
    let node = world.node(1, TableGuard::Owned);
    let instance = node.start("web-1", 2);
    node.serve(&[&instance], &[]);
    let (outside_name, node_name) = (netns_name(&outside), netns_name(&node.netns));
    let _server = Server::start(&outside, "metadata");
    for address in ["169.254.169.254", "100.100.100.200"] {
        netns::ip(&["-n", outside_name, "addr", "add", &format!("{address}/32"), "dev", "lo"]).expect("an address");
        netns::ip(&["-n", node_name, "route", "add", address, "via", "10.99.0.100"]).expect("a route");
        let metadata: Ipv4Addr = address.parse().expect("an address");

        let refused = connect(&instance.netns, (metadata, PORT)).expect_err("a cloud's secrets");

        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        assert_eq!(ask(&node.netns, SocketAddrV4::new(metadata, PORT)).expect("the node may").server, "metadata");
    }
}

#[test]
fn a_workload_admits_whom_it_names_on_every_way() {
    let mut world = World::new();
    let outside = world.outsider();
    let [here, there] = [1, 2].map(|number| world.node(number, TableGuard::Owned));
    let [server, friend, stranger, newcomer] =
        [("web-1", 2), ("friend-1", 3), ("stranger-1", 4), ("new-1", 5)].map(|(name, last)| here.start(name, last));
    let [far_friend, far_stranger] = [("friend-2", 2), ("stranger-2", 3)].map(|(name, last)| there.start(name, last));
    let members: [Member<'_>; 3] = [
        ("default/web", Some(&["namespace:friends"]), &[&server]),
        ("friends/app", None, &[&friend, &far_friend]),
        ("others/app", None, &[&stranger, &far_stranger]),
    ];
    here.program(&restricted(here.plan(&[&server], &[&there]), &members));
    there.program(&restricted(there.plan(&[&server], &[&here]), &members));

    for admitted in [&friend, &far_friend, &server] {
        assert_eq!(ask(&admitted.netns, server.at()).expect("directly").server, "web-1");
        assert_eq!(ask(&admitted.netns, service_address()).expect("by the service").server, "web-1");
        let datagrams = datagram_client(&admitted.netns, service_address());
        assert_eq!(ask_by_datagram(&datagrams).expect("by datagram"), "web-1");
    }
    for refused in [&stranger, &far_stranger] {
        for to in [server.at(), service_address()] {
            let dropped = connect_within(&refused.netns, to, DROPPED).expect_err("not admitted");
            assert_eq!(dropped.kind(), ErrorKind::TimedOut);
        }
        assert_eq!(ask(&server.netns, refused.at()).expect("the other way is open").server, refused.id.as_str());
    }
    assert_eq!(ask(&outside, here.published()).expect("from outside by the port's own rules").server, "web-1");
    assert_eq!(ask(&here.netns, service_address()).expect("the node itself").server, "web-1");
    let unknown =
        connect_within(&friend.netns, newcomer.at(), DROPPED).expect_err("one that the table does not name yet");
    assert_eq!(unknown.kind(), ErrorKind::TimedOut);
}

#[test]
fn who_is_admitted_changes_by_elements_and_cuts_nobody_off() {
    let mut world = World::new();
    let node = world.node(1, TableGuard::Watched);
    let [server, client] = [node.start("web-1", 2), node.start("app-1", 3)];
    let plan = |allow: Option<&[&str]>| {
        restricted(node.plan(&[&server], &[]), &[("default/web", allow, &[&server]), ("shop/app", None, &[&client])])
    };
    node.program(&plan(Some(&["shop/app"])));
    let mut connection = Connection::open(&client.netns, service_address()).expect("admitted");
    let handle = || node.run("nft", &["-a", "list", "chain", "ip", "wherry", "admission"]).expect("listed");
    let before = handle();

    node.program(&plan(Some(&[])));
    let refused = connect_within(&client.netns, service_address(), DROPPED).expect_err("no longer admitted");
    connection.echo().expect("an open connection goes on");
    node.program(&plan(Some(&["*"])));
    connect(&client.netns, server.at()).expect("everybody is");
    node.program(&plan(None));
    connect(&client.netns, server.at()).expect("nothing is said");

    assert_eq!(refused.kind(), ErrorKind::TimedOut);
    assert_eq!(handle(), before, "the rules were not loaded anew");
    assert!(!node.wait(node.network.verify()).expect("verified").repaired);
    for sabotage in [["flush", "set", "ip", "wherry", "admitted"], ["flush", "chain", "ip", "wherry", "leaving"]] {
        node.program(&plan(Some(&["shop/app"])));
        node.run("nft", &sabotage).expect("sabotage");
        assert!(node.wait(node.network.verify()).expect("verified").repaired, "{sabotage:?}");
        connect(&client.netns, server.at()).expect("admitted again");
    }
}

/// A workload, whom it admits, and its instances.
type Member<'a> = (&'a str, Option<&'a [&'a str]>, &'a [&'a Instance]);

/// The plan, in which workloads admit only some others; the first is the service under test.
fn restricted(mut plan: Plan, members: &[Member<'_>]) -> Plan {
    let access = |allow: Option<&[&str]>, instances: &[&Instance]| Access {
        allow_from: allow
            .map(|sources| sources.iter().map(|source| source.parse::<Source>().expect("a source")).collect()),
        instances: instances.iter().map(|instance| instance.address).collect(),
    };
    for (index, (id, allow, instances)) in members.iter().enumerate() {
        let access = Some(access(*allow, instances));
        if index == 0 {
            plan.services[0].access = access;
            continue;
        }
        let id = id.parse().expect("a name");
        let (ports, endpoints, address) = (Vec::new(), Vec::new(), Ipv4Addr::UNSPECIFIED);
        plan.services.push(Service {
            id,
            address,
            ports,
            endpoints,
            access,
            balance: Default::default(),
            ipv6: false,
            across_sites: false,
            counts_requests: false,
        });
    }
    plan
}

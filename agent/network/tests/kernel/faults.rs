//! What others do to the node, and what stands in the way of a plan.

use std::{
    net::{SocketAddrV4, TcpListener, TcpStream},
    time::Duration,
};

use agent_network::{Firewall, Network, PortConflict, TableGuard};
use api_types::{container::Protocol, net::Cidr, service::Peer};
use tests_support::{
    netns::{inside, ip},
    wait::wait_until,
};

use crate::{
    others::DOCKERS,
    server::{PATIENCE, Server, ask, connect_within},
    world::{FAR, Node, PUBLISHED, World, netns_name, service_address},
};

#[test]
fn a_flushed_table_is_restored() {
    let mut world = World::new();
    let node = world.node(1, TableGuard::Watched);
    let instance = node.start("web-1", 2);
    node.serve(&[&instance], &[]);
    assert!(!node.wait(node.network.verify()).expect("verified").repaired);
    let sabotages: [&[&str]; 4] = [
        &["flush", "ruleset"],
        &["flush", "chain", "ip", "wherry", "nat_output"],
        &["flush", "map", "ip", "wherry", "slots"],
        &["add", "element", "ip", "wherry", "known", "{ 10.43.0.99 . tcp . 1 }"],
    ];

    for sabotage in sabotages {
        node.run("nft", sabotage).expect("sabotage");

        assert!(node.wait(node.network.verify()).expect("verified").repaired, "{sabotage:?}");
        assert_eq!(ask(&node.netns, service_address()).expect("an answer").server, "web-1");
        assert!(!node.wait(node.network.verify()).expect("verified").repaired, "after {sabotage:?}");
    }
}

#[test]
fn tables_of_others_are_none_of_our_business() {
    let mut world = World::new();
    let node = world.node(1, TableGuard::Watched);
    let instance = node.start("web-1", 2);
    node.run("nft", &["add", "table", "ip", "foreign"]).expect("a table");
    node.serve(&[&instance], &[]);
    node.run("nft", &["add", "chain", "ip", "foreign", "theirs"]).expect("a chain");

    assert!(!node.wait(node.network.verify()).expect("verified").repaired);
    node.wait(node.network.remove_all()).expect("removed");
    assert!(node.run("nft", &["list", "table", "ip", "foreign"]).expect("listed").contains("theirs"));
}

#[test]
fn a_table_that_drops_what_is_forwarded_is_opened_or_named() {
    let commands = [
        DOCKERS,
        // As ufw leaves it.
        "add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }",
    ];
    for (command, owners) in commands.into_iter().zip(["DOCKER-USER", "FORWARD"]) {
        for firewall in [Firewall::Open, Firewall::Respect] {
            let mut world = World::new();
            let outside = world.outsider();
            let mut node = world.node(1, TableGuard::Owned);
            node.settings.firewall = firewall;
            node.restart();
            let instance = node.start("web-1", 2);
            node.serve(&[&instance], &[]);
            node.run("nft", &[command]).expect("another program");

            let verified = node.wait(node.network.verify()).expect("verified");

            let rules = node.run("nft", &["list", "chain", "ip", "filter", owners]).expect("listed");
            assert_eq!(
                rules.matches("\"wh-*\" accept").count(),
                if firewall == Firewall::Open { 2 } else { 0 },
                "{rules}"
            );
            if firewall == Firewall::Open {
                assert_eq!(verified.programmed.dropped_by, Vec::<String>::new());
                assert_eq!(ask(&outside, node.published()).expect("it passes").server, "web-1");
                assert_eq!(node.wait(node.network.verify()).expect("verified").programmed, Default::default());
                let again = node.run("nft", &["list", "chain", "ip", "filter", owners]).expect("listed");
                assert_eq!(again, rules, "once is enough");
            } else {
                let rule = |what: &str| format!("iptables -I {owners} {what} -j ACCEPT");
                let line = ["-i wh-+", "-o wh-+", "-s 10.42.0.0/16", "-d 10.42.0.0/16"].map(rule).join("; ");
                let [named] = verified.programmed.dropped_by.as_slice() else { panic!("{verified:?}") };
                assert!(
                    named.starts_with("chain FORWARD of table ip filter drops") && named.ends_with(&line),
                    "{named}"
                );
            }
        }
    }
}

#[test]
fn a_dropping_table_that_is_not_of_iptables_is_named_until_it_is_mended() {
    let mut world = World::new();
    let node = world.node(1, TableGuard::Owned);
    node.serve(&[], &[]);
    let command =
        "add table inet site; add chain inet site gate { type filter hook forward priority 10; policy drop; }";
    node.run("nft", &[command]).expect("another program");

    let named = node.wait(node.network.verify()).expect("verified").programmed.dropped_by;
    let mending = named[0].split_once("lets it pass: ").expect("a line that mends it").1.replace("nft ", "");
    node.run("nft", &[&mending]).expect("it is a command");

    assert!(named[0].starts_with("chain gate of table inet site drops"), "{named:?}");
    assert_eq!(node.wait(node.network.verify()).expect("verified").programmed.dropped_by, Vec::<String>::new());
}

#[test]
fn a_flush_by_others_leaves_an_owned_table() {
    let mut world = World::new();
    let node = world.node(1, TableGuard::Owned);
    let instance = node.start("web-1", 2);
    node.serve(&[&instance], &[]);

    node.run("nft", &["flush", "ruleset"]).expect("flushed");

    assert_eq!(ask(&node.netns, service_address()).expect("an answer").server, "web-1");
    assert!(!node.wait(node.network.verify()).expect("verified").repaired);
    assert!(node.run("nft", &["delete", "table", "ip", "wherry"]).is_err());
}

#[test]
fn an_owned_table_and_a_plain_one_replace_each_other() {
    let mut world = World::new();
    let mut node = world.node(1, TableGuard::Owned);
    let instance = node.start("web-1", 2);
    for guard in [TableGuard::Owned, TableGuard::Watched, TableGuard::Owned] {
        node.settings.table_guard = guard;
        node.restart();
        node.serve(&[&instance], &[]);

        assert_eq!(ask(&node.netns, service_address()).expect("an answer").server, "web-1");
    }
}

#[test]
fn routes_and_forwarding_that_others_change_are_restored() {
    let mut world = World::new();
    let [here, there] = [1, 2].map(|number| world.node(number, TableGuard::Owned));
    let server = there.start("web-1", 2);
    there.serve(&[&server], &[&here]);
    here.serve(&[&server], &[&there]);
    let netns = netns_name(&here.netns);
    ip(&["-n", netns, "route", "del", "10.42.2.0/24"]).expect("sabotage");
    ip(&["-n", netns, "route", "del", "10.43.0.0/16"]).expect("sabotage");
    here.run("sh", &["-c", "echo 0 > /proc/sys/net/ipv4/ip_forward"]).expect("sabotage");

    assert!(here.wait(here.network.verify()).expect("verified").repaired);

    assert_eq!(ask(&here.netns, service_address()).expect("an answer").server, "web-1");
    assert_eq!(here.run("cat", &["/proc/sys/net/ipv4/ip_forward"]).expect("a switch").trim(), "1");
    assert!(!here.wait(here.network.verify()).expect("verified").repaired);
}

#[test]
fn a_node_becomes_no_router_for_others_but_stays_one() {
    for (before, passes) in [("0", false), ("1", true)] {
        let mut world = World::new();
        let outside = world.outsider();
        let node = world.node(1, TableGuard::Owned);
        let instance = node.start("web-1", 2);
        let far = world.behind(&node, &outside);
        let _server = Server::start(&far, "far");
        node.run("sh", &["-c", &format!("echo {before} > /proc/sys/net/ipv4/ip_forward")]).expect("a switch");

        node.serve(&[&instance], &[]);

        // What passes may take its time; what is dropped is asked for again without end, and must not take a test that long.
        let limit = if passes { PATIENCE } else { Duration::from_secs(1) };
        assert_eq!(connect_within(&outside, FAR, limit).is_ok(), passes, "forwarding was {before}");
        assert_eq!(ask(&outside, node.published()).expect("an answer").server, "web-1");
    }
}

#[test]
fn a_port_that_a_program_holds_is_named_and_taken_when_it_is_free() {
    let mut world = World::new();
    let outside = world.outsider();
    let node = world.node(1, TableGuard::Owned);
    let instance = node.start("web-1", 2);
    let squatter = inside(&node.netns, || TcpListener::bind(("0.0.0.0", PUBLISHED))).expect("enter").expect("bound");

    let programmed = node.wait(node.network.program(&node.plan(&[&instance], &[]))).expect("programmed");

    let [PortConflict { port: PUBLISHED, protocol: Protocol::Tcp, owner }] = programmed.port_conflicts.as_slice()
    else {
        panic!("{programmed:?}");
    };
    assert!(owner.ends_with(&format!("(pid {})", std::process::id())), "{owner}");
    assert_eq!(ask(&node.netns, service_address()).expect("the address still balances").server, "web-1");
    drop(squatter);
    // A program that another test is just starting holds a copy of what was open here, for a moment.
    wait_until(PATIENCE, || node.wait(node.network.verify()).expect("verified").programmed.port_conflicts.is_empty());
    assert_eq!(ask(&outside, node.published()).expect("an answer").server, "web-1");
    // It is reserved now, or by the next look if it was held until after this one.
    wait_until(PATIENCE, || {
        node.wait(node.network.verify()).expect("verified");
        inside(&node.netns, || TcpListener::bind(("0.0.0.0", PUBLISHED))).expect("enter").is_err()
    });
}

#[test]
fn a_program_on_loopback_alone_keeps_its_port_there() {
    let mut world = World::new();
    let node = world.node(1, TableGuard::Owned);
    let instance = node.start("web-1", 2);
    let local = inside(&node.netns, || TcpListener::bind(("127.0.0.1", PUBLISHED))).expect("enter").expect("bound");

    node.serve(&[&instance], &[]);

    assert_eq!(ask(&node.netns, node.published()).expect("an answer").server, "web-1");
    let to = SocketAddrV4::new([127, 0, 0, 1].into(), PUBLISHED);
    let client = inside(&node.netns, || TcpStream::connect(to)).expect("enter").expect("connected");
    let (_, peer) = local.accept().expect("the local program has it");
    assert_eq!(peer, client.local_addr().expect("an address"));
}

#[test]
fn two_services_that_ask_for_one_port_are_named() {
    let mut world = World::new();
    let node = world.node(1, TableGuard::Owned);
    let instance = node.start("web-1", 2);
    let mut plan = node.plan(&[&instance], &[]);
    let mut other = plan.services[0].clone();
    other.id = "api".parse().expect("a name");
    other.address = [10, 43, 0, 11].into();
    plan.services.push(other);

    let programmed = node.wait(node.network.program(&plan)).expect("programmed");

    let [conflict] = programmed.port_conflicts.as_slice() else { panic!("{programmed:?}") };
    assert_eq!((conflict.port, conflict.owner.as_str()), (PUBLISHED, "service web and service api"));
}

#[test]
fn a_peer_that_moved_behind_a_router_is_named_until_it_is_back() {
    let mut world = World::new();
    let [here, there] = [1, 2].map(|number| world.node(number, TableGuard::Owned));
    here.serve(&[], &[&there]);
    let way = ["route", "add", "10.99.0.2/32", "via", "10.99.0.254"];
    here.run("ip", &way).expect("a route");

    let moved = here.wait(here.network.verify()).expect("verified").programmed;
    here.run("ip", &["route", "del", "10.99.0.2/32"]).expect("no route");
    let back = here.wait(here.network.verify()).expect("verified").programmed;

    let [unreachable] = moved.unreachable_peers.as_slice() else { panic!("{moved:?}") };
    assert!(unreachable.reason.contains("wherry site set SITE --reach vxlan"), "{unreachable:?}");
    assert_eq!(back.unreachable_peers, []);
}

#[test]
fn a_peer_behind_a_router_is_named_and_the_rest_works() {
    let mut world = World::new();
    let [here, there] = [1, 2].map(|number| world.node(number, TableGuard::Owned));
    let server = there.start("web-1", 2);
    there.serve(&[&server], &[&here]);
    let mut plan = here.plan(&[&server], &[&there]);
    let far = Peer {
        node: "far".parse().expect("a name"),
        address: [10, 0, 5, 2].into(),
        ipv6_address: None,
        subnet: Cidr::new([10, 42, 9, 0].into(), 24).expect("a range"),
        ..there.peer()
    };
    plan.peers.push(far.clone());

    let programmed = here.wait(here.network.program(&plan)).expect("programmed");

    let [unreachable] = programmed.unreachable_peers.as_slice() else { panic!("{programmed:?}") };
    assert_eq!(unreachable.node, far.node);
    assert!(unreachable.reason.starts_with("10.0.5.2 is not on a directly connected network"), "{unreachable:?}");
    assert_eq!(ask(&here.netns, service_address()).expect("an answer").server, "web-1");
}

#[test]
fn the_distributions_nft_lists_our_table() {
    let mut world = World::new();
    let node = world.node(1, TableGuard::Owned);
    let instance = node.start("web-1", 2);
    node.serve(&[&instance], &[]);

    let listed = node.run("nft", &["list", "ruleset"]).expect("a listing");

    let expected = [
        "10.43.0.10 . tcp . 80 : goto r1",
        "10.43.0.10 . tcp . 80 . 0x00000000 : 10.42.1.2 . 8080",
        "tcp . 30080 : goto p1",
        "numgen random mod 64",
        "type nat hook prerouting priority dstnat; policy accept;",
        "masquerade fully-random",
        "reject with tcp reset",
    ];
    for line in expected {
        assert!(listed.contains(line), "`{line}` is not in:\n{listed}");
    }
    node.run("nft", &["-j", "list", "ruleset"]).expect("a listing as JSON");
}

#[test]
fn the_self_check_tells_a_kernel_that_balances_from_one_that_does_not() {
    let mut world = World::new();
    let node = world.node(1, TableGuard::Watched);
    assert!(check(&node).is_err(), "there is no plan yet");
    let instance = node.start("web-1", 2);
    node.serve(&[&instance], &[]);
    let links = node.links();

    check(&node).expect("balancing works");
    for chain in ["nat_output", "nat_prerouting", "nat_postrouting", "r1"] {
        node.run("nft", &["flush", "chain", "ip", "wherry", chain]).expect("sabotage");
        let problem = check(&node).expect_err("balancing does not work");
        assert!(problem.contains("test service"), "{problem}");
        assert!(node.wait(node.network.verify()).expect("verified").repaired, "{chain}");
    }
    check(&node).expect("balancing works again");

    assert_eq!(node.links(), links, "the check left something");
    assert!(!node.wait(node.network.verify()).expect("verified").repaired, "the check left elements");
}

#[test]
fn a_setting_that_cannot_work_is_named() {
    let mut world = World::new();
    let node = world.node(1, TableGuard::Owned);
    let mut settings = node.settings.clone();
    settings.interface_prefix = "much-too-long".to_owned();

    let error = Network::new(settings).expect_err("refused");

    assert_eq!(
        error.to_string(),
        "network setting `interface_prefix`: use 1 to 5 letters, digits, hyphens or underscores"
    );
}

fn check(node: &Node) -> Result<String, String> {
    node.wait(node.network.self_check())
}

//! Programs beside ours that drop and forward what goes by IPv6: the same is seen and done as by IPv4.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener},
    path::PathBuf,
    time::Duration,
};

use agent_network::Firewall;
use tests_support::netns::{inside, ip};

use crate::{
    door::ufw,
    ipv6::{self, answer_as, ask_v6, dual, give_address, lan},
    others::DOCKERS,
    server::{PATIENCE, PORT, ask, connect_within},
    world::{Instance, Node, PUBLISHED, World, netns_name},
};

/// As ufw leaves it.
const UFWS: &str =
    "add table ip6 filter; add chain ip6 filter FORWARD { type filter hook forward priority 0; policy drop; }";
/// The machine behind the node.
const FAR: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0xfd98, 0, 0, 0, 0, 0, 0, 2)), PORT);

#[test]
fn what_ip6tables_drops_is_opened() {
    for (command, owners) in [(dockers().as_str(), "DOCKER-USER"), (UFWS, "FORWARD")] {
        let mut world = World::new();
        let pair = Pair::new(&mut world, Firewall::Open);
        pair.here.run("nft", &[command]).expect("another program");

        assert_eq!(pair.dropped_by(), [""; 0]);

        assert_eq!(ask_v6(&pair.outside, published()).expect("it passes to the other node").0, "web-1");
        assert_eq!(pair.dropped_by(), [""; 0]);
        let rules = pair.here.run("ip6tables", &["-S", owners]).expect("ip6tables reads its table");
        let ours = ["-i wh-+", "-o wh-+", "-s fd01:203:405::a2a:0/112", "-d fd01:203:405::a2a:0/112"];
        for rule in ours.map(|what| format!("-A {owners} {what} -m comment --comment wherry -j ACCEPT")) {
            assert_eq!(rules.matches(&rule).count(), 1, "`{rule}` is once in:\n{rules}");
        }
    }
}

#[test]
fn what_ip6tables_drops_is_named_until_it_is_mended_where_others_tables_are_respected() {
    for (command, owners) in [(dockers().as_str(), "DOCKER-USER"), (UFWS, "FORWARD")] {
        let mut world = World::new();
        let pair = Pair::new(&mut world, Firewall::Respect);
        pair.here.run("nft", &[command]).expect("another program");

        let named = pair.dropped_by();

        let [line] = named.as_slice() else { panic!("{named:?}") };
        let rule = |what: &str| format!("ip6tables -I {owners} {what} -j ACCEPT");
        let rules = ["-i wh-+", "-o wh-+", "-s fd01:203:405::a2a:0/112", "-d fd01:203:405::a2a:0/112"].map(rule);
        let what = "chain FORWARD of table ip6 filter drops what instances send and get; this lets it pass";
        assert_eq!(*line, format!("{what}: {}", rules.join("; ")));
        pair.mend(line);
        assert_eq!(pair.dropped_by(), [""; 0]);
        assert_eq!(ask_v6(&pair.outside, published()).expect("it passes to the other node").0, "web-1");
    }
}

#[test]
fn a_table_of_both_versions_is_named_once_and_what_mends_it_mends_both() {
    let mut world = World::new();
    let pair = Pair::new(&mut world, Firewall::Open);
    let hook = "type filter hook forward priority 10; policy drop;";
    pair.here.run("nft", &[&format!("add table inet site; add chain inet site gate {{ {hook} }}")]).expect("a table");

    let named = pair.dropped_by();

    let [line] = named.as_slice() else { panic!("{named:?}") };
    assert!(line.starts_with("chain gate of table inet site drops"), "{line}");
    pair.mend(line);
    assert_eq!(pair.dropped_by(), [""; 0]);
    assert_eq!(ask_v6(&pair.outside, published()).expect("by IPv6").0, "web-1");
    assert_eq!(ask(&pair.outside, pair.here.published()).expect("by IPv4").server, "web-1");
}

#[test]
fn ufw_drops_nothing_of_ours_by_either_version() {
    let mut world = World::new();
    let pair = Pair::new(&mut world, Firewall::Open);

    ufw(&pair.here.netns, "ufw status verbose");
    let policy = |program| pair.here.run(program, &["-S", "FORWARD"]).expect("a listing");
    let policies = ["iptables", "ip6tables"].map(policy);

    assert!(policies.iter().all(|listed| listed.contains("-P FORWARD DROP")), "ufw drops by both: {policies:?}");
    assert_eq!(pair.dropped_by(), [""; 0]);
    assert_eq!(ask_v6(&pair.outside, published()).expect("by IPv6").0, "web-1");
    assert_eq!(ask(&pair.outside, pair.here.published()).expect("by IPv4").server, "web-1");
}

#[test]
fn rules_in_ip6tables_go_when_nothing_asks_for_ipv6_and_with_us_while_those_of_the_owner_stay() {
    let mut world = World::new();
    let mut node = dual(&mut world, 1);
    let instance = node.start("web-1", 2);
    node.run("nft", &[&dockers()]).expect("another program");
    let are_there = |node: &Node| {
        let rules = node.run("ip6tables", &["-S"]).expect("ip6tables reads its table");
        rules.contains("-A DOCKER-USER -i wh-+")
    };
    ipv6::program(&node, &[&instance], &[]);
    assert!(are_there(&node));

    node.serve(&[&instance], &[]);
    assert!(!are_there(&node), "nothing asks for IPv6");
    ipv6::program(&node, &[&instance], &[]);
    assert!(are_there(&node));
    node.run("ip6tables", &["-A", "FORWARD", "-i", "wh-+", "-j", "ACCEPT"]).expect("a rule of the owner");
    // As an agent leaves that was started for that alone.
    node.restart();
    node.wait(node.network.remove_all()).expect("removed");

    assert!(!are_there(&node));
    let left = node.run("ip6tables", &["-S", "FORWARD"]).expect("ip6tables reads its table");
    assert!(left.contains("-A FORWARD -i wh-+ -j ACCEPT"), "{left}");
    assert!(node.run("nft", &["list", "table", "ip6", "wherry"]).is_err(), "the table is gone");
    for look in [["-6", "route"], ["-6", "addr"]] {
        let left = node.run("ip", &look).expect("a listing");
        assert!(!left.contains("fd01:203:405:"), "{left}");
    }
}

#[test]
fn an_agent_that_starts_where_nothing_asks_for_ipv6_any_more_clears_its_half_away() {
    let mut world = World::new();
    let mut node = dual(&mut world, 1);
    let instance = node.start("web-1", 2);
    ipv6::program(&node, &[&instance], &[]);

    node.restart();
    node.serve(&[&instance], &[]);

    assert!(node.run("nft", &["list", "table", "ip6", "wherry"]).is_err(), "the table is gone");
    assert!(!node.run("ip", &["-6", "route"]).expect("routes").contains("fd01:203:405:"));
    assert!(!node.wait(node.network.verify()).expect("verified").repaired, "once is enough");
}

#[test]
fn what_another_program_forwards_and_guards_by_ipv6_is_left_to_it() {
    let mut world = World::new();
    let between = Between::new(&mut world);
    let node = &between.node;

    assert!(!between.passes(Duration::from_secs(1)), "the node was no router");
    node.run("nft", &[&dockers()]).expect("another program starts after ours");
    for (from, to) in [("eth0", "eth1"), ("eth1", "eth0")] {
        let rule = format!("insert rule ip6 filter FORWARD iifname {from} oifname {to} accept");
        node.run("nft", &[&rule]).expect("a rule of its own");
    }
    node.wait(node.network.verify()).expect("verified");
    assert!(between.passes(PATIENCE), "its own rules let it pass");

    node.run("nft", &["delete table ip6 filter"]).expect("the other program is gone");
    node.wait(node.network.verify()).expect("verified");
    assert!(!between.passes(Duration::from_secs(1)), "nobody else guards what is forwarded");
}

#[test]
fn what_another_program_forwards_by_ipv6_for_its_own_links_is_left_to_it() {
    let mut world = World::new();
    let between = Between::new(&mut world);
    let node = &between.node;

    // dockerd drops by policy only if nobody forwarded before it.
    node.run("nft", &[&dockers().replace("policy drop", "policy accept")]).expect("another program");
    node.wait(node.network.verify()).expect("verified");
    assert!(!between.passes(Duration::from_secs(1)), "it speaks of no link");
    node.run("nft", &["add rule ip6 filter FORWARD oifname eth1 counter accept"]).expect("a rule of its own");
    node.wait(node.network.verify()).expect("verified");

    assert!(between.passes(PATIENCE), "eth1 is a link of its");
    assert!(!node.wait(node.network.verify()).expect("verified").repaired, "nothing changes while nothing changes");
}

/// As dockerd leaves it with ip6tables on nftables.
fn dockers() -> String {
    DOCKERS.replace("ip filter", "ip6 filter")
}

/// The first node's published port.
fn published() -> SocketAddr {
    SocketAddr::new(lan(1), PUBLISHED)
}

/// Two nodes and somebody outside, who asks the first for what is served on the second.
struct Pair {
    outside: PathBuf,
    here: Node,
    _there: (Node, Instance),
}

impl Pair {
    fn new(world: &mut World, firewall: Firewall) -> Self {
        let outside = world.outsider();
        give_address(&outside, 100);
        let [mut here, there] = [1, 2].map(|number| dual(world, number));
        here.settings.firewall = firewall;
        here.restart();
        let server = there.start("web-1", 2);
        ipv6::program(&here, &[&server], &[&there]);
        ipv6::program(&there, &[&server], &[&here]);
        answer_as(&server);
        Self { outside, here, _there: (there, server) }
    }

    /// Who drops what instances send and get, as the first node says.
    fn dropped_by(&self) -> Vec<String> {
        self.here.wait(self.here.network.verify()).expect("verified").programmed.dropped_by
    }

    /// Does what the first node says.
    fn mend(&self, line: &str) {
        let (_, commands) = line.split_once("lets it pass: ").expect("what mends it");
        self.here.run("sh", &["-c", &format!("set -e; {commands}")]).expect("what the condition says");
    }
}

/// A node between a machine outside and one behind it, which serves an instance of ours by IPv6.
struct Between {
    node: Node,
    outside: PathBuf,
    _instance: Instance,
    _server: TcpListener,
}

impl Between {
    fn new(world: &mut World) -> Self {
        let outside = world.outsider();
        give_address(&outside, 100);
        let node = dual(world, 1);
        let far = world.behind(&node, &outside);
        for (netns, link, address) in [(&node.netns, "eth1", "fd98::1/64"), (&far, "eth0", "fd98::2/64")] {
            ip(&["-n", netns_name(netns), "addr", "add", address, "dev", link, "nodad"]).expect("an address");
        }
        ip(&["-n", netns_name(&far), "route", "add", "default", "via", "fd98::1"]).expect("a route");
        let first = lan(1).to_string();
        ip(&["-n", netns_name(&outside), "route", "add", "fd98::/64", "via", &first]).expect("a route");
        let server = inside(&far, || TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT))).expect("enter").expect("bound");
        let instance = node.start("web-1", 2);
        ipv6::program(&node, &[&instance], &[]);
        Self { node, outside, _instance: instance, _server: server }
    }

    /// Whether a connection passes through the node within this time.
    fn passes(&self, limit: Duration) -> bool {
        connect_within(&self.outside, FAR, limit).is_ok()
    }
}

//! Programs beside ours that look after the same kernel: what is theirs is left to them, and what was set for ours goes with it.

use std::{path::PathBuf, time::Duration};

use agent_network::{Switched, TableGuard};

use crate::{
    ipv6,
    server::{PATIENCE, Server, ask, connect_within},
    world::{FAR, Instance, Node, World},
};

/// As dockerd leaves it with iptables on nftables.
pub(crate) const DOCKERS: &str = "add table ip filter; add chain ip filter DOCKER-USER; \
     add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }; \
     add rule ip filter FORWARD counter jump DOCKER-USER";

#[test]
fn what_another_program_forwards_and_guards_is_left_to_it() {
    let mut world = World::new();
    let between = Between::new(&mut world);
    let node = &between.node;

    node.run("nft", &[DOCKERS]).expect("another program starts after ours");
    node.wait(node.network.verify()).expect("verified");
    assert!(!between.passes(Duration::from_secs(1)), "its own rules do not let it pass");
    node.run("nft", &["insert rule ip filter FORWARD iifname eth0 oifname eth1 accept"]).expect("a rule of its own");
    node.run("nft", &["insert rule ip filter FORWARD iifname eth1 oifname eth0 accept"]).expect("a rule of its own");

    node.wait(node.network.verify()).expect("verified");
    assert!(between.passes(PATIENCE), "its own rules let it pass");
    assert_eq!(ask(&between.outside, node.published()).expect("and ours").server, "web-1");
    node.run("nft", &["delete table ip filter"]).expect("the other program is gone");
    node.wait(node.network.verify()).expect("verified");
    assert!(!between.passes(Duration::from_secs(1)), "nobody else guards what is forwarded");
}

#[test]
fn what_another_program_forwards_for_its_own_links_is_left_to_it() {
    let mut world = World::new();
    let between = Between::new(&mut world);
    let node = &between.node;

    // dockerd drops by policy only if nobody forwarded before it.
    let theirs = DOCKERS.replace("policy drop", "policy accept");
    node.run("nft", &[&theirs]).expect("another program starts after ours");
    node.run("nft", &["add chain ip filter INPUT { type filter hook input priority 0; }"]).expect("a chain");
    node.run("nft", &["add rule ip filter INPUT iifname eth1 accept"]).expect("a rule for what is not forwarded");
    node.wait(node.network.verify()).expect("verified");
    assert!(!between.passes(Duration::from_secs(1)), "it speaks of no link");
    node.run("nft", &["add chain ip filter MORE; add rule ip filter FORWARD jump MORE"]).expect("a chain of its own");
    node.run("nft", &["add rule ip filter MORE oifname eth1 counter accept"]).expect("a rule of its own");
    node.wait(node.network.verify()).expect("verified");

    assert!(between.passes(PATIENCE), "eth1 is a link of its");
    assert!(!node.wait(node.network.verify()).expect("verified").repaired, "nothing changes while nothing changes");
}

#[test]
fn a_published_port_leads_to_other_nodes_where_docker_drops_what_is_forwarded() {
    let mut world = World::new();
    let outside = world.outsider();
    let [here, there] = [1, 2].map(|number| world.node(number, TableGuard::Owned));
    let server = there.start("web-1", 2);
    there.serve(&[&server], &[&here]);
    here.run("nft", &[DOCKERS]).expect("another program");

    here.serve(&[&server], &[&there]);

    assert_eq!(ask(&outside, here.published()).expect("an answer").server, "web-1");
    here.run("iptables", &["-S"]).expect("iptables reads its table");
}

#[test]
fn a_last_rule_that_refuses_is_found_like_a_policy_that_drops() {
    let mut world = World::new();
    let node = world.node(1, TableGuard::Owned);
    let instance = node.start("web-1", 2);
    node.serve(&[&instance], &[]);
    let dropped_by = || node.wait(node.network.verify()).expect("verified").programmed.dropped_by;

    for refusing in ["reject", "counter drop", "log reject"] {
        let hook = "type filter hook forward priority 0;";
        node.run("nft", &[&format!("add table inet own; add chain inet own pass {{ {hook} }}")]).expect("a table");
        node.run("nft", &["add rule inet own pass iifname eth9 drop"]).expect("a rule that asks for something");
        assert_eq!(dropped_by(), [""; 0], "what is dropped is somebody else's");
        node.run("nft", &[&format!("add rule inet own pass {refusing}")]).expect("a rule that asks for nothing");
        assert!(dropped_by()[0].starts_with("chain pass of table inet own drops"), "{refusing}");
        node.run("nft", &["delete table inet own"]).expect("gone");
    }

    node.run("iptables", &["-A", "FORWARD", "-j", "REJECT"]).expect("a last rule");
    assert_eq!(dropped_by(), [""; 0], "rules of ours let it pass");
    assert!(node.run("iptables", &["-S", "FORWARD"]).expect("listed").contains("-i wh-+"));
}

#[test]
fn the_rules_that_let_ours_pass_go_with_us_and_those_of_the_owner_stay() {
    let mut world = World::new();
    let node = world.node(1, TableGuard::Owned);
    let instance = node.start("web-1", 2);
    node.run("nft", &[DOCKERS]).expect("another program");
    node.serve(&[&instance], &[]);
    node.run("iptables", &["-A", "FORWARD", "-i", "wh-+", "-j", "ACCEPT"]).expect("a rule of the owner");
    let rules = || node.run("iptables", &["-S"]).expect("iptables reads its table");
    let ours = ["-A DOCKER-USER -i wh-+ -m comment --comment wherry -j ACCEPT", "-A DOCKER-USER -o wh-+ -m comment"];
    let by_address = ["-A DOCKER-USER -s 10.42.0.0/16 -m comment", "-A DOCKER-USER -d 10.42.0.0/16 -m comment"];
    assert!(ours.iter().chain(&by_address).all(|rule| rules().contains(rule)), "{}", rules());

    node.wait(node.network.remove_all()).expect("removed");

    let left = rules();
    assert!(!left.contains("DOCKER-USER -") && left.contains("-A FORWARD -i wh-+ -j ACCEPT"), "{left}");
}

#[test]
fn switches_of_the_kernel_are_told_and_put_back() {
    const FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";
    const LIBERAL: &str = "/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal";
    let mut world = World::new();
    let node = world.node(1, TableGuard::Owned);
    let instance = node.start("web-1", 2);
    set(&node, LIBERAL, "0");

    node.serve(&[&instance], &[]);

    let one = |name: &str| Switched { name: name.to_owned(), from: "0".to_owned(), to: "1".to_owned() };
    let both = [one("net.ipv4.ip_forward"), one("net.netfilter.nf_conntrack_tcp_be_liberal")];
    assert_eq!(node.wait(node.network.switched()), both);
    node.wait(node.network.remove_all()).expect("removed");
    assert_eq!([FORWARD, LIBERAL].map(|path| read(&node, path)), ["0", "0"]);
    assert_eq!(node.wait(node.network.switched()), []);
}

#[test]
fn switches_of_the_kernel_that_are_as_needed_are_left_alone() {
    const FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";
    const LIBERAL: &str = "/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal";
    const FORWARD_V6: &str = "/proc/sys/net/ipv6/conf/all/forwarding";
    let mut world = World::new();
    let node = ipv6::dual(&mut world, 1);
    let instance = node.start("web-1", 2);
    for path in [FORWARD, LIBERAL, FORWARD_V6] {
        set(&node, path, "1");
    }

    ipv6::program(&node, &[&instance], &[]);

    assert_eq!(node.wait(node.network.switched()), []);
    node.wait(node.network.remove_all()).expect("removed");
    assert_eq!([FORWARD, LIBERAL, FORWARD_V6].map(|path| read(&node, path)), ["1", "1", "1"]);
}

#[test]
fn switches_of_ipv6_are_told_and_put_back() {
    const FORWARD: &str = "/proc/sys/net/ipv6/conf/all/forwarding";
    const ROUTERS: &str = "/proc/sys/net/ipv6/conf/eth0/accept_ra";
    let mut world = World::new();
    let node = ipv6::dual(&mut world, 1);
    let instance = node.start("web-1", 2);
    set(&node, ROUTERS, "1");

    ipv6::program(&node, &[&instance], &[]);

    let told = node.wait(node.network.switched());
    for (name, from, to) in [("all.forwarding", "0", "1"), ("eth0.accept_ra", "1", "2")] {
        let name = format!("net.ipv6.conf.{name}");
        assert!(told.contains(&Switched { name, from: from.to_owned(), to: to.to_owned() }), "{told:?}");
    }
    assert_eq!(read(&node, ROUTERS), "2", "who forwards still hears routers");
    node.wait(node.network.remove_all()).expect("removed");
    assert_eq!([FORWARD, ROUTERS].map(|path| read(&node, path)), ["0", "1"]);
}

/// A node between a machine outside and one behind it, which serves an instance of ours.
pub(crate) struct Between {
    pub(crate) node: Node,
    outside: PathBuf,
    _instance: Instance,
    _server: Server,
}

impl Between {
    pub(crate) fn new(world: &mut World) -> Self {
        let outside = world.outsider();
        let node = world.node(1, TableGuard::Owned);
        let instance = node.start("web-1", 2);
        let far = world.behind(&node, &outside);
        node.serve(&[&instance], &[]);
        Self { node, outside, _instance: instance, _server: Server::start(&far, "far") }
    }

    /// Whether a connection passes through the node within this time.
    pub(crate) fn passes(&self, limit: Duration) -> bool {
        connect_within(&self.outside, FAR, limit).is_ok()
    }
}

fn set(node: &Node, path: &str, value: &str) {
    node.run("sh", &["-c", &format!("echo {value} > {path}")]).expect("a switch");
}

fn read(node: &Node, path: &str) -> String {
    node.run("cat", &[path]).expect("a switch").trim().to_owned()
}

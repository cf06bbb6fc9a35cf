//! `iptables-legacy`, whose tables nftables does not list: what they drop is seen all the same.

use std::time::Duration;

use agent_network::TableGuard;

use crate::{
    ipv6::{self, answer_as, ask_v6, dual, front},
    others::Between,
    server::{PATIENCE, ask},
    world::{Node, World, service_address},
};

#[test]
fn what_iptables_legacy_drops_is_named_until_it_is_mended() {
    let mut world = World::new();
    let node = dual(&mut world, 1);
    let [server, client] = [node.start("web-1", 2), node.start("client-1", 3)];
    ipv6::program(&node, &[&server], &[]);
    answer_as(&server);

    for (program, range) in [("iptables-legacy", "10.42.0.0/16"), ("ip6tables-legacy", "fd01:203:405::a2a:0/112")] {
        let refusing = ["-P FORWARD DROP", "-A FORWARD -j DROP", "-A FORWARD -j REJECT"];
        let mended = ["-P FORWARD ACCEPT", "-F FORWARD", "-F FORWARD"];
        for (refuses, passes) in refusing.into_iter().zip(mended) {
            legacy(&node, &format!("{program} -A FORWARD -i eth9 -j DROP"));
            assert_eq!(dropped_by(&node), [""; 0], "what is dropped is somebody else's");
            legacy(&node, &format!("{program} {refuses}"));

            let named = dropped_by(&node);

            let [line] = named.as_slice() else { panic!("{refuses}: {named:?}") };
            let (what, commands) = line.split_once("; this lets it pass: ").expect("what mends it");
            assert_eq!(what, format!("chain FORWARD of {program} drops what instances send and get"));
            let rule = |what: String| format!("{program} -I FORWARD {what} -j ACCEPT");
            let rules = ["-i wh-+".to_owned(), "-o wh-+".to_owned(), format!("-s {range}"), format!("-d {range}")];
            assert_eq!(commands, rules.map(rule).join("; "));
            legacy(&node, commands);
            assert_eq!(dropped_by(&node), [""; 0], "{refuses}");
            assert_eq!(ask(&client.netns, service_address()).expect("by IPv4").server, "web-1");
            assert_eq!(ask_v6(&client.netns, front()).expect("by IPv6").0, "web-1");
            legacy(&node, &format!("{program} -F FORWARD; {program} {passes}"));
        }
    }
}

#[test]
fn what_another_program_forwards_by_iptables_legacy_is_left_to_it() {
    let mut world = World::new();
    let between = Between::new(&mut world);
    let node = &between.node;

    legacy(node, "iptables-legacy -A INPUT -i eth1 -j ACCEPT; iptables-legacy -N MORE");
    node.wait(node.network.verify()).expect("verified");
    assert!(!between.passes(Duration::from_secs(1)), "it speaks of no link where packets are forwarded");
    legacy(node, "iptables-legacy -A MORE -s 192.0.2.1 -j DROP; iptables-legacy -A MORE -o eth1 -j ACCEPT");
    legacy(node, "iptables-legacy -A FORWARD -j MORE");
    node.wait(node.network.verify()).expect("verified");

    assert!(between.passes(PATIENCE), "eth1 is a link of its");
    assert!(!node.wait(node.network.verify()).expect("verified").repaired, "nothing changes while nothing changes");
}

#[test]
fn where_nobody_has_iptables_legacy_its_tables_are_not_made() {
    let mut world = World::new();
    let node = world.node(1, TableGuard::Owned);
    let instance = node.start("web-1", 2);

    node.serve(&[&instance], &[]);
    node.wait(node.network.verify()).expect("verified");

    assert_eq!(node.run("cat", &["/proc/net/ip_tables_names"]).expect("a listing"), "");
}

fn dropped_by(node: &Node) -> Vec<String> {
    node.wait(node.network.verify()).expect("verified").programmed.dropped_by
}

/// Runs commands of that program in the node, with a lock of the node's own: it is one for all that run on a machine.
fn legacy(node: &Node, commands: &str) {
    let lock = node.settings.netns_dir.with_extension("lock");
    let script = format!("set -e; export XTABLES_LOCKFILE={}; {commands}", lock.display());
    node.run("sh", &["-c", &script]).expect("rules");
}

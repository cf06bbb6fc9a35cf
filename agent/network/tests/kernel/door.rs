//! Who comes in at a published port where the node's own rules for INPUT are respected.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    path::Path,
    time::Duration,
};

use agent_network::{Firewall, Programmed, TableGuard};
use api_types::container::Protocol;
use tests_support::{netns::inside, program, wait::wait_for};

use crate::{
    ipv6,
    server::{PATIENCE, ask, ask_by_datagram, ask_from, connect_within, is_shut_out},
    world::{Node, PUBLISHED, World, repeated_asks, service_address},
};

pub(crate) const STRANGER: Ipv4Addr = Ipv4Addr::new(10, 97, 0, 1);
pub(crate) const FRIEND: Ipv4Addr = Ipv4Addr::new(10, 97, 1, 1);

#[test]
fn rules_for_input_say_who_comes_in_and_are_asked_once() {
    let mut world = World::new();
    let crowd = world.crowd();
    let node = respecting(&mut world);
    let instance = node.start("web-1", 2);
    node.serve(&[&instance], &[]);
    rules(&node, "add table inet own; add chain inet own in { type filter hook input priority 0; policy drop; }");
    let friends = format!("add rule inet own in ip saddr 10.97.1.0/24 tcp dport {PUBLISHED} accept");
    rules(&node, &format!("add rule inet own in ct state established,related accept; {friends}"));
    let is_kept_out = |from| {
        // Whoever passed is known by the first packet, and comes in by the next.
        (0..2).all(|_| is_shut_out(&crowd, from, node.published()))
    };

    assert!(is_kept_out(STRANGER), "the rules do not name him");
    ask_from(&crowd, FRIEND, node.published()).expect("the rules name him");
    let asked = repeated_asks(&crowd);
    for _ in 0..20 {
        ask_from(&crowd, FRIEND, node.published()).expect("he is known");
    }
    assert_eq!(repeated_asks(&crowd), asked, "who is known does not wait");
    ask(&node.netns, node.published()).expect("the node itself");
    ask(&instance.netns, node.published()).expect("an instance");
    ask(&instance.netns, service_address()).expect("the virtual address is no port of the node");
    assert!(!node.wait(node.network.verify()).expect("verified").repaired, "the table is as it was left");

    rules(&node, "flush chain inet own in");
    node.wait(node.network.verify()).expect("verified");
    assert!(is_kept_out(FRIEND), "a rule that is gone lets nobody in any more");
    rules(&node, "delete table inet own");
    node.wait(node.network.verify()).expect("verified");
    for from in [STRANGER, FRIEND] {
        ask_from(&crowd, from, node.published()).expect("nobody minds");
    }
}

#[test]
fn rules_for_input_say_who_comes_in_by_datagrams() {
    let mut world = World::new();
    let crowd = world.crowd();
    let node = respecting(&mut world);
    let instance = node.start("web-1", 2);
    let mut plan = node.plan(&[&instance], &[]);
    for port in plan.services[0].ports.iter_mut().filter(|port| port.protocol == Protocol::Udp) {
        port.publish = Some(PUBLISHED);
    }
    node.program(&plan);
    rules(&node, "add table inet own; add chain inet own in { type filter hook input priority 0; policy drop; }");
    rules(&node, &format!("add rule inet own in ip saddr 10.97.1.0/24 udp dport {PUBLISHED} accept"));
    let client = |from| {
        let client = inside(&crowd, || UdpSocket::bind((from, 0))).expect("enter").expect("a client");
        client.connect(node.published()).expect("a way");
        client.set_read_timeout(Some(Duration::from_secs(1))).expect("set");
        client
    };
    let [friend, stranger] = [FRIEND, STRANGER].map(client);

    for _ in 0..3 {
        stranger.send(b"who?").expect("sent");
    }
    // The first is only noted.
    let answer = wait_for(PATIENCE, || ask_by_datagram(&friend).ok());

    assert_eq!(answer, "web-1");
    friend.set_read_timeout(Some(PATIENCE)).expect("set");
    for _ in 0..3 {
        stranger.send(b"who?").expect("sent");
        assert_eq!(ask_by_datagram(&friend).expect("who is known is answered"), "web-1");
    }
    stranger.set_nonblocking(true).expect("set");
    assert!(stranger.recv(&mut [0; 64]).is_err(), "the rules do not name him");
}

#[test]
fn rules_for_input_say_who_comes_in_by_ipv6() {
    let mut world = World::new();
    let outside = world.outsider();
    ipv6::give_address(&outside, 100);
    let node = respecting(&mut world);
    ipv6::give_address(&node.netns, 1);
    let instance = node.start("web-1", 2);
    ipv6::program(&node, &[&instance], &[]);
    ipv6::answer_as(&instance);
    let published = SocketAddr::new(ipv6::lan(1), PUBLISHED);
    rules(&node, "add table inet own; add chain inet own in { type filter hook input priority 0; policy drop; }");
    rules(&node, "add rule inet own in icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept");

    for _ in 0..2 {
        let connected = connect_within(&outside, published, Duration::from_secs(2));
        assert!(connected.is_err(), "the rules do not name him");
    }
    rules(&node, &format!("add rule inet own in ip6 saddr {} tcp dport {PUBLISHED} accept", ipv6::lan(100)));
    node.wait(node.network.verify()).expect("verified");

    let (answered, seen) = ipv6::ask_v6(&outside, published).expect("the rules name him");
    assert_eq!((answered.as_str(), seen), ("web-1", ipv6::lan(100)));
    ipv6::ask_v6(&instance.netns, ipv6::front()).expect("the virtual address is no port of the node");
}

#[test]
fn ufw_guards_published_ports_where_it_is_respected() {
    let mut world = World::new();
    let crowd = world.crowd();
    let node = respecting(&mut world);
    let instance = node.start("web-1", 2);
    node.serve(&[&instance], &[]);
    ufw(&node.netns, &format!("ufw allow proto tcp from 10.97.1.0/24 to any port {PUBLISHED}"));

    let seen = node.wait(node.network.verify()).expect("verified").programmed.dropped_by;
    let [line] = &seen[..] else { panic!("ufw drops what is forwarded: {seen:?}") };
    let (_, commands) = line.split_once("lets it pass: ").expect("what mends it");
    node.run("sh", &["-c", commands]).expect("what the condition says");

    assert_eq!(node.wait(node.network.verify()).expect("verified").programmed, Programmed::default());
    ask_from(&crowd, FRIEND, node.published()).expect("ufw lets him in");
    for _ in 0..2 {
        assert!(is_shut_out(&crowd, STRANGER, node.published()), "ufw does not let him in");
    }
}

/// A node whose owner's rules count.
pub(crate) fn respecting(world: &mut World) -> Node {
    let mut node = world.node(1, TableGuard::Owned);
    node.settings.firewall = Firewall::Respect;
    node.restart();
    node.run("ip", &["route", "add", "10.97.0.0/16", "via", "10.99.0.100"]).expect("a way back");
    node
}

/// Changes the tables of the node's owner.
fn rules(node: &Node, commands: &str) {
    node.run("nft", &[commands]).expect("rules");
}

/// Enables ufw inside the node and runs this command of it, by a copy of its files.
pub(crate) fn ufw(netns: &Path, command: &str) {
    let script = format!(
        "set -e; copy=$(mktemp -d); trap 'umount /etc/ufw /etc/default/ufw; rm -rf $copy' EXIT; \
         cp -a /etc/ufw $copy/rules; cp -a /etc/default/ufw $copy/defaults; \
         mount --bind $copy/rules /etc/ufw; mount --bind $copy/defaults /etc/default/ufw; \
         ufw --force enable; {command}"
    );
    let output = program::within(Some(netns), &["unshare", "--mount", "sh", "-c", &script]).output().expect("a shell");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

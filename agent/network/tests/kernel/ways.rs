//! Trying ways: what is found where all is well, and what is said where something is broken.

use std::net::{Ipv4Addr, UdpSocket};

use agent_network::{Asker, Outcome, TableGuard, Try};
use tests_support::{netns::inside, program::within};

use crate::{
    ipv6,
    server::PORT,
    world::{Node, World, service_address},
};

/// A port at which somebody listens and never answers.
const DEAF: u16 = 9100;

#[test]
fn ways_that_are_there_are_found_and_nothing_is_left_of_the_try() {
    let mut world = World::new();
    let [here, there] = [1, 2].map(|number| world.node(number, TableGuard::Owned));
    let [client, near] = [here.start("client-1", 2), here.start("web-1", 3)];
    let far = there.start("web-2", 2);
    here.serve(&[&near, &far], &[&there]);
    there.serve(&[&near, &far], &[&here]);
    let links = here.links();
    let own = |number| Ipv4Addr::new(10, 42, number, 1);

    let mut tries = vec![echo(Ipv4Addr::UNSPECIFIED, there.address()), echo(own(1), own(2))];
    // Often enough that both endpoints are drawn.
    tries.extend((0..12).map(|_| Try::Connect { from: Asker::Scratch, to: service_address().into() }));
    tries.extend([&near, &far].map(|to| Try::Connect { from: Asker::Node, to: to.at().into() }));
    tries.push(Try::Connect { from: Asker::Instance(client.id.clone()), to: service_address().into() });
    let answers = here.wait(here.network.reach(tries));

    assert!(answers.iter().all(is_answered), "{answers:?}");
    assert_eq!(here.links(), links, "a scratch instance was left");
    assert_eq!(here.wait(here.network.differences()).expect("a look"), Vec::<String>::new());
}

#[test]
fn a_way_that_is_too_narrow_is_told_from_one_that_is_cut() {
    let mut world = World::new();
    let [here, there] = [1, 2].map(|number| world.node(number, TableGuard::Owned));
    here.serve(&[], &[&there]);
    there.serve(&[], &[&here]);
    foreign(&there, "input", "meta length > 1000");

    let narrow = here.wait(here.network.reach(vec![echo(here.address(), there.address())]));
    foreign(&there, "input", "meta l4proto icmp");
    let cut = here.wait(here.network.reach(vec![echo(here.address(), there.address())]));

    assert_eq!(narrow, [failed("small packets arrive, packets of 1500 bytes do not (no answer within a second)")]);
    assert_eq!(cut, [failed("no answer within a second")]);
}

#[test]
fn what_another_table_drops_is_seen_by_an_instance_and_not_by_the_node() {
    let mut world = World::new();
    let node = world.node(1, TableGuard::Owned);
    let server = node.start("web-1", 2);
    node.serve(&[&server], &[]);
    foreign(&node, "forward", "");

    let tries = vec![
        Try::Connect { from: Asker::Scratch, to: service_address().into() },
        Try::Connect { from: Asker::Node, to: service_address().into() },
    ];
    let answers = node.wait(node.network.reach(tries));

    assert_eq!(answers[0], failed("no answer within a second"));
    assert!(is_answered(&answers[1]), "{answers:?}");
}

#[test]
fn a_datagram_is_answered_or_refused_and_silence_is_neither() {
    let mut world = World::new();
    let [here, there] = [1, 2].map(|number| world.node(number, TableGuard::Owned));
    let [near, far] = [here.start("web-1", 2), there.start("web-2", 2)];
    here.serve(&[&near, &far], &[&there]);
    there.serve(&[&near, &far], &[&here]);
    let deaf = inside(&far.netns, || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, DEAF))).expect("enter").expect("bind");
    let to = |address: Ipv4Addr, port| Try::Datagram { from: Asker::Node, to: (address, port).into() };
    let through = |from| Try::Datagram { from, to: service_address().into() };

    // Often enough that both endpoints are drawn.
    let mut tries = vec![through(Asker::Scratch); 12];
    tries.push(through(Asker::Instance(near.id.clone())));
    tries.extend([to(near.address, PORT), to(far.address, PORT)]);
    let answered = here.wait(here.network.reach(tries));
    let others = vec![to(near.address, DEAF), to(far.address, DEAF + 1), to(far.address, DEAF)];
    let others = here.wait(here.network.reach(others));
    foreign(&there, "forward", "");
    let dropped = here.wait(here.network.reach(vec![to(far.address, PORT)]));

    assert!(answered.iter().all(is_answered), "{answered:?}");
    assert_eq!(others, [Outcome::Refused, Outcome::Refused, Outcome::Silent]);
    assert_eq!(dropped, [Outcome::Silent], "what is dropped cannot be told from a program that says nothing");
    drop(deaf);
}

#[test]
fn what_the_kernel_has_otherwise_is_named_and_not_repaired() {
    let mut world = World::new();
    let [node, other] = [1, 2].map(|number| world.node(number, TableGuard::Watched));
    let server = node.start("web-1", 2);
    node.serve(&[&server], &[&other]);

    node.run("nft", &["flush", "map", "ip", "wherry", "slots"]).expect("sabotage");
    node.run("nft", &["flush", "chain", "ip", "wherry", "leaving"]).expect("sabotage");
    node.run("ip", &["route", "del", "10.42.2.0/24"]).expect("sabotage");

    let expected =
        ["chains and rules of table wherry", "slots of table wherry", "no route to 10.42.2.0/24 of node node2"];
    for _ in 0..2 {
        assert_eq!(node.wait(node.network.differences()).expect("a look"), expected);
    }
}

#[test]
fn what_the_ipv6_half_has_otherwise_is_named() {
    let mut world = World::new();
    let [mut node, other] = [1, 2].map(|number| ipv6::dual(&mut world, number));
    node.settings.table_guard = TableGuard::Watched;
    node.restart();
    let server = node.start("web-1", 2);
    ipv6::program(&node, &[&server], &[&other]);
    let differences = || node.wait(node.network.differences()).expect("a look");
    assert_eq!(differences(), [""; 0]);

    node.run("nft", &["flush", "map", "ip6", "wherry", "slots"]).expect("sabotage");
    node.run("ip", &["-6", "route", "del", "fd01:203:405::a2a:200/120"]).expect("sabotage");

    assert_eq!(differences(), ["slots of table ip6 wherry", "no route to fd01:203:405::a2a:200/120"]);
}

#[test]
fn the_way_to_an_address_is_told() {
    let mut world = World::new();
    let [here, there] = [1, 2].map(|number| world.node(number, TableGuard::Owned));
    let instance = here.start("web-1", 2);
    here.serve(&[&instance], &[&there]);
    let way = |to: Ipv4Addr| here.wait(here.network.way_to(to.into())).expect("a way");

    assert_eq!(way(here.address()), "on this node");
    assert_eq!(way([10, 42, 2, 7].into()), "by 10.99.0.2 on link eth0");
    assert!(way(instance.address).starts_with("by link wh-"));
    let error = here.wait(here.network.way_to(Ipv4Addr::new(192, 0, 2, 1).into())).expect_err("a site alone");
    assert_eq!(error.to_string(), "ask for the way: Network is unreachable (os error 101)");
}

/// Another's table that drops something.
fn foreign(node: &Node, hook: &str, what: &str) {
    let chain = format!("{{ type filter hook {hook} priority 0; }}");
    let table = format!("foreign_{}", what.len());
    let command = format!(
        "add table ip {table}; add chain ip {table} drops {chain}; add rule ip {table} drops {what} counter drop"
    );
    assert!(within(Some(&node.netns), &["nft", &command]).status().expect("nft runs").success());
}

fn echo(from: Ipv4Addr, to: Ipv4Addr) -> Try {
    Try::Echo { from, to }
}

fn failed(reason: &str) -> Outcome {
    Outcome::Failed(reason.to_owned())
}

fn is_answered(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Answered(_))
}

//! Policies of balancing: weights, clients that stay, and exchanges of datagrams that must not.

use std::{collections::BTreeMap, io::ErrorKind, net::Ipv4Addr};

use agent_network::{Plan, TableGuard};
use api_types::container::Protocol;

use tests_support::wait::wait_until;

use crate::{
    server::{PATIENCE, ask, ask_by_datagram, ask_from, datagram_client},
    world::{Instance, Node, PUBLISHED, World, service_address},
};

/// How many clients there are, each with an address of its own.
const CLIENTS: u32 = 1_000;

#[test]
fn a_client_stays_with_its_endpoint_until_that_leaves() {
    let mut world = World::new();
    let crowd = world.crowd();
    let node = world.node(1, TableGuard::Owned);
    node.run("ip", &["route", "add", "10.97.0.0/16", "via", "10.99.0.100"]).expect("a way back");
    let instances: Vec<_> = (2..8_u8).map(|last| node.start(&format!("web-{last}"), last)).collect();
    let all: Vec<_> = instances.iter().collect();
    let asked = || {
        let client = |number: u32| Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 97, 0, 0)) + number);
        let servers =
            (1..=CLIENTS).map(|number| ask_from(&crowd, client(number), node.published()).map(|found| found.server));
        servers.collect::<Result<Vec<String>, _>>().expect("answers")
    };
    let differ = |one: &[String], other: &[String]| one.iter().zip(other).filter(|(one, other)| one != other).count();
    node.program(&sticky(&node, &all[..5]));

    let first = asked();
    let again = asked();
    node.program(&sticky(&node, &all));
    let with_another = asked();
    node.program(&sticky(&node, &all[1..]));
    let without_one = asked();

    let mut counts = BTreeMap::<&str, u32>::new();
    first.iter().for_each(|server| *counts.entry(server).or_default() += 1);
    // A fifth of a thousand each; every fifth of 64 slots is 12 or 13, and the hash is not perfectly even.
    assert!(counts.len() == 5 && counts.values().all(|count| (100..=300).contains(count)), "{counts:?}");
    assert_eq!(differ(&first, &again), 0, "nothing changed");
    assert_eq!(differ(&first, &with_another), 0, "an endpoint that comes takes nobody away");
    let stayed = with_another.iter().zip(&without_one).filter(|(before, _)| before.as_str() != "web-2");
    assert!(stayed.into_iter().all(|(before, after)| before == after), "whose endpoint stays, stays");
    assert!(without_one.iter().all(|server| server != "web-2"), "nobody is kept with the one that left");
}

#[test]
fn a_client_is_forgotten_when_it_did_not_connect_for_the_time_that_was_asked() {
    let mut world = World::new();
    let crowd = world.crowd();
    let node = world.node(1, TableGuard::Owned);
    node.run("ip", &["route", "add", "10.97.0.0/16", "via", "10.99.0.100"]).expect("a way back");
    let [first, second] = [node.start("web-1", 2), node.start("web-2", 3)];
    let program = |endpoints: &[&Instance]| {
        let mut plan = sticky(&node, endpoints);
        plan.services[0].balance.affinity_ms = Some(10_000);
        node.program(&plan);
    };
    // Twenty: that the addresses of all lead to the first without being remembered is one chance in a million.
    let clients = || (1..=20).map(|last| Ipv4Addr::new(10, 97, 0, last));
    let asked = || clients().map(|client| ask_from(&crowd, client, node.published()).expect("an answer").server);
    let remembered = || node.run("nft", &["list", "map", "ip", "wherry", "clients"]).expect("a listing");
    program(&[&first]);

    assert!(asked().all(|server| server == "web-1"), "there is nobody else");
    program(&[&first, &second]);
    wait_until(PATIENCE, || !remembered().contains("10.97.0."));

    assert!(asked().any(|server| server == "web-2"), "whoever is forgotten goes where its address leads");
}

#[test]
fn connections_follow_the_weights() {
    let mut world = World::new();
    let node = world.node(1, TableGuard::Owned);
    let [heavy, light] = [node.start("web-1", 2), node.start("web-2", 3)];
    let mut plan = node.plan(&[&heavy, &light], &[]);
    plan.services[0].endpoints[0].weight = 3;
    node.program(&plan);

    let mut counts = BTreeMap::<String, u32>::new();
    for _ in 0..400 {
        *counts.entry(ask(&node.netns, service_address()).expect("an answer").server).or_default() += 1;
    }

    // Three quarters of 400, and eight standard deviations to either side.
    assert!((230..=370).contains(&counts["web-1"]), "{counts:?}");
}

#[test]
fn weights_and_memory_change_under_clients_that_keep_asking() {
    let mut world = World::new();
    let node = world.node(1, TableGuard::Owned);
    let [first, second] = [node.start("web-1", 2), node.start("web-2", 3)];

    for (turn, weight) in [1, 7, 100, 2, 1].into_iter().enumerate() {
        let endpoints: &[&Instance] = if turn == 3 { &[&first] } else { &[&first, &second] };
        let mut plan = if turn % 2 == 0 { node.plan(endpoints, &[]) } else { sticky(&node, endpoints) };
        plan.services[0].endpoints[0].weight = weight;
        node.program(&plan);

        assert!(!node.wait(node.network.verify()).expect("verified").repaired, "the table is as it was left");
        for to in [service_address(), node.published()] {
            ask(&node.netns, to).unwrap_or_else(|error| panic!("turn {turn}, {to}: {error}"));
        }
    }
}

#[test]
fn datagrams_to_a_service_that_was_deleted_are_refused() {
    let mut world = World::new();
    let node = world.node(1, TableGuard::Owned);
    let [instance, asking] = [node.start("web-1", 2), node.start("client-1", 3)];
    node.serve(&[&instance], &[]);
    let client = datagram_client(&asking.netns, service_address());
    assert_eq!(ask_by_datagram(&client).expect("an answer"), "web-1");

    node.program(&Plan { services: Vec::new(), ..node.plan(&[], &[]) });

    let error = ask_by_datagram(&client).expect_err("nobody serves there any more");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn a_client_that_sent_datagrams_to_a_port_too_early_is_answered_later() {
    let mut world = World::new();
    let outside = world.outsider();
    let node = world.node(1, TableGuard::Owned);
    let instance = node.start("web-1", 2);
    let plan = |endpoints: &[&Instance]| {
        let mut plan = node.plan(endpoints, &[]);
        let datagrams = plan.services[0].ports.iter_mut().find(|port| port.protocol == Protocol::Udp);
        datagrams.expect("a port").publish = Some(PUBLISHED);
        plan
    };
    node.program(&plan(&[]));
    let client = datagram_client(&outside, node.published());
    client.send(b"who?").expect("sent to nobody");

    node.program(&plan(&[&instance]));

    assert_eq!(ask_by_datagram(&client).expect("an answer"), "web-1");
}

/// The service with clients that are remembered.
fn sticky(node: &Node, endpoints: &[&Instance]) -> Plan {
    let mut plan = node.plan(endpoints, &[]);
    plan.services[0].balance.affinity_ms = Some(600_000);
    plan
}

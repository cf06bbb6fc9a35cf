//! Ways to the other nodes: wrapped where routers are between them, changed while connections last.

use std::{path::Path, time::Duration};

use agent_network::{Plan, Programmed, TableGuard};
use api_types::{access::Access, service::Peer, site::Reach};
use tests_support::{netns::inside, program};

use crate::{
    server::{Connection, ask, ask_by_datagram, connect_within, datagram_client, exchange},
    world::{Instance, Node, World, service_address},
};

/// Enough that a packet which is too large would be among them.
const LARGE_BYTES: usize = 512 << 10;

fn wrapped(peer: Peer) -> Peer {
    Peer { reach: Reach::Vxlan, ..peer }
}

/// A plan in which these peers are reached wrapped.
fn plan(node: &Node, endpoints: &[&Instance], peers: &[&Node]) -> Plan {
    Plan { peers: peers.iter().map(|peer| wrapped(peer.peer())).collect(), ..node.plan(endpoints, peers) }
}

fn mtu(netns: &Path, link: &str) -> u32 {
    let said = inside(netns, || std::process::Command::new("ip").args(["-o", "link", "show", link]).output());
    let text = String::from_utf8(said.expect("enter").expect("ip").stdout).expect("text");
    let mut words = text.split_whitespace().skip_while(|word| *word != "mtu");
    words.nth(1).expect("an MTU").parse().expect("a number")
}

#[test]
fn instances_of_nodes_on_different_networks_reach_each_other_when_packets_are_wrapped() {
    let mut world = World::new();
    let near = world.node(1, TableGuard::Owned);
    let far = world.node_behind_router(2, &[&near]);
    let (here, there) = (near.start("here-1", 2), far.start("there-1", 2));

    near.program(&plan(&near, &[&there], &[&far]));
    far.program(&plan(&far, &[&here], &[&near]));

    // Instance to instance, both ways, and the client's address is kept; through the service; a large transfer; datagrams.
    let there_sees = ask(&here.netns, there.at()).expect("an answer");
    assert_eq!((there_sees.server.as_str(), there_sees.client), ("there-1", here.address));
    let here_sees = exchange(&there.netns, here.at(), LARGE_BYTES).expect("all came back");
    assert_eq!((here_sees.server.as_str(), here_sees.client), ("here-1", there.address));
    let through = exchange(&here.netns, service_address(), LARGE_BYTES).expect("all came back");
    assert_eq!((through.server.as_str(), through.client), ("there-1", here.address));
    let client = datagram_client(&here.netns, service_address());
    assert_eq!(ask_by_datagram(&client).expect("an answer"), "there-1");
    // The nodes themselves, and their links fit what is wrapped.
    assert_eq!(exchange(&near.netns, service_address(), LARGE_BYTES).expect("all came back").server, "there-1");
    assert_eq!(exchange(&far.netns, here.at(), LARGE_BYTES).expect("all came back").server, "here-1");
    assert_eq!((mtu(&here.netns, "eth0"), mtu(&near.netns, "wh-vxlan")), (1450, 1450));
    assert!(!near.wait(near.network.verify()).expect("verified").repaired);
}

#[test]
fn a_client_from_outside_gets_large_transfers_through_a_node_whose_link_takes_less() {
    let mut world = World::new();
    let near = world.node(1, TableGuard::Owned);
    let far = world.node_behind_router(2, &[&near]);
    let outside = world.outsider();
    let client = world.behind(&near, &outside);
    let there = far.start("there-1", 2);
    near.run("ip", &["link", "set", "eth0", "mtu", "1400"]).expect("a smaller link");
    near.program(&plan(&near, &[&there], &[&far]));
    far.program(&plan(&far, &[&there], &[&near]));
    // Each packet on its own, as on a real cable: else they would pass as one however large they are.
    let alone = ["ip", "link", "set", "eth0", "gso_max_segs", "1"];
    let said = program::within(Some(&there.netns), &alone).status().expect("ip");
    assert!(said.success(), "{said}");

    // The far node's link takes more: only what the client said when it began keeps the answers small enough.
    let answer = exchange(&client, near.published(), LARGE_BYTES).expect("all came back");

    assert_eq!(answer.server, "there-1");
    assert_eq!((mtu(&near.netns, "wh-vxlan"), mtu(&there.netns, "eth0")), (1350, 1450));
}

#[test]
fn who_is_admitted_at_a_node_s_port_is_admitted_behind_the_device_too() {
    let mut world = World::new();
    let near = world.node(1, TableGuard::Owned);
    let far = world.node_behind_router(2, &[&near]);
    let outside = world.outsider();
    let (here, there) = (near.start("here-1", 2), far.start("there-1", 2));
    near.program(&plan(&near, &[&there], &[&far]));
    let mut closed = plan(&far, &[&there], &[&near]);
    closed.services[0].access = Some(Access { allow_from: Some(Vec::new()), instances: vec![there.address] });
    far.program(&closed);

    let from_outside = ask(&outside, near.published()).expect("an answer");
    let from_the_node = ask(&near.netns, there.at()).expect("an answer");

    assert_eq!((from_outside.server, from_the_node.server), ("there-1".to_owned(), "there-1".to_owned()));
    let limit = Duration::from_millis(1500);
    assert!(connect_within(&here.netns, there.at(), limit).is_err(), "no instance is admitted");
}

#[test]
fn the_way_changes_under_a_connection_that_lasts() {
    let mut world = World::new();
    let [near, far] = [1, 2].map(|number| world.node(number, TableGuard::Owned));
    let (here, there) = (near.start("here-1", 2), far.start("there-1", 2));
    near.serve(&[&there], &[&far]);
    far.serve(&[&there], &[&near]);
    let mut lasting = Connection::open(&here.netns, service_address()).expect("a connection");

    near.program(&plan(&near, &[&there], &[&far]));
    far.program(&plan(&far, &[&there], &[&near]));
    lasting.echo().expect("still there, wrapped");
    assert!(near.links().iter().any(|(_, name)| name == "wh-vxlan"));
    near.serve(&[&there], &[&far]);
    far.serve(&[&there], &[&near]);
    lasting.echo().expect("still there, by routes");

    assert!(!near.links().iter().any(|(_, name)| name == "wh-vxlan"), "nothing is left of the device");
    assert_eq!((mtu(&here.netns, "eth0"), mtu(&there.netns, "eth0")), (1500, 1500));
}

#[test]
fn an_instance_that_comes_later_fits_as_well() {
    let mut world = World::new();
    let near = world.node(1, TableGuard::Owned);
    let far = world.node_behind_router(2, &[&near]);
    near.program(&plan(&near, &[], &[&far]));

    let later = near.start("later-1", 2);

    assert_eq!(mtu(&later.netns, "eth0"), 1450);
}

#[test]
fn what_others_change_of_the_device_is_restored() {
    let mut world = World::new();
    let near = world.node(1, TableGuard::Owned);
    let far = world.node_behind_router(2, &[&near]);
    let (here, there) = (near.start("here-1", 2), far.start("there-1", 2));
    near.program(&plan(&near, &[&there], &[&far]));
    far.program(&plan(&far, &[&there], &[&near]));
    let sabotages: [&[&str]; 4] = [
        &["link", "del", "wh-vxlan"],
        &["link", "set", "wh-vxlan", "mtu", "1500"],
        &["neighbour", "flush", "dev", "wh-vxlan", "nud", "permanent"],
        &["route", "del", "10.42.2.0/24"],
    ];

    for sabotage in sabotages {
        near.run("ip", sabotage).expect("sabotage");

        assert!(near.wait(near.network.verify()).expect("verified").repaired, "{sabotage:?}");
        assert_eq!(ask(&here.netns, there.at()).expect("an answer").server, "there-1", "{sabotage:?}");
        assert!(!near.wait(near.network.verify()).expect("verified").repaired, "after {sabotage:?}");
    }
}

#[test]
fn a_restarted_agent_goes_on_with_the_device() {
    let mut world = World::new();
    let mut near = world.node(1, TableGuard::Owned);
    let far = world.node_behind_router(2, &[&near]);
    let (here, there) = (near.start("here-1", 2), far.start("there-1", 2));
    near.program(&plan(&near, &[&there], &[&far]));
    far.program(&plan(&far, &[&there], &[&near]));
    let links = near.links();
    let mut lasting = Connection::open(&here.netns, service_address()).expect("a connection");

    near.restart();
    near.program(&plan(&near, &[&there], &[&far]));

    assert_eq!(near.links(), links);
    lasting.echo().expect("still there");
    // And one that comes back to a site by routes clears it away.
    near.restart();
    let programmed = near.wait(near.network.program(&near.plan(&[], &[]))).expect("programmed");
    assert_eq!(programmed, Programmed::default());
    assert!(!near.links().iter().any(|(_, name)| name == "wh-vxlan"));
    assert_eq!(mtu(&here.netns, "eth0"), 1500);
}

//! Instances in the node's own network: reached through services, booked like the others, and nothing of the node changes.

use agent_network::{Plan, TableGuard};
use api_types::{
    id::{InstanceId, NodeId},
    service::{Endpoint, Peer},
    site::Reach,
};

use crate::{
    server::{Server, ask, ask_by_datagram, datagram_client},
    world::{Node, World, service_address},
};

/// A plan whose service is served by a process of a node itself.
fn plan(node: &Node, server: &Node, peers: &[&Node]) -> Plan {
    let mut plan = node.plan(&[], peers);
    let at = NodeId::new(&format!("node{}", server.number)).expect("a name");
    plan.services[0].endpoints = vec![Endpoint::new(id(), at, server.address())];
    plan
}

fn id() -> InstanceId {
    InstanceId::new("proxy-1").expect("a name")
}

fn giving(world: &mut World, number: u8) -> Node {
    let mut node = world.node(number, TableGuard::Owned);
    node.settings.allow_in_node = true;
    node.restart();
    node
}

#[test]
fn a_service_in_a_node_s_own_network_is_reached_from_everywhere() {
    let mut world = World::new();
    let [server, other] = [1, 2].map(|number| giving(&mut world, number));
    let outside = world.outsider();
    let (beside, elsewhere) = (server.start("beside-1", 2), other.start("elsewhere-1", 2));
    let _process = Server::start(&server.netns, "proxy-1");
    server.wait(server.network.ensure_in_node(&id(), [10, 42, 1, 9].into())).expect("booked");

    for (node, peer) in [(&server, &other), (&other, &server)] {
        node.program(&plan(node, &server, &[peer]));
    }

    for netns in [&server.netns, &other.netns, &beside.netns, &elsewhere.netns] {
        assert_eq!(ask(netns, service_address()).expect("an answer").server, "proxy-1", "{}", netns.display());
        let client = datagram_client(netns, service_address());
        assert_eq!(ask_by_datagram(&client).expect("an answer"), "proxy-1", "{}", netns.display());
    }
    for node in [&server, &other] {
        assert_eq!(ask(&outside, node.published()).expect("an answer").server, "proxy-1", "at {}", node.address());
    }
}

#[test]
fn an_instance_in_the_node_s_network_is_booked_and_forgotten_like_any_other() {
    let mut world = World::new();
    let mut node = giving(&mut world, 1);
    let links = node.links();
    let address = [10, 42, 1, 9].into();

    let path = node.wait(node.network.ensure_in_node(&id(), address)).expect("booked");
    node.wait(node.network.ensure_in_node(&id(), address)).expect("again");
    node.restart();

    assert_eq!(path, node.network.netns_path(&id()));
    assert_eq!(node.wait(node.network.list_instances()).expect("a list"), [(id(), address)]);
    node.wait(node.network.remove_instance(&id())).expect("removed");
    assert_eq!(node.wait(node.network.list_instances()).expect("a list"), []);
    assert_eq!(node.links(), links);
    assert!(!path.exists());
}

#[test]
fn nothing_of_the_node_changes_with_the_way_to_others() {
    let mut world = World::new();
    let node = giving(&mut world, 1);
    let far = world.node_behind_router(2, &[&node]);
    node.wait(node.network.ensure_in_node(&id(), [10, 42, 1, 9].into())).expect("booked");
    let looks = || node.run("ip", &["-o", "link", "show", "eth0"]).expect("a look");
    let before = looks();
    let mut plan = plan(&node, &node, &[&far]);
    plan.peers = plan.peers.into_iter().map(|peer| Peer { reach: Reach::Vxlan, ..peer }).collect();

    node.wait(node.network.program(&plan)).expect("programmed");
    node.wait(node.network.verify()).expect("verified");

    assert_eq!(looks(), before);
}

#[test]
fn a_node_gives_its_own_network_to_nobody_unless_its_administrator_says_so() {
    let mut world = World::new();
    let node = world.node(1, TableGuard::Owned);
    let links = node.links();

    let refused = node.wait(node.network.ensure_in_node(&id(), [10, 42, 1, 9].into()));

    let reason = refused.expect_err("refused").to_string();
    assert!(reason.contains("`allow_host_network = true` in section [network]"), "{reason}");
    assert_eq!(node.links(), links);
}

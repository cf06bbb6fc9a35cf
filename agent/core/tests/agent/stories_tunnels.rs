//! Stories of sites that are joined by a tunnel: who is asked, who is answered.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
};

use agent_core::{effect::Balancing, input::Input, tunnels::Tunnels};
use api_types::{access::Access, service::ServiceTable, site::Across};

use crate::node::{Node, address, assignment, id, node_id, table};

const REMOTE: Ipv4Addr = Ipv4Addr::new(10, 42, 4, 9);

/// `web` here and at `edge-2`, which is of another site that is reached by a tunnel.
fn joined() -> Arc<ServiceTable> {
    let mut table = table(2, &["web"], &[("web-1", "edge-1", 2), ("web-7", "edge-2", 9)]);
    let changed = Arc::make_mut(&mut table);
    let web = Arc::make_mut(&mut changed.services[0]);
    (web.across_sites, web.endpoints[1].address) = (true, REMOTE);
    let peers = Arc::make_mut(&mut changed.peers);
    for (peer, site) in peers.iter_mut().zip(["berlin", "hamburg"]) {
        (peer.site, peer.across) = (site.to_owned(), Across::Routes);
    }
    (peers[1].across, peers[1].tunnel) = (Across::Tunnel, "203.0.113.7:7449".parse().ok());
    table
}

fn balancing(node: &Node) -> &Balancing {
    node.balancing.as_ref().expect("balancing")
}

/// The shell listens for the endpoint, and its node is connected.
fn detours() -> Input {
    let here = SocketAddrV4::new(address(1), 40_001);
    Input::Tunnelled { detours: BTreeMap::from([(SocketAddrV4::new(REMOTE, 8080), here)]) }
}

#[test]
fn an_endpoint_behind_a_tunnel_is_used_when_it_can_be_asked_and_not_before() {
    let mut node = Node::running(&[assignment("web-1")]);

    node.give(Input::Services(joined()));
    assert_eq!(node.endpoints(), ["web-1"], "nobody listens for it yet");
    let wish = &balancing(&node).tunnels;
    assert_eq!(wish.peers[0].dialled, "203.0.113.7:7449".parse().ok());
    assert_eq!((wish.remote[0].address, wish.remote[0].ports.as_slice()), (REMOTE, [8080].as_slice()));
    assert!(balancing(&node).peers.is_empty(), "no packets are sent there");

    node.give(detours());
    assert_eq!(node.endpoints(), ["web-1", "web-7"]);
    assert_eq!(balancing(&node).tunnels.detours.len(), 1);

    node.give(Input::Tunnelled { detours: BTreeMap::new() });
    assert_eq!(node.endpoints(), ["web-1"], "its node is not connected any more");
}

#[test]
fn only_services_that_ask_for_it_cross_sites() {
    let mut node = Node::running(&[assignment("web-1")]);
    let mut table = joined();
    Arc::make_mut(&mut Arc::make_mut(&mut table).services[0]).across_sites = false;

    node.give(Input::Services(table));
    node.give(detours());

    assert_eq!(node.endpoints(), ["web-1"]);
    let wish = &balancing(&node).tunnels;
    assert_eq!((wish.remote.len(), wish.served.len(), wish.detours.len()), (0, 0, 0));
}

#[test]
fn a_site_apart_is_not_reached_by_a_tunnel_either() {
    let mut node = Node::running(&[assignment("web-1")]);
    let mut table = joined();
    Arc::make_mut(&mut Arc::make_mut(&mut table).peers)[0].across = Across::Apart;

    node.give(Input::Services(table));
    node.give(detours());

    assert_eq!(node.endpoints(), ["web-1"]);
    assert_eq!(balancing(&node).tunnels, Tunnels::default());
}

#[test]
fn instances_here_answer_other_sites_on_their_own_ports_alone() {
    let mut node = Node::running(&[assignment("web-1")]);

    node.give(Input::Services(joined()));

    let [served] = balancing(&node).tunnels.served.as_slice() else { panic!("one is served") };
    assert_eq!((&served.instance, served.ports.as_slice(), &served.admitted), (&id("web-1"), [8080].as_slice(), &None));
    assert!(
        node.balancing.as_ref().expect("balancing").tunnels.peers.iter().all(|peer| peer.node == node_id("edge-2"))
    );
}

#[test]
fn who_is_admitted_by_a_tunnel_is_who_is_admitted_without() {
    let mut node = Node::running(&[assignment("web-1")]);
    let mut table = joined();
    let own = vec![address(2), REMOTE];
    let web = Arc::make_mut(&mut Arc::make_mut(&mut table).services[0]);
    web.access = Some(Access { allow_from: Some(Vec::new()), instances: own.clone() });

    node.give(Input::Services(table));

    assert_eq!(balancing(&node).tunnels.served[0].admitted, Some(own), "itself alone");
}

#[test]
fn an_address_that_is_not_of_its_nodes_range_is_no_endpoint_behind_a_tunnel() {
    let mut node = Node::running(&[assignment("web-1")]);
    let mut table = joined();
    let web = Arc::make_mut(&mut Arc::make_mut(&mut table).services[0]);
    web.endpoints[1].address = Ipv4Addr::new(192, 168, 0, 4);

    node.give(Input::Services(table));

    assert!(balancing(&node).tunnels.remote.is_empty(), "in the node's own network it is the node's address");
}

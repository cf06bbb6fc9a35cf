//! Stories of nodes that are not on one link, and of workloads in the nodes' own networks.

use std::net::SocketAddr;

use api_types::node::Condition;
use tests_support::netns::ip;
use tests_system::{
    cluster::{nodes, pids, published, until_healthy, virtual_address},
    shop,
};

use crate::stage::{LIMIT, NODES, Outcome, Stage};

/// The node that moves, and who must know the way to it.
const FAR: &str = "edge-3";
const OTHERS: [&str; 5] = ["edge-1", "edge-2", "scheduler", "registry", "visitor"];
/// The port on every node that leads to the service in the nodes' own networks.
const HOST_PUBLISHED: u16 = 8090;

pub(crate) fn a_node_behind_a_router(stage: &mut Stage) -> Outcome {
    let before = pids(&stage.run_lasting_web(3)?);
    let address = stage.bed.node(FAR).address();

    stage.bed.lan().put_behind_router(FAR, address, &OTHERS)?;

    let names_the_remedy = |condition: &Condition| {
        condition.name == "peers" && !condition.ok && condition.reason.contains("wherry site set SITE --reach vxlan")
    };
    stage.until("the node says that others are not on its link, and the remedy", || {
        let views = stage.bed.node_views().unwrap_or_default();
        let far = views.iter().find(|view| view.name.as_str() == FAR);
        far.is_some_and(|far| far.conditions.iter().any(names_the_remedy))
    })?;
    stage.wherry(&["site", "set", "default", "--reach", "vxlan"])?;
    for name in NODES {
        stage.until_answered_by("visitor", published(&stage.bed, name, shop::PUBLISHED), 3)?;
    }
    let sites = stage.wherry(&["get", "sites"])?;
    stage.must(sites.contains("vxlan"), || sites.clone())?;
    // And back, with the site.
    stage.bed.lan().put_on_link(FAR, address, &OTHERS)?;
    stage.wherry(&["site", "set", "default", "--reach", "routes"])?;
    stage.until("no node wraps any more", || NODES.iter().all(|name| !has_device(stage, name)))?;
    for name in NODES {
        stage.until_answered_by("visitor", published(&stage.bed, name, shop::PUBLISHED), 3)?;
    }
    let after = pids(&stage.bed.instances("web")?);
    stage.must(before == after, || format!("{before:?} became {after:?}"))
}

pub(crate) fn a_workload_in_its_nodes_own_network(stage: &mut Stage) -> Outcome {
    let ports = format!("{{ http = {{ container = 8080, service = {}, publish = {HOST_PUBLISHED} }} }}", shop::SERVICE);
    let image = &stage.image;
    stage.apply(&format!(
        "name = \"proxy\"\n[service.proxy]\nimage = \"{image}\"\nreplicas = 3\nnetwork = \"host\"\nports = {ports}\n"
    ))?;

    let (instances, _) = until_healthy(&stage.bed, "proxy", 3, LIMIT)?;

    stage.must(nodes(&instances).len() == 3, || "the port of a node was given away twice".to_owned())?;
    let address: SocketAddr = (virtual_address(&stage.bed, "proxy")?, shop::SERVICE).into();
    for name in NODES {
        let own = stage.bed.node(name).address();
        stage.must(instances.iter().any(|view| view.address == Some(own)), || format!("nobody is at {own}"))?;
        stage.until_answered_by("visitor", published(&stage.bed, name, HOST_PUBLISHED), 3)?;
        stage.until_answered_by("visitor", (own, 8080).into(), 1)?;
        stage.until_answered_by(name, address, 3)?;
    }
    Ok(())
}

fn has_device(stage: &Stage, node: &str) -> bool {
    ip(&["-n", &stage.bed.lan().namespace(node), "link", "show", "wh-vxlan"]).is_ok()
}

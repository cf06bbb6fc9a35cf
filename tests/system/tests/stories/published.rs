//! What ports of the nodes lead to, and where they do not.

use std::net::TcpListener;

use api_types::view::{CheckKind, NetworkVerdict};
use tests_support::netns::inside;
use tests_system::{
    cluster::{published, until_healthy, virtual_address},
    shop,
};

use crate::stage::{LIMIT, NODES, Outcome, Stage, ask_from_process};

pub(crate) fn only_ports_lead_to_a_workload(stage: &mut Stage) -> Outcome {
    let manifest = shop::manifest(&stage.image, 2).replace("= \"1s\"", "= \"20s\"").replace(" service = 80,", "");
    let client = format!("name = \"client\"\n[service.client]\nimage = \"{}\"\n", stage.image);
    stage.apply(&manifest.replacen("image ", "network  = \"published\"\nimage ", 1))?;
    stage.apply(&client)?;

    let (instances, _) = until_healthy(&stage.bed, "web", 2, LIMIT)?;
    let client = until_healthy(&stage.bed, "client", 1, LIMIT)?.0[0].pid.ok_or("a process")?;
    for name in NODES {
        let front = published(&stage.bed, name, shop::PUBLISHED);
        stage.until_answered_by("visitor", front, 2)?;
        ask_from_process(client, front)?;
    }
    for instance in &instances {
        let place = (instance.address.ok_or("an address")?, shop::CONTAINER).into();
        stage.must(ask_from_process(client, place).is_err(), || format!("{place} lets an instance in"))?;
    }
    let seen = stage.wherry(&["describe", "service", "web"])?;
    stage
        .must(seen.contains("only ports of the nodes lead in") && seen.contains("*:8080->8080/tcp"), || seen.clone())?;
    let verdict: NetworkVerdict = serde_json::from_str(&stage.wherry(&["net", "verify", "-o", "json"])?)?;
    let checks = verdict.nodes.iter().flat_map(|node| &node.checks).filter(|check| check.kind == CheckKind::Service);
    stage.must(checks.count() == NODES.len(), || format!("{verdict:?}"))?;

    stage.apply(&manifest)?;
    stage.until("all may ask it by its address", || {
        let address = virtual_address(&stage.bed, "web");
        address.is_ok_and(|address| ask_from_process(client, (address, shop::CONTAINER).into()).is_ok())
    })
}

pub(crate) fn who_has_a_port_is_named(stage: &mut Stage) -> Outcome {
    let netns = stage.bed.netns(NODES[0]);
    let squatter = inside(&netns, || TcpListener::bind(("0.0.0.0", shop::PUBLISHED)))??;
    stage.run_web(3)?;

    let words = format!("tcp port {} of {} is taken by ", shop::PUBLISHED, NODES[0]);
    let owner = format!("(pid {})", std::process::id());
    let is_named = |text: &str| text.lines().any(|line| line.contains(&words) && line.contains(&owner));
    for look in [&["get", "services"][..], &["describe", "service", "web"], &["rollout", "status", "web"]] {
        stage.until(&format!("wherry {look:?} names who has the port"), || {
            stage.wherry(look).is_ok_and(|said| is_named(&said))
        })?;
    }
    let node = stage.wherry(&["describe", "node", NODES[0]])?;
    stage.must(node.contains(&owner), || node.clone())?;
    stage.until_answered_by("visitor", published(&stage.bed, NODES[1], shop::PUBLISHED), 3)?;

    drop(squatter);
    stage.until_answered_by("visitor", published(&stage.bed, NODES[0], shop::PUBLISHED), 3)?;
    stage.until("nobody is named any more", || {
        stage.wherry(&["get", "services"]).is_ok_and(|said| !said.contains("is taken by"))
    })
}

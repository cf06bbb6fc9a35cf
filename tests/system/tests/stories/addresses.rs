//! Addresses of instances: whatever is killed in the middle of whatever, no two share one, and nothing of those that are gone is left.

use std::{collections::BTreeSet, net::Ipv4Addr};

use api_types::view::InstanceView;
use tests_support::program;
use tests_system::{cluster::until_healthy, shop};

use crate::stage::{LIMIT, NODES, Outcome, Stage};

/// Replicas where there are many, and where there are few.
const MANY: usize = 12;
const FEW: usize = 3;

pub(crate) fn addresses_never_collide_or_leak(stage: &mut Stage) -> Outcome {
    let few = shop::manifest(&stage.image, u32::try_from(FEW)?).replace("= \"1s\"", "= \"20s\"");
    let many = few.replacen(&format!("replicas = {FEW}"), &format!("replicas = {MANY}"), 1);
    for (round, name) in NODES.into_iter().enumerate() {
        stage.apply(&few)?;
        until_healthy(&stage.bed, "web", FEW, LIMIT)?;
        let before = networks(stage, name)?.len();
        stage.apply(&many)?;
        stage.until("networks are being made", || networks(stage, name).is_ok_and(|now| now.len() > before))?;

        stage.bed.node_mut(name).kill_agent();
        match round {
            0 => {}
            1 => {
                stage.bed.node_mut(name).kill_containerd();
                stage.bed.node_mut(name).start_containerd()?;
            }
            _ => {
                stage.bed.kill_scheduler();
                stage.bed.start_scheduler()?;
            }
        }
        // What was begun is not wanted any more when the agent sees it again.
        stage.apply(&few)?;
        stage.bed.node_mut(name).start_agent()?;
        until_settled(stage, FEW)?;
    }
    stage.apply(&many)?;
    until_settled(stage, MANY)?;
    stage.wherry(&["delete", "web", "--yes"])?;

    stage.until("nothing is left", || {
        NODES.into_iter().all(|name| networks(stage, name).is_ok_and(|left| left.is_empty()))
    })
}

/// Waits until so many replicas are healthy, and each node has the networks of its own and no other.
fn until_settled(stage: &Stage, count: usize) -> Outcome {
    let (instances, _) = until_healthy(&stage.bed, "web", count, LIMIT)?;
    let addresses: BTreeSet<Ipv4Addr> = instances.iter().filter_map(|view| view.address).collect();
    stage.must(addresses.len() == count, || format!("{count} replicas have {addresses:?}"))?;
    stage.until("each node has its instances' networks and no other", || {
        NODES.into_iter().all(|name| networks(stage, name).is_ok_and(|found| found == of_node(&instances, name)))
    })
}

/// The addresses of the instances on a node.
fn of_node(instances: &[InstanceView], name: &str) -> BTreeSet<Ipv4Addr> {
    let here = instances.iter().filter(|view| view.node.as_ref().is_some_and(|node| node.as_str() == name));
    here.filter_map(|view| view.address).collect()
}

/// The addresses to which a node's kernel has a link; an error where links and routes are not as many.
fn networks(stage: &Stage, name: &str) -> Result<BTreeSet<Ipv4Addr>, Box<dyn std::error::Error>> {
    let netns = stage.bed.netns(name);
    let listed = |arguments: &[&str]| -> Result<String, Box<dyn std::error::Error>> {
        let output = program::within(Some(&netns), arguments).output()?;
        Ok(String::from_utf8(output.stdout)?)
    };
    let links = listed(&["ip", "-o", "link", "show"])?.lines().filter(|line| line.contains(": wh-")).count();
    let routes = listed(&["ip", "-o", "-4", "route", "show"])?;
    let addresses: BTreeSet<Ipv4Addr> = routes
        .lines()
        .filter(|line| line.contains(" dev wh-"))
        .filter_map(|line| line.split_whitespace().next()?.parse().ok())
        .collect();
    if links == addresses.len() { Ok(addresses) } else { Err(format!("{links} links, routes to {addresses:?}").into()) }
}

//! The story of a real dockerd beside Wherry on one node.

use std::net::SocketAddr;

use api_types::node::Liveness;
use tests_support::{load::Load, program};
use tests_system::{
    cluster::{published, until_healthy, until_node},
    docker::{ANSWER, Docker, PUBLISHED},
    shop,
};

use crate::stage::{LIMIT, NODES, Outcome, Stage};

/// A machine that joins for this story alone.
const GUEST: &str = "edge-4";
const CLIENTS: usize = 3;

pub(crate) fn docker_and_wherry_leave_each_other_alone(stage: &mut Stage) -> Outcome {
    stage.run_web(3)?;
    {
        let node = NODES[1];
        let docker = Docker::start(stage.bed.node(node))?;
        docker.publish()?;
        until_docker_answers(stage, node)?;
        stage.until_answered_by("visitor", published(&stage.bed, node, shop::PUBLISHED), 3)?;
        let registry = format!("http://{}/v2/", stage.bed.registry().address());
        stage.until("what Docker runs reaches the world outside", || docker.fetch(&registry).is_ok())?;
    }
    stage.bed.add_machine(GUEST)?;
    let mut docker = Docker::start(stage.bed.node(GUEST))?;
    docker.publish()?;
    until_docker_answers(stage, GUEST)?;

    let load = docker_load(stage);
    let token = stage.bed.join_token(GUEST)?;
    stage.bed.node(GUEST).join(&token)?;
    stage.bed.node_mut(GUEST).start_agent()?;
    until_node(&stage.bed, GUEST, Liveness::Ready, LIMIT)?;
    stage.wherry(&["scale", "web", "4"])?;
    until_healthy(&stage.bed, "web", 4, LIMIT)?;
    stage.until_answered_by("visitor", published(&stage.bed, GUEST, shop::PUBLISHED), 4)?;
    stage.bed.node_mut(GUEST).kill_agent();
    stage.bed.node_mut(GUEST).start_agent()?;
    must_be_whole(stage, load, "Docker's container while Wherry started, worked and was killed")?;

    let load = Load::start(&stage.bed.netns("visitor"), published(&stage.bed, GUEST, shop::PUBLISHED), CLIENTS);
    docker.restart()?;
    until_docker_answers(stage, GUEST)?;
    must_be_whole(stage, load, "Wherry's port while dockerd stopped and started")?;

    until_node(&stage.bed, GUEST, Liveness::Ready, LIMIT)?;
    stage.wherry(&["scale", "web", "3"])?;
    until_healthy(&stage.bed, "web", 3, LIMIT)?;
    let load = docker_load(stage);
    stage.wherry(&["drain", GUEST])?;
    stage.bed.node_mut(GUEST).kill_agent();
    stage.bed.node(GUEST).leave()?;
    must_be_whole(stage, load, "Docker's container while Wherry was taken away")?;
    let rules = program::within(Some(&stage.bed.netns(GUEST)), &["iptables", "-S"]).output()?;
    let rules = String::from_utf8_lossy(&rules.stdout).into_owned();
    stage.must(rules.contains("DOCKER-USER") && !rules.contains("wh-"), || format!("rules are left:\n{rules}"))?;

    drop(docker);
    stage.wherry(&["node", "rm", GUEST, "--force", "--yes"])?;
    Ok(stage.bed.cut_power(GUEST)?)
}

fn docker_load(stage: &Stage) -> Load {
    Load::start(&stage.bed.netns("visitor"), docker_port(stage, GUEST), CLIENTS)
}

fn docker_port(stage: &Stage, node: &str) -> SocketAddr {
    published(&stage.bed, node, PUBLISHED)
}

fn until_docker_answers(stage: &Stage, node: &str) -> Outcome {
    let server = docker_port(stage, node);
    stage.until("Docker's published port answers", || {
        stage.bed.get_from("visitor", server, "/", LIMIT).is_ok_and(|reply| reply.text().trim() == ANSWER)
    })
}

fn must_be_whole(stage: &Stage, load: Load, what: &str) -> Outcome {
    let tally = load.finish()?;
    stage.must(tally.failures.is_empty() && tally.answered() > 0, || {
        let first = tally.failures.first();
        format!("{what}: {} of {} failed: {first:?}", tally.failures.len(), tally.answered())
    })
}

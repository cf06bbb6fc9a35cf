//! Stories of requests that are not lost: every order that ends instances, under load, and what happens to a careless one.

use std::{net::SocketAddr, time::Duration};

use api_types::view::InstanceView;
use nix::sys::signal::Signal;
use tests_support::{
    load::{Load, Tally},
    program,
    wait::try_wait_for,
};
use tests_system::{
    cluster::{is_healthy, published, until, until_healthy},
    shop,
};

use crate::stage::{LIMIT, NODES, Outcome, Stage};

/// Clients of each kind.
const CLIENTS: usize = 6;

/// A service whose program answers for a while after it was asked to end.
fn manifest(stage: &Stage, version: u32) -> String {
    let lame_duck =
        format!("drain    = \"2s\"\nenv      = {{ LAME_DUCK_MS = \"1500\", VERSION = \"{version}\" }}\nports ");
    shop::manifest(&stage.image, 3).replacen("ports ", &lame_duck, 1)
}

/// Traffic from a visitor, half of it on connections that are kept.
pub(crate) fn traffic(stage: &Stage) -> [Load; 2] {
    let (netns, server) = (stage.bed.netns("visitor"), published(&stage.bed, "edge-1", shop::PUBLISHED));
    [Load::start(&netns, server, CLIENTS), Load::start_kept(&netns, server, CLIENTS)]
}

pub(crate) fn finish(load: [Load; 2]) -> std::io::Result<[Tally; 2]> {
    let [new, kept] = load.map(Load::finish);
    Ok([new?, kept?])
}

/// Nothing failed, and both kinds asked.
pub(crate) fn must_be_whole(stage: &Stage, tallies: &[Tally; 2]) -> Outcome {
    for (kind, tally) in ["a connection each", "kept connections"].into_iter().zip(tallies) {
        let count = tally.answered();
        stage.must(count > 100, || format!("{kind}: only {count} answers"))?;
        stage.must(tally.failures.is_empty(), || {
            format!("{kind}: {} of {count} failed: {:?}", tally.failures.len(), &tally.failures[..1])
        })?;
    }
    Ok(())
}

/// Waits until three healthy instances are there, none of which was there before.
fn until_replaced(stage: &Stage, before: &[InstanceView]) -> Outcome {
    let is_other = |view: &InstanceView| before.iter().all(|old| old.name != view.name);
    until(&stage.bed, "web", LIMIT, |views| {
        views.len() == 3 && views.iter().all(|view| is_healthy(view) && is_other(view))
    })?;
    Ok(())
}

pub(crate) fn an_update_loses_no_request(stage: &mut Stage) -> Outcome {
    stage.apply(&manifest(stage, 1))?;
    let (first, _) = until_healthy(&stage.bed, "web", 3, LIMIT)?;
    stage.until_answered_by("visitor", published(&stage.bed, "edge-1", shop::PUBLISHED), 3)?;

    let load = traffic(stage);
    stage.apply(&manifest(stage, 2))?;
    until_replaced(stage, &first)?;
    let tallies = finish(load)?;

    must_be_whole(stage, &tallies)
}

pub(crate) fn drains_and_scaling_lose_no_request(stage: &mut Stage) -> Outcome {
    stage.apply(&manifest(stage, 1))?;
    until_healthy(&stage.bed, "web", 3, LIMIT)?;
    stage.until_answered_by("visitor", published(&stage.bed, "edge-1", shop::PUBLISHED), 3)?;

    let load = traffic(stage);
    stage.wherry(&["drain", "edge-2"])?;
    let is_elsewhere = |view: &InstanceView| view.node.as_ref().is_some_and(|node| node.as_str() != "edge-2");
    until(&stage.bed, "web", LIMIT, |views| {
        views.len() == 3 && views.iter().all(|view| is_healthy(view) && is_elsewhere(view))
    })?;
    stage.wherry(&["scale", "web", "6"])?;
    until_healthy(&stage.bed, "web", 6, LIMIT)?;
    stage.wherry(&["scale", "web", "3"])?;
    until_healthy(&stage.bed, "web", 3, LIMIT)?;
    let tallies = finish(load)?;
    stage.wherry(&["uncordon", "edge-2"])?;

    must_be_whole(stage, &tallies)
}

pub(crate) fn a_machine_that_is_shut_down_loses_no_request(stage: &mut Stage) -> Outcome {
    let lasting = "\n[service.web.disconnect]\nreplace_after = \"never\"\n";
    stage.apply(&format!("{}{lasting}", manifest(stage, 1)))?;
    until_healthy(&stage.bed, "web", 3, LIMIT)?;
    stage.until_answered_by("visitor", published(&stage.bed, "edge-1", shop::PUBLISHED), 3)?;
    let agent = stage.bed.node("edge-3").agent_pid().ok_or("the agent runs")?;
    // Only the neighbours can take the node out.
    stage.bed.kill_scheduler();

    let load = traffic(stage);
    // As an init program says it that is not systemd.
    program::signal(agent, Signal::SIGPWR);
    let ended = try_wait_for(LIMIT, || (!stage.bed.node_mut("edge-3").agent_runs()).then_some(()));
    let left = stage.running("edge-3");
    let tallies = finish(load)?;
    stage.bed.cut_power("edge-3")?;
    stage.bed.boot("edge-3")?;
    stage.bed.start_scheduler()?;

    stage.must(ended.is_some() && left.is_some_and(|left| left.is_empty()), || {
        "the agent or what it ran did not end".to_owned()
    })?;
    must_be_whole(stage, &tallies)?;
    until_healthy(&stage.bed, "web", 3, LIMIT)?;
    stage.until_answered_by("visitor", published(&stage.bed, "edge-1", shop::PUBLISHED), 3)
}

pub(crate) fn a_silent_agent_holds_no_update_up(stage: &mut Stage) -> Outcome {
    stage.apply(&manifest(stage, 1))?;
    let (first, _) = until_healthy(&stage.bed, "web", 3, LIMIT)?;
    let silent = stage.bed.node("edge-3").agent_pid().ok_or("the agent runs")?;

    program::signal(silent, Signal::SIGSTOP);
    let updated = stage.apply(&manifest(stage, 2)).and_then(|()| {
        let is_other = |view: &InstanceView| first.iter().all(|old| old.name != view.name);
        until(&stage.bed, "web", LIMIT, |views| {
            views.iter().filter(|view| is_healthy(view) && is_other(view)).count() >= 2
        })?;
        Ok(())
    });
    program::signal(silent, Signal::SIGCONT);

    updated?;
    until_replaced(stage, &first)
}

pub(crate) fn a_careless_end_loses_requests(stage: &mut Stage) -> Outcome {
    let web = stage.run_web(3)?;
    // Requests come in on another node, whose kernel learns of the end later.
    let far = |view: &&InstanceView| view.node.as_ref().is_some_and(|node| node.as_str() != "edge-1");
    let careless = web.iter().find(far).ok_or("three are on three nodes")?;
    let pid = careless.pid.ok_or("a healthy instance has a process")?;
    stage.until_answered_by("visitor", published(&stage.bed, "edge-1", shop::PUBLISHED), 3)?;

    let load = traffic(stage);
    let mut tallies = finish(load)?;
    must_be_answered(stage, &tallies)?;
    let load = traffic(stage);
    program::signal(pid, Signal::SIGTERM);
    until(&stage.bed, "web", LIMIT, |views| {
        views.iter().any(|view| view.name == careless.name && is_healthy(view) && view.pid != Some(pid))
    })?;
    tallies = finish(load)?;

    let failed: usize = tallies.iter().map(|tally| tally.failures.len()).sum();
    stage.must(failed > 0, || "nobody noticed a process that ended while it was balanced to".to_owned())
}

fn must_be_answered(stage: &Stage, tallies: &[Tally; 2]) -> Outcome {
    let failures: Vec<_> = tallies.iter().flat_map(|tally| &tally.failures).collect();
    stage.must(failures.is_empty(), || format!("before anything happened: {failures:?}"))
}

pub(crate) fn a_dead_node_is_left_out_without_a_scheduler(stage: &mut Stage) -> Outcome {
    stage.run_lasting_web(3)?;
    let server: SocketAddr = published(&stage.bed, "edge-1", shop::PUBLISHED);
    stage.until_answered_by("visitor", server, 3)?;
    stage.bed.kill_scheduler();

    stage.bed.cut_power("edge-3")?;
    // The scheduler cannot say it: only the neighbours' silence takes the dead node's endpoint out.
    let is_answered = || {
        let ask = || stage.bed.get_from("visitor", server, "/", Duration::from_millis(500));
        (0..60).all(|_| ask().is_ok_and(|reply| reply.status == 200))
    };
    let left_out = stage.until("only the living are asked", is_answered);
    stage.bed.start_scheduler()?;
    stage.bed.boot("edge-3")?;

    left_out?;
    until_healthy(&stage.bed, "web", NODES.len(), LIMIT)?;
    stage.until_answered_by("visitor", server, 3)
}

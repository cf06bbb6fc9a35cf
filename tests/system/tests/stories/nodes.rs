//! Stories of a node in trouble: no power, no agent, no containerd, a meddling hand.

use api_types::{
    id::NodeId,
    node::Liveness,
    view::{Forecast, InstanceView},
};
use nix::sys::signal::Signal;
use tests_support::{load::Load, program};
use tests_system::{
    cluster::{is_healthy, pids, published, until, until_healthy, until_node},
    shop,
};

use crate::stage::{LIMIT, Outcome, Stage};

pub(crate) fn a_power_cut_is_survived(stage: &mut Stage) -> Outcome {
    let before = stage.run_web(3)?;
    let survivor = published(&stage.bed, "edge-1", shop::PUBLISHED);
    stage.until_answered_by("visitor", survivor, 3)?;
    let load = Load::start(&stage.bed.netns("visitor"), survivor, 2);
    let lost: Vec<InstanceView> = before.iter().filter(|view| on(view, "edge-3")).cloned().collect();

    let forecast = stage.wherry(&["what-if", "node-loss", "edge-3", "-o", "json"])?;
    let forecast: Forecast = serde_json::from_str(&forecast)?;

    stage.bed.cut_power("edge-3")?;
    until_node(&stage.bed, "edge-3", Liveness::Lost, LIMIT)?;
    let replaced = |instances: &[InstanceView]| {
        let gone = instances.iter().all(|view| !on(view, "edge-3") && lost.iter().all(|old| old.name != view.name));
        instances.len() == 3 && gone && instances.iter().all(is_healthy)
    };
    let (after, _) = until(&stage.bed, "web", LIMIT, replaced)?;
    let slots = lost.iter().map(|old| old.slot);
    let places: Vec<_> = slots.map(|slot| (slot, place_of(&after, slot))).collect();
    let moves = forecast.moves.iter().filter(|moved| moved.workload.name.as_str() == "web");
    let foreseen: Vec<_> = moves.map(|moved| (moved.slot, moved.to.clone())).collect();
    stage.must(!places.is_empty() && places == foreseen, || format!("forecast {foreseen:?}, happened {places:?}"))?;
    stage.until_answered_by("visitor", survivor, 3)?;
    let tally = load.finish()?;
    // Requests may fail between the cut and the moment in which the balancers know; after that, none.
    stage.must(tally.answered() > 0, || format!("nothing was answered: {:?}", tally.failures))?;
    let kept = |views: &[InstanceView]| {
        pids(views).into_iter().filter(|kept| before.iter().any(|old| old.name == kept.0)).collect::<Vec<_>>()
    };
    stage.must(kept(&after).len() == 2, || "the two other replicas are as they were".to_owned())?;

    stage.bed.boot("edge-3")?;
    until_node(&stage.bed, "edge-3", Liveness::Ready, LIMIT)?;
    stage.prove_command()?;
    stage.until("what was replaced is cleared away", || {
        stage.containers("edge-3").is_some_and(|found| found.is_empty())
    })?;
    let (returned, _) = until_healthy(&stage.bed, "web", 3, LIMIT)?;
    stage.must(pids(&after) == pids(&returned), || "the return restarted something".to_owned())?;
    stage.until_answered_by("visitor", published(&stage.bed, "edge-3", shop::PUBLISHED), 3)
}

/// The node of a slot's instance.
fn place_of(views: &[InstanceView], slot: u32) -> Option<NodeId> {
    views.iter().find(|view| view.slot == slot)?.node.clone()
}

pub(crate) fn an_agent_restarts_nothing(stage: &mut Stage) -> Outcome {
    let before = stage.run_lasting_web(3)?;
    let server = published(&stage.bed, "edge-2", shop::PUBLISHED);
    stage.until_answered_by("visitor", server, 3)?;

    stage.bed.node_mut("edge-2").kill_agent();
    let answers = stage.bed.count_answers("visitor", server, 50)?;
    stage.must(answers.len() == 3 && !answers.contains_key(""), || format!("without an agent: {answers:?}"))?;
    // Unreachable, and some seconds later lost: a slow look may find either.
    stage.until("the node is missed", || stage.liveness("edge-2").is_some_and(|seen| seen != Liveness::Ready))?;
    stage.bed.node_mut("edge-2").start_agent()?;
    until_node(&stage.bed, "edge-2", Liveness::Ready, LIMIT)?;
    stage.prove_command()?;

    let (after, _) = until_healthy(&stage.bed, "web", 3, LIMIT)?;
    stage.must(same(&before, &after), || format!("before {:?}, after {:?}", pids(&before), pids(&after)))?;
    stage.until_answered_by("visitor", server, 3)
}

pub(crate) fn containerd_restarts_nothing(stage: &mut Stage) -> Outcome {
    let before = stage.run_lasting_web(3)?;
    let server = published(&stage.bed, "edge-1", shop::PUBLISHED);

    stage.bed.node_mut("edge-1").kill_containerd();
    stage.until("the node says that its runtime is away", || runtime_is_well(stage, "edge-1") == Some(false))?;
    stage.until_answered_by("visitor", server, 3)?;
    stage.bed.node_mut("edge-1").start_containerd()?;
    stage.until("the node says that its runtime is back", || runtime_is_well(stage, "edge-1") == Some(true))?;
    stage.prove_command()?;

    let (after, _) = until_healthy(&stage.bed, "web", 3, LIMIT)?;
    stage.must(same(&before, &after), || format!("before {:?}, after {:?}", pids(&before), pids(&after)))?;
    // It is not only there, it is in the agent's hand: what dies now is started again.
    let victim = after.iter().find(|view| on(view, "edge-1")).ok_or("a replica on edge-1")?;
    let pid = victim.pid.ok_or("a process")?;
    program::signal(pid, Signal::SIGKILL);
    let again = |views: &[InstanceView]| {
        views.iter().any(|view| view.name == victim.name && is_healthy(view) && view.pid != Some(pid))
    };
    until(&stage.bed, "web", LIMIT, again)?;
    Ok(())
}

pub(crate) fn a_removed_container_comes_again(stage: &mut Stage) -> Outcome {
    let before = stage.run_web(3)?;
    let victim = before.iter().find(|view| on(view, "edge-1")).ok_or("a replica on edge-1")?;
    let containers = stage.containers("edge-1").ok_or("containerd answers")?;
    let container = containers.first().ok_or("a container")?;

    let ctr = |arguments: &[&str]| -> Outcome {
        let output = stage.bed.node("edge-1").ctr(arguments)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        // The agent may be quicker than the hand: what it has cleared away already is gone as wished.
        stage.must(output.status.success() || said.contains("not found"), || said)
    };
    ctr(&["tasks", "delete", "--force", container])?;
    ctr(&["containers", "delete", container])?;

    let again = |views: &[InstanceView]| {
        views.len() == 3
            && views.iter().any(|view| view.name == victim.name && is_healthy(view) && view.pid != victim.pid)
    };
    until(&stage.bed, "web", LIMIT, again)?;
    stage.until_answered_by("visitor", published(&stage.bed, "edge-2", shop::PUBLISHED), 3)
}

fn on(view: &InstanceView, node: &str) -> bool {
    view.node.as_ref().is_some_and(|id| id.as_str() == node)
}

fn same(before: &[InstanceView], after: &[InstanceView]) -> bool {
    pids(before) == pids(after) && after.iter().all(|view| view.restarts == 0)
}

fn runtime_is_well(stage: &Stage, node: &str) -> Option<bool> {
    let views = stage.bed.node_views().ok()?;
    let view = views.into_iter().find(|view| view.name.as_str() == node)?;
    view.conditions.iter().find(|condition| condition.name == "runtime").map(|condition| condition.ok)
}

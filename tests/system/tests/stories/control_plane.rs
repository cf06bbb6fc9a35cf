//! Stories of the scheduler's absence: what was acknowledged stays, and every node goes on by itself.

use std::fs;

use api_types::{node::Liveness, view::InstanceView};
use nix::sys::signal::Signal;
use tests_support::program;
use tests_system::{
    cluster::{is_healthy, pids, published, until, until_healthy, until_node},
    shop,
};

use crate::stage::{LIMIT, NODES, Outcome, Stage};

/// How many workloads are applied while the scheduler is killed, and how often that is.
const WORKLOADS: usize = 12;
const KILLS: usize = 3;

pub(crate) fn nothing_acknowledged_is_lost(stage: &mut Stage) -> Outcome {
    let mut acknowledged = Vec::new();
    for number in 0..WORKLOADS {
        let name = format!("part-{number}");
        let manifest =
            format!("name = \"parts\"\n[service.{name}]\nimage = \"{}\"\nreplicas = {}\n", stage.image, 1 + number % 2);
        let file = stage.file(&format!("{name}.toml"), manifest.as_bytes())?;
        let applied = if number % (WORKLOADS / KILLS) == 2 {
            // Killed at a moment that nobody chose: while the request is on its way, decided, written or answered.
            let (bed, path) = (&mut stage.bed, file.to_string_lossy().into_owned());
            let pid = bed.scheduler_pid().ok_or("a scheduler")?;
            let applied = std::thread::scope(|scope| {
                let apply = scope.spawn(|| bed.wherry(&["apply", "--detach", "-f", &path]));
                program::signal(pid, Signal::SIGKILL);
                apply.join()
            });
            let applied = applied.map_err(|_| "the apply panicked")?;
            bed.kill_scheduler();
            bed.start_scheduler()?;
            applied?
        } else {
            stage.bed.wherry(&["apply", "--detach", "-f", &file.to_string_lossy()])?
        };
        if applied.code == Some(0) {
            acknowledged.push((name, 1 + number % 2));
        }
    }

    stage.must(acknowledged.len() >= WORKLOADS - KILLS, || format!("acknowledged only {acknowledged:?}"))?;
    for (name, count) in &acknowledged {
        until_healthy(&stage.bed, name, *count, LIMIT)?;
    }
    // What was not acknowledged may be there or not; whatever is there has exactly its containers.
    stage.until("each node has one container per instance that the scheduler knows", || {
        let Ok(list) = stage.bed.ask(&["get", "instances"]) else { return false };
        let items = list["items"].as_array().cloned().unwrap_or_default();
        NODES.iter().all(|name| {
            let known = items.iter().filter(|item| item["node"] == **name && item["state"] == "running").count();
            stage.running(name).is_some_and(|running| running.len() == known)
        })
    })
}

pub(crate) fn a_process_dies_without_a_scheduler(stage: &mut Stage) -> Outcome {
    let before = stage.run_lasting_web(3)?;
    let victim = before.iter().find(|view| on(view, "edge-2")).ok_or("a replica on edge-2")?;
    let pid = victim.pid.ok_or("a process")?;

    stage.bed.kill_scheduler();
    program::signal(pid, Signal::SIGKILL);
    stage.until("the agent starts it again by itself", || {
        stage.running("edge-2").is_some_and(|running| running.len() == 1 && running[0].1 != pid)
    })?;
    stage.until_answered_by("visitor", published(&stage.bed, "edge-2", shop::PUBLISHED), 3)?;
    let alone = stage.running("edge-2").ok_or("containerd answers")?;
    stage.bed.start_scheduler()?;
    until_node(&stage.bed, "edge-2", Liveness::Ready, LIMIT)?;
    stage.prove_command()?;

    let counted = |views: &[InstanceView]| {
        views.len() == 3 && views.iter().any(|view| view.name == victim.name && is_healthy(view) && view.restarts == 1)
    };
    let (after, _) = until(&stage.bed, "web", LIMIT, counted)?;
    let returned = after.iter().find(|view| view.name == victim.name).and_then(|view| view.pid);
    stage.must(returned == Some(alone[0].1), || "the scheduler's return restarted it".to_owned())?;
    let others =
        |views: &[InstanceView]| pids(views).into_iter().filter(|kept| kept.0 != victim.name).collect::<Vec<_>>();
    stage.must(others(&before) == others(&after), || "the scheduler's return restarted another".to_owned())
}

pub(crate) fn a_node_reboots_without_a_scheduler(stage: &mut Stage) -> Outcome {
    stage.run_lasting_web(6)?;
    // First by name, and last to come: a node that forgot who was where would give it another's address.
    stage.apply(&format!("name = \"late\"\n[daemon.a-late-one]\nimage = \"{}\"\n", stage.image))?;
    let late = until_healthy(&stage.bed, "a-late-one", NODES.len(), LIMIT)?.0;
    let on_node = |views: &[InstanceView]| -> Vec<String> {
        views.iter().filter(|view| on(view, "edge-3")).map(|view| view.name.clone()).collect()
    };
    let all = until_healthy(&stage.bed, "web", 6, LIMIT)?.0;
    let before = on_node(&all);
    stage.until_answered_by("visitor", published(&stage.bed, "edge-3", shop::PUBLISHED), 6)?;
    // An agent spares its disk: what it was told is there some time later.
    let disk = stage.bed.node("edge-3").folder().join("state/last");
    let names: Vec<String> = all.iter().map(|view| view.name.clone()).collect();
    let holds = |file: &str, names: &[String]| {
        let text = fs::read_to_string(disk.join(file)).unwrap_or_default();
        names.iter().all(|name| text.contains(&format!("\"{name}\"")))
    };
    let here: Vec<String> = before.iter().cloned().chain(on_node(&late)).collect();
    stage.until("set, table and addresses are on the node's disk", || {
        ["assignments.current", "addresses.current"].iter().all(|file| holds(file, &here))
            && holds("services.current", &names)
    })?;

    stage.bed.kill_scheduler();
    stage.bed.cut_power("edge-3")?;
    stage.must(stage.bed.ground().leftovers().iter().all(|left| !left.contains("edge-3/")), || {
        "a reboot leaves nothing".to_owned()
    })?;
    stage.bed.boot("edge-3")?;
    stage.until("everything runs again from the node's own disk", || {
        stage.running("edge-3").is_some_and(|running| running.len() == before.len() + 1)
    })?;
    // Nobody can tell the other nodes: they balance to where everything was.
    for node in NODES {
        stage.until_answered_by("visitor", published(&stage.bed, node, shop::PUBLISHED), 6)?;
    }
    let alone: Vec<u32> =
        stage.running("edge-3").ok_or("containerd answers")?.into_iter().map(|(_, pid)| pid).collect();
    stage.bed.start_scheduler()?;
    until_node(&stage.bed, "edge-3", Liveness::Ready, LIMIT)?;
    stage.prove_command()?;

    let (after, _) = until_healthy(&stage.bed, "web", 6, LIMIT)?;
    stage.must(on_node(&after) == before, || format!("{before:?} became {:?}", on_node(&after)))?;
    let kept =
        after.iter().filter(|view| on(view, "edge-3")).all(|view| view.pid.is_some_and(|pid| alone.contains(&pid)));
    stage.must(kept, || "the scheduler's return restarted what had booted".to_owned())
}

fn on(view: &InstanceView, node: &str) -> bool {
    view.node.as_ref().is_some_and(|id| id.as_str() == node)
}

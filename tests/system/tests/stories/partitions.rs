//! Stories of nodes that are cut off while nothing on them is broken.

use api_types::{instance::InstanceState, view::InstanceView};
use tests_support::{program, wait::try_wait_for};
use tests_system::cluster::{state, until_healthy};

use crate::stage::{LIMIT, Outcome, Stage};

pub(crate) fn what_runs_once_ends_itself_before_its_successor_starts(stage: &mut Stage) -> Outcome {
    let contract = "stop = { grace = \"1s\" }\ndisconnect = { stop_after = \"5s\", replace_after = \"12s\" }\n";
    let command = "command = [\"sleep\", \"100000\"]";
    let manifest = |image: &str| format!("name = \"db\"\n[service.db]\nimage = \"{image}\"\n{command}\n{contract}");
    stage.apply(&manifest(&stage.image))?;
    let first = until_healthy(&stage.bed, "db", 1, LIMIT)?.0.remove(0);
    let home = first.node.clone().ok_or("a healthy instance has a node")?;
    let before = stage.running(home.as_str()).ok_or("containerd answers")?;
    stage.must(before.len() == 1, || format!("it runs alone there: {before:?}"))?;

    cut_off(stage, home.as_str())?;
    let ended = successor_runs(stage, &first);
    let left = stage.running(home.as_str());
    nft(stage, home.as_str(), "delete table inet cut")?;

    ended?;
    stage.must(left.as_ref().is_some_and(Vec::is_empty), || format!("the node ended its own by itself: {left:?}"))?;
    stage.until("what was ended leaves, and its successor stays", || {
        let views = stage.bed.instances("db").unwrap_or_default();
        views.len() == 1 && views[0].name != first.name && views[0].state == InstanceState::Running
    })?;
    stage.until("nothing is left of it", || stage.containers(home.as_str()).is_some_and(|left| left.is_empty()))
}

/// Waits until another node runs the successor of an instance; at no look is the instance there still once the successor is.
fn successor_runs(stage: &Stage, first: &InstanceView) -> Outcome {
    let home = first.node.as_ref().ok_or("it has a node")?;
    let elsewhere = |name: &&&str| **name != home.as_str();
    let look = || {
        let started = crate::stage::NODES
            .iter()
            .filter(elsewhere)
            .any(|name| stage.running(name).is_some_and(|running| !running.is_empty()));
        // Only now: what still runs after the successor was seen ran beside it.
        started.then(|| stage.running(home.as_str()))
    };
    let still = try_wait_for(LIMIT, look).ok_or_else(|| format!("no successor\n{}", state(&stage.bed)))?;
    stage.must(still.as_ref().is_some_and(Vec::is_empty), || format!("two run at once: {still:?}"))
}

/// Loses whatever a node sends and is sent, as a link does that is cut: nobody is told.
fn cut_off(stage: &Stage, node: &str) -> Outcome {
    let chain = |name: &str, hook: &str, link: &str| {
        format!(
            "add chain inet cut {name} {{ type filter hook {hook} priority -300; }}; add rule inet cut {name} {link} eth0 drop;"
        )
    };
    let (from, to) = (chain("from", "prerouting", "iifname"), chain("to", "postrouting", "oifname"));
    nft(stage, node, &format!("add table inet cut; {from} {to}"))
}

/// Runs a command of `nft` on a node, as anybody who is root there may.
fn nft(stage: &Stage, node: &str, command: &str) -> Outcome {
    let status = program::within(Some(&stage.bed.netns(node)), &["nft", command]).status()?;
    stage.must(status.success(), || format!("nft {command}: {status}"))
}

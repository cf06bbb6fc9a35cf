//! Stories of the kernels' tables: somebody flushes them, packets are lost one way, and an update loses those who lead it.

use std::{fs, path::Path};

use api_types::{node::Liveness, view::InstanceView};
use tests_support::{
    load::{Connections, Load, Tally},
    program,
};
use tests_system::{
    cluster::{is_healthy, published, until, until_healthy, until_node},
    shop,
};

use crate::stage::{LIMIT, Outcome, Stage};

/// Clients of each kind.
const CLIENTS: usize = 6;
/// How long a client rests between two requests.
const REST: std::time::Duration = std::time::Duration::from_millis(5);

pub(crate) fn a_flush_under_load_is_not_noticed(stage: &mut Stage) -> Outcome {
    stage.run_lasting_web(3)?;
    let server = published(&stage.bed, "edge-1", shop::PUBLISHED);
    stage.until_answered_by("visitor", server, 3)?;

    let load = traffic(stage);
    nft(stage, "edge-1", "flush ruleset")?;
    stage.until_answered_by("visitor", server, 3)?;
    must_be_whole(stage, finish(load)?)?;
    // Without an agent nobody keeps the table from others; who starts again puts it back.
    stage.bed.node_mut("edge-1").kill_agent();
    nft(stage, "edge-1", "flush ruleset")?;
    stage.bed.node_mut("edge-1").start_agent()?;

    stage.until_answered_by("visitor", server, 3)
}

pub(crate) fn a_table_that_others_edit_is_restored(stage: &mut Stage) -> Outcome {
    stage.run_lasting_web(3)?;
    let config = stage.bed.node("edge-1").config();
    let as_it_was = fs::read_to_string(&config)?;
    // As on a kernel that keeps a table from nobody.
    fs::write(&config, as_it_was.replace("[network]\n", "[network]\ntable_owned = false\n"))?;
    restart_agent(stage)?;

    let restored = edits_are_restored(stage);

    fs::write(&config, as_it_was)?;
    restart_agent(stage)?;
    restored
}

fn edits_are_restored(stage: &Stage) -> Outcome {
    let server = published(&stage.bed, "edge-1", shop::PUBLISHED);
    stage.until_answered_by("visitor", server, 3)?;
    for edit in ["flush ruleset", "flush map ip wherry port_slots", "flush chain ip wherry nat_prerouting"] {
        nft(stage, "edge-1", edit)?;
        stage.until_answered_by("visitor", server, 3)?;
    }
    Ok(())
}

/// Starts the agent of the first node again and waits until it is heard.
fn restart_agent(stage: &mut Stage) -> Outcome {
    stage.bed.node_mut("edge-1").kill_agent();
    stage.bed.node_mut("edge-1").start_agent()?;
    // The scheduler may not have missed it yet: what an agent does proves that it is there.
    stage.prove_command()
}

pub(crate) fn a_restart_under_load_is_not_noticed(stage: &mut Stage) -> Outcome {
    stage.run_lasting_web(3)?;
    let server = published(&stage.bed, "edge-1", shop::PUBLISHED);
    stage.until_answered_by("visitor", server, 3)?;

    let load = traffic(stage);
    stage.bed.node_mut("edge-1").kill_agent();
    stage.bed.node_mut("edge-1").start_agent()?;
    until_node(&stage.bed, "edge-1", Liveness::Ready, LIMIT)?;
    stage.prove_command()?;
    stage.until_answered_by("visitor", server, 3)?;

    must_be_whole(stage, finish(load)?)
}

pub(crate) fn an_update_outlives_those_who_lead_it(stage: &mut Stage) -> Outcome {
    stage.apply(&manifest(stage, 1))?;
    let (first, _) = until_healthy(&stage.bed, "web", 1, LIMIT)?;
    let old = first.first().ok_or("an instance")?.clone();
    let node = old.node.as_ref().ok_or("it is on a node")?.to_string();
    let server = published(&stage.bed, "edge-1", shop::PUBLISHED);
    let of_old = stage.bed.count_answers("visitor", server, 1)?;

    let load = traffic(stage);
    stage.apply(&manifest(stage, 2))?;
    // The old one has left the table and still runs, for as long as it drains.
    stage.until("only the new one is asked", || {
        let answers = stage.bed.count_answers("visitor", server, 20).unwrap_or_default();
        answers.len() == 1 && of_old.keys().all(|name| !answers.contains_key(name))
    })?;
    stage.bed.kill_scheduler();
    stage.bed.node_mut(&node).kill_agent();
    stage.bed.node_mut(&node).start_agent()?;
    stage.bed.start_scheduler()?;
    let is_new = |view: &InstanceView| is_healthy(view) && view.name != old.name;
    until(&stage.bed, "web", LIMIT, |views| views.len() == 1 && views.iter().all(is_new))?;

    must_be_whole(stage, finish(load)?)
}

pub(crate) fn a_cut_one_way_is_seen_by_both_ends(stage: &mut Stage) -> Outcome {
    stage.run_lasting_web(3)?;
    let answered = |stage: &Stage, node: &str, count| {
        stage.until_answered_by("visitor", published(&stage.bed, node, shop::PUBLISHED), count)
    };
    for node in ["edge-1", "edge-2", "edge-3"] {
        answered(stage, node, 3)?;
    }

    // What the first sends to the second is lost; what comes back is not.
    cut(stage, "edge-2", &["edge-1"])?;
    answered(stage, "edge-1", 2)?;
    answered(stage, "edge-2", 2)?;
    answered(stage, "edge-3", 3)?;
    nft(stage, "edge-2", "delete table ip cut")?;
    answered(stage, "edge-1", 3)?;
    answered(stage, "edge-2", 3)?;
    // Who hears nobody at all does not believe it: instances answer it still, though their nodes are silent.
    cut(stage, "edge-2", &["edge-1", "edge-3"])?;
    answered(stage, "edge-1", 2)?;
    answered(stage, "edge-3", 2)?;
    answered(stage, "edge-2", 3)?;
    nft(stage, "edge-2", "delete table ip cut")?;

    answered(stage, "edge-1", 3)?;
    answered(stage, "edge-3", 3)
}

/// Loses at `node` whatever these others send it in their own name.
fn cut(stage: &Stage, node: &str, others: &[&str]) -> Outcome {
    let rule = |other: &&str| format!("add rule ip cut in ip saddr {} drop;", stage.bed.node(other).address());
    let rules: String = others.iter().map(rule).collect();
    let chain = "add chain ip cut in { type filter hook prerouting priority -300; }";
    nft(stage, node, &format!("add table ip cut; {chain}; {rules}"))
}

/// Runs a command of `nft` on a node, as anybody who is root there may.
fn nft(stage: &Stage, node: &str, command: &str) -> Outcome {
    let status = program::within(Some(&stage.bed.netns(node)), &["nft", command]).status()?;
    stage.must(status.success(), || format!("nft {command}: {status}"))
}

/// One replica that drains for a while, and whose program announces its end.
fn manifest(stage: &Stage, version: u32) -> String {
    let lame_duck =
        format!("drain    = \"6s\"\nenv      = {{ LAME_DUCK_MS = \"1500\", VERSION = \"{version}\" }}\nports ");
    shop::manifest(&stage.image, 1).replacen("ports ", &lame_duck, 1)
}

/// Traffic from a visitor through the first node, half of it on connections that are kept.
fn traffic(stage: &Stage) -> [Load; 2] {
    let (netns, server) = (stage.bed.netns("visitor"), published(&stage.bed, "edge-1", shop::PUBLISHED));
    let netns: &Path = &netns;
    [Connections::Each, Connections::Kept].map(|kind| Load::with(netns, server, (CLIENTS, kind), REST))
}

fn finish(load: [Load; 2]) -> std::io::Result<[Tally; 2]> {
    let [new, kept] = load.map(Load::finish);
    Ok([new?, kept?])
}

/// Both kinds asked, and nothing failed.
fn must_be_whole(stage: &Stage, tallies: [Tally; 2]) -> Outcome {
    for (kind, tally) in ["a connection each", "kept connections"].into_iter().zip(tallies) {
        let count = tally.answered();
        stage.must(count > 0, || format!("{kind}: no answers"))?;
        stage.must(tally.failures.is_empty(), || {
            let (first, last) = (&tally.failures[0], &tally.failures[tally.failures.len() - 1]);
            let apart = last.0.duration_since(first.0);
            format!("{kind}: {} of {count} failed within {apart:?}: {} ... {}", tally.failures.len(), first.1, last.1)
        })?;
    }
    Ok(())
}

//! The key of signs of life, which a node that was removed must not know for long.

use std::{collections::BTreeSet, error::Error, fs};

use api_types::node::Liveness;
use tests_system::{
    cluster::{published, until_node},
    shop,
};

use crate::stage::{LIMIT, NODES, Outcome, Stage};

/// A node that joins and is removed.
const GUEST: &str = "edge-9";

pub(crate) fn a_removed_node_takes_a_key_with_it_that_is_not_used_any_more(stage: &mut Stage) -> Outcome {
    stage.run_lasting_web(3)?;
    stage.bed.add_node(GUEST)?;
    until_node(&stage.bed, GUEST, Liveness::Ready, LIMIT)?;
    let all: Vec<&str> = NODES.into_iter().chain([GUEST]).collect();
    stage.until("all four watch each other by one key", || {
        all.iter().all(|name| watches(stage, name, 3)) && keys(stage, &all).is_ok_and(|keys| keys.len() == 1)
    })?;
    let before = keys(stage, &[GUEST])?;

    stage.wherry(&["node", "rm", GUEST, "--force", "--yes"])?;

    stage.until("those who stay watch each other by another key, which the guest does not have", || {
        let now = keys(stage, &NODES);
        let is_new = now.is_ok_and(|now| now.len() == 1 && now.is_disjoint(&before));
        is_new && NODES.iter().all(|name| watches(stage, name, 2))
    })?;
    stage.must(keys(stage, &[GUEST])? == before, || "the guest was told the new key".to_owned())?;
    // They hear each other by it: without a scheduler only that takes a dead node out.
    let server = published(&stage.bed, "edge-1", shop::PUBLISHED);
    stage.until_answered_by("visitor", server, 3)?;
    stage.bed.kill_scheduler();
    stage.bed.cut_power("edge-3")?;
    let left_out = stage.until_answered_by("visitor", server, 2);
    stage.bed.start_scheduler()?;
    stage.bed.boot("edge-3")?;
    stage.bed.cut_power(GUEST)?;
    left_out
}

/// Whether a node says that it watches so many, and that none of them is silent.
fn watches(stage: &Stage, name: &str, count: usize) -> bool {
    let views = stage.bed.node_views().unwrap_or_default();
    let view = views.iter().find(|view| view.name.as_str() == name);
    let condition = view.and_then(|view| view.conditions.iter().find(|one| one.name == "neighbours"));
    condition.is_some_and(|one| one.ok && one.reason == format!("{count} are watched"))
}

/// The keys in the service tables that these nodes keep on their disks.
fn keys(stage: &Stage, names: &[&str]) -> Result<BTreeSet<String>, Box<dyn Error>> {
    let key = |name: &&str| {
        let kept = fs::read_to_string(stage.bed.node(name).folder().join("state/last/services.current"))?;
        let (_, behind) = kept.split_once("\"watch_key\":").ok_or("a table without a key")?;
        let (key, _) = behind.split_once(']').ok_or("a key without an end")?;
        Ok::<_, Box<dyn Error>>(key.to_owned())
    };
    names.iter().map(key).collect()
}

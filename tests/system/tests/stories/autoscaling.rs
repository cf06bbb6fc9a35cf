//! A service that is scaled by what it serves.

use tests_support::load::Load;
use tests_system::{
    cluster::{published, until, until_healthy},
    shop,
};

use crate::stage::{LIMIT, NODES, Outcome, Stage};

/// The exit code of `wherry` when something else in the cluster is against it.
const CONFLICT: i32 = 8;
/// The most replicas.
const MOST: usize = 3;

pub(crate) fn a_service_grows_under_load_and_goes_back(stage: &mut Stage) -> Outcome {
    let scale = format!("scale    = {{ min = 1, max = {MOST}, requests = 5, window = \"1s\", cooldown = \"0s\" }}");
    let manifest = shop::manifest(&stage.image, 1).replacen("publish = ", "protocol = \"http\", publish = ", 1);
    let manifest = manifest.replacen("replicas = 1", &scale, 1);
    stage.must(manifest.contains(&scale), || manifest.clone())?;
    stage.apply(&manifest)?;
    until_healthy(&stage.bed, "web", 1, LIMIT)?;
    stage.until_answered_by("visitor", published(&stage.bed, NODES[0], shop::PUBLISHED), 1)?;

    let load = Load::start(&stage.bed.netns("visitor"), published(&stage.bed, NODES[0], shop::PUBLISHED), 2);
    until_healthy(&stage.bed, "web", MOST, LIMIT)?;
    let described = stage.wherry(&["describe", "service", "web"])?;
    let by_hand = stage.bed.wherry(&["scale", "web", "1"])?;
    let tally = load.finish()?;
    until(&stage.bed, "web", LIMIT, |views| views.len() == 1)?;

    stage.must(tally.failures.is_empty() && tally.answered() > 0, || format!("{tally:?}"))?;
    stage.must(described.contains("1 to 3") && described.contains("requests"), || described.clone())?;
    stage.must(by_hand.code == Some(CONFLICT) && by_hand.stderr.contains("scaled by its load"), || {
        by_hand.stderr.clone()
    })?;
    let events = stage.wherry(&["get", "events"])?;
    stage.must(events.contains("from 1 to 2 replicas") && events.contains("to 1 replicas"), || events.clone())
}

/// What comes by a plain TCP port is counted where it arrives: as the connections that are opened to each replica.
pub(crate) fn a_service_grows_by_its_connections(stage: &mut Stage) -> Outcome {
    let scale = "scale    = { min = 1, max = 2, new_connections = 10 }";
    let manifest = shop::manifest(&stage.image, 1).replacen("replicas = 1", scale, 1);
    stage.must(manifest.contains(scale), || manifest.clone())?;
    stage.apply(&manifest)?;
    until_healthy(&stage.bed, "web", 1, LIMIT)?;
    let server = published(&stage.bed, NODES[0], shop::PUBLISHED);
    stage.until_answered_by("visitor", server, 1)?;

    let load = Load::start(&stage.bed.netns("visitor"), server, 2);
    until_healthy(&stage.bed, "web", 2, LIMIT)?;
    let tally = load.finish()?;

    stage.must(tally.failures.is_empty() && tally.answered() > 0, || format!("{tally:?}"))?;
    let events = stage.wherry(&["get", "events"])?;
    let told = events.contains("from 1 to 2 replicas: new connections ");
    stage.must(told && events.contains("target 10/s"), || events.clone())
}

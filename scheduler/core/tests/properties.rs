//! What holds for any story: random walks from fixed seeds, with the invariants checked after every step.

use api_types::rollout::RolloutState;
use scheduler_core::{Scheduler, effect::Effects};

#[path = "properties/admission.rs"]
mod admission;
#[path = "support/fleet.rs"]
mod fleet;
#[path = "properties/forecasts.rs"]
mod forecasts;
#[path = "properties/scaling.rs"]
mod scaling;
#[path = "properties/schedules.rs"]
mod schedules;
#[path = "properties/steps.rs"]
mod steps;
#[path = "support/walk.rs"]
mod walk;
#[path = "support/walk_jobs.rs"]
mod walk_jobs;

use fleet::Fleet;

const WALKS: u64 = 60;
const STEPS: usize = 400;

#[test]
fn any_walk_ends_as_wanted_and_then_nothing_moves() {
    for seed in 0..WALKS {
        let mut fleet = walk::walk(seed, STEPS, recovers_to_the_same_sets);

        walk::heal(&mut fleet);

        is_as_wanted(&fleet, seed);
        recovers_to_the_same_sets(&mut fleet);
        nothing_is_left_to_do(&mut fleet, seed);
    }
}

#[test]
fn any_walk_with_rollouts_ends_with_a_revision_that_works() {
    for seed in 2_000..2_000 + WALKS / 4 {
        let mut fleet = walk::walk_with_rollouts(seed, STEPS, recovers_to_the_same_sets);

        walk::heal(&mut fleet);
        // What finds no room fails at its deadline, now that nobody lets it go on any more.
        fleet.advance(walk::DEADLINE_MS_MAX);
        assert!(fleet.settle(), "seed {seed}: the agents never get done");

        is_as_wanted(&fleet, seed);
        no_rollout_is_open(&fleet, seed);
        recovers_to_the_same_sets(&mut fleet);
        nothing_is_left_to_do(&mut fleet, seed);
    }
}

#[test]
fn any_walk_with_jobs_ends_with_all_of_them_done() {
    for seed in 3_000..3_000 + WALKS / 4 {
        let mut fleet = walk_jobs::walk(seed, STEPS, recovers_to_the_same_sets);

        walk::heal(&mut fleet);
        walk_jobs::finish(&mut fleet);

        walk_jobs::every_job_is_over(&fleet, seed);
        recovers_to_the_same_sets(&mut fleet);
        nothing_is_left_to_do(&mut fleet, seed);
    }
}

#[test]
fn the_same_walk_gives_the_same_records() {
    let record = |seed| walk::walk(seed, STEPS, |_| {}).records;

    for seed in 1_000..1_005 {
        assert_eq!(record(seed), record(seed), "seed {seed}");
    }
}

/// Whatever crashes when, what agents were told is what they are told again.
fn recovers_to_the_same_sets(fleet: &mut Fleet) {
    let settings = fleet.scheduler.settings().clone();
    let records: Vec<_> = fleet.records.values().cloned().collect();

    let recovered = Scheduler::recover(settings, fleet.scheduler.epoch().next(), records, fleet.now);

    for node in fleet.scheduler.node_views() {
        let before = fleet.scheduler.assignment_set(&node.name).expect("a registered node has a set");
        let after = recovered.assignment_set(&node.name).expect("a registered node is recovered");
        assert_eq!((&before.assignments, before.subnet), (&after.assignments, after.subnet), "{}", node.name);
    }
}

/// Every workload has what it wants, or no node takes another instance of it; nothing is there twice.
fn is_as_wanted(fleet: &Fleet, seed: u64) {
    let instances = fleet.scheduler.instance_views();
    for workload in fleet.scheduler.workload_views() {
        let at = format!("seed {seed}, {}: {}", workload.name, workload.reason);
        let own: Vec<_> = instances.iter().filter(|instance| instance.workload == workload.name).collect();
        assert_eq!(own.len(), workload.wanted as usize, "{at}\n{own:#?}");
        let explanation = fleet.scheduler.explain(&workload.name, true).expect("a known workload");
        if workload.reason.is_empty() {
            assert_eq!((workload.ready, workload.pending), (workload.wanted, 0), "{at}");
        } else if workload.kind == "service" && !waits_for_a_place(&workload.reason) {
            let fits: Vec<_> = explanation.nodes.iter().filter(|verdict| verdict.filter.is_empty()).collect();
            assert!(fits.is_empty(), "{at}: but it fits on {fits:?}");
        }
    }
    let known =
        |instance: &&api_types::view::InstanceView| fleet.scheduler.describe_workload(&instance.workload).is_ok();
    assert!(instances.iter().all(|instance| known(&instance)), "seed {seed}: instances without a workload");
}

/// Whether something waits for room in a certain place: where its data is, or at the site that has its turn.
fn waits_for_a_place(reason: &str) -> bool {
    reason.contains("waiting for the data") || reason.contains("room: at site ")
}

/// What fits somewhere and works everywhere comes to its end.
fn no_rollout_is_open(fleet: &Fleet, seed: u64) {
    for workload in fleet.scheduler.workload_views().iter().filter(|workload| workload.reason.is_empty()) {
        let view = fleet.scheduler.rollout_view(&workload.name).expect("a known workload");
        let is_over = matches!(view.state, RolloutState::Complete | RolloutState::RolledBack);
        assert!(is_over, "seed {seed}: {view:#?}");
    }
}

fn nothing_is_left_to_do(fleet: &mut Fleet, seed: u64) {
    let mut effects = Effects::new();
    fleet.scheduler.reconcile_all(fleet.now, &mut effects);
    assert!(effects.is_empty(), "seed {seed}: a full reconcile emits {effects:#?}");
    let records = fleet.records.clone();

    fleet.advance(60_000);

    assert_eq!(records, fleet.records, "seed {seed}: something moved by itself");
}

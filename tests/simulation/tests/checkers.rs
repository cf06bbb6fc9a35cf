//! Proof that what the simulation looks for in jobs, companions and services that are scaled would be seen.

#[path = "calm/cluster.rs"]
mod calm;

use std::sync::Arc;

use agent_core::effect::Effect as AgentEffect;
use api_types::{
    id::InstanceId,
    instance::Exit,
    job::{RunState, Tries},
};
use scheduler_core::effect::{Effect, Job, Record};
use tests_simulation::{
    disk::{finished_by, number_of},
    shape::{Scaled, Shape, Work},
    world::World,
};

/// After so long nothing of what was wanted is under way.
const SETTLED_MS: u64 = 300_000;

fn batch() -> Shape {
    let work = Work { completions: 5, parallelism: 2, retries: 1, keep: 3, deadline_ms: None };
    Shape { work: Some(work), ..Shape::new("batch", None) }
}

/// The runs of the job.
fn runs_of(world: &World) -> Job {
    world.scheduler.disk.job(&batch().id()).expect("it ran").clone()
}

/// The node of an instance that is done, and its id.
fn someone_done(world: &World) -> (usize, InstanceId) {
    let done = finished_by(&runs_of(world)).next().expect("somebody is done");
    let held = world.scheduler.disk.instances.values().find(|held| number_of(&held.id) == done);
    let held = held.expect("it is kept");
    (world.index[&held.node], held.id.clone())
}

#[test]
fn a_job_is_done_once_in_each_slot_and_nothing_of_it_runs_then() {
    let world = calm::cluster_with(&batch(), SETTLED_MS);

    let job = runs_of(&world);
    let states: Vec<_> = job.ended.iter().map(|run| (run.state, run.done, run.instances.len())).collect();
    assert_eq!((states, job.run), (vec![(RunState::Succeeded, 5, 5)], None));
    let of_job = |id: &InstanceId| id.as_str().starts_with("batch-");
    assert!(world.nodes.iter().all(|node| node.runtime.containers.keys().all(|(id, _)| !of_job(id))));
}

#[test]
fn a_process_of_what_is_done_is_seen() {
    let mut world = calm::cluster_with(&batch(), SETTLED_MS);
    let (node, instance) = someone_done(&world);
    let agent = world.nodes[node].agent.as_ref().expect("it runs");
    let assignment = agent.assignment(&instance).expect("it is kept");

    world.check_try(node, &assignment);

    let wrong = world.failure.take().expect("its node remembers");
    assert!(wrong.ends_with("is tried again, and its node remembers that it is done"), "{wrong}");
    world.nodes[node].kept_tries = Arc::default();
    world.check_try(node, &assignment);
    assert!(world.failure.expect("it was told").ends_with("and the scheduler was told of its end"));
}

#[test]
fn a_failure_that_is_counted_twice_is_seen() {
    let mut world = calm::cluster_with(&batch(), SETTLED_MS);
    let (node, instance) = someone_done(&world);
    let tries = Tries { next_attempt: 1, failed: 1, last_exit: Exit::Code(1), fenced: false };

    world.check_tries(node, &[(instance, tries)].into());

    let wrong = world.failure.expect("nothing failed");
    assert!(wrong.ends_with("failed 0 times, and its agent counts 1"), "{wrong}");
}

#[test]
fn a_run_that_goes_on_after_its_end_is_seen() {
    let mut world = calm::cluster_with(&batch(), SETTLED_MS);
    let mut job = runs_of(&world);
    job.ended[0].state = RunState::Active;
    let mut again = job.clone();
    again.begun += 1;

    world.check_runs(&[Effect::Persist(Box::new(Record::Job(Box::new(again))))]);

    assert!(world.failure.expect("it is over").starts_with("run 2 of batch: from None of run 1 to None"));
}

#[test]
fn a_main_process_without_its_steps_is_seen() {
    let mut world = calm::cluster_with(&Shape { steps: 2, sidecars: 1, ..Shape::new("stepped", Some(3)) }, SETTLED_MS);
    let is_stepped = |id: &InstanceId| id.as_str().starts_with("stepped-");
    let node = world.nodes.iter().position(|node| node.runtime.containers.keys().any(|(id, _)| is_stepped(id)));
    let node = node.expect("three run");
    let instance = world.nodes[node].runtime.containers.keys().find(|(id, _)| is_stepped(id)).expect("there").0.clone();
    let agent = world.nodes[node].agent.as_ref().expect("it runs");
    let assignment = agent.assignment(&instance).expect("it is assigned");

    world.check_steps(node, &assignment);
    let wrong = world.failure.take().expect("each start has its own steps");
    assert!(wrong.ends_with("starts, and its step 0 was not done for that"), "{wrong}");

    let network = AgentEffect::RemoveNetwork { instance, keeps_output: false };
    world.begin(node, network);
    assert!(world.failure.expect("it runs").ends_with("and a process of it runs"));
}

#[test]
fn a_sidecar_that_is_missing_is_seen() {
    let mut world = calm::cluster_with(&Shape { sidecars: 1, ..Shape::new("beside", Some(2)) }, SETTLED_MS);

    let node = world.nodes.iter_mut().find(|node| !node.runtime.companions.is_empty()).expect("two have one");
    node.runtime.companions.pop_first();

    assert!(world.check_converged().expect_err("one is missing").ends_with("is missing, or not wanted"));
}

#[test]
fn a_service_follows_its_load_and_a_number_beyond_its_bounds_is_seen() {
    let scaled = Scaled { min: 2, max: 40, noise_percent: 0 };
    let shape = Shape { scaled: Some(scaled), cpu_millis: 100, ..Shape::new("scaled", Some(4)) };
    let mut world = calm::cluster_with(&shape, SETTLED_MS);
    let workload = shape.id();
    let number = |replicas| [Effect::Persist(Box::new(Record::Scale { workload: workload.clone(), replicas }))];

    world.check_scales(&number(41));
    let wrong = world.failure.take().expect("that is too many");
    assert!(wrong.ends_with("41 replicas, 2 to 40 are asked for"), "{wrong}");
    let now = world.scheduler.disk.scale(&workload).expect("it is scaled");
    assert!((3..40).contains(&now), "the load of this seed asks for {now}");
    world.check_scales(&number(now + 1));
    world.check_scales(&number(now - 1));
    assert!(world.failure.expect("it grew just now").ends_with("0 ms after it grew"));
}

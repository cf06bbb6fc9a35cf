//! Short simulations for every run of the tests: a fixed list of seeds, one fresh seed, and proof that a fault is seen.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::SystemTime,
};

use api_types::id::{InstanceId, WorkloadId};
use scheduler_core::effect::Effect;
use tests_simulation::{
    Options, Outcome,
    event::Wish,
    run,
    scenario::Scenario,
    shape::{Shape, Urgency},
    world::{START, World},
};

#[expect(clippy::print_stdout, reason = "a seed is printed before it is run")]
fn simulate(seed: u64, nodes: usize, minutes: u64) -> Outcome {
    println!("seed {seed}, {nodes} nodes, {minutes} minutes");
    match run(&Options::of_seed(seed, nodes, minutes)) {
        Ok(outcome) => {
            println!("{outcome:?}");
            outcome
        }
        Err(failure) => panic!("{failure}"),
    }
}

#[test]
fn two_hundred_nodes_survive_whatever_happens() {
    for seed in [1, 2] {
        let outcome = simulate(seed, 200, 10);

        assert!(outcome.processes > 500 && outcome.granted > 200, "not much happened: {outcome:?}");
    }
}

#[test]
fn few_nodes_survive_whatever_happens() {
    for seed in 1..=12 {
        simulate(seed, 12, 10);
    }
}

#[test]
fn a_seed_that_nobody_chose_survives_too() {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");

    simulate(since.as_secs(), 200, 5);
}

#[test]
fn equal_seeds_give_equal_stories_and_others_do_not() {
    let (one, same, other) = (simulate(77, 20, 4), simulate(77, 20, 4), simulate(78, 20, 4));

    assert_eq!(one, same);
    assert_ne!(one.hash, other.hash);
}

#[test]
fn a_story_that_was_written_down_is_told_again_as_it_was() {
    let mut world = World::new(&Options::of_seed(79, 12, 4));
    let first = tests_simulation::run_in(&mut world).expect("nothing is wrong");

    let written = world.scenario().write("");
    let read = Scenario::read(&written).expect("it was written by us");
    let again = run(&Options::of_scenario(read)).expect("nothing is wrong");

    assert_eq!(first, again);
}

/// A small cluster without faults, some minutes after its start.
fn calm_cluster() -> World {
    let mut world = World::new(&Options::of_seed(5, 10, 0));
    world.start_scheduler();
    world.want_cluster();
    world.calm_down();
    world.run_until(START + 120_000);
    assert_eq!(world.failure, None);
    assert_eq!(world.check_converged(), Ok(()));
    world
}

/// The node that has most containers.
fn busiest(world: &World) -> usize {
    let count = |index: &usize| world.nodes[*index].runtime.containers.len();
    (0..world.nodes.len()).max_by_key(count).expect("there are nodes")
}

#[test]
fn a_dead_process_is_seen() {
    let mut world = calm_cluster();
    let node = busiest(&world);

    let container = world.nodes[node].runtime.containers.values_mut().next().expect("it has some");
    container.process = None;

    let wrong = world.check_converged().expect_err("it is dead");
    assert!(wrong.ends_with("lies about"), "{wrong}");
}

#[test]
fn a_missing_instance_is_seen() {
    let mut world = calm_cluster();
    let node = busiest(&world);

    world.nodes[node].runtime.containers.pop_first().expect("it has some");

    assert!(world.check_converged().is_err());
}

#[test]
fn a_kernel_that_balances_otherwise_is_seen() {
    let mut world = calm_cluster();
    let balancing = world.nodes[3].balancing.as_mut().expect("it balances");

    std::sync::Arc::make_mut(balancing).services.pop().expect("there are services");

    let wrong = world.check_converged().expect_err("a service is missing");
    assert!(wrong.contains("balances otherwise"), "{wrong}");
}

/// A service of at least two instances that nobody scales by its load, and those instances with their nodes.
fn some_service(world: &World) -> (WorkloadId, BTreeMap<InstanceId, usize>) {
    let services = world.nodes[0].balancing.iter().flat_map(|balancing| &balancing.services);
    let service = services
        .into_iter()
        .find(|service| service.endpoints.len() > 1 && world.demand.wanted[&service.id].scaled.is_none())
        .expect("there are large ones");
    let nodes = service.endpoints.iter().map(|endpoint| (endpoint.instance.clone(), world.index[&endpoint.node]));
    (service.id.clone(), nodes.collect())
}

/// Whether a node balances to an instance.
fn balances_to(world: &World, node: usize, instance: &InstanceId) -> bool {
    let services = world.nodes[node].balancing.iter().flat_map(|balancing| &balancing.services);
    services.flat_map(|service| &service.endpoints).any(|endpoint| endpoint.instance == *instance)
}

#[test]
fn an_instance_leaves_balancing_on_its_own_node_before_it_is_told_to_end() {
    let mut world = calm_cluster();
    let (service, instances) = some_service(&world);
    world.demand.queue.push_back(Wish::Scale(service, 1));
    world.ask();

    let (mut left, mut told) = (BTreeSet::new(), BTreeSet::new());
    while told.len() + 1 < instances.len() {
        // Every millisecond: the last of the nodes may say that its kernel knows just before the instance is told.
        let next = world.now + 1;
        world.run_until(next);
        assert_eq!(world.failure, None);
        assert!(world.now < START + 180_000, "{told:?} of {instances:?} are told to end");
        for (instance, node) in &instances {
            if !world.is_wanted(*node, instance) {
                told.insert(instance.clone());
            } else if !balances_to(&world, *node, instance) {
                left.insert(instance.clone());
            }
        }
    }

    assert_eq!(left, told);
}

#[test]
fn an_agent_that_ends_what_it_balances_to_is_seen() {
    let mut world = calm_cluster();
    let (_, instances) = some_service(&world);
    let (instance, node) = instances.into_iter().next().expect("it has some");

    let stop = agent_core::effect::Effect::Stop { instance, attempt: 0, signal: None, grace_ms: 0 };
    world.begin(node, stop);

    assert!(world.failure.expect("it is an endpoint").ends_with("still balances to it"));
}

#[test]
fn a_process_that_ends_while_another_node_balances_to_it_is_seen() {
    let mut world = calm_cluster();
    let (_, instances) = some_service(&world);
    let (instance, node) = instances.into_iter().next().expect("it has some");
    // Its own node sends it nothing new, and nobody asked the others.
    world.nodes[node].balancing = None;

    let stop = agent_core::effect::Effect::Stop { instance, attempt: 0, signal: None, grace_ms: 0 };
    world.begin(node, stop);

    assert!(world.failure.expect("others balance to it").contains("is told to end, and"));
}

#[test]
fn an_agent_that_ends_what_is_wanted_is_seen() {
    let mut world = calm_cluster();
    let node = busiest(&world);
    let (instance, attempt) = world.nodes[node].runtime.containers.keys().next().expect("it has some").clone();

    let stop = agent_core::effect::Effect::Stop { instance, attempt, signal: None, grace_ms: 0 };
    world.begin(node, stop);

    assert!(world.failure.expect("it is wanted").contains("which runs and is wanted"));
}

#[test]
fn an_end_without_a_cause_is_seen_unless_somebody_more_urgent_is_missed() {
    let mut world = calm_cluster();
    let plain = Shape::new("plain", Some(130));
    let urgent = Shape { priority: Some(Urgency::Critical), cpu_millis: 900_000, ..Shape::new("urgent", Some(1)) };
    world.demand.queue.push_back(Wish::Apply(Box::new(plain.clone())));
    world.ask();
    // Until what people wanted explains nothing any more.
    world.run_until(START + 500_000);
    let records = world.scheduler.decided.records.keys().cloned().map(Effect::Forget);
    let is_plain = |end: &Effect| {
        let ended = world.scheduler.decided.ended_by(end);
        !ended.is_empty() && ended.iter().all(|held| held.workload == plain.id())
    };
    let ends: Vec<Effect> = records.filter(is_plain).collect();
    assert!(!ends.is_empty(), "130 in a row fill a page of 64");

    // No node is so large, and nobody's end would help it.
    world.demand.queue.push_back(Wish::Apply(Box::new(urgent.clone())));
    world.ask();
    world.run_until(START + 510_000);
    world.check_causes(&ends);
    assert_eq!(world.failure, None);
    world.demand.queue.push_back(Wish::Delete(urgent.id()));
    world.ask();
    world.run_until(START + 600_000);
    world.check_causes(&ends);

    let wrong = world.failure.expect("nobody is missed");
    assert!(wrong.contains("of plain) on ") && wrong.ends_with("without a cause"), "{wrong}");
}

//! Of a slot that is exclusive never two processes run at once, and its successor starts at last.

#[path = "calm/cluster.rs"]
mod calm;

use api_types::id::InstanceId;
use tests_simulation::{shape::Shape, world::World};

/// After so long nothing of what was wanted is under way.
const SETTLED_MS: u64 = 120_000;

/// Within so many milliseconds a node that is cut off has ended what it runs, and its successor started.
const REPLACED_MS: u64 = 60_000;

fn lone() -> Shape {
    Shape { exclusive: true, ..Shape::new("lone", Some(1)) }
}

/// The processes of the service: on which node each runs, and of which instance it is.
fn holders(world: &World) -> Vec<(usize, InstanceId)> {
    let of_node = |index: usize| {
        let runs = world.nodes[index].runtime.containers.iter().filter(|(_, container)| container.process.is_some());
        runs.map(move |((id, _), _)| (index, id.clone()))
    };
    let all = (0..world.nodes.len()).flat_map(of_node);
    all.filter(|(_, id)| id.as_str().starts_with("lone-")).collect()
}

/// Neither what the node says nor what it is told gets through, or only what it says.
fn cut(world: &mut World, node: usize, both_ways: bool) {
    world.nodes[node].cut_up = true;
    world.nodes[node].cut_down = both_ways;
}

#[test]
fn a_node_that_is_cut_off_ends_its_own_before_the_successor_starts_elsewhere() {
    for both_ways in [true, false] {
        let mut world = calm::cluster_with(&lone(), SETTLED_MS);
        let (node, first) = holders(&world)[0].clone();
        cut(&mut world, node, both_ways);
        let limit = world.now + REPLACED_MS;

        while holders(&world).iter().all(|(_, id)| *id == first) {
            let next = world.now + 10;
            world.run_until(next);
            assert!(holders(&world).len() <= 1 && world.failure.is_none(), "{:?}", world.failure);
            assert!(world.now < limit, "nobody follows {first}");
        }
        world.heal(&[node]);
        let next = world.now + SETTLED_MS;
        world.run_until(next);

        assert_eq!((world.check_converged(), holders(&world).len()), (Ok(()), 1));
        assert_ne!(holders(&world)[0].0, node, "who follows stays");
    }
}

#[test]
fn an_agent_that_is_started_again_while_its_node_is_cut_off_counts_on_from_when_it_was_heard() {
    let mut world = calm::cluster_with(&lone(), SETTLED_MS);
    let (node, first) = holders(&world)[0].clone();
    cut(&mut world, node, true);
    let limit = world.now + REPLACED_MS;

    while holders(&world).iter().all(|(_, id)| *id == first) {
        let next = world.now + 2_000;
        world.run_until(next);
        world.crash_agent(node);
        // By a clock that is a month behind.
        world.nodes[node].clock_ms = -2_592_000_000;
        world.start_agent(node);
        assert!(holders(&world).len() <= 1 && world.failure.is_none(), "{:?}", world.failure);
        assert!(world.now < limit, "nobody follows {first}");
    }
}

#[test]
fn a_second_process_of_an_exclusive_slot_is_seen() {
    let mut world = calm::cluster_with(&lone(), SETTLED_MS);
    let (node, instance) = holders(&world)[0].clone();
    let agent = world.nodes[node].agent.as_ref().expect("it runs");
    let assignment = agent.assignment(&instance).expect("it is assigned");

    world.check_alone(node, &assignment);
    assert_eq!(world.failure, None);
    let other = (node + 1) % world.nodes.len();
    world.check_alone(other, &assignment);

    let wrong = world.failure.expect("it runs already");
    assert!(wrong.contains("of the same exclusive slot runs on"), "{wrong}");
}

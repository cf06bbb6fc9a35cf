//! A release that does not work is taken back by itself, and nobody misses anything meanwhile.

#[path = "calm/cluster.rs"]
mod calm;

use std::collections::BTreeSet;

use api_types::{id::InstanceId, rollout::RolloutState};
use scheduler_core::effect::{Effect, Record};
use tests_simulation::{
    event::Wish,
    shape::{Bad, Shape},
    world::World,
};

const REPLICAS: u32 = 6;

/// The images of the service that run, and how many of its processes serve.
fn serving(world: &World, shape: &Shape) -> (BTreeSet<String>, usize) {
    let is_of = |id: &InstanceId| id.as_str().starts_with(&format!("{}-", shape.name));
    let containers = world.nodes.iter().flat_map(|node| &node.runtime.containers).filter(|((id, _), _)| is_of(id));
    let serves =
        containers.filter(|(_, held)| held.process.as_ref().is_some_and(|process| process.ready_at <= world.now));
    let images: Vec<String> = serves.map(|(_, container)| container.image.clone()).collect();
    (images.iter().cloned().collect(), images.len())
}

#[test]
fn a_bad_release_is_taken_back_and_never_costs_an_instance_that_serves() {
    for (bad, probe) in [(Bad::Crashes, false), (Bad::Crashes, true), (Bad::Mute, true)] {
        let good = Shape { judged: true, probe, ..Shape::new("release", Some(REPLICAS)) };
        let mut world = calm::cluster_with(&good, 120_000);
        let before = serving(&world, &good);
        assert_eq!(before.1, REPLICAS as usize);

        world.demand.queue.push_back(Wish::Apply(Box::new(Shape { version: 2, bad: Some(bad), ..good.clone() })));
        world.ask();
        let limit = world.now + 600_000;
        let state = |world: &World| world.scheduler.disk.rollout(&good.id()).map(|rollout| rollout.state);
        while state(&world) != Some(RolloutState::RolledBack) {
            let next = world.now + 100;
            world.run_until(next);
            assert!(serving(&world, &good).1 >= REPLICAS as usize, "{bad}: fewer serve at {}", world.now);
            assert!(world.failure.is_none() && world.now < limit, "{bad}: {:?}, {:?}", world.failure, state(&world));
        }
        let next = world.now + 120_000;
        world.run_until(next);

        assert_eq!(world.check_converged(), Ok(()), "{bad}");
        assert_eq!(serving(&world, &good), before, "{bad}: what worked runs again, and nothing else");
    }
}

#[test]
fn a_release_that_is_said_to_work_and_never_does_is_seen() {
    let good = Shape { judged: true, ..Shape::new("release", Some(REPLICAS)) };
    let mut world = calm::cluster_with(&good, 120_000);
    let mut rollout = world.scheduler.disk.rollout(&good.id()).expect("it is judged").clone();
    rollout.revisions[0].is_good = true;
    let word = |rollout| [Effect::Persist(Box::new(Record::Rollout(Box::new(rollout))))];

    world.check_releases(&word(rollout.clone()));
    assert_eq!(world.failure, None);
    rollout.revisions[0].spec = Shape { bad: Some(Bad::Crashes), ..good }.spec();
    world.check_releases(&word(rollout));

    assert!(world.failure.expect("it crashes").starts_with("revision 1 of release is said to work"));
}

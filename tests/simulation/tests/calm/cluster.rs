//! A cluster without faults, for stories of one workload.

use tests_simulation::{
    Options,
    event::Wish,
    shape::Shape,
    world::{START, World},
};

/// A small cluster that a person wants this of, after so many milliseconds: all is as wanted.
pub(crate) fn cluster_with(shape: &Shape, after_ms: u64) -> World {
    let mut world = World::new(&Options::of_seed(5, 6, 0));
    world.start_scheduler();
    world.want_cluster();
    world.calm_down();
    world.demand.queue.push_back(Wish::Apply(Box::new(shape.clone())));
    world.ask();
    world.run_until(START + after_ms);
    assert_eq!(world.failure, None);
    assert_eq!(world.check_converged(), Ok(()));
    world
}

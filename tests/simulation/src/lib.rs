//! Both real cores, hundreds of nodes and everything that can go wrong, in virtual time and from a seed.

pub mod checkers;
pub mod demand;
pub mod event;
pub mod fault;
pub mod network;
pub mod node;
pub mod random;
pub mod runtime;
pub mod scheduler;
pub mod trace;
pub mod world;

use event::Event;
use world::{START, World};

/// Virtual minutes after the last fault within which everything must be as wanted. A small service is rolled out slot by slot.
const SETTLE_MINUTES: u64 = 30;

/// Virtual minutes in which nothing may move after that.
const STILL_MINUTES: u64 = 3;

/// What to simulate.
#[derive(Clone, Debug)]
pub struct Options {
    /// Everything follows from it.
    pub seed: u64,
    /// How many nodes.
    pub nodes: usize,
    /// How many virtual minutes with faults.
    pub minutes: u64,
    /// Lines of the trace that hold this text are printed as they come.
    pub watch: Option<String>,
}

/// What a simulation without a failure saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Equal for equal options.
    pub hash: u64,
    /// Lines of the trace.
    pub lines: u64,
    /// Steps of either core.
    pub steps: u64,
    /// Wishes of people that were granted.
    pub granted: u64,
    /// Processes that were started.
    pub processes: u32,
    /// How many times the scheduler was started.
    pub epochs: u64,
    /// Virtual seconds from the last fault until everything was as wanted.
    pub settled_after_s: u64,
}

/// Runs one simulation.
///
/// # Errors
/// What was wrong, when, and the last lines of the trace.
pub fn run(options: &Options) -> Result<Outcome, String> {
    let mut world = World::new(options);
    world.start_scheduler();
    world.want_cluster();
    world.after(0, Event::Sweep);
    world.after(20_000, Event::Demand);
    world.after(30_000, Event::Fault);
    let faults_end = START + options.minutes * 60_000;
    world.run_until(faults_end);
    if world.failure.is_none() {
        settle(&mut world);
    }
    let settled_after_s = world.settled_at.since(faults_end) / 1000;
    match &world.failure {
        Some(failure) => Err(format!(
            "{}seed {}, {} nodes, {} minutes: {failure}",
            world.trace.tail(),
            options.seed,
            options.nodes,
            options.minutes
        )),
        None => Ok(Outcome {
            hash: world.trace.hash(),
            lines: world.trace.count(),
            steps: world.steps,
            granted: world.demand.granted,
            processes: world.pid_count,
            epochs: world.scheduler.epoch.0,
            settled_after_s,
        }),
    }
}

/// Repairs everything, waits until all is as wanted, and sees that nothing moves after that.
fn settle(world: &mut World) {
    world.calm_down();
    let limit = world.now + SETTLE_MINUTES * 60_000;
    loop {
        let next = world.now + 1000;
        world.run_until(next);
        if world.failure.is_some() {
            return;
        }
        let Err(wrong) = world.check_converged() else { break };
        if world.now >= limit {
            world.fail(format!("after {SETTLE_MINUTES} quiet minutes it is not as wanted: {wrong}"));
            return;
        }
    }
    world.settled_at = world.now;

    let moves = world.moves;
    let end = world.now + STILL_MINUTES * 60_000;
    world.run_until(end);
    if world.moves != moves {
        world.fail(format!("{} things moved when all was as wanted", world.moves - moves));
    }
    if let Err(wrong) = world.check_converged() {
        world.fail(format!("it was as wanted, and is not any more: {wrong}"));
    }
}

//! Both real cores, hundreds of nodes and everything that can go wrong, in virtual time and from a seed.

pub mod checkers;
pub mod demand;
pub mod disk;
pub mod equipment;
pub mod event;
pub mod fault;
pub mod freeze;
mod load;
pub mod network;
pub mod node;
mod queue;
pub mod random;
pub mod rest;
pub mod runtime;
pub mod scenario;
pub mod scheduler;
pub mod shape;
pub mod shrink;
pub mod story;
pub mod trace;
pub mod world;

use std::{fmt, sync::Arc};

use event::Event;
use scenario::Scenario;
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
    /// What is done to the world, and when; `None` = the seed makes it up.
    pub scenario: Option<Arc<Scenario>>,
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

/// What a simulation with a failure saw.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What was wrong, in one line.
    pub what: String,
    /// The last lines of the trace.
    pub tail: String,
    /// The story so far.
    pub scenario: Scenario,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Scenario { seed, nodes, minutes, .. } = self.scenario;
        write!(f, "{}seed {seed}, {nodes} nodes, {minutes} minutes: {}", self.tail, self.what)
    }
}

impl Options {
    /// A story that the seed makes up.
    #[must_use]
    pub fn of_seed(seed: u64, nodes: usize, minutes: u64) -> Self {
        Self { seed, nodes, minutes, scenario: None, watch: None }
    }

    /// A story that was written down.
    #[must_use]
    pub fn of_scenario(scenario: Scenario) -> Self {
        let Scenario { seed, nodes, minutes, .. } = scenario;
        Self { seed, nodes, minutes, scenario: Some(Arc::new(scenario)), watch: None }
    }
}

/// Runs one simulation.
///
/// # Errors
/// What was wrong, when, and the last lines of the trace.
pub fn run(options: &Options) -> Result<Outcome, Box<Failure>> {
    run_in(&mut World::new(options))
}

/// Runs the simulation of a new world, which can be looked at afterwards.
///
/// # Errors
/// As [`run`].
pub fn run_in(world: &mut World) -> Result<Outcome, Box<Failure>> {
    world.start_scheduler();
    world.want_cluster();
    world.after(0, Event::Sweep);
    if world.options.scenario.is_none() {
        world.after(20_000, Event::Demand);
        world.after(30_000, Event::Fault);
    } else {
        world.await_written(false);
    }
    let faults_end = START + world.options.minutes * 60_000;
    world.run_until(faults_end);
    if world.failure.is_none() {
        settle(world);
    }
    let settled_after_s = world.settled_at.since(faults_end) / 1000;
    match world.failure.take() {
        Some(what) => Err(Box::new(Failure { what, tail: world.trace.tail(), scenario: world.scenario() })),
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
            world.note_who_waits();
            world.fail(format!("after {SETTLE_MINUTES} quiet minutes it is not as wanted: {wrong}"));
            return;
        }
    }
    world.settled_at = world.now;
    world.check_displaced();
    world.rebalance_at_rest();
    if world.failure.is_some() {
        return;
    }

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

//! Tells a trace to a policy from its beginning to its last arrival, and measures.
//!
//! A request that arrives is placed, as many of its replicas as have room; the others wait. When something departs, those
//! that wait are tried again where the room that became free could help, the longest waiting first. A request departs
//! when it says so, also one that still waits.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque},
    time::{Duration, Instant},
};

use crate::replay::{
    ReplayError,
    ledger::{Ledger, Taken},
    policy::{Placer, Policy},
    trace::{GPU_WHOLE, Totals, Trace},
    unusable::{self, Unusable},
};

/// What a policy made of a trace.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Which policy.
    pub policy: Policy,
    /// How many replicas were asked for.
    pub replicas: u64,
    /// How many of them found a place, at once or later.
    pub placed: u64,
    /// How many of those had to wait.
    pub placed_late: u64,
    /// What those that found a place asked for.
    pub placed_amount: Totals,
    /// What is in use after the last arrival.
    pub in_use: Totals,
    /// What is left then, and of no use.
    pub unusable: Unusable,
    /// Replicas placed, and tries that found no place.
    pub decisions: u64,
    /// How long all decisions took.
    pub spent: Duration,
    /// How long each request was thought about, sorted.
    pub times: Vec<Duration>,
}

/// Where the story is.
struct Story<'t> {
    trace: &'t Trace,
    policy: Policy,
    placer: Box<dyn Placer>,
    /// What every answer is held to.
    ledger: Ledger,
    /// The places of requests that will depart.
    held: BTreeMap<usize, Vec<Taken>>,
    /// How many replicas of a request still wait.
    missing: Vec<u32>,
    /// Requests that wait, by shape, in the order of their arrival.
    waiting: BTreeMap<usize, VecDeque<usize>>,
    departures: BinaryHeap<Reverse<(u64, usize)>>,
    outcome: Outcome,
}

/// Tells `trace` to `policy`. `seed` is for those that draw lots.
///
/// # Errors
/// If the policy gives away what is not there or overlooks room: a defect, after which nothing that it did is of worth.
pub fn tell(trace: &Trace, policy: Policy, seed: u64) -> Result<Outcome, ReplayError> {
    let outcome = Outcome {
        policy,
        replicas: trace.requests.iter().map(|request| u64::from(request.count)).sum(),
        placed: 0,
        placed_late: 0,
        placed_amount: Totals::default(),
        in_use: Totals::default(),
        unusable: Unusable::default(),
        decisions: 0,
        spent: Duration::ZERO,
        times: Vec::with_capacity(trace.requests.len()),
    };
    let mut story = Story {
        trace,
        policy,
        placer: policy.begin(trace, seed),
        ledger: Ledger::new(trace),
        held: BTreeMap::new(),
        missing: vec![0; trace.requests.len()],
        waiting: BTreeMap::new(),
        departures: BinaryHeap::new(),
        outcome,
    };
    for (index, request) in trace.requests.iter().enumerate() {
        story.depart_until(request.arrive)?;
        story.arrive(index)?;
    }
    Ok(story.end())
}

impl Story<'_> {
    fn arrive(&mut self, index: usize) -> Result<(), ReplayError> {
        let request = self.trace.requests[index];
        if let Some(depart) = request.depart {
            self.departures.push(Reverse((depart, index)));
        }
        self.missing[index] = request.count;
        let begin = Instant::now();
        self.placer.arrive(request.shape, request.count);
        self.place(index, begin)?;
        if self.missing[index] > 0 {
            self.waiting.entry(request.shape).or_default().push_back(index);
        }
        Ok(())
    }

    /// Tries to place what is missing of a request; gives how many were.
    fn place(&mut self, index: usize, begin: Instant) -> Result<u32, ReplayError> {
        let request = self.trace.requests[index];
        let mut taken = Vec::new();
        self.placer.place(request.shape, self.missing[index], &mut taken);
        let spent = begin.elapsed();

        let placed = u32::try_from(taken.len()).unwrap_or(u32::MAX);
        self.outcome.spent += spent;
        self.outcome.times.push(spent);
        self.outcome.decisions += u64::from(placed) + u64::from(placed < self.missing[index]);
        self.outcome.placed += u64::from(placed);
        self.outcome.placed_amount.add(&self.trace.shapes[request.shape], placed);
        self.missing[index] = self.missing[index].checked_sub(placed).ok_or(ReplayError::Surplus(self.policy))?;
        for one in &taken {
            let granted = one.shape == request.shape && self.ledger.take(*one).is_ok();
            if !granted {
                let node = self.trace.nodes.get(one.node).map_or_else(String::new, |node| node.name.clone());
                return Err(ReplayError::Overcommitted { policy: self.policy, node });
            }
        }
        if self.missing[index] > 0
            && let Some((node, _)) = self.ledger.fitting(request.shape).next()
        {
            let node = self.trace.nodes[node].name.clone();
            return Err(ReplayError::Overlooked { policy: self.policy, node });
        }
        if request.depart.is_some() {
            self.held.entry(index).or_default().extend(taken);
        }
        Ok(placed)
    }

    /// Lets everything depart whose time has come, and tries again those that wait.
    fn depart_until(&mut self, now: u64) -> Result<(), ReplayError> {
        while let Some(Reverse((time, _))) = self.departures.peek().copied()
            && time <= now
        {
            let mut freed = BTreeSet::new();
            while let Some(Reverse((next, index))) = self.departures.peek().copied()
                && next == time
            {
                self.departures.pop();
                self.depart(index, &mut freed);
            }
            self.try_again(&freed)?;
        }
        Ok(())
    }

    fn depart(&mut self, index: usize, freed: &mut BTreeSet<usize>) {
        let request = self.trace.requests[index];
        let begin = Instant::now();
        for one in self.held.remove(&index).unwrap_or_default() {
            self.placer.give_back(one);
            self.ledger.give_back(one);
            freed.insert(one.node);
        }
        let missing = std::mem::take(&mut self.missing[index]);
        if missing > 0 {
            self.placer.give_up(request.shape, missing);
        }
        self.outcome.spent += begin.elapsed();
    }

    fn try_again(&mut self, freed: &BTreeSet<usize>) -> Result<(), ReplayError> {
        let helped = |shape: usize| freed.iter().any(|node| self.ledger.fits(shape, *node));
        let fronts = self.waiting.iter().filter(|(shape, _)| helped(**shape));
        let mut shapes: Vec<(Option<usize>, usize)> =
            fronts.map(|(shape, queue)| (queue.front().copied(), *shape)).collect();
        shapes.sort_unstable();
        for (_, shape) in shapes {
            while let Some(index) = self.waiting.get(&shape).and_then(|queue| queue.front().copied()) {
                if self.missing[index] > 0 {
                    self.outcome.placed_late += u64::from(self.place(index, Instant::now())?);
                }
                if self.missing[index] > 0 {
                    break;
                }
                self.waiting.get_mut(&shape).and_then(VecDeque::pop_front);
            }
            if self.waiting.get(&shape).is_some_and(VecDeque::is_empty) {
                self.waiting.remove(&shape);
            }
        }
        Ok(())
    }

    fn end(mut self) -> Outcome {
        for (node, left) in self.trace.nodes.iter().zip(&self.ledger.nodes) {
            self.outcome.in_use.cpu_millis += u128::from(node.cpu_millis - left.cpu);
            self.outcome.in_use.memory_mib += u128::from((left.memory_whole - left.memory) >> 10);
            self.outcome.in_use.gpu_millis += u128::from(node.gpus * GPU_WHOLE - left.gpu_millis());
        }
        self.outcome.unusable = unusable::measure(self.trace, &self.ledger);
        self.outcome.times.sort_unstable();
        self.outcome
    }
}

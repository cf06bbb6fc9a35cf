//! What would be moved when a tenth of a large fleet joins: how fast that is planned, and how many moves it takes.

use scheduler_placement::{
    DomainKey, Engine, Intake, NodeShape, Over, Rebalance, RebalancePlan, Run, Spread, rebalance,
};
use tests_support::figures::{Figures, Stopwatch, number};

use crate::{
    Result,
    fleet::{Books, Fleet},
    replan::{is_tenth, settled},
    timing::note_time,
};

/// How often it is measured.
const ROUNDS: usize = 5;

/// A million replicas, even over 450 zones; fifty more zones join.
pub(crate) fn tenth_joined(figures: &mut Figures) -> Result<()> {
    let spread = [Spread { over: Over::Domain(DomainKey(0)), skew_max: Some(1) }];
    let (mut fleet, groups, runs) = settled(60, &spread, is_tenth)?;
    for index in (0..fleet.nodes.len()).filter(|index| is_tenth(fleet.zones[*index])) {
        fleet.engine.set_shape(fleet.nodes[index], NodeShape { intake: Intake::Open, ..fleet.shapes[index] });
    }
    let wish = Rebalance { groups: groups.clone(), use_max: 1_000 };
    let mut seconds = Vec::new();
    let mut plan = RebalancePlan::default();
    for _ in 0..ROUNDS {
        let begin = Stopwatch::start();
        // The plan is made on a copy, as the scheduler makes it: the copy is part of the price.
        let copy: Engine = fleet.engine.clone();
        plan = rebalance(copy, &wish);
        seconds.push(begin.elapsed().as_secs_f64());
    }
    let (moves, fewest) = check(&fleet, &runs, &plan)?;
    figures.note("rebalance_moves", number(plan.moves.len() as u64))?;
    figures.note("rebalance_over_minimal", number(moves) / number(fewest))?;
    note_time(figures, "rebalance_plan_s", &seconds)
}

/// Makes all moves in the plain bookkeeping, each new replica beside the old one. Gives how many moves the services
/// that became even took, and the fewest that could have made them so.
fn check(fleet: &Fleet, runs: &[Vec<Run>], plan: &RebalancePlan) -> Result<(u64, u64)> {
    let mut books = Books::new(fleet);
    for (shape, runs) in runs.iter().enumerate() {
        books.enter(shape, runs)?;
    }
    let fewest: Vec<u64> = (0..runs.len()).map(|shape| fewest_moves(&books.zone_counts(shape))).collect();
    let mut moves = vec![0_u64; runs.len()];
    for one in &plan.moves {
        // Groups were added in the order of shapes.
        let shape = usize::try_from(one.group.0)?;
        books.enter(shape, &[Run { node: one.to, count: 1, devices: Vec::new() }])?;
        moves[shape] += 1;
    }
    for one in &plan.moves {
        books.leave(usize::try_from(one.group.0)?, books.place_of(one.from)?);
    }
    let even: Vec<usize> = (0..runs.len()).filter(|shape| books.hard_skew(*shape) <= 1).collect();
    if even.len() * 100 < runs.len() * 90 {
        return Err(format!("only {} of {} services became even", even.len(), runs.len()).into());
    }
    let sum = |counts: &[u64]| even.iter().map(|shape| counts[*shape]).sum::<u64>();
    Ok((sum(&moves), sum(&fewest)))
}

/// The fewest moves that make counts even: the fullest places keep one more where the total does not divide.
fn fewest_moves(counts: &[u32]) -> u64 {
    let total: u64 = counts.iter().map(|count| u64::from(*count)).sum();
    let places = (counts.len() as u64).max(1);
    let (each, more) = (total / places, total % places);
    let mut sorted: Vec<u64> = counts.iter().map(|count| u64::from(*count)).collect();
    sorted.sort_unstable_by(|a, b| b.cmp(a));
    (0..).zip(sorted).map(|(index, count)| count.saturating_sub(each + u64::from(index < more))).sum()
}

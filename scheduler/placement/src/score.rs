//! How good a node is for one more instance: integers, compared one after the other, lower is better. Never random.

use crate::{
    amount::Amount,
    block::{self, Candidate, Need},
    demand::Spread,
    fleet::{Class, NodeShape},
    group::domain,
};

/// The most rules of evenness that a demand has; further ones steer nothing, but hard ones are still checked.
pub const SPREADS_MAX: usize = 8;

/// The counts of a demand's rules in their order, then what the node would be left like, then its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Score {
    /// Two counts in each, the earlier one in the high half: scores are compared very often.
    counts: [u64; SPREADS_MAX / 2],
    /// The key, and the order in the low half.
    rest: u64,
}

impl Score {
    /// Scores a candidate. `at` tells how many siblings are in the place of a rule.
    pub(crate) fn new(rules: &[Spread], candidate: Candidate, class: &Class, at: impl Fn(usize, u32) -> u32) -> Self {
        let counts = (0..).zip(rules).map(|(place, rule)| match domain(rule.over) {
            Some(key) => at(place, class.value(key)),
            None => u32::from(candidate.mark),
        });
        let rest = u64::from(candidate.key) << 32 | u64::from(candidate.order);
        Self { rest, ..Self::least(counts) }
    }

    /// No candidate is better where so many siblings are in the places of the rules, or more.
    pub(crate) fn least(at: impl Iterator<Item = u32>) -> Self {
        let mut counts = [0; SPREADS_MAX / 2];
        for (place, count) in at.take(SPREADS_MAX).enumerate() {
            counts[place / 2] |= u64::from(count) << if place % 2 == 0 { 32 } else { 0 };
        }
        Self { counts, rest: 0 }
    }

    /// No candidate with these counts is better.
    pub(crate) fn at_best(self) -> Self {
        Self { rest: 0, ..self }
    }

    /// Whether the places of all rules but one are empty.
    pub(crate) fn is_empty_but_for(&self, rule: Option<usize>) -> bool {
        let halves = self.counts.iter().flat_map(|pair| [pair >> 32, pair & u64::from(u32::MAX)]);
        halves.enumerate().all(|(place, count)| Some(place) == rule || count == 0)
    }
}

/// A score with its parts named, for people. It is compared as the engine compares.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Judgement {
    /// How many siblings that count are in the place of each rule of evenness.
    pub counts: Vec<u32>,
    /// How far apart the free shares of CPU and memory would be, plus how sought after its class is, in coarse steps of a
    /// 64th of a whole.
    pub uneven: u32,
    /// How much of both would be used: a whole is 2^20.
    pub used: u32,
    /// The node's order.
    pub order: u32,
}

impl Judgement {
    pub(crate) fn new(counts: Vec<u32>, free: Amount, shape: &NodeShape, need: Need) -> Self {
        let (uneven, used) = block::parts(free, shape.capacity, need);
        Self { counts, uneven, used, order: shape.order }
    }
}

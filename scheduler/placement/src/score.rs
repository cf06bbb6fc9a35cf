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
    counts: [u32; SPREADS_MAX],
    key: u32,
    order: u32,
}

impl Score {
    /// Scores a candidate. `at` tells how many siblings are in the place of a rule.
    pub(crate) fn new(rules: &[Spread], candidate: Candidate, class: &Class, at: impl Fn(usize, u32) -> u32) -> Self {
        let mut counts = [0; SPREADS_MAX];
        for (place, (count, rule)) in counts.iter_mut().zip(rules).enumerate() {
            *count = match domain(rule.over) {
                Some(key) => at(place, class.value(key)),
                None => u32::from(candidate.mark),
            };
        }
        Self { counts, key: candidate.key, order: candidate.order }
    }

    /// No candidate with these counts is better.
    pub(crate) fn at_best(self) -> Self {
        Self { key: 0, order: 0, ..self }
    }

    /// The counts of the rules' places.
    pub(crate) fn counts(&self) -> &[u32; SPREADS_MAX] {
        &self.counts
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

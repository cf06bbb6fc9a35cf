//! How good a node is for one more instance: integers, compared one after the other, lower is better. Never random.

use crate::{block::Candidate, demand::Spread, fleet::Class, group::domain};

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

    /// The counts of the rules' places.
    pub(crate) fn counts(&self) -> &[u32; SPREADS_MAX] {
        &self.counts
    }
}

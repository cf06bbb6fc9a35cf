//! The part of the connections that a canary gets: its endpoints and the others are weighed so that it comes out.

use api_types::{balance::WEIGHT_MAX, id::WorkloadId, service::Endpoint};

use crate::cluster::{Cluster, held::Held};

/// The endpoints of one side, together.
#[derive(Clone, Copy, Debug, Default)]
struct Side {
    sum: u64,
    most: u64,
}

impl Side {
    fn add(&mut self, weight: u64) {
        self.sum += weight;
        self.most = self.most.max(weight);
    }

    /// By how much its weights can be multiplied at most.
    fn limit(self) -> u64 {
        u64::from(WEIGHT_MAX) / self.most.max(1)
    }
}

/// Whether some instances of a service get a part of the connections of their own.
pub(super) fn is_weighed(cluster: &Cluster, id: &WorkloadId) -> bool {
    cluster.rollout(id).is_some_and(|rollout| rollout.weighed().is_some())
}

/// Weighs the endpoints of a service of which a revision is tried with a part of the connections of its own.
pub(super) fn weigh(cluster: &Cluster, id: &WorkloadId, endpoints: &mut [Endpoint]) {
    let Some((tried, percent)) = cluster.rollout(id).and_then(|rollout| rollout.weighed()) else { return };
    let is_tried = |held: Held<'_>| held.spec().runs_the_same_as(&tried.spec);
    let divisor = endpoints.iter().fold(0, |divisor, endpoint| common_divisor(divisor, endpoint.weight)).max(1);
    let (mut canary, mut others) = (Side::default(), Side::default());
    let sides: Vec<bool> = endpoints
        .iter_mut()
        .map(|endpoint| {
            endpoint.weight /= divisor;
            let is_canary = cluster.held_by_id(&endpoint.instance).is_some_and(is_tried);
            if is_canary { &mut canary } else { &mut others }.add(endpoint.weight.into());
            is_canary
        })
        .collect();
    if canary.sum == 0 || others.sum == 0 {
        return;
    }
    let (for_canary, for_others) = factors(canary, others, percent.into());
    for (endpoint, is_canary) in endpoints.iter_mut().zip(sides) {
        endpoint.weight *= if is_canary { for_canary } else { for_others };
    }
}

/// By what the weights of both sides are multiplied, so that the canary's part is as near to `percent` as whole weights allow; the
/// smallest of those that are equally near.
fn factors(canary: Side, others: Side, percent: u64) -> (u16, u16) {
    let mut best: Option<(u128, u128, u64, u64)> = None;
    for for_others in 1..=others.limit().max(1) {
        let exact = for_others * others.sum * percent / (canary.sum * (100 - percent));
        for for_canary in [exact, exact + 1].map(|factor| factor.clamp(1, canary.limit().max(1))) {
            let (own, whole) = (for_canary * canary.sum, for_canary * canary.sum + for_others * others.sum);
            // How far own / whole is from percent / 100, as a fraction of whole numbers.
            let (miss, of) = (u128::from((own * 100).abs_diff(whole * percent)), u128::from(whole));
            if best.is_none_or(|(least, its, ..)| miss * its < least * of) {
                best = Some((miss, of, for_canary, for_others));
            }
        }
    }
    let (for_canary, for_others) = best.map_or((1, 1), |(_, _, for_canary, for_others)| (for_canary, for_others));
    let narrow = |factor: u64| u16::try_from(factor).expect("at most the largest weight");
    (narrow(for_canary), narrow(for_others))
}

fn common_divisor(one: u16, other: u16) -> u16 {
    if one == 0 { other } else { common_divisor(other % one, one) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(weights: impl IntoIterator<Item = u64>) -> Side {
        let mut side = Side::default();
        weights.into_iter().for_each(|weight| side.add(weight));
        side
    }

    fn equal(count: usize) -> Side {
        side(std::iter::repeat_n(1, count))
    }

    #[test]
    fn a_canary_gets_exactly_its_part_where_whole_weights_allow_that() {
        assert_eq!(factors(equal(1), equal(9), 10), (1, 1));
        assert_eq!(factors(equal(1), equal(10), 10), (10, 9));
        assert_eq!(factors(equal(2), equal(3), 5), (3, 38));
        assert_eq!(factors(equal(1), equal(99), 1), (1, 1));
        assert_eq!(factors(equal(3), equal(3), 50), (1, 1));
        assert_eq!(factors(side([1, 3]), side([2, 2]), 20), (1, 4));
    }

    #[test]
    fn where_they_do_not_its_part_is_the_nearest() {
        assert_eq!(factors(equal(1), equal(300), 50), (100, 1), "a quarter is the most that it can get");
        assert_eq!(factors(equal(90), equal(1), 1), (1, 100), "about half is the least");
        assert_eq!(
            factors(equal(1), side([100, 1]), 50),
            (100, 1),
            "the other side's weights are as large as they can be"
        );
    }
}

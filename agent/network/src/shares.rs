//! How many of a front's slots each endpoint gets, and which.

use std::net::SocketAddrV4;

use api_types::fnv;

use crate::{table::SLOTS_MAX, wanted::Behind};

/// An endpoint and how many slots it gets.
pub(crate) type Share = (SocketAddrV4, usize);

/// Shares the slots out, in proportion to the weights, and at least one slot to each endpoint.
///
/// Equal weights get one slot each. Unequal ones get their weights, reduced by what divides all, or, where these are too
/// many slots, all slots by the largest remainder (Hamilton's method). Where there are as many endpoints as slots or more,
/// each of those that this node uses has one; `rotation` (one per node) decides which part that is.
pub(crate) fn share_out(behind: &Behind, rotation: u64) -> Vec<Share> {
    let endpoints = &behind.endpoints;
    if endpoints.len() >= SLOTS_MAX {
        let count = u64::try_from(endpoints.len()).expect("a count fits 64 bits");
        let start = usize::try_from(rotation % count).expect("less than the count");
        return endpoints.iter().cycle().skip(start).take(SLOTS_MAX).map(|(endpoint, _)| (*endpoint, 1)).collect();
    }
    let divisor = endpoints.iter().fold(0, |divisor, (_, weight)| common_divisor(divisor, *weight)).max(1);
    let weights: Vec<usize> = endpoints.iter().map(|(_, weight)| usize::from((*weight).max(1) / divisor)).collect();
    let sum: usize = weights.iter().sum();
    let counts = if sum <= SLOTS_MAX && behind.memory.is_none() { weights } else { largest_remainder(&weights, sum) };
    endpoints.iter().map(|(endpoint, _)| *endpoint).zip(counts).collect()
}

/// Shares [`SLOTS_MAX`] out.
fn largest_remainder(weights: &[usize], sum: usize) -> Vec<usize> {
    let mut counts: Vec<usize> = weights.iter().map(|weight| (SLOTS_MAX * weight / sum).max(1)).collect();
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by_key(|index| (std::cmp::Reverse(SLOTS_MAX * weights[*index] % sum), *index));
    let mut given: usize = counts.iter().sum();
    for index in order.iter().cycle().take(SLOTS_MAX.saturating_sub(given)) {
        counts[*index] += 1;
        given += 1;
    }
    // The smallest were given more than is theirs: the largest notices it least.
    while given > SLOTS_MAX {
        if let Some(most) = counts.iter_mut().max() {
            *most -= 1;
        }
        given -= 1;
    }
    counts
}

fn common_divisor(one: u16, other: u16) -> u16 {
    if one == 0 { other } else { common_divisor(other % one, one) }
}

/// Which slot is whose: those that stay below the new count keep theirs, the others fill the gaps.
pub(crate) fn assign(old: &[SocketAddrV4], shares: &[Share]) -> Vec<SocketAddrV4> {
    let mut left: std::collections::BTreeMap<SocketAddrV4, usize> = shares.iter().copied().collect();
    let count = shares.iter().map(|(_, count)| count).sum();
    let mut slots: Vec<Option<SocketAddrV4>> = (0..count)
        .map(|slot| {
            let kept = *old.get(slot)?;
            let more = left.get_mut(&kept).filter(|more| **more > 0)?;
            *more -= 1;
            Some(kept)
        })
        .collect();
    let mut others = shares.iter().flat_map(|(endpoint, _)| {
        let more = left.get(endpoint).copied().unwrap_or_default();
        std::iter::repeat_n(*endpoint, more)
    });
    slots.iter_mut().filter(|slot| slot.is_none()).for_each(|slot| *slot = others.next());
    slots.into_iter().flatten().collect()
}

/// Which slot is whose where clients are told apart by a hash: each endpoint prefers slots in an order of its own, and they
/// choose in turn (Maglev, NSDI 2016, section 3.4). Every node finds the same, and one endpoint more or less moves few slots
/// of the others.
pub(crate) fn permute(shares: &[Share]) -> Vec<SocketAddrV4> {
    let mut slots: Vec<Option<SocketAddrV4>> = vec![None; shares.iter().map(|(_, count)| count).sum()];
    let mut choosers: Vec<_> =
        shares.iter().map(|(endpoint, count)| (*endpoint, *count, preferences(*endpoint, slots.len()))).collect();
    while choosers.iter().any(|(_, more, _)| *more > 0) {
        for (endpoint, more, preferred) in choosers.iter_mut().filter(|(_, more, _)| *more > 0) {
            if let Some(slot) = preferred.find(|slot| slots[*slot].is_none()) {
                slots[slot] = Some(*endpoint);
            }
            *more -= 1;
        }
    }
    slots.into_iter().flatten().collect()
}

/// All slots in an order that follows from the endpoint. Their number is a power of two, so every odd step visits each.
fn preferences(endpoint: SocketAddrV4, slots: usize) -> impl Iterator<Item = usize> {
    let [high, low] = endpoint.port().to_be_bytes();
    // FNV's last bytes hardly reach the upper bits: one round of mixing (MurmurHash3's finalizer).
    let mut mixed = fnv::sum(endpoint.ip().octets().into_iter().chain([high, low]));
    mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed ^= mixed >> 33;
    let part = |bits: u64| usize::try_from(bits & 0xffff_ffff).expect("32 bits");
    let (offset, step) = (part(mixed), part(mixed >> 32) | 1);
    (0..slots).map(move |turn| offset.wrapping_add(turn.wrapping_mul(step)) % slots)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, net::Ipv4Addr};

    use super::*;
    use crate::table::Memory;

    fn at(last: u8) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::new(10, 42, 1, last), 80)
    }

    fn behind(weights: &[u16]) -> Behind {
        let endpoints = (1..).zip(weights).map(|(last, weight)| (at(last), *weight)).collect();
        Behind { endpoints, memory: None }
    }

    fn counts(behind: &Behind) -> Vec<usize> {
        share_out(behind, 0).into_iter().map(|(_, count)| count).collect()
    }

    #[test]
    fn slots_are_shared_out_by_weight() {
        assert_eq!(counts(&behind(&[1, 1, 1])), [1, 1, 1]);
        assert_eq!(counts(&behind(&[100, 100])), [1, 1]);
        assert_eq!(counts(&behind(&[3, 1])), [3, 1]);
        assert_eq!(counts(&behind(&[24, 8, 1])), [24, 8, 1]);
        assert_eq!(counts(&behind(&[100, 50, 1])), [42, 21, 1]);
        assert_eq!(counts(&behind(&[800, 3])), [63, 1]);
    }

    #[test]
    fn whoever_remembers_clients_uses_all_slots() {
        let remembered = Behind { memory: Some(Memory::of_ms(1)), ..behind(&[1, 1, 1]) };

        assert_eq!(counts(&remembered), [22, 21, 21]);
    }

    #[test]
    fn every_endpoint_has_a_slot_whatever_the_weights() {
        let mut weights = vec![1; 62];
        weights.push(100);

        let counts = counts(&behind(&weights));

        assert_eq!(counts.iter().sum::<usize>(), SLOTS_MAX);
        assert_eq!((counts.iter().min(), counts.iter().max()), (Some(&1), Some(&2)));
    }

    #[test]
    fn nodes_share_out_more_endpoints_than_there_are_slots() {
        let behind = behind(&[1; 100]);

        let [here, there] = [3, 60].map(|rotation| share_out(&behind, rotation));

        assert_eq!((here.len(), there.len()), (SLOTS_MAX, SLOTS_MAX));
        let reached: std::collections::BTreeSet<_> = here.iter().chain(&there).collect();
        assert_eq!(reached.len(), 100);
    }

    #[test]
    fn endpoints_that_stay_keep_their_slots() {
        let [a, b, c, d] = [1, 2, 3, 4].map(at);
        let one = |endpoints: &[SocketAddrV4]| endpoints.iter().map(|endpoint| (*endpoint, 1)).collect::<Vec<_>>();

        assert_eq!(assign(&[a, b, c], &one(&[a, c, d])), [a, d, c]);
        assert_eq!(assign(&[a, b, c], &one(&[b, c])), [c, b]);
        assert_eq!(assign(&[b, a], &one(&[a, b, c])), [b, a, c]);
        assert_eq!(assign(&[], &one(&[a, b])), [a, b]);
        assert_eq!(assign(&[a, b], &[(a, 1), (b, 3)]), [a, b, b, b]);
        assert_eq!(assign(&[a, b, b, b], &[(a, 2), (b, 1)]), [a, b, a]);
    }

    #[test]
    fn one_endpoint_less_moves_few_slots_of_the_others() {
        let (mut moved, mut all) = (0, 0);
        for gone in 1..=10_u8 {
            let remember = |endpoints: Vec<(SocketAddrV4, u16)>| {
                permute(&share_out(&Behind { endpoints, memory: Some(Memory::of_ms(1)) }, 0))
            };
            let before = remember((1..=10).map(|last| (at(last), 1)).collect());
            let after = remember((1..=10).filter(|last| *last != gone).map(|last| (at(last), 1)).collect());

            let stayers = before.iter().zip(&after).filter(|(before, _)| **before != at(gone));
            let (changed, same): (Vec<_>, Vec<_>) = stayers.partition(|(before, after)| before != after);
            moved += changed.len();
            all += changed.len() + same.len();
            let mut counts: BTreeMap<_, usize> = BTreeMap::new();
            after.iter().for_each(|endpoint| *counts.entry(endpoint).or_default() += 1);
            assert!(counts.values().all(|count| (7..=8).contains(count)), "{counts:?}");
        }

        assert!(moved * 5 < all, "{moved} of {all} slots moved without need");
    }
}

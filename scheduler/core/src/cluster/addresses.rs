//! Which subnet a new node gets, and which virtual address a new service.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use api_types::{id::WorkloadId, net::Cidr};

/// The `index` of the first free place: above the highest taken while there is one, so that what was given back is
/// used again as late as possible; else the lowest free one. `None` when all of `first..count` is taken.
fn next_free(taken: &BTreeSet<u64>, first: u64, count: u64) -> Option<u64> {
    let above = above(taken.last().copied(), first);
    if above < count { Some(above) } else { (first..count).find(|index| !taken.contains(index)) }
}

fn above(highest: Option<u64>, first: u64) -> u64 {
    highest.map_or(first, |highest| highest + 1).max(first)
}

/// The subnet for one more node; `None` when the range is used up.
pub(crate) fn next_subnet(range: Cidr, prefix: u8, taken: &BTreeSet<Cidr>) -> Option<Cidr> {
    let size = 1_u64 << 32_u8.checked_sub(prefix)?;
    let count = range.size() / size;
    let base = u64::from(u32::from(range.address));
    let places = |subnet: &Cidr| {
        let first = u64::from(u32::from(subnet.address)).saturating_sub(base) / size;
        first..first + subnet.size().div_ceil(size)
    };
    // The first subnet holds the range's own network address, which some tools refuse: it is given last.
    let first = 1.min(count.saturating_sub(1));
    // Subnets do not overlap, so the last one is the highest: nearly always no other needs to be looked at.
    let highest = taken.last().filter(|subnet| range.overlaps(**subnet)).map(|subnet| places(subnet).end - 1);
    let index = match highest.map(|highest| above(Some(highest), first)).filter(|above| *above < count) {
        Some(above) => above,
        None => {
            let taken = taken.iter().filter(|subnet| range.overlaps(**subnet)).flat_map(places).collect();
            next_free(&taken, first, count).or_else(|| (count > 0 && !taken.contains(&0)).then_some(0))?
        }
    };
    Cidr::new(range.nth(index * size)?, prefix).ok()
}

/// The virtual address for one more service; `None` when the range is used up.
pub(crate) fn next_service_address(range: Cidr, taken: &BTreeMap<WorkloadId, Ipv4Addr>) -> Option<Ipv4Addr> {
    let base = u32::from(range.address);
    let taken: BTreeSet<u64> = taken
        .values()
        .filter(|address| range.contains(**address))
        .map(|address| u64::from(u32::from(*address) - base))
        .collect();
    // Neither the network's own address nor the broadcast address.
    range.nth(next_free(&taken, 1, range.size().saturating_sub(1))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_is_used_last() {
        assert_eq!(next_free(&BTreeSet::new(), 1, 4), Some(1));
        assert_eq!(next_free(&BTreeSet::from([2]), 1, 4), Some(3));
        assert_eq!(next_free(&BTreeSet::from([2, 3]), 1, 4), Some(1));
        assert_eq!(next_free(&BTreeSet::from([1, 2, 3]), 1, 4), None);
    }

    #[test]
    fn subnets_never_overlap_until_the_range_is_used_up() {
        let range: Cidr = "10.42.0.0/22".parse().unwrap();
        let (mut taken, mut given) = (BTreeSet::new(), Vec::new());

        while let Some(subnet) = next_subnet(range, 24, &taken) {
            assert!(taken.iter().all(|other| !other.overlaps(subnet)), "{subnet} overlaps");
            taken.insert(subnet);
            given.push(subnet);
        }

        assert_eq!(
            given.iter().map(Cidr::to_string).collect::<Vec<_>>(),
            ["10.42.1.0/24", "10.42.2.0/24", "10.42.3.0/24", "10.42.0.0/24"]
        );
    }
}

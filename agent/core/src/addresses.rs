//! Which address an instance gets: the lowest of the node's range that nobody uses or used a moment ago.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use api_types::{net::Cidr, time::Timestamp};

/// Index of the first address for instances: 0 names the range, 1 is the node's own.
const FIRST_INDEX: u64 = 2;

/// Addresses that were given back a moment ago. A peer that is behind may still send to them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Addresses {
    quarantine: BTreeMap<Ipv4Addr, Timestamp>,
}

impl Addresses {
    /// Keeps an address out of use until `until`.
    pub(crate) fn release(&mut self, address: Ipv4Addr, until: Timestamp) {
        self.quarantine.insert(address, until);
    }

    /// Picks the lowest address that is not in `used`; one from quarantine, the oldest, only when there is no other.
    pub(crate) fn allocate(&mut self, now: Timestamp, subnet: Cidr, used: &BTreeSet<Ipv4Addr>) -> Option<Ipv4Addr> {
        self.quarantine.retain(|_, until| *until > now);
        let fresh = (FIRST_INDEX..subnet.size().saturating_sub(1))
            .filter_map(|index| subnet.nth(index))
            .find(|address| !used.contains(address) && !self.quarantine.contains_key(address));
        let chosen = fresh.or_else(|| {
            let usable = |address: &Ipv4Addr| is_for_instances(subnet, *address) && !used.contains(address);
            self.quarantine
                .iter()
                .filter(|(address, _)| usable(address))
                .min_by_key(|(_, until)| **until)
                .map(|(a, _)| *a)
        })?;
        self.quarantine.remove(&chosen);
        Some(chosen)
    }
}

/// Whether an instance may have this address of the range.
pub(crate) fn is_for_instances(subnet: Cidr, address: Ipv4Addr) -> bool {
    let index = u64::from(u32::from(address).wrapping_sub(u32::from(subnet.address)));
    subnet.contains(address) && index >= FIRST_INDEX && index + 1 < subnet.size()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Cidr {
        text.parse().expect("a range")
    }

    #[test]
    fn the_lowest_free_address_is_taken_but_not_one_just_released() {
        let mut addresses = Addresses::default();
        let range = subnet("10.42.3.0/29");
        let now = Timestamp(0);
        let mut used = BTreeSet::new();
        let mut take = |addresses: &mut Addresses, now| {
            let address = addresses.allocate(now, range, &used)?;
            used.insert(address);
            Some(address.octets()[3])
        };

        let first = [take(&mut addresses, now), take(&mut addresses, now), take(&mut addresses, now)];
        addresses.release(Ipv4Addr::new(10, 42, 3, 5), Timestamp(500));
        addresses.release(Ipv4Addr::new(10, 42, 3, 6), Timestamp(400));
        let pressed = [take(&mut addresses, now), take(&mut addresses, now), take(&mut addresses, now)];

        assert_eq!(first, [Some(2), Some(3), Some(4)]);
        assert_eq!(
            pressed,
            [Some(6), Some(5), None],
            "the one released first, then nothing: .7 is the broadcast address"
        );
    }

    #[test]
    fn after_its_time_a_released_address_is_free() {
        let mut addresses = Addresses::default();
        let lowest = Ipv4Addr::new(10, 42, 3, 2);
        addresses.release(lowest, Timestamp(60_000));

        let before = addresses.allocate(Timestamp(59_999), subnet("10.42.3.0/24"), &BTreeSet::new());
        let after = addresses.allocate(Timestamp(60_000), subnet("10.42.3.0/24"), &BTreeSet::new());

        assert_eq!((before, after), (Some(Ipv4Addr::new(10, 42, 3, 3)), Some(lowest)));
    }

    #[test]
    fn a_range_without_room_gives_nothing() {
        for text in ["10.42.3.0/30", "10.42.3.0/31", "10.42.3.0/32"] {
            let expected = (text == "10.42.3.0/30").then_some(Ipv4Addr::new(10, 42, 3, 2));
            assert_eq!(Addresses::default().allocate(Timestamp(0), subnet(text), &BTreeSet::new()), expected, "{text}");
        }
    }
}

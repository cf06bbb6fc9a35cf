//! Which address an instance gets: the one that it had before, else the lowest of the node's range that nobody uses or used
//! a moment ago.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
};

use api_types::{
    id::{InstanceId, NodeId},
    net::Cidr,
    service::ServiceTable,
    time::Timestamp,
};

use crate::{
    effect::{Effect, Effects},
    machine::Agent,
};

/// Index of the first address for instances: 0 names the range, 1 is the node's own.
const FIRST_INDEX: u64 = 2;

/// What is remembered of addresses beside who has which.
#[derive(Clone, Debug, Default)]
pub(crate) struct Addresses {
    /// Those that were given back a moment ago. A peer that is behind may still send to them.
    quarantine: BTreeMap<Ipv4Addr, Timestamp>,
    /// Where the other nodes look for each instance: after a boot it is to be there again, as nobody may be able to tell
    /// them otherwise.
    homes: BTreeMap<InstanceId, Ipv4Addr>,
    /// What the disk has of that.
    kept: Arc<BTreeMap<InstanceId, Ipv4Addr>>,
}

impl Addresses {
    /// Starts from what the disk gave back. Whom it does not name may be in the last service table.
    pub(crate) fn recovered(kept: BTreeMap<InstanceId, Ipv4Addr>, node: &NodeId, table: Option<&ServiceTable>) -> Self {
        let mut homes = kept.clone();
        let mut taken: BTreeSet<Ipv4Addr> = homes.values().copied().collect();
        let services = table.into_iter().flat_map(|table| &table.services);
        for endpoint in services.flat_map(|service| &service.endpoints).filter(|endpoint| endpoint.node == *node) {
            if !homes.contains_key(&endpoint.instance) && taken.insert(endpoint.address) {
                homes.insert(endpoint.instance.clone(), endpoint.address);
            }
        }
        Self { quarantine: BTreeMap::new(), homes, kept: Arc::new(kept) }
    }

    /// Where the instance was, if it may be there in this range.
    pub(crate) fn home(&self, instance: &InstanceId, subnet: Cidr) -> Option<Ipv4Addr> {
        self.homes.get(instance).copied().filter(|address| is_for_instances(subnet, *address))
    }

    /// Keeps an address out of use until `until`.
    pub(crate) fn release(&mut self, address: Ipv4Addr, until: Timestamp) {
        self.quarantine.insert(address, until);
    }

    /// Picks the lowest address that is not in `used` and nobody's home; one from quarantine, the oldest, only when there is
    /// no other, and at last the home of somebody who is not here.
    pub(crate) fn allocate(&mut self, now: Timestamp, subnet: Cidr, used: &BTreeSet<Ipv4Addr>) -> Option<Ipv4Addr> {
        self.quarantine.retain(|_, until| *until > now);
        let free = || {
            let all = (FIRST_INDEX..subnet.size().saturating_sub(1)).filter_map(|index| subnet.nth(index));
            all.filter(|address| !used.contains(address) && !self.quarantine.contains_key(address))
        };
        let homes: BTreeSet<Ipv4Addr> = self.homes.values().copied().collect();
        let fresh = free().find(|address| !homes.contains(address));
        let quarantined = || {
            let usable = |address: &Ipv4Addr| is_for_instances(subnet, *address) && !used.contains(address);
            self.quarantine
                .iter()
                .filter(|(address, _)| usable(address))
                .min_by_key(|(_, until)| **until)
                .map(|(a, _)| *a)
        };
        let chosen = fresh.or_else(quarantined).or_else(|| free().next())?;
        self.quarantine.remove(&chosen);
        Some(chosen)
    }
}

impl Agent {
    /// Has the disk remember who is where, whenever that changed. Whom the set from disk does not name keeps its home until a
    /// session says that it is gone: the set may be older.
    pub(crate) fn keep_addresses(&mut self, effects: &mut Effects) {
        if self.are_addresses_kept() {
            return;
        }
        let here = self.instances.iter().filter_map(|(id, instance)| Some((id.clone(), instance.address?)));
        let mut homes: BTreeMap<InstanceId, Ipv4Addr> = here.collect();
        let taken: BTreeSet<Ipv4Addr> = homes.values().copied().collect();
        let absent = std::mem::take(&mut self.addresses.homes).into_iter().filter(|(id, address)| {
            let may_come = !self.confirmed || self.instances.contains_key(id);
            may_come && !homes.contains_key(id) && !taken.contains(address)
        });
        let absent: Vec<_> = absent.collect();
        homes.extend(absent);
        if *self.addresses.kept != homes {
            self.addresses.kept = Arc::new(homes.clone());
            effects.push(Effect::KeepAddresses(self.addresses.kept.clone()));
        }
        self.addresses.homes = homes;
    }

    /// Whether those who are here, and nobody else, are remembered where they are, as nearly always.
    fn are_addresses_kept(&self) -> bool {
        let Addresses { homes, kept, .. } = &self.addresses;
        let mut here = self.instances.iter().filter_map(|(id, instance)| Some((id, instance.address?)));
        // What is kept is a part of what is remembered.
        kept.len() == homes.len()
            && self.instances.values().filter(|instance| instance.address.is_some()).count() == homes.len()
            && here.all(|(id, address)| homes.get(id) == Some(&address))
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
    fn somebodys_home_is_given_to_another_only_when_there_is_nothing_else() {
        let absent: InstanceId = "web-1".parse().expect("a name");
        let homes = BTreeMap::from([(absent.clone(), Ipv4Addr::new(10, 42, 3, 2))]);
        let mut addresses = Addresses::recovered(homes, &"edge-1".parse().expect("a name"), None);
        let range = subnet("10.42.3.0/29");
        let mut used = BTreeSet::new();

        let given: Vec<_> = std::iter::from_fn(|| {
            let address = addresses.allocate(Timestamp(0), range, &used)?;
            used.insert(address);
            Some(address.octets()[3])
        })
        .collect();

        assert_eq!(given, [3, 4, 5, 6, 2]);
        assert_eq!(addresses.home(&absent, range), Some(Ipv4Addr::new(10, 42, 3, 2)));
        assert_eq!(addresses.home(&absent, subnet("10.42.4.0/24")), None, "the node has another range");
    }

    #[test]
    fn a_range_without_room_gives_nothing() {
        for text in ["10.42.3.0/30", "10.42.3.0/31", "10.42.3.0/32"] {
            let expected = (text == "10.42.3.0/30").then_some(Ipv4Addr::new(10, 42, 3, 2));
            assert_eq!(Addresses::default().allocate(Timestamp(0), subnet(text), &BTreeSet::new()), expected, "{text}");
        }
    }
}

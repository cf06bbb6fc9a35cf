//! Which endpoint answers in which slot, and in what order the kernel's maps change so that no connection is missed.
//!
//! A packet reads the verdict (how many slots) and then one slot, perhaps on either side of a change. So slots are added
//! before a verdict counts them and deleted after no verdict does: make before break, in separate transactions.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddrV4},
};

use crate::{
    passes::{self, Pass},
    table::SLOTS_MAX,
    wanted::{Front, Wanted},
};

/// What the kernel's maps hold: each front's slots in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Balance {
    /// The slots; never empty, never more than [`SLOTS_MAX`].
    pub(crate) fronts: BTreeMap<Front, Vec<SocketAddrV4>>,
    /// Addresses that may reach themselves.
    pub(crate) hairpins: BTreeSet<Ipv4Addr>,
    /// What instances may ask.
    pub(crate) passes: BTreeSet<Pass>,
}

/// What differs between the kernel's maps and what is wanted.
#[derive(Debug)]
pub(crate) struct Changes {
    /// Fronts whose slots change, with all their slots; none left means that the front goes.
    fronts: Vec<(Front, Vec<SocketAddrV4>)>,
    /// All addresses that may reach themselves.
    hairpins: BTreeSet<Ipv4Addr>,
    /// All that instances may ask.
    passes: BTreeSet<Pass>,
}

/// One element to add or to delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Element {
    /// A slot's endpoint.
    Slot(Front, usize, SocketAddrV4),
    /// How many slots the front has.
    Verdict(Front, usize),
    /// The front has endpoints.
    Known(Front),
    /// This address may reach itself.
    Hairpin(Ipv4Addr),
    /// Instances may ask this.
    Pass(Pass),
}

/// One transaction: the deletions come first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Step {
    /// Elements that go.
    pub(crate) delete: Vec<Element>,
    /// Elements that come.
    pub(crate) add: Vec<Element>,
}

impl Balance {
    /// What differs from what is wanted. Endpoints that stay keep their slots, so a change touches few elements. Where
    /// there are more endpoints than slots, `rotation` (one per node) decides which part this node uses.
    pub(crate) fn changes_to(&self, wanted: &Wanted, rotation: u64) -> Changes {
        let none = Vec::new();
        let mut fronts = Vec::new();
        for (front, endpoints) in &wanted.fronts {
            let old = self.fronts.get(front).unwrap_or(&none);
            let chosen = choose(endpoints, rotation);
            if !same(old, &chosen) {
                fronts.push((*front, assign(old, &chosen)));
            }
        }
        let gone = self.fronts.keys().filter(|front| !wanted.fronts.contains_key(front));
        fronts.extend(gone.map(|front| (*front, Vec::new())));
        Changes { fronts, hairpins: wanted.hairpins.clone(), passes: wanted.passes.clone() }
    }

    /// The transactions that make the changes, in order: make, switch, break.
    pub(crate) fn steps(&self, changes: &Changes) -> [Step; 3] {
        let [mut make, mut switch, mut after] = [Step::default(), Step::default(), Step::default()];
        let none = Vec::new();
        for (front, new) in &changes.fronts {
            let (front, old) = (*front, self.fronts.get(front).unwrap_or(&none));
            for slot in 0..old.len().max(new.len()) {
                let element = |endpoint: &SocketAddrV4| Element::Slot(front, slot, *endpoint);
                match (old.get(slot), new.get(slot)) {
                    (Some(before), Some(endpoint)) if before != endpoint => {
                        make.delete.push(element(before));
                        make.add.push(element(endpoint));
                    }
                    (None, Some(endpoint)) => make.add.push(element(endpoint)),
                    (Some(before), None) => after.delete.push(element(before)),
                    (Some(_), Some(_)) | (None, None) => {}
                }
            }
            let service = matches!(front, Front::Service(..));
            match (old.len(), new.len()) {
                (before, count) if before == count => {}
                (0, count) => {
                    make.add.extend(service.then_some(Element::Known(front)));
                    switch.add.push(Element::Verdict(front, count));
                }
                (before, 0) => {
                    switch.delete.push(Element::Verdict(front, before));
                    after.delete.extend(service.then_some(Element::Known(front)));
                }
                (before, count) => {
                    switch.delete.push(Element::Verdict(front, before));
                    switch.add.push(Element::Verdict(front, count));
                }
            }
        }
        make.add.extend(changes.hairpins.difference(&self.hairpins).map(|address| Element::Hairpin(*address)));
        after.delete.extend(self.hairpins.difference(&changes.hairpins).map(|address| Element::Hairpin(*address)));
        passes::change(&self.passes, &changes.passes, &mut make, &mut after);
        [make, switch, after]
    }

    /// Takes changes over that are in the kernel.
    pub(crate) fn apply(&mut self, changes: Changes) {
        for (front, slots) in changes.fronts {
            if slots.is_empty() {
                self.fronts.remove(&front);
            } else {
                self.fronts.insert(front, slots);
            }
        }
        self.hairpins = changes.hairpins;
        self.passes = changes.passes;
    }

    /// All elements, as one step from nothing: inside the transaction that makes the table.
    pub(crate) fn elements(&self) -> Vec<Element> {
        let fronts = self.fronts.iter().map(|(front, slots)| (*front, slots.clone())).collect();
        let all = Changes { fronts, hairpins: self.hairpins.clone(), passes: self.passes.clone() };
        Self::default().steps(&all).into_iter().flat_map(|step| step.add).collect()
    }
}

impl Step {
    /// Whether there is nothing to do.
    pub(crate) fn is_empty(&self) -> bool {
        self.delete.is_empty() && self.add.is_empty()
    }
}

fn choose(endpoints: &[SocketAddrV4], rotation: u64) -> Cow<'_, [SocketAddrV4]> {
    if endpoints.len() <= SLOTS_MAX {
        return Cow::Borrowed(endpoints);
    }
    let count = u64::try_from(endpoints.len()).expect("a count fits 64 bits");
    let start = usize::try_from(rotation % count).expect("less than the count");
    endpoints.iter().cycle().skip(start).take(SLOTS_MAX).copied().collect()
}

/// Whether the slots hold just these endpoints, in whatever order.
fn same(slots: &[SocketAddrV4], endpoints: &[SocketAddrV4]) -> bool {
    slots == endpoints
        || (slots.len() == endpoints.len()
            && slots.iter().collect::<BTreeSet<_>>() == endpoints.iter().collect::<BTreeSet<_>>())
}

/// One slot for each endpoint: those that stay below the new count keep theirs, the others fill the gaps.
fn assign(old: &[SocketAddrV4], endpoints: &[SocketAddrV4]) -> Vec<SocketAddrV4> {
    let wanted: BTreeSet<_> = endpoints.iter().collect();
    let mut slots: Vec<Option<SocketAddrV4>> =
        (0..endpoints.len()).map(|slot| old.get(slot).copied().filter(|kept| wanted.contains(kept))).collect();
    let kept: BTreeSet<_> = slots.iter().flatten().copied().collect();
    let mut others = endpoints.iter().filter(|endpoint| !kept.contains(endpoint));
    slots.iter_mut().filter(|slot| slot.is_none()).for_each(|slot| *slot = others.next().copied());
    slots.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use api_types::container::Protocol;

    use super::*;

    /// What a packet meets: the kernel's maps after each transaction.
    #[derive(Clone, Default, PartialEq, Debug)]
    struct Maps {
        verdicts: BTreeMap<Front, usize>,
        slots: BTreeMap<(Front, usize), SocketAddrV4>,
        known: BTreeSet<Front>,
        hairpins: BTreeSet<Ipv4Addr>,
        passes: BTreeSet<Pass>,
    }

    #[test]
    fn every_packet_meets_an_endpoint_in_every_state_and_on_either_side_of_each() {
        let mut random = Random(7);
        let mut balance = Balance::default();
        let mut maps = Maps::default();
        for _ in 0..2000 {
            let wanted = random.wanted();
            let changes = balance.changes_to(&wanted, random.next());
            let mut states = vec![maps.clone()];
            for step in balance.steps(&changes) {
                maps.apply(&step).expect("the kernel accepts every step");
                states.push(maps.clone());
            }
            let mut next = balance.clone();
            next.apply(changes);

            check_states(&states, &balance, &next).expect("no packet is lost");
            assert_eq!(maps, Maps::of(&next));
            assert!(next.fronts.values().all(|slots| (1..=SLOTS_MAX).contains(&slots.len())));
            for (front, endpoints) in &wanted.fronts {
                let slots: BTreeSet<_> = next.fronts[front].iter().collect();
                assert_eq!(slots.len(), endpoints.len().min(SLOTS_MAX));
                assert!(endpoints.len() > SLOTS_MAX || slots.into_iter().eq(endpoints));
            }
            balance = next;
        }
    }

    #[test]
    fn the_model_catches_careless_orders() {
        let [a, b] = [1, 2].map(|last| SocketAddrV4::new(Ipv4Addr::new(10, 42, 1, last), 80));
        let front = Front::Port(Protocol::Tcp, 80);
        let [two, one] = [vec![a, b], vec![a]]
            .map(|slots| Balance { fronts: BTreeMap::from([(front, slots)]), ..Balance::default() });
        let changes = Changes { fronts: vec![(front, vec![a])], hairpins: BTreeSet::new(), passes: BTreeSet::new() };
        let [make, switch, after] = two.steps(&changes);
        let at_once = Step { delete: [make.delete, switch.delete, after.delete].concat(), add: switch.add };
        let mut maps = Maps::of(&two);
        let before = maps.clone();
        maps.apply(&at_once).expect("the kernel would accept it");

        let outcome = check_states(&[before, maps], &two, &one);

        assert_eq!(outcome, Err("a packet meets no slot 1".to_owned()));
    }

    #[test]
    fn endpoints_that_stay_keep_their_slots() {
        let [a, b, c, d] = [1, 2, 3, 4].map(|last| SocketAddrV4::new(Ipv4Addr::new(10, 42, 1, last), 80));

        assert_eq!(assign(&[a, b, c], &[a, c, d]), [a, d, c]);
        assert_eq!(assign(&[a, b, c], &[b, c]), [c, b]);
        assert_eq!(assign(&[b, a], &[a, b, c]), [b, a, c]);
        assert_eq!(assign(&[], &[a, b]), [a, b]);
    }

    #[test]
    fn nodes_share_out_more_endpoints_than_there_are_slots() {
        let endpoints: Vec<_> = (0..100).map(|last| SocketAddrV4::new(Ipv4Addr::new(10, 42, 1, last), 80)).collect();

        let [here, there] = [3, 60].map(|rotation| choose(&endpoints, rotation));

        assert_eq!((here.len(), there.len()), (SLOTS_MAX, SLOTS_MAX));
        let reached: BTreeSet<_> = here.iter().chain(there.iter()).collect();
        assert_eq!(reached.len(), 100);
    }

    impl Maps {
        fn of(balance: &Balance) -> Self {
            let mut maps = Self::default();
            maps.apply(&Step { delete: Vec::new(), add: balance.elements() }).expect("from nothing");
            maps
        }

        /// As the kernel does: what is deleted must be there, what is added must not.
        fn apply(&mut self, step: &Step) -> Result<(), String> {
            for element in &step.delete {
                let found = match *element {
                    Element::Slot(front, slot, _) => self.slots.remove(&(front, slot)).is_some(),
                    Element::Verdict(front, _) => self.verdicts.remove(&front).is_some(),
                    Element::Known(front) => self.known.remove(&front),
                    Element::Hairpin(address) => self.hairpins.remove(&address),
                    Element::Pass(pass) => self.passes.remove(&pass),
                };
                found.then_some(()).ok_or_else(|| format!("{element:?} is not there"))?;
            }
            for element in &step.add {
                let absent = match *element {
                    Element::Slot(front, slot, endpoint) => self.slots.insert((front, slot), endpoint).is_none(),
                    Element::Verdict(front, count) => self.verdicts.insert(front, count).is_none(),
                    Element::Known(front) => self.known.insert(front),
                    Element::Hairpin(address) => self.hairpins.insert(address),
                    Element::Pass(pass) => self.passes.insert(pass),
                };
                absent.then_some(()).ok_or_else(|| format!("{element:?} is there already"))?;
            }
            Ok(())
        }
    }

    /// A packet reads the verdict in one state and the slot in the same or in the next.
    fn check_states(states: &[Maps], old: &Balance, new: &Balance) -> Result<(), String> {
        for (index, state) in states.iter().enumerate() {
            for front in old.fronts.keys().filter(|front| new.fronts.contains_key(front)) {
                state.verdicts.get(front).ok_or("a service is not there")?;
            }
            for (front, count) in &state.verdicts {
                if matches!(front, Front::Service(..)) && !state.known.contains(front) {
                    return Err("a service would be rejected".to_owned());
                }
                for later in &states[index..states.len().min(index + 2)] {
                    for slot in 0..*count {
                        let met = later.slots.get(&(*front, slot)).ok_or(format!("a packet meets no slot {slot}"))?;
                        let live = |balance: &Balance| balance.fronts.get(front).is_some_and(|all| all.contains(met));
                        if !live(old) && !live(new) {
                            return Err("a packet meets a stranger".to_owned());
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Knuth's 64-bit generator: the same walk at every run.
    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            self.0 >> 33
        }

        fn wanted(&mut self) -> Wanted {
            let mut wanted = Wanted::default();
            for number in 0..4_u8 {
                // Mostly few endpoints, sometimes more than there are slots, often none.
                let most = if self.next().is_multiple_of(20) { 90 } else { 5 };
                let endpoints: BTreeSet<_> = (0..self.next() % most)
                    .map(|_| {
                        let last = u8::try_from(self.next() % most).expect("below 90");
                        SocketAddrV4::new(Ipv4Addr::new(10, 42, 1, last), 80)
                    })
                    .collect();
                let front = if number < 2 {
                    Front::Service(Ipv4Addr::new(10, 43, 0, number), Protocol::Tcp, 80)
                } else {
                    Front::Port(Protocol::Tcp, u16::from(number))
                };
                wanted.hairpins.extend(endpoints.iter().map(|endpoint| *endpoint.ip()));
                if !endpoints.is_empty() {
                    wanted.fronts.insert(front, endpoints.into_iter().collect());
                }
            }
            wanted
        }
    }
}

//! Which endpoint answers in which slot, and in what order the kernel's maps change so that no connection is missed.
//!
//! A packet reads the verdict (how many slots) and then one slot, perhaps on either side of a change. So slots are added
//! before a verdict counts them and deleted after no verdict does: make before break, in separate transactions. What keeps
//! clients away is there before the port opens and goes after it closed.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddrV4},
    ops::BitOr,
    sync::Arc,
};

use api_types::{container::Protocol, net::IpRange};

use crate::{
    passes::{self, Pass},
    shares::{assign, permute, share_out},
    table::Memory,
    wanted::{Behind, Front, Wanted},
};

/// What the kernel's maps hold: each front's slots in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Balance {
    /// The fronts with their slots.
    pub(crate) fronts: BTreeMap<Front, Slots>,
    /// From what those slots follow: where that stays, nothing has to be shared out anew.
    followed: BTreeMap<Front, Arc<Behind>>,
    /// Fronts that are kept for some clients.
    guards: BTreeMap<Front, BTreeSet<IpRange>>,
    /// Addresses that may reach themselves.
    hairpins: BTreeSet<Ipv4Addr>,
    /// What instances may ask.
    passes: BTreeSet<Pass>,
}

/// Who answers at a front, slot by slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slots {
    /// The slots; never empty, never more than [`crate::table::SLOTS_MAX`]. An endpoint may have several.
    pub(crate) slots: Vec<SocketAddrV4>,
    /// For how long clients are remembered, if they are.
    memory: Option<Memory>,
}

/// What differs between the kernel's maps and what is wanted.
#[derive(Debug)]
pub(crate) struct Changes {
    /// Fronts whose slots change, with all their slots; `None` means that the front goes.
    fronts: Vec<(Front, Option<Slots>)>,
    /// From what the slots of fronts follow that were shared out anew.
    followed: Vec<(Front, Arc<Behind>)>,
    /// All fronts that are kept for some clients.
    guards: BTreeMap<Front, BTreeSet<IpRange>>,
    /// All addresses that may reach themselves.
    hairpins: BTreeSet<Ipv4Addr>,
    /// All that instances may ask.
    passes: BTreeSet<Pass>,
}

/// What changes mean for exchanges that the kernel remembers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Upset {
    /// Some endpoint left a front.
    pub(crate) left: bool,
    /// One left a front of datagrams, or such a front is new.
    pub(crate) datagrams: bool,
}

impl BitOr for Upset {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self { left: self.left | other.left, datagrams: self.datagrams | other.datagrams }
    }
}

/// How a front's slot is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Choice {
    /// Drawn from so many.
    Draw(usize),
    /// As the client's address tells, unless an endpoint is remembered for it.
    Client,
}

/// One element to add or to delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Element {
    /// A slot's endpoint.
    Slot(Front, usize, SocketAddrV4),
    /// How the front's slot is found.
    Verdict(Front, Choice),
    /// For how long the front's clients are remembered.
    Remembered(Front, Memory),
    /// The front has endpoints.
    Known(Front),
    /// The front is kept for those who are allowed.
    Guarded(Front),
    /// Clients of this range are allowed at the front.
    Allowed(Front, IpRange),
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

impl Slots {
    /// The slots for these endpoints. Endpoints that stay keep theirs, so a change touches few elements.
    fn next(old: Option<&Self>, behind: &Behind, rotation: u64) -> Self {
        let shares = share_out(behind, rotation);
        let slots = match behind.memory {
            Some(_) => permute(&shares),
            None => assign(old.map_or(&[], |old| &old.slots), &shares),
        };
        Self { slots, memory: behind.memory }
    }

    fn choice(&self) -> Choice {
        self.memory.map_or(Choice::Draw(self.slots.len()), |_| Choice::Client)
    }
}

impl Balance {
    /// What differs from what is wanted. Where there are more endpoints than slots, `rotation` (one per node) decides which
    /// part this node uses.
    pub(crate) fn changes_to(&self, wanted: &Wanted, rotation: u64) -> Changes {
        let (mut fronts, mut followed) = (Vec::new(), Vec::new());
        for (front, behind) in &wanted.fronts {
            if self.followed.get(front) == Some(behind) {
                continue;
            }
            let old = self.fronts.get(front);
            let new = Slots::next(old, behind, rotation);
            if old != Some(&new) {
                fronts.push((*front, Some(new)));
            }
            followed.push((*front, Arc::clone(behind)));
        }
        let gone = self.fronts.keys().filter(|front| !wanted.fronts.contains_key(front));
        fronts.extend(gone.map(|front| (*front, None)));
        let guards = wanted.guards.iter().map(|(front, ranges)| (*front, ranges.iter().copied().collect())).collect();
        Changes { fronts, followed, guards, hairpins: wanted.hairpins.clone(), passes: wanted.passes.clone() }
    }

    /// The transactions that make the changes, in order: make, switch, break.
    pub(crate) fn steps(&self, changes: &Changes) -> [Step; 3] {
        let mut steps = [Step::default(), Step::default(), Step::default()];
        for (front, new) in &changes.fronts {
            change_front(&mut steps, *front, self.fronts.get(front), new.as_ref());
        }
        let [make, _, after] = &mut steps;
        make.add.extend(changes.hairpins.difference(&self.hairpins).map(|address| Element::Hairpin(*address)));
        after.delete.extend(self.hairpins.difference(&changes.hairpins).map(|address| Element::Hairpin(*address)));
        passes::change(&self.passes, &changes.passes, make, after);
        let none = BTreeSet::new();
        for front in self.guards.keys().chain(changes.guards.keys()).collect::<BTreeSet<_>>() {
            let [old, new] = [&self.guards, &changes.guards].map(|guards| guards.get(front));
            // Who is allowed changes at once. A guard comes before what it guards, and goes after.
            let (before, now) = (old.unwrap_or(&none), new.unwrap_or(&none));
            let step = if new.is_some() { &mut *make } else { &mut *after };
            step.delete.extend(before.difference(now).map(|range| Element::Allowed(*front, *range)));
            step.add.extend(now.difference(before).map(|range| Element::Allowed(*front, *range)));
            step.delete.extend(new.is_none().then_some(Element::Guarded(*front)));
            step.add.extend(old.is_none().then_some(Element::Guarded(*front)));
        }
        steps
    }

    /// Takes changes over that are in the kernel.
    pub(crate) fn apply(&mut self, changes: Changes) {
        for (front, slots) in changes.fronts {
            match slots {
                None => {
                    self.fronts.remove(&front);
                    self.followed.remove(&front);
                }
                Some(slots) => {
                    self.fronts.insert(front, slots);
                }
            }
        }
        self.followed.extend(changes.followed);
        self.guards = changes.guards;
        self.hairpins = changes.hairpins;
        self.passes = changes.passes;
    }

    /// What the changes mean for exchanges that the kernel remembers.
    pub(crate) fn upset(&self, changes: &Changes) -> Upset {
        let mut upset = Upset::default();
        for (front, new) in &changes.fronts {
            let [before, now] =
                [self.fronts.get(front), new.as_ref()].map(|slots| slots.map_or(&[][..], |one| &one.slots));
            let is_udp = front.protocol() == Protocol::Udp;
            let left = before.iter().any(|endpoint| !now.contains(endpoint));
            upset.left |= left;
            // What was asked of a port before anybody served there goes on unanswered.
            upset.datagrams |= is_udp && (left || before.is_empty());
        }
        upset
    }

    /// Whether any front's clients are remembered.
    pub(crate) fn remembers(&self) -> bool {
        self.fronts.values().any(|slots| slots.memory.is_some())
    }

    /// Whether an endpoint may be remembered for clients that asked at the first of these fronts that there is.
    pub(crate) fn may_keep(&self, fronts: impl IntoIterator<Item = Front>, endpoint: SocketAddrV4) -> bool {
        let slots = fronts.into_iter().find_map(|front| self.fronts.get(&front));
        slots.is_some_and(|slots| slots.memory.is_some() && slots.slots.contains(&endpoint))
    }

    /// All elements, as one step from nothing: inside the transaction that makes the table.
    pub(crate) fn elements(&self) -> Vec<Element> {
        let fronts = self.fronts.iter().map(|(front, slots)| (*front, Some(slots.clone()))).collect();
        let all = Changes {
            fronts,
            followed: Vec::new(),
            guards: self.guards.clone(),
            hairpins: self.hairpins.clone(),
            passes: self.passes.clone(),
        };
        Self::default().steps(&all).into_iter().flat_map(|step| step.add).collect()
    }
}

impl Step {
    /// Whether there is nothing to do.
    pub(crate) fn is_empty(&self) -> bool {
        self.delete.is_empty() && self.add.is_empty()
    }
}

fn change_front([make, switch, after]: &mut [Step; 3], front: Front, old: Option<&Slots>, new: Option<&Slots>) {
    let [before, now] = [old, new].map(|slots| slots.map_or(&[][..], |slots| &slots.slots));
    for slot in 0..before.len().max(now.len()) {
        let element = |endpoint: &SocketAddrV4| Element::Slot(front, slot, *endpoint);
        match (before.get(slot), now.get(slot)) {
            (Some(other), Some(endpoint)) if other != endpoint => {
                make.delete.push(element(other));
                make.add.push(element(endpoint));
            }
            (None, Some(endpoint)) => make.add.push(element(endpoint)),
            (Some(other), None) => after.delete.push(element(other)),
            (Some(_), Some(_)) | (None, None) => {}
        }
    }
    let [remembered, remembers] = [old, new].map(|slots| slots.and_then(|slots| slots.memory));
    if remembered != remembers {
        make.delete.extend(remembered.map(|memory| Element::Remembered(front, memory)));
        make.add.extend(remembers.map(|memory| Element::Remembered(front, memory)));
    }
    let [chose, chooses] = [old, new].map(|slots| slots.map(Slots::choice));
    if chose != chooses {
        switch.delete.extend(chose.map(|choice| Element::Verdict(front, choice)));
        switch.add.extend(chooses.map(|choice| Element::Verdict(front, choice)));
    }
    make.add.extend((old.is_none() && new.is_some()).then_some(Element::Known(front)));
    after.delete.extend((new.is_none() && old.is_some()).then_some(Element::Known(front)));
}

#[cfg(test)]
mod tests;

//! The selections that an engine keeps: on which classes demands may be, who hosts them, and how sought after they are.

use std::collections::BTreeMap;

use crate::{
    block::SHARE_BITS,
    class::{ClassId, DomainKey, DomainValue, Selection, SelectionId},
    fleet::Class,
};

/// What a selection is looked at by: one property, or all its classes as one place.
pub(crate) type Lead = Option<DomainKey>;
/// The classes of a selection that have a node that counts for evenness, by their value of one property.
pub(crate) type Hosts = BTreeMap<DomainValue, Vec<ClassId>>;

/// Demand for a class as large as its capacity weighs as much as this part of a whole imbalance: 0.3.
const SCARCITY_PER_MILLE: u64 = 300;
/// Demand of one selection beyond so many times its capacity weighs no more.
const RATIO_MAX: u64 = 3;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Selections {
    kept: Vec<Kept>,
    index: BTreeMap<Selection, SelectionId>,
    /// Whether some demand or capacity changed since the weights were made.
    stale: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Kept {
    classes: Selection,
    /// How many groups use it.
    groups: u32,
    /// What all their wanted instances ask for: CPU and memory.
    wanted: (u64, u64),
    /// What all nodes of its classes have.
    capacity: (u64, u64),
    /// How many nodes of its classes count for evenness.
    hosting: u64,
    /// What it adds to the scarcity of each of its classes.
    weight: u32,
    hosts: BTreeMap<Lead, Hosts>,
}

impl Kept {
    /// Adds what a class has.
    fn count(&mut self, class: &Class) {
        self.capacity.0 += class.capacity.0;
        self.capacity.1 += class.capacity.1;
        self.hosting += u64::from(class.hosting());
    }
}

impl Default for Selections {
    /// Holds the one that allows nothing, for groups without a demand.
    fn default() -> Self {
        Self {
            kept: vec![Kept::default()],
            index: BTreeMap::from([(Selection::default(), SelectionId(0))]),
            stale: false,
        }
    }
}

impl Selections {
    pub(crate) fn add(&mut self, selection: Selection, classes: &[Class]) -> SelectionId {
        if let Some(id) = self.index.get(&selection) {
            return *id;
        }
        let mut kept = Kept { classes: selection.clone(), ..Kept::default() };
        selection.classes().filter_map(|id| classes.get(id.0 as usize)).for_each(|class| kept.count(class));
        let vacant = (1..self.kept.len()).find(|place| self.kept[*place].classes == Selection::default());
        let place = vacant.unwrap_or(self.kept.len());
        match self.kept.get_mut(place) {
            Some(slot) => *slot = kept,
            None => self.kept.push(kept),
        }
        let id = SelectionId(u32::try_from(place).expect("selections are numbered in 32 bits"));
        self.index.insert(selection, id);
        id
    }

    pub(crate) fn allow(&mut self, id: SelectionId, class: ClassId, classes: &mut [Class]) {
        let Some(kept) = self.kept.get_mut(id.0 as usize).filter(|kept| id.0 > 0 && !kept.classes.allows(class)) else {
            return;
        };
        if self.index.get(&kept.classes) == Some(&id) {
            self.index.remove(&kept.classes);
        }
        kept.classes.allow(class);
        self.index.entry(kept.classes.clone()).or_insert(id);
        if let Some(there) = classes.get_mut(class.0 as usize) {
            kept.count(there);
            there.scarcity += kept.weight;
            if there.hosting() > 0 {
                kept.hosts.iter_mut().for_each(|(lead, hosts)| host(hosts, value(there, *lead), class));
            }
        }
        self.stale = true;
    }

    pub(crate) fn allows(&self, id: SelectionId, class: ClassId) -> bool {
        self.kept.get(id.0 as usize).is_some_and(|kept| kept.classes.allows(class))
    }

    pub(crate) fn get(&self, id: SelectionId) -> Option<&Selection> {
        self.kept.get(id.0 as usize).map(|kept| &kept.classes)
    }

    /// The same selections, of which nobody wants anything and no class has a node.
    pub(crate) fn emptied(&self) -> Self {
        let kept = self.kept.iter().map(|kept| Kept { classes: kept.classes.clone(), ..Kept::default() });
        Self { kept: kept.collect(), index: self.index.clone(), stale: false }
    }

    /// Whether it equals a rebuild; places that only an earlier demand asked about may be kept as well.
    pub(crate) fn equals(&self, rebuilt: &Self) -> bool {
        let is_equal = |(kept, made): (&Kept, &Kept)| {
            let hosts = kept.hosts.iter().filter(|(lead, _)| made.hosts.contains_key(*lead));
            Kept { hosts: hosts.map(|(lead, hosts)| (*lead, hosts.clone())).collect(), ..kept.clone() } == *made
        };
        self.kept.len() == rebuilt.kept.len() && self.kept.iter().zip(&rebuilt.kept).all(is_equal)
    }

    /// The hosting classes of a selection by place; made by [`Self::watch`].
    pub(crate) fn hosts(&self, id: SelectionId, lead: Lead) -> Option<&Hosts> {
        self.kept.get(id.0 as usize)?.hosts.get(&lead)
    }

    /// Keeps the hosting classes of a selection by place from now on.
    pub(crate) fn watch(&mut self, id: SelectionId, lead: Lead, classes: &[Class]) {
        let Some(kept) = self.kept.get_mut(id.0 as usize).filter(|kept| !kept.hosts.contains_key(&lead)) else {
            return;
        };
        let mut hosts = Hosts::new();
        for id in kept.classes.classes() {
            if let Some(class) = classes.get(id.0 as usize).filter(|class| class.hosting() > 0) {
                host(&mut hosts, value(class, lead), id);
            }
        }
        kept.hosts.insert(lead, hosts);
    }

    /// Notes that a group uses a selection and wants so much, or that one no longer does.
    pub(crate) fn want(&mut self, id: SelectionId, cpu: u64, memory: u64) {
        let Some(kept) = self.kept.get_mut(id.0 as usize) else { return };
        kept.groups += 1;
        kept.wanted.0 += cpu;
        kept.wanted.1 += memory;
        self.stale = true;
    }

    /// Undoes [`Self::want`]; a selection that nobody uses is forgotten.
    pub(crate) fn unwant(&mut self, id: SelectionId, cpu: u64, memory: u64, classes: &mut [Class]) {
        let Some(kept) = self.kept.get_mut(id.0 as usize) else { return };
        kept.groups -= 1;
        kept.wanted.0 -= cpu;
        kept.wanted.1 -= memory;
        self.stale = true;
        if kept.groups == 0 && id.0 > 0 {
            let gone = std::mem::take(kept);
            for class in gone.classes.classes() {
                if let Some(class) = classes.get_mut(class.0 as usize) {
                    class.scarcity -= gone.weight;
                }
            }
            if self.index.get(&gone.classes) == Some(&id) {
                self.index.remove(&gone.classes);
            }
        }
    }

    /// How many nodes of the classes of a selection count for evenness.
    pub(crate) fn hosting(&self, id: SelectionId) -> u64 {
        self.kept.get(id.0 as usize).map(|kept| kept.hosting).unwrap_or_default()
    }

    /// Notes what changed about a class: what its nodes have in all, and how many count for evenness.
    pub(crate) fn class_changed(&mut self, id: ClassId, before: (u64, u64), hosting: u32, class: &Class) {
        if before == class.capacity && hosting == class.hosting() {
            return;
        }
        let hosted = hosting > 0;
        for kept in self.kept.iter_mut().filter(|kept| kept.classes.allows(id)) {
            kept.capacity.0 -= before.0;
            kept.capacity.1 -= before.1;
            kept.hosting -= u64::from(hosting);
            kept.count(class);
            if hosted != (class.hosting() > 0) {
                for (lead, hosts) in &mut kept.hosts {
                    if hosted { unhost(hosts, value(class, *lead), id) } else { host(hosts, value(class, *lead), id) }
                }
            }
        }
        self.stale |= before != class.capacity;
    }

    /// Brings the scarcity of the classes up to date: for each selection the demand for it over its capacity. A pure
    /// function of what is wanted and there, so that a rebuild has the same.
    pub(crate) fn weigh(&mut self, classes: &mut [Class]) {
        if !std::mem::take(&mut self.stale) {
            return;
        }
        for kept in &mut self.kept {
            let weight = weight(kept.wanted, kept.capacity);
            if weight == kept.weight {
                continue;
            }
            for class in kept.classes.classes() {
                if let Some(class) = classes.get_mut(class.0 as usize) {
                    class.scarcity = class.scarcity - kept.weight + weight;
                }
            }
            kept.weight = weight;
        }
    }
}

fn value(class: &Class, lead: Lead) -> DomainValue {
    lead.map_or(0, |key| class.value(key))
}

fn host(hosts: &mut Hosts, value: DomainValue, class: ClassId) {
    let there = hosts.entry(value).or_default();
    if let Err(place) = there.binary_search(&class) {
        there.insert(place, class);
    }
}

fn unhost(hosts: &mut Hosts, value: DomainValue, class: ClassId) {
    if let Some(there) = hosts.get_mut(&value) {
        there.retain(|other| *other != class);
        if there.is_empty() {
            hosts.remove(&value);
        }
    }
}

/// The mean of demand over capacity of CPU and of memory, times the weight of scarcity, in the unit of imbalance.
fn weight(wanted: (u64, u64), capacity: (u64, u64)) -> u32 {
    let whole = 1_u64 << SHARE_BITS;
    let ratio = |wanted: u64, capacity: u64| {
        let ratio = u128::from(wanted) * u128::from(whole) / u128::from(capacity.max(1));
        u64::try_from(ratio).unwrap_or(u64::MAX).min(RATIO_MAX * whole)
    };
    let mean = u64::midpoint(ratio(wanted.0, capacity.0), ratio(wanted.1, capacity.1));
    u32::try_from(mean * SCARCITY_PER_MILLE / 1_000).expect("it is at most the greatest ratio")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn demand_as_large_as_the_capacity_weighs_three_tenths() {
        assert_eq!(weight((1_000, 1_000), (1_000, 1_000)), 307);
        assert_eq!(weight((0, 0), (1_000, 1_000)), 0);
        assert_eq!(weight((u64::MAX, u64::MAX), (1, 1)), 3 * 1_024 * 3 / 10);
    }
}

//! Groups: the instances of one workload, counted per node and per place.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    class::{DomainKey, DomainValue},
    demand::{Demand, Over, Relation},
    engine::Run,
    fleet::{Class, NodeIndex},
    holders::Holders,
    selection::Lead,
};

/// A group of equal instances, as the engine numbers them; numbers of removed ones are used again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupIndex(pub u32);

/// How many instances of a group are in one place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Count {
    /// Those that count for evenness.
    pub counted: u32,
    /// All of them, also those that are about to go.
    pub total: u32,
}

impl Count {
    /// So many more that count.
    pub(crate) fn plus(self, count: u32) -> Self {
        Self { counted: self.counted + count, total: self.total + count }
    }
}

/// One workload's demand and where its instances are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    pub(crate) demand: Demand,
    pub(crate) wanted: u32,
    total: u64,
    /// The property of the first rule over one: by it the nodes are sorted.
    pub(crate) lead: Lead,
    /// How many there are on each node, the nodes of one place together.
    holders: Holders,
    /// How many there are in each place, for the properties that some rule asks about.
    tallies: Vec<(DomainKey, Tally)>,
    /// Whose rules name this group, and which.
    pub(crate) named_by: BTreeSet<(GroupIndex, Over, Relation)>,
}

/// Counts by the values of one property.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    counts: BTreeMap<DomainValue, Count>,
    /// The places with counted instances, the emptiest first.
    pub(crate) levels: BTreeSet<(u32, DomainValue)>,
}

impl Tally {
    pub(crate) fn get(&self, value: DomainValue) -> Count {
        self.counts.get(&value).copied().unwrap_or_default()
    }

    fn change(&mut self, value: DomainValue, change: impl FnOnce(&mut Count)) {
        let count = self.counts.entry(value).or_default();
        let before = *count;
        change(count);
        let after = *count;
        if after == Count::default() {
            self.counts.remove(&value);
        }
        if before.counted != after.counted {
            self.levels.remove(&(before.counted, value));
            if after.counted > 0 {
                self.levels.insert((after.counted, value));
            }
        }
    }

    /// The values with instances, sorted, and how many there are.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (DomainValue, Count)> + '_ {
        self.counts.iter().map(|(value, count)| (*value, *count))
    }

    /// The values from one up to another with counted instances, sorted.
    pub(crate) fn counted(&self, from: DomainValue, to: DomainValue) -> impl Iterator<Item = DomainValue> + '_ {
        self.counts.range(from..to).filter(|(_, count)| count.counted > 0).map(|(value, _)| *value)
    }

    /// How many of some sorted values have counted instances.
    pub(crate) fn counted_among(&self, values: impl Iterator<Item = DomainValue>) -> usize {
        let mut counts = self.counted(0, u32::MAX).peekable();
        values
            .filter(|value| {
                while counts.next_if(|counted| counted < value).is_some() {}
                counts.peek() == Some(value)
            })
            .count()
    }
}

impl Group {
    /// What each of its instances asks for.
    #[must_use]
    pub fn demand(&self) -> &Demand {
        &self.demand
    }

    /// How many instances it shall have, as the owner said.
    #[must_use]
    pub fn wanted(&self) -> u32 {
        self.wanted
    }

    /// How many instances it has in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// How many it has where a property has a value. Nothing is known of properties that no rule asks about.
    #[must_use]
    pub fn at(&self, key: DomainKey, value: DomainValue) -> Count {
        self.tally(key).map(|tally| tally.get(value)).unwrap_or_default()
    }

    /// The groups whose instances must be beside those of this one.
    pub fn followers(&self) -> impl Iterator<Item = GroupIndex> + '_ {
        self.named_by.iter().filter(|(_, _, relation)| *relation == Relation::With).map(|(other, _, _)| *other)
    }

    /// Whether some group's rules name this one.
    #[must_use]
    pub fn is_named(&self) -> bool {
        !self.named_by.is_empty()
    }

    /// Whether another group's rules keep it away from where that one is.
    pub(crate) fn is_avoided(&self) -> bool {
        self.named_by.iter().any(|(_, _, relation)| *relation == Relation::Without)
    }

    /// The nodes with its instances, by place.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeIndex, Count)> + '_ {
        self.holders.iter().map(|((_, node), count)| (node, count))
    }

    /// The nodes with its instances in one place of its leading property.
    pub(crate) fn nodes_in(&self, value: DomainValue) -> impl Iterator<Item = (NodeIndex, Count)> + '_ {
        self.holders.within(value)
    }

    /// How many nodes have instances of it.
    pub(crate) fn holders(&self) -> usize {
        self.holders.len()
    }

    pub(crate) fn on(&self, class: &Class, node: NodeIndex) -> Count {
        self.holders.get((self.place(class), node))
    }

    pub(crate) fn place(&self, class: &Class) -> DomainValue {
        self.lead.map_or(0, |key| class.value(key))
    }

    pub(crate) fn tally(&self, key: DomainKey) -> Option<&Tally> {
        self.tallies.iter().find(|(other, _)| *other == key).map(|(_, tally)| tally)
    }

    /// Changes what is counted on a node.
    pub(crate) fn change(&mut self, class: &Class, node: NodeIndex, change: impl Fn(&mut Count)) {
        let (before, after) = self.holders.change((self.place(class), node), &change);
        self.total = self.total - u64::from(before.total) + u64::from(after.total);
        for (key, tally) in &mut self.tallies {
            tally.change(class.value(*key), &change);
        }
    }

    /// Counts what is on a node that came from one class to another.
    pub(crate) fn move_node(&mut self, node: NodeIndex, from: &Class, to: &Class) {
        let (count, _) = self.holders.change((self.place(from), node), |count| *count = Count::default());
        if count.total == 0 {
            return;
        }
        self.holders.set((self.place(to), node), count);
        for (key, tally) in &mut self.tallies {
            tally.change(from.value(*key), |there| {
                there.counted -= count.counted;
                there.total -= count.total;
            });
            tally.change(to.value(*key), |there| {
                there.counted += count.counted;
                there.total += count.total;
            });
        }
    }

    /// Counts what was placed on many nodes at once.
    pub(crate) fn extend<'c>(&mut self, runs: &[Run], class_of: impl Fn(NodeIndex) -> &'c Class) {
        self.total += runs.iter().map(|run| u64::from(run.count)).sum::<u64>();
        let added = runs.iter().map(|run| ((self.place(class_of(run.node)), run.node), run.count)).collect();
        self.holders.extend(added);
        for (key, tally) in &mut self.tallies {
            let mut counts: BTreeMap<DomainValue, u32> = BTreeMap::new();
            for run in runs {
                *counts.entry(class_of(run.node).value(*key)).or_default() += run.count;
            }
            for (value, count) in counts {
                tally.change(value, |there| *there = there.plus(count));
            }
        }
    }

    /// Counts anew by what rules ask for now. `class_of` knows each node's class.
    pub(crate) fn recount<'c>(&mut self, class_of: impl Fn(NodeIndex) -> &'c Class) {
        self.lead = self.demand.spread.iter().find_map(|rule| domain(rule.over));
        let rules = self.demand.spread.iter().map(|rule| rule.over);
        let own = self.demand.affinities.iter().map(|affinity| affinity.within);
        let others = self.named_by.iter().map(|(_, within, _)| *within);
        let keys: BTreeSet<DomainKey> = rules.chain(own).chain(others).filter_map(domain).collect();
        let mut tallies: Vec<(DomainKey, Tally)> = keys.into_iter().map(|key| (key, Tally::default())).collect();
        let lead = self.lead;
        self.holders.sort_anew(|node| lead.map_or(0, |key| class_of(node).value(key)));
        for ((_, node), count) in self.holders.iter() {
            let class = class_of(node);
            for (key, tally) in &mut tallies {
                tally.change(class.value(*key), |there| {
                    there.counted += count.counted;
                    there.total += count.total;
                });
            }
        }
        self.tallies = tallies;
    }
}

/// The property that a rule is over, if it is not over nodes.
pub(crate) fn domain(over: Over) -> Option<DomainKey> {
    match over {
        Over::Domain(key) => Some(key),
        Over::Node => None,
    }
}

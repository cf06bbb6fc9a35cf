//! Which slots go when fewer are wanted: those that do not work, then old ones, then from where most are, by every rule.

use std::collections::BTreeMap;

use api_types::{
    id::WorkloadId,
    placement::{Domain, Spread},
};

use crate::{admission::SPREADS_MAX, cluster::nodes::NodeEntry, machine::Scheduler, reconcile::slots::Slot};

/// A slot that may go.
#[derive(Debug)]
struct Victim {
    number: u32,
    serves: bool,
    is_current: bool,
    /// Where it is, for each rule of evenness, as a place in its tally.
    places: Vec<usize>,
}

/// How many slots there are in each place of one rule.
#[derive(Debug, Default)]
struct Tally<'c> {
    names: BTreeMap<&'c str, usize>,
    counts: Vec<u32>,
}

impl<'c> Tally<'c> {
    fn add(&mut self, name: &'c str) -> usize {
        let next = self.names.len();
        let place = *self.names.entry(name).or_insert(next);
        self.counts.resize(self.names.len(), 0);
        self.counts[place] += 1;
        place
    }

    /// Whether one less in a place is more uneven than the rule allows.
    fn would_break(&self, rule: &Spread, place: usize) -> bool {
        let fullest = self.counts.iter().copied().max().unwrap_or_default();
        rule.skew_max.is_some_and(|skew| fullest.saturating_sub(self.counts[place] - 1) > skew)
    }
}

/// What a rule calls the place of a node.
fn place_name<'n>(over: &Domain, node: &'n NodeEntry) -> &'n str {
    match over {
        Domain::Site => &node.spec.site,
        Domain::Node => node.spec.id.as_str(),
        // No value of a label is empty and yet there.
        Domain::Label(name) => node.spec.labels.get(name).map_or("", String::as_str),
    }
}

impl Scheduler {
    /// Ends the instances of as many slots as are too many, and takes these slots out of `slots`.
    pub(crate) fn scale_down(&mut self, id: &WorkloadId, replicas: u32, slots: &mut BTreeMap<u32, Slot>) {
        let held = slots.values().filter(|slot| slot.is_held()).count();
        let surplus = held.saturating_sub(replicas as usize);
        if surplus == 0 {
            return;
        }
        for number in self.victims(id, slots, surplus) {
            let Some(slot) = slots.get_mut(&number) else { continue };
            self.cluster.set_given_up(id, number, true);
            let slot = std::mem::take(slot);
            for instance in slot.targets.iter().chain(slot.stale.iter().map(|(instance, _)| instance)) {
                self.retire(*instance);
            }
        }
    }

    fn victims(&self, id: &WorkloadId, slots: &BTreeMap<u32, Slot>, count: usize) -> Vec<u32> {
        let Some(entry) = self.cluster.workloads.get(id) else { return Vec::new() };
        let rules = &entry.spec().placement.spread;
        let mut tallies: Vec<Tally<'_>> = rules.iter().map(|_| Tally::default()).collect();
        let mut candidates: Vec<Victim> = Vec::new();
        for (number, slot) in slots.iter().filter(|(_, slot)| slot.is_held()) {
            let main = slot.targets.first().or_else(|| slot.stale.first().map(|(instance, _)| instance));
            let Some(held) = main.and_then(|instance| self.cluster.held(*instance)) else { continue };
            let names = rules.iter().map(|rule| place_name(&rule.over, held.node()));
            candidates.push(Victim {
                number: *number,
                serves: held.is_serving(),
                is_current: !slot.targets.is_empty(),
                places: names.zip(&mut tallies).map(|(name, tally)| tally.add(name)).collect(),
            });
        }
        let mut chosen = Vec::new();
        while chosen.len() < count {
            let worth = |victim: &Victim| {
                let at = || victim.places.iter().zip(&tallies);
                let breaks = at().zip(rules).any(|((place, tally), rule)| tally.would_break(rule, *place));
                let mut crowd = [0; SPREADS_MAX];
                crowd.iter_mut().zip(at()).for_each(|(count, (place, tally))| *count = tally.counts[*place]);
                (!victim.serves, !victim.is_current, !breaks, crowd, victim.number)
            };
            let Some((index, _)) = candidates.iter().enumerate().max_by_key(|(_, victim)| worth(victim)) else { break };
            let victim = candidates.swap_remove(index);
            for (place, tally) in victim.places.iter().zip(&mut tallies) {
                tally.counts[*place] -= 1;
            }
            chosen.push(victim.number);
        }
        chosen
    }
}

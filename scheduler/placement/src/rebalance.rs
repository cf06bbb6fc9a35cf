//! What to move so that groups are even again and no node is too full, after nodes joined: as few moves as can be, each to a
//! node that takes the instance while the one that it replaces is still there.

mod batch;
mod donors;
mod residual;

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    amount::Amount,
    class::{DomainKey, DomainValue},
    demand::Over,
    engine::{Engine, Holding},
    fleet::{NodeIndex, NodeShape},
    group::{Count, Group, GroupIndex, domain},
    rebalance::donors::Donors,
};

pub use residual::Residual;

/// What a rebalancing may touch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebalance {
    /// The groups whose instances may move, in the order in which they are looked at.
    pub groups: Vec<GroupIndex>,
    /// A node of which more than this is given away, in thousandths of its CPU or its memory, hands some on; 1,000 = none does.
    pub use_max: u32,
}

/// One instance that would be better elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// Of which group.
    pub group: GroupIndex,
    /// Where one of its instances is.
    pub from: NodeIndex,
    /// Where it would go.
    pub to: NodeIndex,
    /// What gets better by it.
    pub gain: Gain,
}

/// What a move is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gain {
    /// The group is more even by the rule at this place of its list.
    Spread(usize),
    /// A node that is too full is less so.
    Headroom,
}

/// Which moves would restore evenness and headroom, in the order in which they should be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RebalancePlan {
    /// The moves.
    pub moves: Vec<Move>,
    /// So many moves the most important rules alone ask for, were there room everywhere: fewer cannot do.
    pub moves_min: u64,
    /// What stays uneven, and why.
    pub residuals: Vec<Residual>,
}

/// Plans on a copy of the engine, which is used up by it.
#[must_use]
pub fn rebalance(mut engine: Engine, wish: &Rebalance) -> RebalancePlan {
    let mut plan = RebalancePlan::default();
    for group in &wish.groups {
        let rules = engine.group(*group).map(|group| group.demand().spread.len()).unwrap_or_default();
        for rule in 0..rules {
            if rule == 0 {
                let count = moves_min(&engine, *group);
                plan.moves_min += count;
                even_out_at_once(&mut engine, *group, count, &mut plan);
            }
            even_out(&mut engine, *group, rule, wish.use_max, &mut plan);
        }
    }
    relieve(&mut engine, wish, &mut plan);
    plan
}

impl Engine {
    /// Where one of a group's instances on a node would be better off for this gain; `None` = nowhere. The node is one that
    /// takes it now, beside the one that is there. Changes nothing that can be seen.
    pub fn better(&mut self, group: GroupIndex, from: NodeIndex, gain: Gain, use_max: u32) -> Option<NodeIndex> {
        self.fleet().shape(from)?;
        if self.count(from, group).counted == 0 {
            return None;
        }
        self.set_counted(from, group, false);
        let to = self.pick(group);
        self.set_counted(from, group, true);
        to.filter(|to| self.is_better(group, from, *to, gain, use_max))
    }

    fn is_better(&self, index: GroupIndex, from: NodeIndex, to: NodeIndex, gain: Gain, use_max: u32) -> bool {
        let Some(group) = self.group(index) else { return false };
        let more = |over: Over| self.siblings(group, over, to).counted + 1;
        let same = |over: Over| self.is_same_place(over, from, to);
        let here = |over: Over| self.siblings(group, over, from).counted;
        let is_no_worse = |over: Over| same(over) || more(over) <= here(over);
        let rules = &group.demand.spread;
        match gain {
            Gain::Spread(rule) => {
                let Some(over) = rules.get(rule).map(|rule| rule.over) else { return false };
                more(over) < here(over) && rules[..rule].iter().all(|rule| is_no_worse(rule.over))
            }
            Gain::Headroom => {
                let after = self.used_with(to, group.demand.amount);
                after <= use_max.min(self.used(from)) && rules.iter().all(|rule| is_no_worse(rule.over))
            }
        }
    }

    /// What is given away of a node, in thousandths of its CPU or its memory, whichever is more.
    fn used(&self, node: NodeIndex) -> u32 {
        self.used_if(node, self.fleet().free(node))
    }

    fn used_with(&self, node: NodeIndex, more: Amount) -> u32 {
        self.used_if(node, self.fleet().free(node).saturating_sub(more))
    }

    fn used_without(&self, node: NodeIndex, gone: Amount) -> u32 {
        self.used_if(node, self.fleet().free_if(node, gone))
    }

    fn used_if(&self, node: NodeIndex, free: Amount) -> u32 {
        self.fleet().shape(node).map_or(0, |shape| used_of(&shape, free))
    }

    /// The value of a group's leading property where a node is.
    fn lead_of(&self, index: GroupIndex, node: NodeIndex) -> DomainValue {
        let class = self.fleet().shape(node).map(|shape| self.fleet().class(shape.class));
        class.zip(self.group(index)).map(|(class, group)| group.place(class)).unwrap_or_default()
    }

    /// The places of a property that have a node which takes instances and is one of those that are meant, in order.
    fn hosts_of(&self, group: &Group, key: DomainKey) -> BTreeSet<DomainValue> {
        match &group.demand().nodes {
            Some(nodes) => self.view().meant(group, nodes).map(|(_, class)| class.value(key)).collect(),
            None => {
                let hosts = self.view().selections.hosts(group.demand().selection, Some(key));
                hosts.into_iter().flatten().map(|(value, _)| *value).collect()
            }
        }
    }

    /// How many of a group are where a node is.
    fn siblings(&self, group: &Group, over: Over, node: NodeIndex) -> Count {
        let Some(shape) = self.fleet().shape(node) else { return Count::default() };
        match over {
            Over::Domain(key) => group.at(key, self.fleet().value(shape.class, key)),
            Over::Node => group.on(self.fleet().class(shape.class), node),
        }
    }

    fn is_same_place(&self, over: Over, a: NodeIndex, b: NodeIndex) -> bool {
        match over {
            Over::Node => a == b,
            Over::Domain(key) => {
                let value = |node| self.fleet().shape(node).map(|shape| self.fleet().value(shape.class, key));
                value(a) == value(b)
            }
        }
    }

    /// Makes a move on this copy. What the instance holds where it was stays given away: it goes only when the new one works.
    fn make(&mut self, group: GroupIndex, from: NodeIndex, to: NodeIndex) {
        let Some(demand) = self.group(group).map(|group| group.demand().clone()) else { return };
        let devices = self.grant(to, group).unwrap_or_default();
        self.set_counted(from, group, false);
        let holding = Holding { amount: demand.amount, ports: &demand.ports, devices: &devices, counted: true };
        self.take(to, group, holding);
    }
}

/// What is given away of a node of which so much is free, in thousandths of its CPU or its memory, whichever is more.
fn used_of(shape: &NodeShape, free: Amount) -> u32 {
    let share = |free: u32, whole: u32| {
        let used = u64::from(whole.saturating_sub(free)) * 1_000;
        u32::try_from(used.div_ceil(u64::from(whole).max(1))).unwrap_or(u32::MAX)
    };
    share(free.cpu_millis, shape.capacity.cpu_millis).max(share(free.memory_kib, shape.capacity.memory_kib))
}

/// Makes a group even by its first rule, if that is over a property: that is nearly all there is to move, and cheaper at
/// once than one by one.
fn even_out_at_once(engine: &mut Engine, index: GroupIndex, count: u64, plan: &mut RebalancePlan) {
    let first = engine.group(index).and_then(|group| domain(group.demand().spread.first()?.over));
    if let Some(key) = first.filter(|_| count > 0) {
        let moves = batch::even_out(engine, index, key, count);
        plan.moves.extend(moves.into_iter().map(|(from, to)| Move { group: index, from, to, gain: Gain::Spread(0) }));
    }
}

/// Moves from the fullest places of a rule until it is met, or nowhere is better.
fn even_out(engine: &mut Engine, index: GroupIndex, rule: usize, use_max: u32, plan: &mut RebalancePlan) {
    let Some(spread) = engine.group(index).and_then(|group| group.demand().spread.get(rule)).copied() else { return };
    let tolerance = spread.skew_max.unwrap_or(1).max(1);
    let mut donors = Donors::new(index, spread.over);
    // Of the places of one property some may be stuck because nothing emptier takes what they have.
    let mut stuck: BTreeSet<DomainValue> = BTreeSet::new();
    while let Some((count, from)) = donors.next(engine) {
        let floor = match spread.over {
            Over::Domain(_) => {
                engine.group(index).map(|group| engine.view().floor(group, spread.over)).unwrap_or_default()
            }
            // A node with one has nothing to give; whether those with more have is seen when they try.
            Over::Node => 0,
        };
        if count <= floor.saturating_add(tolerance) {
            break;
        }
        let lead = engine.lead_of(index, from);
        if stuck.contains(&lead) {
            donors.skip();
            continue;
        }
        match engine.better(index, from, Gain::Spread(rule), use_max) {
            Some(to) => {
                engine.make(index, from, to);
                donors.took();
                plan.moves.push(Move { group: index, from, to, gain: Gain::Spread(rule) });
            }
            None if domain(spread.over).is_some() => {
                plan.residuals.extend(residual::of(engine, index, rule, count));
                break;
            }
            None => {
                stuck.insert(lead);
                donors.skip();
            }
        }
    }
}

/// Moves the largest instances away from nodes that are too full.
fn relieve(engine: &mut Engine, wish: &Rebalance, plan: &mut RebalancePlan) {
    let mut full: Vec<(u32, NodeIndex)> = engine
        .fleet()
        .nodes()
        .map(|node| (engine.used(node), node))
        .filter(|(used, node)| *used > wish.use_max && engine.fleet().placed(*node).is_some())
        .collect();
    if full.is_empty() {
        return;
    }
    full.sort_by_key(|(used, node)| (std::cmp::Reverse(*used), engine.fleet().shape(*node).map(|shape| shape.order)));
    let crowded: BTreeSet<NodeIndex> = full.iter().map(|(_, node)| *node).collect();
    let mut there: BTreeMap<NodeIndex, Vec<GroupIndex>> = BTreeMap::new();
    for index in &wish.groups {
        for (node, count) in engine.group(*index).into_iter().flat_map(Group::nodes) {
            if count.counted > 0 && crowded.contains(&node) {
                there.entry(node).or_default().extend((0..count.counted).map(|_| *index));
            }
        }
    }
    for (_, from) in full {
        let mut groups = there.remove(&from).unwrap_or_default();
        let amount = |index: &GroupIndex| engine.group(*index).map(|group| group.demand().amount).unwrap_or_default();
        groups.sort_by_key(|index| std::cmp::Reverse(crate::preemption::weight(amount(index))));
        let mut gone = Amount::default();
        for index in groups {
            if engine.used_without(from, gone) <= wish.use_max {
                break;
            }
            let Some(to) = engine.better(index, from, Gain::Headroom, wish.use_max) else { continue };
            gone = gone.saturating_add(engine.group(index).map(|group| group.demand().amount).unwrap_or_default());
            engine.make(index, from, to);
            plan.moves.push(Move { group: index, from, to, gain: Gain::Headroom });
        }
    }
}

/// So few moves would make a group even by its first rule, were there room everywhere.
fn moves_min(engine: &Engine, index: GroupIndex) -> u64 {
    let Some(group) = engine.group(index) else { return 0 };
    let Some((rule, key)) = group.demand().spread.first().and_then(|rule| Some((rule, domain(rule.over)?))) else {
        return 0;
    };
    let Some(tally) = group.tally(key) else { return 0 };
    let (mut hosting, mut others) = (Vec::new(), Vec::new());
    let mut counts = tally.counts().map(|(value, count)| (value, u64::from(count.counted))).peekable();
    for host in engine.hosts_of(group, key) {
        others.extend(std::iter::from_fn(|| counts.next_if(|(value, _)| *value < host)).map(|(_, count)| count));
        hosting.push(counts.next_if(|(value, _)| *value == host).map_or(0, |(_, count)| count));
    }
    others.extend(counts.map(|(_, count)| count));
    fewest_moves(&hosting, &others, rule.skew_max.unwrap_or(1).max(1).into())
}

/// The fewest moves after which no place of `hosting` and `others` exceeds the emptiest of `hosting` by more than `skew`.
/// Only those of `hosting` take any.
fn fewest_moves(hosting: &[u64], others: &[u64], skew: u64) -> u64 {
    let counts = || hosting.iter().chain(others);
    let too_many = |floor: u64| counts().map(|count| count.saturating_sub(floor + skew)).sum::<u64>();
    let too_few = |floor: u64| hosting.iter().map(|count| floor.saturating_sub(*count)).sum::<u64>();
    let (mut low, mut high) = (0, counts().copied().max().unwrap_or_default());
    if hosting.is_empty() {
        return 0;
    }
    // The higher the floor the more must come and the fewer must go: the best is where these meet.
    while low < high {
        let middle = low + (high - low) / 2;
        if too_few(middle) >= too_many(middle) { high = middle } else { low = middle + 1 }
    }
    let cost = |floor: u64| too_few(floor).max(too_many(floor));
    cost(low).min(low.checked_sub(1).map_or(u64::MAX, cost))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fewest_moves_are_counted() {
        assert_eq!(fewest_moves(&[5, 5, 5, 5, 0], &[], 1), 4);
        assert_eq!(fewest_moves(&[6, 6, 6, 0], &[], 1), 4);
        assert_eq!(fewest_moves(&[6, 6, 6, 0], &[], 2), 3);
        assert_eq!(fewest_moves(&[3, 3, 2], &[], 1), 0);
        assert_eq!(fewest_moves(&[0, 0], &[4], 1), 2);
        assert_eq!(fewest_moves(&[], &[4], 1), 0);
    }
}

//! A whole group made even over one property at once: the fullest places give as many as evenness asks for, placement
//! shares them out, and what did not get better by it stays where it was.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use crate::{
    class::{DomainKey, DomainValue},
    engine::{Engine, Holding, Run},
    fleet::NodeIndex,
    group::GroupIndex,
    rebalance::donors,
};

/// What goes out of places and into places.
#[derive(Debug, Default)]
struct Flows {
    /// The nodes that give one, by place; the first that is given back is the last.
    out: BTreeMap<DomainValue, Vec<NodeIndex>>,
    /// The nodes that take one, by place.
    into: BTreeMap<DomainValue, Vec<(NodeIndex, Run)>>,
    /// How many more give than take.
    unplaced: usize,
}

/// Moves `count` instances from the fullest places of a property to the emptiest, as far as these have room, and gives the
/// moves in an order in which none makes it less even.
pub(super) fn even_out(
    engine: &mut Engine,
    index: GroupIndex,
    key: DomainKey,
    count: u64,
) -> Vec<(NodeIndex, NodeIndex)> {
    let before = levels(engine, index, key);
    let mut flows = Flows { out: take_out(engine, index, key, &before, count), ..Flows::default() };
    let given: usize = flows.out.values().map(Vec::len).sum();
    flows.unplaced = given;
    for run in engine.place(index, u32::try_from(given).unwrap_or(u32::MAX)) {
        let place = value_at(engine, key, run.node);
        let one = Run { count: 1, ..run.clone() };
        for _ in 0..run.count {
            flows.into.entry(place).or_default().push((run.node, one.clone()));
            flows.unplaced -= 1;
        }
    }
    while let Some((gives, takes)) = flows.in_vain(engine, index, key) {
        flows.undo(engine, index, gives, takes);
    }
    flows.in_order(before)
}

fn levels(engine: &Engine, index: GroupIndex, key: DomainKey) -> BTreeMap<DomainValue, u32> {
    let tally = engine.group(index).and_then(|group| group.tally(key));
    tally.into_iter().flat_map(|tally| &tally.levels).map(|(count, value)| (*value, *count)).collect()
}

fn value_at(engine: &Engine, key: DomainKey, node: NodeIndex) -> DomainValue {
    engine.fleet().shape(node).map(|shape| engine.fleet().value(shape.class, key)).unwrap_or_default()
}

/// Counts out `count` instances of the fullest places, one after the other.
fn take_out(
    engine: &mut Engine,
    index: GroupIndex,
    key: DomainKey,
    before: &BTreeMap<DomainValue, u32>,
    count: u64,
) -> BTreeMap<DomainValue, Vec<NodeIndex>> {
    let mut fullest: BinaryHeap<(u32, DomainValue)> = before.iter().map(|(value, count)| (*count, *value)).collect();
    let mut gives: BTreeMap<DomainValue, usize> = BTreeMap::new();
    for _ in 0..count {
        let Some(mut place) = fullest.peek_mut().filter(|place| place.0 > 0) else { break };
        *gives.entry(place.1).or_default() += 1;
        place.0 -= 1;
    }
    let mut out: BTreeMap<DomainValue, Vec<NodeIndex>> = BTreeMap::new();
    for (value, count) in gives {
        let nodes: Vec<NodeIndex> = donors::best_of(engine, index, key, value, count);
        nodes.iter().for_each(|node| engine.set_counted(*node, index, false));
        out.insert(value, nodes);
    }
    out
}

impl Flows {
    /// A place that gives and, if so many took, a place that takes, so that nothing is lost when neither does.
    fn in_vain(
        &self,
        engine: &Engine,
        index: GroupIndex,
        key: DomainKey,
    ) -> Option<(DomainValue, Option<DomainValue>)> {
        let group = engine.group(index)?;
        let count = |value: &DomainValue| (group.at(key, *value).counted, *value);
        let gives = self.out.keys().min_by_key(|value| count(value))?;
        if self.unplaced > 0 {
            return Some((*gives, None));
        }
        if let Some(both) = self.into.keys().find(|value| self.out.contains_key(value)) {
            return Some((*both, Some(*both)));
        }
        let takes = self.into.keys().max_by_key(|value| count(value))?;
        (count(takes).0 > count(gives).0).then_some((*gives, Some(*takes)))
    }

    fn undo(&mut self, engine: &mut Engine, index: GroupIndex, gives: DomainValue, takes: Option<DomainValue>) {
        if let Some(node) = pop(&mut self.out, gives) {
            engine.set_counted(node, index, true);
        }
        match takes {
            None => self.unplaced -= 1,
            Some(takes) => {
                let demand = engine.group(index).map(|group| group.demand().clone()).unwrap_or_default();
                if let Some((node, run)) = pop(&mut self.into, takes) {
                    let (amount, ports) = (demand.amount, demand.ports.as_slice());
                    engine.give_back(node, index, Holding { amount, ports, devices: &run.devices, counted: true });
                }
            }
        }
    }

    /// The moves, each from the place that is fullest then to the one that is emptiest then.
    fn in_order(mut self, mut counts: BTreeMap<DomainValue, u32>) -> Vec<(NodeIndex, NodeIndex)> {
        let count = |counts: &BTreeMap<DomainValue, u32>, value: DomainValue| {
            (counts.get(&value).copied().unwrap_or_default(), value)
        };
        let mut givers: BTreeSet<_> = self.out.keys().map(|value| count(&counts, *value)).collect();
        let mut takers: BTreeSet<_> = self.into.keys().map(|value| count(&counts, *value)).collect();
        let mut moves = Vec::new();
        while let (Some((_, giver)), Some((_, taker))) = (givers.pop_last(), takers.pop_first()) {
            let (Some(from), Some((to, _))) = (pop(&mut self.out, giver), pop(&mut self.into, taker)) else { break };
            moves.push((from, to));
            counts.entry(giver).and_modify(|count| *count -= 1);
            *counts.entry(taker).or_default() += 1;
            if self.out.contains_key(&giver) {
                givers.insert(count(&counts, giver));
            }
            if self.into.contains_key(&taker) {
                takers.insert(count(&counts, taker));
            }
        }
        moves
    }
}

/// Takes the last one of a place; a place without any is no longer there.
fn pop<T>(flow: &mut BTreeMap<DomainValue, Vec<T>>, value: DomainValue) -> Option<T> {
    let nodes = flow.get_mut(&value)?;
    let last = nodes.pop();
    if nodes.is_empty() {
        flow.remove(&value);
    }
    last
}

//! Who gives: instances of the fullest place, in it those of the node with most siblings, then of the fullest node.

use std::{cmp::Reverse, collections::BTreeMap};

use crate::{
    class::{DomainKey, DomainValue},
    demand::Over,
    engine::Engine,
    fleet::{Intake, NodeIndex},
    group::{GroupIndex, domain},
    rebalance::used_of,
};

/// An instance that may be given: how many siblings it is with on its node, itself included; how full that is; its order.
type Offer = (u32, u32, Reverse<u32>, NodeIndex);

/// The instances of a group that may be given, by place.
#[derive(Debug)]
pub(super) struct Donors {
    group: GroupIndex,
    over: Over,
    /// The best last. Made when a place is first asked; over nodes, all are one list.
    offers: BTreeMap<DomainValue, Vec<Offer>>,
    place: DomainValue,
}

impl Donors {
    pub(super) fn new(group: GroupIndex, over: Over) -> Self {
        Self { group, over, offers: BTreeMap::new(), place: 0 }
    }

    /// How many are in the fullest place, and on which node one of them may be given; `None` when there is none.
    pub(super) fn next(&mut self, engine: &Engine) -> Option<(u32, NodeIndex)> {
        let group = engine.group(self.group)?;
        let count = match self.over {
            Over::Domain(key) => {
                let (count, place) = *group.tally(key)?.levels.last()?;
                self.place = place;
                Some(count)
            }
            Over::Node => None,
        };
        let (over, index, place) = (self.over, self.group, self.place);
        let offers = self.offers.entry(place).or_insert_with(|| offers(engine, index, over, place));
        let (siblings, _, _, node) = *offers.last()?;
        Some((count.unwrap_or(siblings), node))
    }

    /// The last one given by [`Self::next`] was taken.
    pub(super) fn took(&mut self) {
        self.skip();
    }

    /// The last one given by [`Self::next`] cannot be placed better.
    pub(super) fn skip(&mut self) {
        if let Some(offers) = self.offers.get_mut(&self.place) {
            offers.pop();
        }
    }
}

/// The nodes that give `count` instances of one place, the best first; a node as often as it gives.
pub(super) fn best_of(
    engine: &Engine,
    group: GroupIndex,
    key: DomainKey,
    place: DomainValue,
    count: usize,
) -> Vec<NodeIndex> {
    let offers = offers(engine, group, Over::Domain(key), place);
    offers.iter().rev().take(count).map(|(_, _, _, node)| *node).collect()
}

fn offers(engine: &Engine, index: GroupIndex, over: Over, place: DomainValue) -> Vec<Offer> {
    let Some(group) = engine.group(index) else { return Vec::new() };
    let mut offers = Vec::new();
    let mut add = |node: NodeIndex, counted: u32| {
        // A node that takes nothing now may be away: nobody knows what goes on there.
        let found = engine.fleet().shape_and_free(node).filter(|(shape, _)| shape.intake == Intake::Open);
        let Some((shape, free)) = found else { return };
        let least = if over == Over::Node { 2 } else { 1 };
        if counted >= least {
            let used = used_of(&shape, free);
            offers.extend((least..=counted).map(|siblings| (siblings, used, Reverse(shape.order), node)));
        }
    };
    match domain(over) {
        Some(key) if group.lead == Some(key) => {
            group.nodes_in(place).for_each(|(node, count)| add(node, count.counted))
        }
        Some(key) => {
            for (node, count) in group.nodes() {
                let value = engine.fleet().shape(node).map(|shape| engine.fleet().value(shape.class, key));
                if value == Some(place) {
                    add(node, count.counted);
                }
            }
        }
        None => group.nodes().for_each(|(node, count)| add(node, count.counted)),
    }
    offers.sort_unstable();
    offers
}

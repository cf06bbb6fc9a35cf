//! Demands that wait for room, and whom a changed node could help.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    amount::Amount,
    class::SelectionId,
    engine::Engine,
    fleet::{Intake, NodeIndex},
    group::{Group, GroupIndex},
};

/// The groups of which not all instances have a node, by where they may be and by what the next one needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parked {
    /// What was noted of each.
    groups: BTreeMap<GroupIndex, Waiting>,
    /// Those that wait for room on a node of some classes, by how much CPU they need.
    rooms: BTreeMap<SelectionId, BTreeSet<(Amount, GroupIndex)>>,
    /// Those whom a change anywhere may help: their rules look at other places.
    restless: BTreeSet<GroupIndex>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Waiting {
    selection: SelectionId,
    amount: Amount,
}

impl Parked {
    /// Notes that a group waits. It is called again when the group's demand changed.
    pub fn park(&mut self, engine: &Engine, index: GroupIndex) {
        self.unpark(index);
        let Some(group) = engine.group(index) else { return };
        let waiting = Waiting { selection: group.demand().selection, amount: group.demand().amount };
        self.groups.insert(index, waiting);
        if looks_elsewhere(group) {
            self.restless.insert(index);
        } else {
            self.rooms.entry(waiting.selection).or_default().insert((waiting.amount, index));
        }
    }

    /// Notes that a group waits no more; whether it did.
    pub fn unpark(&mut self, index: GroupIndex) -> bool {
        let Some(waiting) = self.groups.remove(&index) else { return false };
        self.restless.remove(&index);
        if let Some(room) = self.rooms.get_mut(&waiting.selection) {
            room.remove(&(waiting.amount, index));
            if room.is_empty() {
                self.rooms.remove(&waiting.selection);
            }
        }
        true
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Whether a group waits.
    #[must_use]
    pub fn contains(&self, index: GroupIndex) -> bool {
        self.groups.contains_key(&index)
    }

    /// The groups that a change of `node` could help, as it is now: those that may be on its class and for which it has
    /// enough free, and those whose rules look at other places. Never too few, sometimes too many. The node may be gone.
    #[must_use]
    pub fn wake(&self, engine: &Engine, node: NodeIndex) -> Vec<GroupIndex> {
        let mut woken: Vec<GroupIndex> = self.restless.iter().copied().collect();
        let shape = engine.fleet().shape(node).filter(|shape| shape.intake == Intake::Open);
        let Some(class) = shape.map(|shape| shape.class) else { return woken };
        let free = engine.fleet().free(node);
        let most = Amount { cpu_millis: free.cpu_millis, memory_kib: u32::MAX };
        for (selection, waiting) in &self.rooms {
            if engine.selection(*selection).is_some_and(|selection| selection.allows(class)) {
                let small = waiting.range(..=(most, GroupIndex(u32::MAX)));
                woken.extend(small.filter(|(amount, _)| free.fits(*amount)).map(|(_, index)| *index));
            }
        }
        woken.sort_unstable();
        woken
    }
}

/// Whether what happens on one node may open another to a group.
fn looks_elsewhere(group: &Group) -> bool {
    let demand = group.demand();
    !demand.affinities.is_empty() || group.is_avoided() || demand.spread.iter().any(|rule| rule.skew_max.is_some())
}

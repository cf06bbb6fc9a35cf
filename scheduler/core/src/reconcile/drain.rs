//! Drains go a few instances at a time, so that a node that is emptied does not start a storm elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use api_types::id::NodeId;

use crate::machine::Scheduler;

impl Scheduler {
    /// The slots of those instances on draining nodes that may be given away now.
    pub(crate) fn allowed_moves(&self, moves: &[(u32, u64)]) -> Vec<u32> {
        let mut left: BTreeMap<&NodeId, usize> = BTreeMap::new();
        let mut allowed = Vec::new();
        for (slot, number) in moves {
            let Some(held) = self.cluster.held(*number) else { continue };
            let node = held.node_id();
            let left = left
                .entry(node)
                .or_insert_with(|| self.settings.drain_moves_max.saturating_sub(self.moves_under_way(node)));
            if *left > 0 {
                *left -= 1;
                allowed.push(*slot);
            }
        }
        allowed
    }

    /// How many instances on a node have a successor elsewhere that does not serve yet.
    fn moves_under_way(&self, node: &NodeId) -> usize {
        let Some(entry) = self.cluster.nodes.get(node) else { return 0 };
        let mut count = 0;
        let here = self.cluster.instances_on(entry).filter(|held| held.is_wanted());
        let mut slots: BTreeMap<_, BTreeSet<u32>> = BTreeMap::new();
        for held in here {
            slots.entry(held.workload()).or_default().insert(held.slot());
        }
        for (workload, slots) in slots {
            let elsewhere = self
                .cluster
                .instances_of(workload)
                .filter(|held| held.is_wanted() && held.node_id() != node && slots.contains(&held.slot()));
            count += elsewhere.count();
        }
        count
    }
}

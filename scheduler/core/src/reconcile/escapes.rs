//! Instances whose restarts are used up get successors on other nodes: one of those may do better.

use api_types::id::WorkloadId;

use crate::{machine::Scheduler, reconcile::slots::Why};

impl Scheduler {
    /// Begins to replace at most `count` instances, each on another node than its own. Who has data stays with it, and where
    /// no other node takes one it goes on where it is: its node restarts it for ever.
    pub(crate) fn replace_elsewhere(&mut self, id: &WorkloadId, escapes: &[(u32, u64)], count: usize) {
        // Its successor would run beside it.
        let mut left = if self.is_exclusive(id) { 0 } else { count.min(self.placements_left) };
        for (slot, old) in escapes {
            if left == 0 {
                return;
            }
            let Some(node) = self.cluster.held(*old).map(|held| held.node_index()) else { continue };
            if self.has_data(id, *slot) {
                continue;
            }
            let Some(seat) = self.cluster.reserve_elsewhere(id, node) else { continue };
            let placed = self.commit_to(id, *slot, &seat);
            self.tell_replaced(*old, placed, Why::UsedUp);
            // Once more, to see whether it is steady then.
            self.cluster.touched.workloads.insert(id.clone());
            left -= 1;
        }
    }
}

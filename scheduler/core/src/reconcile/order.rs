//! Who is looked at first, and so gets room first.

use std::{cmp::Reverse, collections::BTreeSet};

use api_types::{id::WorkloadId, workload::WorkloadKind};

use crate::machine::Scheduler;

impl Scheduler {
    /// What was deleted, which only frees room; daemons, which have no other node to go to; then by priority, then who
    /// waits longest.
    pub(crate) fn in_order(&self, touched: BTreeSet<WorkloadId>) -> Vec<WorkloadId> {
        let keyed = touched.into_iter().map(|id| {
            let key = self.cluster.workloads.get(&id).map(|entry| {
                let is_service = entry.spec().kind != WorkloadKind::Daemon;
                (is_service, Reverse(entry.spec().placement.priority), entry.workload.applied_at)
            });
            (key, id)
        });
        let mut order: Vec<_> = keyed.collect();
        order.sort_unstable();
        order.into_iter().map(|(_, id)| id).collect()
    }
}

//! Who is looked at first, and so gets room first.

use std::{cmp::Reverse, collections::BTreeSet};

use api_types::{id::WorkloadId, workload::WorkloadKind};

use crate::machine::Scheduler;

impl Scheduler {
    /// What was deleted, which only frees room; daemons, which have no other node to go to; then by priority, then who
    /// waits longest.
    pub(crate) fn in_order(&self, touched: BTreeSet<WorkloadId>) -> Vec<WorkloadId> {
        let mut order: Vec<WorkloadId> = touched.into_iter().collect();
        order.sort_by_cached_key(|id| {
            self.cluster.workloads.get(id).map(|entry| {
                let is_service = entry.spec().kind != WorkloadKind::Daemon;
                (is_service, Reverse(entry.spec().placement.priority), entry.workload.applied_at, id.clone())
            })
        });
        order
    }
}

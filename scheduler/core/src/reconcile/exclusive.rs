//! Services of which no two instances of a slot ever run at once: what is replaced is surely gone before its successor is placed.
//!
//! What a silent node runs ends there by itself: the node counts from a moment at which it was surely heard, which is never later
//! than what is counted from here.

use api_types::{
    id::WorkloadId,
    instance::Desired,
    node::{Availability, Liveness},
    time::Timestamp,
};

use crate::{cluster::held::Held, machine::Scheduler};

/// When surely nothing of an instance runs any more on a node that is silent; `None` = its node is heard of, or never.
pub(crate) fn fenced_at(held: Held<'_>) -> Option<Timestamp> {
    let entry = held.node();
    let fenced_after_ms = held.spec().fenced_after_ms().filter(|_| !entry.is_ready())?;
    Some(entry.silent_since()? + fenced_after_ms)
}

impl Scheduler {
    /// Whether a service is of this kind.
    pub(crate) fn is_exclusive(&self, id: &WorkloadId) -> bool {
        self.cluster.workloads.get(id).is_some_and(|entry| entry.spec().is_exclusive())
    }

    /// Whether something of an instance that shall end may still run, or may run once more.
    pub(crate) fn may_still_run(&self, held: Held<'_>) -> bool {
        // As long as others still balance to it, it is not told to end: its node would start it again on its return.
        let is_untold = held.spec().is_exclusive() && held.desired() == Desired::Run;
        is_untold || held.node().liveness != Liveness::Lost || fenced_at(held).is_some_and(|at| self.now < at)
    }

    /// Whether an instance was surely ended by its node, which is silent: then nobody is waited for who may still balance to it.
    pub(crate) fn is_surely_over(&self, held: Held<'_>) -> bool {
        held.node().liveness == Liveness::Lost && fenced_at(held).is_some_and(|at| at <= self.now)
    }

    /// Ends one of these instances, which are on draining nodes, so that its successor can be placed elsewhere; whether there is
    /// room for that. None ends for a successor that fits nowhere.
    pub(crate) fn end_to_move(&mut self, id: &WorkloadId, moves: &[(u32, u64)]) -> bool {
        let drains =
            |held: &Held<'_>| held.node().spec.availability == Availability::Draining && held.node().is_ready();
        let movable = moves
            .iter()
            .find(|(slot, old)| !self.has_data(id, *slot) && self.cluster.held(*old).is_some_and(|held| drains(&held)));
        let Some((_, old)) = movable.copied() else { return true };
        if !self.fits_somewhere(id) {
            return false;
        }
        self.retire(old);
        true
    }
}

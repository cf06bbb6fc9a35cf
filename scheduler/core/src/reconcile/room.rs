//! Rollouts that find no room: whose end costs nothing meanwhile, and when such a rollout has failed.

use api_types::id::WorkloadId;

use crate::{
    cluster::held::Held, machine::Scheduler, placement::filters::is_meant, reconcile::rollout::is_failing,
    timers::Timer,
};

impl Scheduler {
    /// Ends at most `count` of these instances of earlier revisions for which there is no successor: those that do not work, of
    /// a revision that nobody has seen work. Nothing is lost by that, and what they hold is free. Whether there were any.
    pub(super) fn end_what_never_worked(
        &mut self,
        id: &WorkloadId,
        old: impl Iterator<Item = u64>,
        count: usize,
    ) -> bool {
        let useless = old.filter(|number| self.cluster.held(*number).is_some_and(|held| self.is_useless(id, held)));
        let useless: Vec<u64> = useless.take(count).collect();
        useless.iter().for_each(|number| self.retire(*number));
        !useless.is_empty()
    }

    fn is_useless(&self, id: &WorkloadId, held: Held<'_>) -> bool {
        let is_known = held.node().is_ready() && held.node().synced;
        let has_worked = || {
            let kept = self.cluster.rollout(id).map(|rollout| rollout.revisions.as_slice()).unwrap_or_default();
            kept.iter().any(|kept| kept.is_good && kept.spec.runs_the_same_as(held.spec()))
        };
        is_known && is_failing(held) && !has_worked()
    }

    /// Notes after a pass over a workload whether its rollout `waits` for room, with nothing of the wanted revision anywhere.
    /// One that did for as long as its deadline allows has failed: what follows is what follows from a release that does not
    /// work. One of which some instances are placed is judged by those alone. A rehearsal only shows what waits.
    pub(super) fn judge_room(&mut self, id: &WorkloadId, waits: bool) {
        let counts =
            waits && self.is_judged(id) && !self.is_rehearsal && !self.is_claimed_for(id) && !self.is_out_of_reach(id);
        let Some(deadline_ms) = self.update_of(id).map(|update| update.deadline_ms) else { return };
        let now = self.now;
        let Some(entry) = self.cluster.rollouts.get_mut(id) else { return };
        if !counts {
            entry.without_room_since = None;
            return;
        }
        let at = *entry.without_room_since.get_or_insert(now) + deadline_ms;
        if !self.is_due(at) {
            self.timers.set(at, Timer::Look(id.clone()));
            return;
        }
        let reason = self.cluster.workloads.get(id).and_then(|entry| self.parked_reason(entry)).unwrap_or_default();
        self.rollout_failed(id, &format!("it found no room within {} s: {reason}", deadline_ms / 1_000));
    }

    /// How long a rollout that waits for room may go on so, for people; `None` = it does not, or as long as it likes.
    pub(crate) fn room_limit(&self, id: &WorkloadId) -> Option<String> {
        let since = self.cluster.rollouts.get(id)?.without_room_since?;
        let left_ms = self.update_of(id)?.deadline_ms.saturating_sub(self.now.since(since));
        Some(format!("the rollout fails in {} s if there is none", left_ms.div_ceil(1_000)))
    }

    /// Whether all nodes are silent on which an instance could be: those of its data, or those that the rules mean. Then it is
    /// no lack of room that the rollout waits for.
    fn is_out_of_reach(&self, id: &WorkloadId) -> bool {
        let homes: Vec<u32> =
            self.slots_with_data(id).into_iter().filter_map(|slot| self.only_home(id, slot)).collect();
        let Some(entry) = self.cluster.workloads.get(id) else { return false };
        let could_be = self.cluster.nodes.indexed().filter(|(index, node)| {
            if homes.is_empty() { is_meant(node, entry.spec()) == Some(true) } else { homes.contains(index) }
        });
        let heard: Vec<bool> = could_be.map(|(_, node)| node.is_ready()).collect();
        !heard.is_empty() && !heard.contains(&true)
    }
}

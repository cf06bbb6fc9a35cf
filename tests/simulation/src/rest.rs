//! Rest: stretches of a long story in which nothing is done to the world, and a cluster at rest that somebody rebalances.

use std::collections::{BTreeMap, BTreeSet};

use api_types::{
    id::{InstanceId, NodeId, WorkloadId},
    placement::Domain,
    view::{RebalanceMove, RebalancePlan},
    workload::WorkloadKind,
};

use crate::{
    checkers::oracle::meets_constraints,
    event::Wish,
    random::Random,
    runtime::SimProcess,
    world::{START, World},
};

/// Milliseconds of a stretch: there is unrest in all of it, or rest.
const STRETCH_MS: u64 = 300_000;

/// Milliseconds from the start in which there is no rest.
const UNREST_FIRST_MS: u64 = 600_000;

/// After that, so many of a thousand stretches have unrest.
const UNREST_PER_MILLE: u64 = 250;

/// A cluster at rest is rebalanced so many times at most until nothing would be better elsewhere. A full one takes many times:
/// an instance moves to where there is room beside it now, and what it leaves is room for the next rebalancing only.
const ROUNDS_MAX: usize = 100;

/// Virtual minutes that one of these times may take.
const ROUND_MINUTES: u64 = 60;

/// Whether a world rests at a millisecond of its story. The same for a story that the seed makes up and for one that was
/// written down.
fn is_rest(seed: u64, elapsed: u64) -> bool {
    let stretch = (elapsed / STRETCH_MS).wrapping_mul(0xA076_1D64_78BD_642F);
    elapsed >= UNREST_FIRST_MS && !Random::new(seed ^ stretch).per_mille(UNREST_PER_MILLE)
}

impl World {
    /// Whether nothing goes wrong now and nobody wants anything.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.calm || is_rest(self.options.seed, self.elapsed())
    }

    /// When the next stretch begins, for a story that is made up while the world rests.
    pub(crate) fn rests_until(&mut self) -> Option<api_types::time::Timestamp> {
        let rests = self.story.random().is_some() && is_rest(self.options.seed, self.elapsed());
        rests.then(|| START + (self.elapsed() / STRETCH_MS + 1) * STRETCH_MS)
    }

    /// Rebalances a cluster at rest until nothing would be better elsewhere: that comes to an end and never back to where it was,
    /// starts no more than it moves, and no workload ever has fewer that serve than before, unless it makes room for somebody
    /// more urgent who waits.
    pub(crate) fn rebalance_at_rest(&mut self) {
        let mut seen: BTreeSet<BTreeMap<(WorkloadId, NodeId), usize>> = BTreeSet::new();
        for _ in 0..ROUNDS_MAX {
            let Some(plan) = self.scheduler.core.as_ref().map(scheduler_core::Scheduler::rebalance_plan) else {
                return;
            };
            if let Err(wrong) = self.check_plan(&plan) {
                self.fail(format!("a rebalancing would be wrong: {wrong}"));
            }
            if plan.moves.is_empty() && plan.left == 0 {
                return;
            }
            // While one goes on by itself nothing is asked for: it may have moved nothing yet.
            if plan.left == 0 && !seen.insert(self.placed()) {
                self.fail(
                    "a rebalancing of a cluster at rest leads to where it was before, and would move again".to_owned(),
                );
                return;
            }
            let (started, somebody_waits) = (self.main_count, self.somebody_waits());
            self.demand.queue.push_back(Wish::Rebalance);
            self.ask();
            self.wait_for_moves();
            let (planned, started) = (plan.moves.len(), (self.main_count - started) as usize);
            // One that began by itself may have planned otherwise, and who waits may find room, or make some.
            let is_alone = !self.scheduler.settings.rebalance_automatic && !somebody_waits;
            if is_alone && started > planned {
                self.fail(format!("{started} processes were started to move {planned} instances"));
            }
            if self.failure.is_some() {
                return;
            }
        }
        self.fail(format!("after {ROUNDS_MAX} rebalancings of a cluster at rest there is still something to move"));
    }

    fn wait_for_moves(&mut self) {
        let before = self.serving();
        let limit = self.now + ROUND_MINUTES * 60_000;
        loop {
            let next = self.now + 1000;
            self.run_until(next);
            if self.failure.is_some() {
                return;
            }
            let serving = self.serving();
            let is_fewer = |id: &WorkloadId, count: usize| serving.get(id).copied().unwrap_or_default() < count;
            // What was moved may have left a node where room can be made now for somebody more urgent, who waited before.
            let fewer = before.iter().find(|(id, count)| is_fewer(id, **count) && !self.may_make_room(id));
            if let Some((id, count)) = fewer {
                let left = serving.get(id).copied().unwrap_or_default();
                self.note_events_of(id);
                self.fail(format!("{id}: {left} serve while it is moved, {count} did before"));
                return;
            }
            let goes_on = self.scheduler.core.as_ref().is_some_and(|core| core.rebalance_left() > 0);
            let converged = if goes_on { Err("it goes on".to_owned()) } else { self.check_converged() };
            if converged.is_ok() {
                return;
            }
            if self.now >= limit {
                self.fail(format!("a rebalancing does not come to an end: {converged:?}"));
                return;
            }
        }
    }

    /// Whether a workload has not all instances that are wanted.
    fn somebody_waits(&self) -> bool {
        self.demand.wanted.values().any(|shape| {
            let spec = shape.spec();
            let wanted = match self.scheduler.disk.kind_of(&spec) {
                WorkloadKind::Service { replicas } => replicas as usize,
                WorkloadKind::Job(_) => return self.has_work_left(&spec.id),
                WorkloadKind::Daemon => self.nodes.iter().filter(|node| meets_constraints(node, &spec)).count(),
            };
            self.scheduler.disk.of(&spec.id).count() < wanted
        })
    }

    /// How many of each workload are on each node.
    fn placed(&self) -> BTreeMap<(WorkloadId, NodeId), usize> {
        let mut placed = BTreeMap::new();
        for held in self.scheduler.disk.instances.values() {
            *placed.entry((held.workload.clone(), held.node.clone())).or_default() += 1;
        }
        placed
    }

    /// How many processes of each workload are as well as anybody can know: those that are probed answer.
    fn serving(&self) -> BTreeMap<WorkloadId, usize> {
        let mut serving = BTreeMap::new();
        for node in &self.nodes {
            for ((instance, _), container) in &node.runtime.containers {
                let Some(held) = self.scheduler.disk.instances.get(instance) else { continue };
                let is_probed = self.demand.wanted.get(&held.workload).is_some_and(|shape| shape.probe);
                let answers = |process: &SimProcess| !is_probed || process.ready_at <= self.now;
                if container.process.as_ref().is_some_and(answers) {
                    *serving.entry(held.workload.clone()).or_default() += 1;
                }
            }
        }
        serving
    }

    /// Each instance is moved once, from where it is to another node; first rules of evenness alone move no more than they must.
    fn check_plan(&self, plan: &RebalancePlan) -> Result<(), String> {
        let mut moved: BTreeSet<&InstanceId> = BTreeSet::new();
        for one in &plan.moves {
            let held = self.scheduler.disk.instances.get(&one.instance);
            let is_there = held.is_some_and(|held| held.node == one.from && held.workload == one.workload);
            if !is_there || one.from == one.to || !moved.insert(&one.instance) {
                return Err(format!("{one:?}"));
            }
        }
        let even = plan.moves.iter().filter(|one| self.is_for_first_rule(one)).count() as u64;
        if even > plan.moves_min {
            return Err(format!("{even} moves to be even, {} are enough", plan.moves_min));
        }
        Ok(())
    }

    /// Whether a move makes its workload more even over the places that matter most to it.
    fn is_for_first_rule(&self, one: &RebalanceMove) -> bool {
        let wanted = self.scheduler.disk.workload(&one.workload);
        let first = wanted.and_then(|wanted| wanted.spec.placement.spread.first()).map(|rule| &rule.over);
        first.is_some_and(|over| *over != Domain::Node && one.gain == format!("more even over {over}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_story_begins_with_unrest_and_a_long_one_has_both() {
        let rest = |seed: u64| (0..48).map(|stretch| is_rest(seed, stretch * STRETCH_MS)).collect::<Vec<_>>();

        assert!(rest(7)[..2].iter().all(|rest| !rest));
        assert!(rest(7)[2..].iter().any(|rest| *rest) && rest(7)[2..].iter().any(|rest| !rest));
        assert_ne!(rest(7), rest(8));
    }
}

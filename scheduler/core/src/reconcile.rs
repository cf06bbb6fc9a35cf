//! Desired against observed: the dirty set, the order of the passes, and what all passes do.

mod ahead;
mod daemon;
mod drain;
mod escapes;
pub(crate) mod exclusive;
mod job;
mod order;
pub(crate) mod preemption;
pub(crate) mod rebalance;
mod renewals;
pub(crate) mod rollout;
mod room;
mod scale_down;
mod schedule;
mod service;
pub(crate) mod slots;
pub(crate) mod volumes;
mod waves;

use api_types::{
    id::{NodeId, WorkloadId},
    node::{Availability, Liveness},
    time::Timestamp,
    workload::WorkloadKind,
};

use crate::{effect::Effects, history::Subject, machine::Scheduler, placement::Seat};

/// How often one step looks again at what its own decisions touched; the rest waits for the next tick.
const ROUNDS_MAX: usize = 8;

/// After how long an instance that ended for good is replaced: an image that cannot work must not spin the cluster.
pub(crate) const ENDED_RETRY_MS: u64 = 5_000;

/// How many placements of one step are told one by one; a thousand at once would push everything else out of the history.
const PLACED_TOLD_MAX: usize = 32;

/// How many of a workload's instances may be under way at once in a rollout: a tenth of them, at least one.
pub(crate) fn rollout_share(instances: usize) -> usize {
    (instances / 10).max(1)
}

impl Scheduler {
    /// Brings every workload that something touched up to date.
    pub(crate) fn settle(&mut self) {
        if self.is_warming_up() {
            return;
        }
        self.placements_left = self.settings.placements_per_step_max;
        self.placements_made = 0;
        self.settle_rounds();
        self.tell_placed_rest();
    }

    fn settle_rounds(&mut self) {
        for _ in 0..ROUNDS_MAX {
            self.judge_freeze();
            self.tend_claims();
            self.tend_rebalance();
            self.wake_parked();
            let touched = std::mem::take(&mut self.cluster.touched.workloads);
            if touched.is_empty() {
                break;
            }
            let mut left = self.in_order(touched).into_iter();
            for id in left.by_ref() {
                self.reconcile(&id);
                if self.placements_left == 0 {
                    break;
                }
            }
            if self.placements_left == 0 {
                // The rest waits for the next tick.
                self.cluster.touched.workloads.extend(left);
                break;
            }
        }
    }

    /// Looks at everything anew, as if all of it had been touched. Emits nothing when nothing is left to do: the dirty set
    /// only saves work.
    pub fn reconcile_all(&mut self, now: Timestamp, effects: &mut Effects) {
        self.now = self.now.max(now);
        let touched = &mut self.cluster.touched;
        touched.workloads.extend(self.cluster.workloads.keys().cloned());
        touched.workloads.extend(self.cluster.by_workload.keys().cloned());
        touched.services.extend(self.cluster.workloads.keys().cloned());
        touched.sets.extend(self.cluster.nodes.indexed().map(|(index, _)| index));
        touched.room.extend(self.cluster.nodes.indexed().map(|(index, _)| index));
        touched.peers = true;
        touched.liveness = true;
        self.settle();
        self.emit(effects);
    }

    fn reconcile(&mut self, id: &WorkloadId) {
        match self.cluster.workloads.get(id).map(|entry| entry.kind()) {
            Some(WorkloadKind::Service { replicas }) => self.reconcile_service(id, replicas),
            Some(WorkloadKind::Daemon) => self.reconcile_daemon(id),
            Some(WorkloadKind::Job(job)) => self.reconcile_job(id, job),
            None => self.end_orphans(id),
        }
    }

    /// Ends the instances of a workload that was deleted. On a lost node they are forgotten: should it return, its agent
    /// removes what its set does not name.
    fn end_orphans(&mut self, id: &WorkloadId) {
        for number in self.cluster.numbers_of(id).to_vec() {
            self.retire(number);
            if self.cluster.held(number).is_some_and(|held| held.is_finished()) {
                self.cluster.stop(number);
            }
            let held = self.cluster.held(number);
            if held.is_some_and(|held| !held.is_wanted() && held.node().liveness == Liveness::Lost) {
                self.cluster.forget(number);
            }
        }
    }

    /// Wakes what waits for room, where a node could help; daemons look at every node that changed.
    fn wake_parked(&mut self) {
        let room = std::mem::take(&mut self.cluster.touched.room);
        let fewer_nodes = std::mem::take(&mut self.cluster.touched.fewer_nodes);
        if room.is_empty() && !fewer_nodes {
            return;
        }
        for (id, entry) in &self.cluster.workloads {
            if entry.spec().kind == WorkloadKind::Daemon {
                self.cluster.touched.workloads.insert(id.clone());
            }
        }
        if fewer_nodes {
            self.cluster.touched.workloads.extend(self.parked.iter().cloned());
        } else if !self.parked.is_empty() {
            let urgent: Vec<WorkloadId> = self.parked.iter().filter(|id| self.is_urgent(id)).cloned().collect();
            for index in room {
                let woken = self.cluster.wake(index);
                let woken_urgent = self.cluster.wake_urgent(index, urgent.iter()).cloned().collect::<Vec<_>>();
                self.cluster.touched.workloads.extend(woken.into_iter().chain(woken_urgent));
            }
        }
    }

    /// Places an instance on a node, if that takes it.
    pub(crate) fn commit(&mut self, id: &WorkloadId, slot: u32, node: &NodeId) -> Option<u64> {
        let index = self.cluster.nodes.index_of(node)?;
        let seat = self.cluster.reserve_on(id, index)?;
        Some(self.commit_to(id, slot, &seat))
    }

    /// Places an instance where a place was taken for it, by the check that the committer asks as well.
    pub(crate) fn commit_to(&mut self, id: &WorkloadId, slot: u32, seat: &Seat) -> u64 {
        self.commit_as(id, slot, seat, None)
    }

    /// The same, with a number that was promised to it.
    fn commit_as(&mut self, id: &WorkloadId, slot: u32, seat: &Seat, promised: Option<u64>) -> u64 {
        let instance = self.cluster.place(id, slot, seat, (promised, self.now));
        self.placements_left = self.placements_left.saturating_sub(1);
        self.placements_made += 1;
        if let Some(entry) = self.cluster.nodes.at_mut(seat.node) {
            entry.allocatable_when_placed = Some(entry.allocatable);
            entry.drained = false;
        }
        self.tell_placed(id, instance);
        self.try_placed(id, instance);
        instance
    }

    /// Tells people what was placed: the first few of a step one by one, the rest of a workload in one sentence.
    fn tell_placed(&mut self, id: &WorkloadId, number: u64) {
        if self.placements_made > PLACED_TOLD_MAX {
            match self.placed_untold.get_mut(id) {
                Some(untold) => *untold += 1,
                None => drop(self.placed_untold.insert(id.clone(), 1)),
            }
            return;
        }
        if let Some(held) = self.cluster.held(number) {
            let (instance, message) = (held.instance(), format!("on {}", held.node_id()));
            self.history.add(self.now, Subject::Instance(&instance), "placed", message);
        }
    }

    fn tell_placed_rest(&mut self) {
        for (id, count) in std::mem::take(&mut self.placed_untold) {
            let message = format!("{count} more instances, see `wherry ps`");
            self.history.add(self.now, Subject::Workload(&id), "placed", message);
        }
    }

    /// Ends an instance: out of the service table first, told to stop when all nodes know.
    pub(crate) fn retire(&mut self, number: u64) {
        let Some(held) = self.cluster.held(number).filter(|held| held.is_wanted()) else { return };
        let node = held.node_id().clone();
        if self.is_unknown(held) || self.is_surely_over(held) {
            self.cluster.stop(number);
        } else {
            self.take_out(number);
        }
        self.touch_drain(&node);
    }

    /// Notes that a draining node may let go of more, or is empty.
    pub(crate) fn touch_drain(&mut self, node: &NodeId) {
        let Some(entry) = self.cluster.nodes.get_mut(node) else { return };
        if entry.spec.availability != Availability::Draining {
            return;
        }
        if entry.instances.is_empty() && !entry.drained {
            entry.drained = true;
            self.history.add(self.now, Subject::Node(node), "drained", "nothing is left on it");
        }
        self.cluster.touch_instances_on(node);
    }

    /// Notes that not all instances of a workload have a node, and tells people once.
    pub(crate) fn park(&mut self, id: &WorkloadId) {
        let Some(entry) = self.cluster.workloads.get(id) else { return };
        let data = match entry.kind() {
            WorkloadKind::Service { replicas } => self.waits_for_data(entry, replicas),
            WorkloadKind::Daemon | WorkloadKind::Job(_) => None,
        };
        let reason = data.unwrap_or_else(|| self.waits_for_room(entry));
        self.park_because(id, reason);
    }

    /// The same for a given reason.
    pub(crate) fn park_because(&mut self, id: &WorkloadId, reason: String) {
        let Some(entry) = self.cluster.workloads.get_mut(id) else { return };
        if entry.parked.is_none() {
            self.history.add(self.now, Subject::Workload(id), "unplaced", reason.clone());
        }
        self.cluster.touched.seen |= entry.parked.as_ref() != Some(&reason);
        entry.parked = Some(reason);
        self.parked.insert(id.clone());
        self.cluster.note_parked(id);
    }

    /// Notes that a workload waits for no room.
    pub(crate) fn unpark(&mut self, id: &WorkloadId) {
        if self.parked.remove(id) {
            self.cluster.note_unparked(id);
            self.cluster.touched.seen = true;
        }
        if let Some(entry) = self.cluster.workloads.get_mut(id) {
            entry.parked = None;
            entry.displaced_by = None;
        }
    }
}

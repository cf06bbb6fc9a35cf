//! A workload's instances by slot: which are as wanted, which are to be replaced, which are on their way out.

use std::collections::{BTreeMap, BTreeSet};

use api_types::{id::WorkloadId, node::Availability, rollout::UpdateOrder, time::Timestamp};

use crate::{
    cluster::{
        held::Held,
        volumes::volumes,
        workloads::{WorkloadEntry, has_host_ports},
    },
    liveness::Silence,
    machine::Scheduler,
    reconcile::exclusive::fenced_at,
};

/// A slot holds one instance that is as wanted and at most one that it replaces.
pub(crate) const LIVE_PER_SLOT_MAX: usize = 2;

/// The instances of one slot, by number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slot {
    /// As wanted: of this revision, on a node that keeps them, not given up. The oldest first.
    pub(crate) targets: Vec<u64>,
    /// To be replaced, and why. The oldest first.
    pub(crate) stale: Vec<(u64, Why)>,
    /// Whether an instance is on its way out and may still run: its node is not lost, or it has not surely ended there.
    pub(crate) is_ending: bool,
}

/// Why an instance is to be replaced; what matters most first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Why {
    /// It ended for good, at this time.
    Ended(Timestamp),
    /// Its node was silent for too long.
    GivenUp,
    /// Its node gives away what it has.
    Draining,
    /// It runs an earlier revision.
    Earlier,
    /// It would be better elsewhere, and its successor is there.
    Moving,
    /// Its restarts are used up.
    UsedUp,
}

impl Slot {
    /// Whether the slot is filled, with whatever.
    pub(crate) fn is_held(&self) -> bool {
        !self.targets.is_empty() || !self.stale.is_empty()
    }

    /// Whether it holds one instance, as wanted, and nothing else.
    pub(crate) fn is_steady(&self) -> bool {
        self.targets.len() == 1 && self.stale.is_empty() && !self.is_ending
    }
}

/// Whether an instance runs what its workload is now: it was placed for that, or for an earlier revision that runs the same.
pub(crate) fn is_current(held: Held<'_>, entry: &WorkloadEntry) -> bool {
    held.revision() >= entry.workload.runs_since || entry.alike.contains(&held.runs_since())
}

/// Whether an instance must be gone before its successor can be placed anywhere.
pub(crate) fn is_stop_first(entry: &WorkloadEntry) -> bool {
    let order = entry.spec().update.as_ref().and_then(|update| update.order);
    let spec = entry.spec();
    let is_alone = has_host_ports(spec) || !volumes(spec).is_empty() || spec.is_exclusive();
    is_alone || order == Some(UpdateOrder::StopFirst)
}

impl Scheduler {
    /// Sorts a service's instances by slot, without changing anything.
    pub(crate) fn slots_of(&self, id: &WorkloadId) -> BTreeMap<u32, Slot> {
        let mut slots: BTreeMap<u32, Slot> = BTreeMap::new();
        let Some(entry) = self.cluster.workloads.get(id) else { return slots };
        for held in self.cluster.instances_of(id) {
            let slot = slots.entry(held.slot()).or_default();
            if !held.is_wanted() {
                slot.is_ending |= self.may_still_run(held);
                continue;
            }
            let silence = self.silence_of(held, entry.spec().disconnect.replace_after_ms);
            match self.why_stale(held, silence, entry) {
                Some(why) => slot.stale.push((held.number, why)),
                None => slot.targets.push(held.number),
            }
        }
        slots
    }

    /// The slots to fill so that `count` more are held: first those whose instance is on its way out, then those with data
    /// that nobody gave up, then the lowest unused.
    pub(crate) fn free_slots(&self, id: &WorkloadId, slots: &BTreeMap<u32, Slot>, count: usize) -> Vec<u32> {
        let ending = slots.iter().filter(|(_, slot)| !slot.is_held()).map(|(number, _)| *number);
        let is_unused = |number: &u32| !slots.contains_key(number);
        // Between the end of an instance and its successor nothing else tells that its slot is one of those in use.
        let with_data = self.slots_with_data(id);
        let with_site = self.sites_to_fill(id).map(|(slot, _)| slot);
        let kept: BTreeSet<u32> = with_data.iter().copied().chain(with_site).filter(is_unused).collect();
        let others = (0..).filter(|number| is_unused(number) && !kept.contains(number));
        ending.chain(kept.iter().copied()).chain(others).take(count).collect()
    }

    /// Whether an instance counts for its workload's spread: it is as wanted and is going to stay.
    pub(crate) fn counts_for_spread(&self, held: Held<'_>) -> bool {
        self.cluster.workloads.get(held.workload()).is_some_and(|entry| self.counts_as_one_of(entry, held))
    }

    /// The same for an instance of this workload.
    pub(crate) fn counts_as_one_of(&self, entry: &WorkloadEntry, held: Held<'_>) -> bool {
        let silence = self.silence_of(held, entry.spec().disconnect.replace_after_ms);
        held.is_wanted() && self.why_stale(held, silence, entry).is_none()
    }

    /// Whether an instance is to be replaced only because its workload changed.
    pub(crate) fn is_of_earlier(&self, held: Held<'_>, entry: &WorkloadEntry) -> bool {
        let silence = self.silence_of(held, entry.spec().disconnect.replace_after_ms);
        self.why_stale(held, silence, entry) == Some(Why::Earlier)
    }

    /// When silence makes a difference to a workload next.
    pub(crate) fn next_look(&self, id: &WorkloadId) -> Option<Timestamp> {
        let replace_after_ms = self.cluster.workloads.get(id)?.spec().disconnect.replace_after_ms;
        let times = self.cluster.instances_of(id).filter_map(|held| match self.silence_of(held, replace_after_ms) {
            // One that shall end holds its slot until it is surely over.
            Silence::Waits(None) if !held.is_wanted() => fenced_at(held).filter(|at| *at > self.now),
            Silence::Waits(at) => at,
            Silence::None | Silence::GivenUp => None,
        });
        times.min()
    }

    /// Why an instance is to be replaced; `None` = it is as wanted.
    fn why_stale(&self, held: Held<'_>, silence: Silence, entry: &WorkloadEntry) -> Option<Why> {
        if let Some(at) = held.ended_at() {
            return Some(Why::Ended(at));
        }
        if silence == Silence::GivenUp {
            return Some(Why::GivenUp);
        }
        if held.node().spec.availability == Availability::Draining {
            return Some(Why::Draining);
        }
        if !is_current(held, entry) {
            return Some(Why::Earlier);
        }
        if self.is_moving(held.number) {
            return Some(Why::Moving);
        }
        held.is_used_up().then_some(Why::UsedUp)
    }
}

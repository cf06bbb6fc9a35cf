//! Slots with data go where their data is, and nowhere else.

use std::collections::BTreeSet;

use api_types::{
    id::{Name, NodeId, WorkloadId},
    node::Liveness,
    workload::WorkloadSpec,
};

use crate::{
    cluster::{volumes::volumes, workloads::WorkloadEntry},
    effect::Refusal,
    history::Subject,
    machine::Scheduler,
    placement::{self, explain},
};

/// How every reason begins that is about data.
pub(crate) const WAITING_FOR_DATA: &str = "waiting for the data";

/// What the data of a slot says about where its instance goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Home {
    /// It has none.
    None,
    /// There, and there is room.
    Ready(NodeId),
    /// It is where no instance can be started now: why, for people.
    Away(String),
}

impl Scheduler {
    /// Where the data of a slot lets its next instance go.
    pub(crate) fn home_of(&self, spec: &WorkloadSpec, slot: u32) -> Home {
        let homes: Vec<&NodeId> = self.cluster.homes_of(spec, slot).into_iter().collect();
        let away = |why: &str| {
            let names: Vec<&str> = homes.iter().map(|node| node.as_str()).collect();
            Home::Away(format!("{WAITING_FOR_DATA} of slot {slot} on {}{why}", names.join(" and ")))
        };
        match homes.as_slice() {
            [] => Home::None,
            [home] => {
                let Some(node) = self.cluster.nodes.get(home) else { return away("") };
                match placement::check(&self.cluster, node, spec) {
                    Ok(()) => Home::Ready((*home).clone()),
                    Err(_) if node.liveness == Liveness::Lost => away(", which is lost"),
                    Err(miss) => away(&format!(": {}", explain::reason(&self.cluster, node, &miss))),
                }
            }
            _ => away(", which is more than one node: give one up with `wherry volume forget`"),
        }
    }

    /// What slots of a service wait for that can go only where their data is, the first of them; `None` = none waits.
    pub(crate) fn waits_for_data(&self, entry: &WorkloadEntry, replicas: u32) -> Option<String> {
        let spec = entry.spec();
        if !self.is_bound(spec) {
            return None;
        }
        let slots = self.slots_of(&spec.id);
        let held = slots.values().filter(|slot| slot.is_held()).count();
        let empty = self.free_slots(&spec.id, &slots, (replicas as usize).saturating_sub(held));
        let unfilled = slots.iter().filter(|(_, slot)| slot.is_held() && slot.targets.is_empty());
        let waiting: BTreeSet<u32> = unfilled.map(|(number, _)| *number).chain(empty).collect();
        self.first_away(spec, waiting)
    }

    /// The same of the runs of a job.
    pub(crate) fn runs_wait_for_data(&self, spec: &WorkloadSpec) -> Option<String> {
        if !self.is_bound(spec) {
            return None;
        }
        let runs = self.active_runs(&spec.id).into_iter();
        self.first_away(spec, runs.flat_map(|run| self.open_slots_of(&spec.id, run)))
    }

    /// Whether some slot of a workload has data anywhere.
    fn is_bound(&self, spec: &WorkloadSpec) -> bool {
        !volumes(spec).is_empty() && self.cluster.homes.contains_key(&spec.id)
    }

    fn first_away(&self, spec: &WorkloadSpec, slots: impl IntoIterator<Item = u32>) -> Option<String> {
        slots.into_iter().find_map(|slot| match self.home_of(spec, slot) {
            Home::Away(why) => Some(why),
            Home::None | Home::Ready(_) => None,
        })
    }

    /// Takes those slots out of `wanted` that have data somewhere, and gives them.
    pub(crate) fn take_out_those_with_data(&self, id: &WorkloadId, wanted: &mut Vec<u32>) -> Vec<u32> {
        if !self.cluster.homes.contains_key(id) {
            return Vec::new();
        }
        let (with, without) = wanted.iter().partition(|slot| self.has_data(id, **slot));
        *wanted = without;
        with
    }

    /// The index of the one node that has the data of a slot.
    pub(crate) fn only_home(&self, id: &WorkloadId, slot: u32) -> Option<u32> {
        let homes = self.cluster.homes_of(self.cluster.workloads.get(id)?.spec(), slot);
        let mut homes = homes.into_iter();
        let home = homes.next().filter(|_| homes.next().is_none())?;
        self.cluster.nodes.index_of(home)
    }

    /// The data of a slot is where the instance is that it keeps. Its replacement may have begun other data elsewhere, where a person
    /// gave up what the slot had while its node was silent.
    pub(crate) fn settle_data_of(&mut self, kept: u64) {
        let Some(held) = self.cluster.held(kept).filter(|held| !volumes(held.spec()).is_empty()) else { return };
        let (spec, slot, node, id) = (held.spec().clone(), held.slot(), held.node_index(), held.node_id().clone());
        self.cluster.forget_volumes(|workload, at, _, home| *workload == spec.id && at == slot && *home != id);
        self.cluster.settle_volumes(&spec, slot, node);
    }

    /// The slots with data, without those that were given up because fewer instances were wanted.
    pub(crate) fn slots_with_data(&self, id: &WorkloadId) -> BTreeSet<u32> {
        let (Some(entry), Some(homes)) = (self.cluster.workloads.get(id), self.cluster.homes.get(id)) else {
            return BTreeSet::new();
        };
        let mounted = volumes(entry.spec());
        let slots = homes.keys().filter(|(_, volume)| mounted.contains(volume)).map(|(slot, _)| *slot);
        slots.filter(|slot| !self.cluster.slots_given_up.contains(&(id.clone(), *slot))).collect()
    }

    /// Whether a slot has data somewhere.
    pub(crate) fn has_data(&self, id: &WorkloadId, slot: u32) -> bool {
        let entry = self.cluster.workloads.get(id);
        entry.is_some_and(|entry| !self.cluster.homes_of(entry.spec(), slot).is_empty())
    }

    /// The slot of a daemon whose data is on a node.
    pub(crate) fn slot_with_data(&self, id: &WorkloadId, node: &NodeId) -> Option<u32> {
        let spec = self.cluster.workloads.get(id)?.spec();
        let homes = self.cluster.homes.get(id)?;
        let here = homes.iter().filter(|((_, volume), home)| *home == node && volumes(spec).contains(volume));
        here.map(|((slot, _), _)| *slot).min()
    }

    /// A person gives up data, of one slot or of all.
    pub(crate) fn forget_volume(
        &mut self,
        workload: &WorkloadId,
        volume: &Name,
        slot: Option<u32>,
    ) -> Result<String, Refusal> {
        let count = self
            .cluster
            .forget_volumes(|id, at, name, _| id == workload && name == volume && slot.is_none_or(|slot| slot == at));
        let of = slot.map(|slot| format!("slot {slot} of ")).unwrap_or_default();
        if count == 0 {
            return Err(Refusal::UnknownVolume(format!("{of}`{workload}` has no data of volume `{volume}` anywhere")));
        }
        let message = format!("the data of volume {volume} of {of}{workload} is given up, on {count} nodes");
        let message = message.replace("on 1 nodes", "on 1 node");
        self.history.add(self.now, Subject::Workload(workload), "volume-forgotten", message.clone());
        Ok(message)
    }
}

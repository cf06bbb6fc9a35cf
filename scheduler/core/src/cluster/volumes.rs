//! Where data is that stays on its node: each slot's volumes have a home from the first placement on, whatever becomes of
//! the instances and of the workload, until somebody gives the data up or removes the node.

use std::collections::{BTreeMap, BTreeSet};

use api_types::{
    container::Mount,
    id::{Name, NodeId, WorkloadId},
    relay::VolumeSlot,
    workload::WorkloadSpec,
};

use crate::{
    cluster::Cluster,
    effect::{Record, RecordKey},
};

/// The homes of each workload's volumes, by slot and name.
pub(crate) type Homes = BTreeMap<WorkloadId, BTreeMap<(u32, Name), NodeId>>;

/// What a volume held when its node last looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Measured {
    /// On the node's disk.
    pub(crate) bytes: u64,
    /// Whether that was more than its size, as people were told.
    pub(crate) is_over: bool,
}

/// The volumes that a spec mounts.
pub(crate) fn volumes(spec: &WorkloadSpec) -> BTreeSet<&Name> {
    let named = spec.mounts().filter_map(|mount| match mount {
        Mount::Volume { name, .. } => Some(name),
        Mount::Host { .. } | Mount::Image { .. } | Mount::Tmpfs { .. } => None,
    });
    named.collect()
}

impl Cluster {
    /// The nodes with data of a slot that `spec` mounts: one, or none before the first placement. More only after a change
    /// brought volumes together that were apart.
    pub(crate) fn homes_of(&self, spec: &WorkloadSpec, slot: u32) -> BTreeSet<&NodeId> {
        let homes = self.homes.get(&spec.id);
        volumes(spec).into_iter().filter_map(|volume| homes?.get(&(slot, volume.clone()))).collect()
    }

    /// Notes where the data of a slot is from now on, as far as it has no home yet.
    pub(crate) fn settle_volumes(&mut self, spec: &WorkloadSpec, slot: u32, node: u32) {
        self.set_given_up(&spec.id, slot, false);
        let wanted = volumes(spec);
        let Some(node) = self.nodes.at(node).filter(|_| !wanted.is_empty()).map(|node| node.spec.id.clone()) else {
            return;
        };
        for volume in wanted {
            let homes = self.homes.entry(spec.id.clone()).or_default();
            if homes.contains_key(&(slot, volume.clone())) {
                continue;
            }
            homes.insert((slot, volume.clone()), node.clone());
            self.persist(Record::VolumeHome {
                workload: spec.id.clone(),
                slot,
                volume: volume.clone(),
                node: node.clone(),
                is_given_up: false,
            });
            self.touched.seen = true;
        }
    }

    /// Notes whether a slot was given up because fewer instances were wanted, as far as it has data.
    pub(crate) fn set_given_up(&mut self, workload: &WorkloadId, slot: u32, is_given_up: bool) {
        let key = (workload.clone(), slot);
        let of_slot = |homes: &BTreeMap<(u32, Name), NodeId>| -> Vec<(Name, NodeId)> {
            let here = homes.iter().filter(|((other, _), _)| *other == slot);
            here.map(|((_, volume), node)| (volume.clone(), node.clone())).collect()
        };
        let here = self.homes.get(workload).map(of_slot).unwrap_or_default();
        if here.is_empty() || self.slots_given_up.contains(&key) == is_given_up {
            return;
        }
        for (volume, node) in here {
            self.persist(Record::VolumeHome { workload: workload.clone(), slot, volume, node, is_given_up });
        }
        if is_given_up {
            self.slots_given_up.insert(key);
        } else {
            self.slots_given_up.remove(&key);
        }
    }

    /// Where a volume is.
    pub(crate) fn home_of(&self, VolumeSlot { workload, volume, slot }: &VolumeSlot) -> Option<&NodeId> {
        self.homes.get(workload)?.get(&(*slot, volume.clone()))
    }

    /// What its workload means a volume to hold at most; `None` = nothing is said.
    pub(crate) fn volume_size(&self, VolumeSlot { workload, volume, slot: _ }: &VolumeSlot) -> Option<u64> {
        self.workloads.get(workload)?.spec().volume_sizes.get(volume).copied()
    }

    /// Notes what a volume holds.
    pub(crate) fn note_measured(&mut self, slot: VolumeSlot, measured: Measured) {
        let before = self.measured.insert(slot, measured);
        self.touched.seen |= before != Some(measured);
    }

    /// Gives up the data for which `gives_up` says so; how much that was.
    pub(crate) fn forget_volumes(&mut self, gives_up: impl Fn(&WorkloadId, u32, &Name, &NodeId) -> bool) -> usize {
        let mut gone = Vec::new();
        for (workload, homes) in &mut self.homes {
            homes.retain(|(slot, volume), node| {
                let goes = gives_up(workload, *slot, volume, node);
                if goes {
                    gone.push((workload.clone(), *slot, volume.clone()));
                }
                !goes
            });
        }
        self.homes.retain(|_, homes| !homes.is_empty());
        let homes = &self.homes;
        let has_data = |(id, slot): &(WorkloadId, u32)| {
            homes.get(id).is_some_and(|homes| homes.keys().any(|(other, _)| other == slot))
        };
        self.slots_given_up.retain(has_data);
        for (workload, slot, volume) in &gone {
            self.touched.workloads.insert(workload.clone());
            self.unpersist(RecordKey::VolumeHome(workload.clone(), *slot, volume.clone()));
            let slot = VolumeSlot { workload: workload.clone(), volume: volume.clone(), slot: *slot };
            self.measured.remove(&slot);
        }
        self.touched.seen |= !gone.is_empty();
        gone.len()
    }
}

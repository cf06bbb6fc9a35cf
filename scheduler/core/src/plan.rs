//! What an apply would do: the very same admission, reconcile and placement, played out on a copy.

use std::collections::BTreeSet;

use api_types::{
    id::{InstanceId, WorkloadId},
    instance::{Health, InstanceState, InstanceStatus},
    view::{PlannedPlacement, WorkloadChange},
    workload::{WorkloadKind, WorkloadSpec},
};

use crate::{
    effect::{Effects, Refusal},
    machine::Scheduler,
    reconcile::slots::free_slots,
};

/// How many rounds of a rollout are played out; of a longer one the beginning is shown.
const ROUNDS_MAX: usize = 500;

impl Scheduler {
    /// What an apply would do and where instances would go, if every new one gets healthy. Changes nothing.
    ///
    /// # Errors
    /// What an apply would be refused for.
    pub fn plan(&self, specs: &[WorkloadSpec]) -> Result<Vec<WorkloadChange>, Refusal> {
        let mut copy = self.clone();
        let known: BTreeSet<InstanceId> = self.cluster.instances.keys().cloned().collect();
        let mut changes = copy.apply(specs.to_vec(), None)?;
        let planned: Vec<WorkloadId> =
            changes.iter().filter(|change| change.action != "none").map(|change| change.workload.clone()).collect();
        for _ in 0..ROUNDS_MAX {
            copy.settle();
            copy.emit(&mut Effects::new());
            if !copy.play_round(&planned) {
                break;
            }
        }
        for change in changes.iter_mut().filter(|change| change.action != "none") {
            change.placements = copy.placements_of(&change.workload, &known);
            if copy.is_warming_up() {
                change.warnings.push("the scheduler has just started and waits for the nodes to report".to_owned());
            }
        }
        Ok(changes)
    }

    /// Lets new instances get well and retired ones go; whether anything changed.
    fn play_round(&mut self, planned: &[WorkloadId]) -> bool {
        let nodes: Vec<_> =
            self.cluster.nodes.iter().filter(|(_, node)| node.is_ready()).map(|(id, _)| id.clone()).collect();
        for node in &nodes {
            self.cluster.set_synced(node, true);
        }
        let mut changed = !self.cluster.touched.workloads.is_empty() && self.placements_left == 0;
        for workload in planned {
            for id in self.cluster.by_workload.get(workload).cloned().unwrap_or_default() {
                let Some(held) = self.cluster.instances.get(&id) else { continue };
                if !held.is_wanted() {
                    self.cluster.forget(&id);
                    changed = true;
                } else if !held.is_well() && held.instance.placed_at == self.now {
                    self.cluster.observe(&id, Some(well(&id, self.now)), self.now);
                    changed = true;
                }
            }
        }
        changed
    }

    fn placements_of(&self, id: &WorkloadId, known: &BTreeSet<InstanceId>) -> Vec<PlannedPlacement> {
        let placed = self.cluster.instances_of(id).filter(|held| !known.contains(&held.instance.id));
        let mut placements: Vec<PlannedPlacement> = placed
            .map(|held| PlannedPlacement {
                slot: held.instance.slot,
                node: Some(held.instance.node.clone()),
                reason: String::new(),
            })
            .collect();
        let Some(entry) = self.cluster.workloads.get(id) else { return placements };
        if let (WorkloadKind::Service { replicas }, Some(reason)) = (&entry.spec().kind, &entry.parked) {
            let slots = self.slots_of(id);
            let held = slots.values().filter(|slot| slot.is_held()).count();
            let stuck =
                slots.iter().filter(|(_, slot)| slot.targets.is_empty() && slot.is_held()).map(|(slot, _)| *slot);
            let missing = free_slots(&slots, (*replicas as usize).saturating_sub(held));
            placements.extend(stuck.chain(missing).map(|slot| PlannedPlacement {
                slot,
                node: None,
                reason: reason.clone(),
            }));
        }
        placements.sort_by(|a, b| (a.slot, &a.node).cmp(&(b.slot, &b.node)));
        placements
    }
}

fn well(id: &InstanceId, now: api_types::time::Timestamp) -> InstanceStatus {
    InstanceStatus {
        instance: id.clone(),
        state: InstanceState::Running,
        health: Health::Healthy,
        address: None,
        pid: None,
        restarts: 0,
        last_exit: None,
        reason: String::new(),
        since: now,
    }
}

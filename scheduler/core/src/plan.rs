//! What an apply would do: the very same admission, reconcile and placement, played out on a copy.

use api_types::{
    id::WorkloadId,
    instance::{Health, InstanceState},
    view::{PlannedPlacement, WorkloadChange},
    workload::{WorkloadKind, WorkloadSpec},
};

use crate::{
    cluster::rows::Observation,
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
        let first_new = self.cluster.counters.next_instance;
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
            change.placements = copy.placements_of(&change.workload, first_new);
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
            for number in self.cluster.numbers_of(workload).to_vec() {
                let Some(held) = self.cluster.held(number) else { continue };
                if !held.is_wanted() {
                    self.cluster.forget(number);
                    changed = true;
                } else if !held.is_well() && held.placed_at() == self.now {
                    self.cluster.observe(number, Some(well(self.now)), self.now);
                    changed = true;
                }
            }
        }
        changed
    }

    fn placements_of(&self, id: &WorkloadId, first_new: u64) -> Vec<PlannedPlacement> {
        let placed = self.cluster.instances_of(id).filter(|held| held.number >= first_new);
        let mut placements: Vec<PlannedPlacement> = placed
            .map(|held| PlannedPlacement {
                slot: held.slot(),
                node: Some(held.node_id().clone()),
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

fn well(now: api_types::time::Timestamp) -> Observation {
    Observation {
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

//! What an apply would do: the very same admission, reconcile and placement, played out on a copy.

use std::collections::BTreeSet;

use api_types::{
    id::{NodeId, WorkloadId},
    instance::Instance,
    view::{Displaced, Plan, PlannedPlacement, PlannedStep, StepKind},
    workload::{WorkloadKind, WorkloadSpec},
};

use crate::{
    effect::Refusal,
    machine::Scheduler,
    rehearsal::{End, Moment, Rehearsal},
    views::WARMING_UP,
};

/// How many steps are told of; the rest is counted as cut.
const STEPS_MAX: usize = 10_000;

impl Scheduler {
    /// What an apply would do, where instances would go and in which order, if every new one gets healthy at once. Changes
    /// nothing.
    ///
    /// # Errors
    /// What an apply would be refused for.
    pub fn plan(&self, specs: &[WorkloadSpec]) -> Result<Plan, Refusal> {
        let mut rehearsal = Rehearsal::new(self, BTreeSet::new());
        let mut changes = rehearsal.scheduler.apply(specs.to_vec(), None)?;
        let changed = changes.iter().filter(|change| change.action != "none");
        let mut order = Order { planned: changed.map(|change| change.workload.clone()).collect(), ..Order::default() };
        let mut end = End::Settled;
        if !self.is_warming_up() && !order.planned.is_empty() {
            // Nothing keeps a rollout waiting whose instances get well, but the time in which they must stay so.
            let updates = specs.iter().filter_map(|spec| spec.update.as_ref());
            let patience_ms = updates.map(|update| update.healthy_for_ms).max().unwrap_or_default();
            end = rehearsal.play(Some(patience_ms), &mut |rehearsal, moment| order.see(&rehearsal.scheduler, moment));
        }
        for change in changes.iter_mut().filter(|change| change.action != "none") {
            change.placements = rehearsal.scheduler.placements_of(&change.workload, rehearsal.first_new);
            if self.is_warming_up() {
                change.warnings.push(WARMING_UP.to_owned());
            }
        }
        let cut = order.cut(end);
        Ok(Plan { changes, displaced: order.displaced(&rehearsal), steps: order.steps, cut })
    }

    fn placements_of(&self, id: &WorkloadId, first_new: u64) -> Vec<PlannedPlacement> {
        let placed = self.cluster.instances_of(id).filter(|held| held.number >= first_new && held.is_wanted());
        let mut placements: Vec<PlannedPlacement> = placed
            .map(|held| PlannedPlacement {
                slot: held.slot(),
                node: Some(held.node_id().clone()),
                reason: String::new(),
            })
            .collect();
        let Some(entry) = self.cluster.workloads.get(id) else { return placements };
        if let Some(reason) = &entry.parked {
            let stuck = self.slots_without_room(id, &entry.kind());
            placements.extend(stuck.into_iter().map(|slot| PlannedPlacement {
                slot,
                node: None,
                reason: reason.clone(),
            }));
        }
        placements.sort_by(|a, b| (a.slot, &a.node).cmp(&(b.slot, &b.node)));
        placements
    }
}

impl Scheduler {
    /// The slots of a workload that waits for room that wait for it; a daemon has none, but nodes.
    fn slots_without_room(&self, id: &WorkloadId, kind: &WorkloadKind) -> Vec<u32> {
        match kind {
            WorkloadKind::Service { replicas } => {
                let slots = self.slots_of(id);
                let held = slots.values().filter(|slot| slot.is_held()).count();
                let stuck = slots.iter().filter(|(_, slot)| slot.targets.is_empty() && slot.is_held());
                let missing = self.free_slots(id, &slots, (*replicas as usize).saturating_sub(held));
                stuck.map(|(slot, _)| *slot).chain(missing).collect()
            }
            WorkloadKind::Daemon => Vec::new(),
            WorkloadKind::Job(_) => self.open_slots(id),
        }
    }
}

/// What starts and what ends, as it is played.
#[derive(Debug, Default)]
struct Order {
    /// The workloads that change.
    planned: BTreeSet<WorkloadId>,
    round: u32,
    steps: Vec<PlannedStep>,
    left_out: usize,
    /// Instances of other workloads that ended meanwhile.
    others: Vec<Instance>,
    /// Where instances of the planned workloads started.
    taken: BTreeSet<(NodeId, WorkloadId)>,
}

impl Order {
    fn see(&mut self, scheduler: &Scheduler, moment: &Moment) {
        let mut steps = Vec::new();
        let step = |workload: &WorkloadId, slot, node: &NodeId, does, instance| PlannedStep {
            round: self.round + 1,
            workload: workload.clone(),
            slot,
            does,
            node: node.clone(),
            instance,
        };
        let started = moment.started.iter().filter_map(|number| scheduler.cluster.held(*number));
        for held in started.filter(|held| self.planned.contains(held.workload())) {
            steps.push(step(held.workload(), held.slot(), held.node_id(), StepKind::Start, None));
            self.taken.insert((held.node_id().clone(), held.workload().clone()));
        }
        for instance in &moment.ended {
            if self.planned.contains(&instance.workload) {
                let id = Some(instance.id.clone());
                steps.push(step(&instance.workload, instance.slot, &instance.node, StepKind::End, id));
            } else {
                self.others.push(instance.clone());
            }
        }
        if !steps.is_empty() {
            steps.sort_by(|a, b| (&a.workload, a.slot).cmp(&(&b.workload, b.slot)));
            self.round += 1;
            let room = STEPS_MAX.saturating_sub(self.steps.len());
            self.left_out += steps.len().saturating_sub(room);
            self.steps.extend(steps.into_iter().take(room));
        }
    }

    /// Instances of lower priority that ended where one of a planned workload started.
    fn displaced(&self, rehearsal: &Rehearsal) -> Vec<Displaced> {
        let scheduler = &rehearsal.scheduler;
        let priority =
            |id: &WorkloadId| scheduler.cluster.workloads.get(id).map(|entry| entry.spec().placement.priority);
        let mut displaced = Vec::new();
        for instance in &self.others {
            let here = self.taken.iter().filter(|(node, _)| *node == instance.node).map(|(_, workload)| workload);
            let above = here.filter(|workload| priority(workload) > priority(&instance.workload));
            let Some(by) = above.max_by_key(|workload| priority(workload)) else { continue };
            let again = scheduler.cluster.instances_of(&instance.workload);
            let to = again
                .filter(|held| held.slot() == instance.slot && held.number >= rehearsal.first_new && held.is_wanted())
                .map(|held| held.node_id().clone());
            displaced.push(Displaced {
                instance: instance.id.clone(),
                workload: instance.workload.clone(),
                node: instance.node.clone(),
                by: by.clone(),
                to: to.last(),
            });
        }
        displaced
    }

    fn cut(&self, end: End) -> String {
        match (end, self.left_out) {
            (End::TooLong | End::TooMuch, _) => "so much happens that only the beginning was played".to_owned(),
            (End::Settled, 0) => String::new(),
            (End::Settled, left_out) => format!("{left_out} more steps follow"),
        }
    }
}

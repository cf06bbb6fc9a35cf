//! Nobody makes room unless somebody more urgent is missed, and nobody makes room for nothing: where instances were ended for
//! somebody more urgent, that one starts, if nothing else changed.

use std::collections::{BTreeMap, BTreeSet};

use api_types::{
    counter::Epoch,
    id::{InstanceId, NodeId, WorkloadId},
    instance::{Desired, Instance},
    node::Availability,
    placement::Priority,
    time::Timestamp,
    workload::WorkloadKind,
};
use scheduler_core::effect::{Effect, Record};

use crate::{checkers::causes::WORD_MS, disk::Disk, event::NodeIndex, node::SimNode, world::World};

/// Milliseconds for which every node must have had its session, so that all of the cluster counts as known.
const KNOWN_MS: u64 = 30_000;

/// Somebody who is missed: how urgent it is, and where, if it belongs to one node only.
type Missed = (Priority, Option<NodeId>);

/// Who is missed, and who made room.
#[derive(Debug, Default)]
pub struct Displaced {
    /// When somebody was missed last. Who makes room leaves the table first and ends when all nodes know that: until then the
    /// one it was for may have found room elsewhere.
    missed_at: BTreeMap<Missed, Timestamp>,
    /// Who made room for somebody who is not there yet: the node of each, and its priority. Forgotten as soon as anything else
    /// happens that makes room, or lets somebody wait no longer.
    victims: BTreeMap<InstanceId, (NodeId, Priority)>,
    /// Who was missed when somebody looked last, and what that followed from.
    looked: Option<(Ground, BTreeSet<Missed>)>,
}

/// From what it follows who is missed: the run of the scheduler and how much it wrote, and which nodes are silent.
type Ground = ((Epoch, u64), Vec<NodeIndex>);

impl Displaced {
    /// Something else changed: what was decided before may have lost its point.
    pub fn clear(&mut self) {
        self.victims.clear();
    }
}

impl World {
    /// Notes who is missed now: each second, and after each step that changes what is wanted or a node.
    pub(super) fn note_missed(&mut self) {
        if self.scheduler.core.is_none() {
            return;
        }
        let silent = self.nodes.iter().filter(|node| self.is_silent(node)).map(|node| node.index).collect();
        let ground = ((self.scheduler.epoch, self.scheduler.decided.writes()), silent);
        if self.displaced.looked.as_ref().is_none_or(|(known, _)| *known != ground) {
            self.displaced.looked = Some((ground, self.missed_in(&self.scheduler.decided)));
        }
        let Displaced { looked, missed_at, .. } = &mut self.displaced;
        let missed = looked.iter().flat_map(|(_, missed)| missed);
        missed_at.extend(missed.map(|missed| (missed.clone(), self.now)));
    }

    /// Notes who is missed after a step that changed what is wanted, or a node.
    pub(super) fn note_missed_after(&mut self, effects: &[Effect]) {
        let changes = |effect: &Effect| match effect {
            Effect::Persist(record) => matches!(**record, Record::Workload(_) | Record::Node(_) | Record::Scale { .. }),
            Effect::Forget(_) | Effect::Reply { .. } => false,
            Effect::AssignmentsChanged(_) | Effect::ServicesChanged | Effect::NodeRemoved(_) => false,
        };
        if effects.iter().any(changes) {
            self.note_missed();
        }
    }

    /// Whether an instance may have to make room: somebody more urgent was missed since it could have been chosen for that.
    pub(super) fn is_displaced(&self, held: &Instance, effects: &[Effect]) -> bool {
        let Some(own) = self.scheduler.decided.run_of(held).map(|run| run.spec.placement.priority) else {
            return false;
        };
        let is_for = |(urgent, only): &Missed| *urgent > own && only.as_ref().is_none_or(|node| *node == held.node);
        let mut lately = self.displaced.missed_at.iter().filter(|(_, at)| self.now.since(**at) <= WORD_MS);
        lately.any(|(missed, _)| is_for(missed)) || {
            // Chosen and ended in the step that changed what is wanted.
            let mut after = self.scheduler.decided.clone();
            effects.iter().for_each(|effect| after.write(effect.clone()));
            self.missed_in(&after).iter().any(is_for)
        }
    }

    /// Whether instances of a workload may have to make room: somebody more urgent was missed a moment ago.
    pub(crate) fn may_make_room(&self, workload: &WorkloadId) -> bool {
        let own = self.scheduler.decided.workload(workload).map(|wanted| wanted.spec.placement.priority);
        let mut lately = self.displaced.missed_at.iter().filter(|(_, at)| self.now.since(**at) <= WORD_MS);
        lately.any(|((urgent, _), _)| Some(*urgent) > own)
    }

    /// Who has not all instances as they are wanted now: of this revision, on a node that is heard of and keeps them.
    fn missed_in(&self, decided: &Disk) -> BTreeSet<Missed> {
        let keeps = |node: &&SimNode| {
            let registered = decided.node(&node.id);
            !self.is_silent(node) && registered.is_some_and(|node| node.availability != Availability::Draining)
        };
        let keepers: BTreeSet<&NodeId> = self.nodes.iter().filter(keeps).map(|node| &node.id).collect();
        let stays = |held: &&Instance| held.desired == Desired::Run && keepers.contains(&held.node);
        let mut missed = BTreeSet::new();
        for wanted in decided.workloads().filter(|wanted| wanted.spec.placement.priority > Priority::Low) {
            let (id, priority) = (&wanted.spec.id, wanted.spec.placement.priority);
            let current = decided.of(id).filter(|held| held.revision >= wanted.runs_since).filter(stays);
            match decided.kind_of(&wanted.spec) {
                WorkloadKind::Service { replicas } => {
                    let slots: BTreeSet<u32> = current.map(|held| held.slot).collect();
                    if slots.len() < replicas as usize {
                        missed.insert((priority, None));
                    }
                }
                WorkloadKind::Daemon => {
                    let there: BTreeSet<&NodeId> = current.map(|held| &held.node).collect();
                    let without = self.nodes.iter().map(|node| &node.id).filter(|id| !there.contains(id));
                    missed.extend(without.map(|node| (priority, Some(node.clone()))));
                }
                // It displaces nobody.
                WorkloadKind::Job(_) => {}
            }
        }
        missed
    }

    /// Notes what a step ends: for somebody more urgent, or for another reason.
    pub(super) fn note_ends(&mut self, displaced: &[Instance], others: bool, effects: &[Effect]) {
        if displaced.is_empty() && self.displaced.victims.is_empty() {
            return;
        }
        let is_known = |since: Option<Timestamp>| since.is_some_and(|at| self.now.since(at) >= KNOWN_MS);
        let all_known = self.calm && self.nodes.iter().all(|node| is_known(node.session_since));
        let gone = effects.iter().flat_map(|effect| self.scheduler.decided.gone_by(effect));
        let makes_room = gone.into_iter().any(|id| !self.displaced.victims.contains_key(&id));
        if others || makes_room || !all_known {
            self.displaced.clear();
        }
        if !all_known {
            return;
        }
        for held in displaced {
            if let Some(run) = self.scheduler.decided.run_of(held) {
                let noted = (held.node.clone(), run.spec.placement.priority);
                self.displaced.victims.insert(held.id.clone(), noted);
            }
        }
    }

    /// Somebody was placed: room that was made there was made for a reason.
    pub(super) fn note_placed(&mut self, placed: &Instance) {
        let Some(priority) = self.scheduler.decided.run_of(placed).map(|run| run.spec.placement.priority) else {
            return;
        };
        self.displaced.victims.retain(|_, (node, own)| *node != placed.node || *own >= priority);
    }

    /// All is as wanted: whoever was displaced made room for somebody.
    pub(crate) fn check_displaced(&mut self) {
        if let Some((id, (node, _))) = self.displaced.victims.first_key_value() {
            let what = format!("{id} made room on {node}, and nobody more urgent was placed there");
            self.fail(what);
        }
    }
}

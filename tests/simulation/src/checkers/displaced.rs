//! Nobody makes room for nothing: where instances were ended for somebody more urgent, that one starts, if nothing else changed.

use std::collections::BTreeMap;

use api_types::{
    id::{InstanceId, NodeId},
    instance::Instance,
    placement::Priority,
};
use scheduler_core::effect::Effect;

use crate::world::World;

/// Milliseconds for which every node must have had its session, so that all of the cluster counts as known.
const KNOWN_MS: u64 = 30_000;

/// Who made room for somebody who is not there yet: the node of each, and its priority. Forgotten as soon as anything else
/// happens that makes room, or lets somebody wait no longer.
#[derive(Debug, Default)]
pub struct Displaced {
    victims: BTreeMap<InstanceId, (NodeId, Priority)>,
}

impl Displaced {
    /// Something else changed: what was decided before may have lost its point.
    pub fn clear(&mut self) {
        self.victims.clear();
    }
}

impl World {
    /// Notes what a step ends: for somebody more urgent, or for another reason.
    pub(super) fn note_ends(&mut self, displaced: &[Instance], others: bool, effects: &[Effect]) {
        let is_known =
            |since: Option<api_types::time::Timestamp>| since.is_some_and(|at| self.now.since(at) >= KNOWN_MS);
        let all_known = self.calm && self.nodes.iter().all(|node| is_known(node.session_since));
        let gone = effects.iter().flat_map(|effect| self.scheduler.decided.gone_by(effect));
        let makes_room = gone.into_iter().any(|id| !self.displaced.victims.contains_key(id));
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

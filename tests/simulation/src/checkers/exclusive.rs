//! What must not run twice does not: when a process of an exclusive slot begins, no other of that slot runs anywhere, unless the
//! node that still runs it could not do its part.

use agent_core::effect::Effect;
use api_types::{assignment::Assignment, id::InstanceId, instance::InstanceState};

use crate::{
    event::{NodeIndex, Up},
    node::SimNode,
    world::World,
};

/// Milliseconds for which a node that stood still, or whose containerd did, is excused: a fence takes 16 s in all.
const EXCUSED_MS: u64 = 30_000;

impl World {
    /// A process begins: alone in its slot, where that is exclusive.
    pub fn check_alone(&mut self, index: NodeIndex, assignment: &Assignment) {
        if assignment.stop_after_ms.is_none() || self.is_excused(&self.nodes[index]) {
            return;
        }
        let beside = self.nodes.iter().filter(|node| node.index != index && !self.is_excused(node));
        let other = beside.flat_map(|node| node.runtime.containers.iter().map(move |held| (node, held))).find(
            |(node, ((instance, _), container))| {
                let held = node.agent.as_ref().and_then(|agent| agent.assignment(instance));
                let is_of_slot = held.is_some_and(|held| {
                    held.stop_after_ms.is_some() && held.workload == assignment.workload && held.slot == assignment.slot
                });
                container.process.is_some() && is_of_slot
            },
        );
        if let Some((node, ((instance, _), _))) = other {
            let (own, id) = (&self.nodes[index].id, &assignment.instance);
            let what = format!("{own} starts {id}, and {instance} of the same exclusive slot runs on {}", node.id);
            let workload = assignment.workload.clone();
            self.note_events_of(&workload);
            self.fail(what);
        }
    }

    /// Whether a node could not end what it runs in time, or is not of the cluster any more.
    fn is_excused(&self, node: &SimNode) -> bool {
        !self.is_registered(node.index) || self.is_unable(node) || self.now.since(node.unable_at) < EXCUSED_MS
    }

    fn is_unable(&self, node: &SimNode) -> bool {
        node.agent.is_none() || node.frozen.is_some() || node.runtime.away || node.runtime.hangs_until > self.now
    }

    /// Notes which nodes cannot do anything at this moment.
    pub(super) fn note_unable(&mut self) {
        for index in 0..self.nodes.len() {
            if self.is_unable(&self.nodes[index]) {
                self.nodes[index].unable_at = self.now;
            }
        }
    }

    /// Whether a node may end an instance although it is wanted: it is not sure to be heard, or was started since it was.
    pub(super) fn is_fenced(&self, index: NodeIndex, effect: &Effect) -> bool {
        let (Effect::Stop { instance, .. } | Effect::Remove { instance, .. }) = effect else { return false };
        let node = &self.nodes[index];
        let remembers = |id: &InstanceId| node.kept_tries.get(id).is_some_and(|tries| tries.fenced);
        let stop_after_ms = node.agent.as_ref().and_then(|agent| agent.assignment(instance)?.stop_after_ms);
        let Some(stop_after_ms) = stop_after_ms else { return false };
        let is_over = node.heard_at.is_none_or(|at| self.now.since(at) >= stop_after_ms);
        is_over || remembers(instance)
    }

    /// What a node ended by itself is a cause for its successor.
    pub(crate) fn note_fenced(&mut self, message: &Up) {
        let Up::Report(report) = message else { return };
        let fenced = report.statuses.iter().filter(|status| status.state == InstanceState::Stopped);
        let held: Vec<_> =
            fenced.filter_map(|status| self.scheduler.decided.instances.get(&status.instance)).cloned().collect();
        for held in held {
            self.causes.ended(self.now, &held);
        }
    }
}

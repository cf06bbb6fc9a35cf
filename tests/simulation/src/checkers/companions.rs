//! The containers beside main ones: each start of a main process has its steps before it, and nothing of an instance outlives it.

use std::collections::{BTreeMap, BTreeSet};

use agent_core::{effect::Effect, input::CompanionAttempt};
use api_types::{assignment::Assignment, id::InstanceId, instance::Exit};

use crate::{
    event::{Key, NodeIndex},
    node::SimNode,
    world::World,
};

/// The steps of an instance that ended well since its main process was last started, by their places.
pub type StepsDone = BTreeMap<InstanceId, BTreeSet<u8>>;

impl World {
    /// A process beside a main one ended by itself, and its containerd saw how.
    pub(crate) fn note_step(&mut self, index: NodeIndex, key: &CompanionAttempt, exit: &Exit) {
        if *exit == Exit::Code(0) {
            self.nodes[index].steps_done.entry(key.instance.clone()).or_default().insert(key.companion);
        }
    }

    /// A main process starts: all of its steps ended well for this start.
    pub fn check_steps(&mut self, index: NodeIndex, assignment: &Assignment) {
        let done = self.nodes[index].steps_done.remove(&assignment.instance).unwrap_or_default();
        let steps = (0..=u8::MAX).zip(&assignment.companions).filter(|(_, companion)| companion.is_init());
        if let Some((place, _)) = steps.into_iter().find(|(place, _)| !done.contains(place)) {
            let (id, instance) = (&self.nodes[index].id, &assignment.instance);
            self.fail(format!("{id}: {instance} starts, and its step {place} was not done for that"));
        }
    }

    /// A process beside a main one starts: there is no other one of it.
    pub(crate) fn check_companion(&mut self, index: NodeIndex, key: &CompanionAttempt) {
        let node = &self.nodes[index];
        let runs_too = companions_of(node, &key.instance)
            .find(|(other, is_alive)| *is_alive && other.companion == key.companion)
            .map(|(other, _)| other.attempt);
        if let Some(attempt) = runs_too {
            let what = format!("{}: {key:?} starts, and attempt {attempt} runs", node.id);
            self.fail(what);
        }
    }

    /// A network goes: no process is left in it.
    pub(crate) fn check_network_is_empty(&mut self, index: NodeIndex, effect: &Effect) {
        let Effect::RemoveNetwork { instance, .. } = effect else { return };
        let node = &self.nodes[index];
        let (first, last): (Key, Key) = ((instance.clone(), 0), (instance.clone(), u32::MAX));
        let mut main = node.runtime.containers.range(first..=last).map(|(_, container)| container.process.is_some());
        if main.any(|runs| runs) || companions_of(node, instance).any(|(_, runs)| runs) {
            let what = format!("{}: the network of {instance} is removed, and a process of it runs", node.id);
            self.fail(what);
        }
    }

    /// In the end each main process has all of its sidecars beside it, once, and nothing else is beside any.
    pub(super) fn check_sidecars(&self, node: &SimNode) -> Result<(), String> {
        let mut expected = BTreeSet::new();
        for (instance, _) in node.runtime.containers.keys() {
            let assignment = node.agent.as_ref().and_then(|agent| agent.assignment(instance));
            let assignment = assignment.ok_or(format!("{}: {instance} is not assigned", node.id))?;
            let sidecars = (0..=u8::MAX).zip(&assignment.companions).filter(|(_, companion)| !companion.is_init());
            expected.extend(sidecars.map(|(place, _)| (instance.clone(), place)));
        }
        let mut there = BTreeSet::new();
        for (key, companion) in &node.runtime.companions {
            if companion.process.is_err() || !there.insert((key.instance.clone(), key.companion)) {
                return Err(format!("{}: {key:?} lies about", node.id));
            }
        }
        let wrong = there.symmetric_difference(&expected).next();
        wrong.map_or(Ok(()), |(instance, place)| {
            Err(format!("{}: companion {place} of {instance} is missing, or not wanted", node.id))
        })
    }
}

/// The containers beside the main one of an instance, and whether each has a process.
fn companions_of<'a>(
    node: &'a SimNode,
    instance: &InstanceId,
) -> impl Iterator<Item = (&'a CompanionAttempt, bool)> + use<'a> {
    let first = CompanionAttempt { instance: instance.clone(), companion: 0, attempt: 0 };
    let last = CompanionAttempt { instance: instance.clone(), companion: u8::MAX, attempt: u32::MAX };
    node.runtime.companions.range(first..=last).map(|(key, companion)| (key, companion.process.is_ok()))
}

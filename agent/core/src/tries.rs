//! Instances that shall end by themselves: whether one is done, how often it was tried, and what the disk remembers of that.

use std::{collections::BTreeMap, sync::Arc};

use api_types::{
    id::InstanceId,
    instance::{Exit, InstanceState},
    job::Tries,
};

use crate::{
    effect::{Effect, Effects},
    instances::{Instance, Network},
    machine::Agent,
};

/// What the disk has of instances that shall end by themselves.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeptTries(Arc<BTreeMap<InstanceId, Tries>>);

impl KeptTries {
    /// Starts from what the disk gave back.
    pub(crate) fn recovered(kept: BTreeMap<InstanceId, Tries>) -> Self {
        Self(Arc::new(kept))
    }

    /// What is remembered of an instance.
    pub(crate) fn of(&self, id: &InstanceId) -> Option<&Tries> {
        self.0.get(id)
    }
}

impl Agent {
    /// Has the disk remember how often processes were tried and how they ended, whenever that changed: before anything of
    /// them is removed, and before the scheduler is told.
    pub(crate) fn keep_tries(&mut self, effects: &mut Effects) {
        if self.set.is_none() {
            return;
        }
        let ends = |instance: &Instance| instance.retries().is_some() || instance.is_fenced();
        let tried = self.instances.iter().filter(|(_, instance)| ends(instance));
        let tries: BTreeMap<InstanceId, Tries> =
            tried.filter_map(|(id, instance)| Some((id.clone(), instance.tries.clone()?))).collect();
        if *self.tries.0 != tries {
            self.tries = KeptTries(Arc::new(tries));
            effects.push(Effect::KeepTries(self.tries.0.clone()));
        }
    }
}

impl Instance {
    /// Takes over what the disk remembers of its processes: what they wrote is still there.
    pub(crate) fn remember(&mut self, tries: Option<&Tries>) {
        let Some(tries) = tries else { return };
        self.attempts.next = tries.next_attempt;
        self.last_exit = Some(tries.last_exit.clone());
        self.tries = Some(tries.clone());
        self.left_output = true;
    }

    /// Books how the process of an attempt ended by itself. An end that nobody saw says nothing against the process.
    pub(crate) fn book_try(&mut self, number: u32, exit: &Exit) {
        let failed = self.tries.as_ref().map_or(0, |tries| tries.failed);
        let counts = !matches!(exit, Exit::Code(0) | Exit::Unknown);
        self.tries = Some(Tries {
            next_attempt: number.saturating_add(1),
            failed: failed.saturating_add(counts.into()),
            last_exit: exit.clone(),
            fenced: self.is_fenced(),
        });
    }

    /// How often a process that failed is followed by another; `None` = it shall run, whatever its process does.
    pub(crate) fn retries(&self) -> Option<u32> {
        self.assignment()?.retries
    }

    /// How it ended for good, by itself or by a fence; `None` = it did not.
    pub(crate) fn outcome(&self) -> Option<InstanceState> {
        if let Some(state) = self.fenced_state() {
            return Some(state);
        }
        let (retries, tries) = (self.retries()?, self.tries.as_ref()?);
        if tries.has_succeeded() {
            return Some(InstanceState::Completed);
        }
        (tries.failed > retries).then_some(InstanceState::Failed)
    }

    /// Why it failed or was fenced, for people; empty while it did not.
    pub(crate) fn failure(&self) -> String {
        if self.is_fenced() {
            return self.fenced_reason();
        }
        let (Some(InstanceState::Failed), Some(tries)) = (self.outcome(), &self.tries) else { return String::new() };
        let how = tries.last_exit.describe();
        if tries.failed == 1 { how } else { format!("{how}, the last of {} tries", tries.failed) }
    }

    /// Gives back what an instance that ended for good needs no more: its network and, when that is gone, its address. What it
    /// wrote stays until the instance is told to leave.
    pub(crate) fn retire(&mut self, id: &InstanceId, effects: &mut Effects) {
        if self.has_remains() || matches!(self.network, Network::Absent) {
            return;
        }
        self.remove_network(id, true, effects);
    }
}

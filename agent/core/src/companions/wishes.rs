//! What is to be done next with companions. Nothing, when all is as wanted.

use std::{net::Ipv4Addr, sync::Arc};

use api_types::{assignment::Assignment, companion::CompanionSpec, id::InstanceId, time::Timestamp};

use super::placed;
use crate::{
    Settings,
    attempts::Attempt,
    effect::{CompanionWish, Effect, Effects},
    images::Images,
    input::CompanionAttempt,
    instances::{Claim, Instance, Network},
    lifecycle::Surroundings,
};

impl Instance {
    /// Brings the steps before the main process further; true when all are done.
    pub(crate) fn advance_steps(
        &mut self,
        id: &InstanceId,
        assignment: &Arc<Assignment>,
        address: Ipv4Addr,
        effects: &mut Effects,
    ) -> bool {
        for (index, _) in placed(assignment).filter(|(_, spec)| spec.is_init()) {
            let step = self.companions.entry(index).or_default();
            if step.is_done {
                continue;
            }
            if !step.is_busy() {
                self.prepared = true;
                step.start((id, index), CompanionWish::Start { assignment: assignment.clone(), address }, effects);
            }
            return false;
        }
        true
    }

    /// Starts the sidecars of a main process that is there, and asks a step to end that should be over by then.
    pub(crate) fn advance_sidecars(
        &mut self,
        id: &InstanceId,
        assignment: &Arc<Assignment>,
        surroundings: &mut Surroundings<'_>,
    ) {
        if assignment.companions.is_empty() || self.alive().is_none() {
            return;
        }
        self.end_companions(id, |spec| spec.is_none_or(CompanionSpec::is_init), surroundings);
        let Some(address) = self.reached_at(surroundings.settings) else { return };
        if !matches!(self.network, Network::Ready { .. }) {
            return;
        }
        for (index, spec) in placed(assignment).filter(|(_, spec)| !spec.is_init()) {
            let sidecar = self.companions.entry(index).or_default();
            if sidecar.is_busy() || !sidecar.restart.take_due(surroundings.now) {
                continue;
            }
            if surroundings.have_images(spec.container.images()) {
                let wish = CompanionWish::Start { assignment: assignment.clone(), address };
                sidecar.start((id, index), wish, surroundings.effects);
            }
        }
    }

    /// Asks the companions of an instance that leaves, or is done, to end: steps at once, sidecars after the main process, which may need
    /// them to its end.
    pub(crate) fn stop_companions(&mut self, id: &InstanceId, surroundings: &mut Surroundings<'_>) {
        let is_there = |attempt: &Attempt| attempt.is_alive() || matches!(attempt, Attempt::Stopping { .. });
        let main_is_over = !self.attempts.held.values().any(is_there);
        self.end_companions(id, |spec| main_is_over || spec.is_some_and(CompanionSpec::is_init), surroundings);
    }

    /// Asks companions to end; what does not end in time is removed as it is. A start in flight is waited for.
    fn end_companions(
        &mut self,
        id: &InstanceId,
        ends: impl Fn(Option<&CompanionSpec>) -> bool,
        surroundings: &mut Surroundings<'_>,
    ) {
        let (now, settings) = (surroundings.now, surroundings.settings);
        let assignment = self.assignment().cloned();
        for (&companion, books) in &mut self.companions {
            let spec = assignment.as_ref().and_then(|held| held.companions.get(usize::from(companion)));
            if !ends(spec) {
                continue;
            }
            let container = spec.map(|spec| &spec.container);
            let grace_ms = container.map_or(settings.leftover_grace_ms, |container| container.stop_grace_ms);
            for (&attempt, state) in &mut books.attempts.held {
                if state.begin_end(grace_ms, settings, now) {
                    let signal = container.and_then(|container| container.stop_signal.clone());
                    let key = CompanionAttempt { instance: id.clone(), companion, attempt };
                    surroundings
                        .effects
                        .push(Effect::Companion { key, wish: CompanionWish::Stop { signal, grace_ms } });
                }
            }
        }
    }

    /// Asks for what companions wrote last, and removes what is left of those that ended.
    pub(crate) fn remove_companions(&mut self, id: &InstanceId, now: Timestamp, effects: &mut Effects) {
        let is_over = self.shall_leave() || self.outcome().is_some();
        for (&companion, books) in &mut self.companions {
            let key = |attempt| CompanionAttempt { instance: id.clone(), companion, attempt };
            if let Some((attempt, name, since)) = books.lines_wanted.take() {
                effects
                    .push(Effect::Companion { key: key(attempt), wish: CompanionWish::ReadLastLines { name, since } });
            }
            // Of a step that is done the latest container stays: by it an agent that is started again knows so.
            let kept = books.attempts.next.checked_sub(1).filter(|_| books.is_done && !is_over);
            for (&attempt, state) in &mut books.attempts.held {
                if kept != Some(attempt) && state.begin_removal(now) {
                    effects.push(Effect::Companion { key: key(attempt), wish: CompanionWish::Remove });
                }
            }
        }
    }

    /// Whether any container of it is there, or may be.
    pub(crate) fn has_remains(&self) -> bool {
        !self.attempts.held.is_empty() || self.companions.values().any(|companion| !companion.attempts.held.is_empty())
    }

    /// When companions are to be looked at again, and why.
    pub(crate) fn companions_deadline(
        &self,
        settings: &Settings,
        images: &Images,
    ) -> Option<(Timestamp, &'static str)> {
        let attempts = self.companions.values().flat_map(|companion| companion.attempts.held.values());
        let settled = self.companions.values().filter_map(|companion| companion.settles_at(settings));
        let settled = settled.map(|at| (at, "a run of a sidecar that was long enough"));
        let assignment = match &self.claim {
            Claim::Run(assignment) if self.alive().is_some() => Some(assignment),
            Claim::Run(_) | Claim::Leave(_) | Claim::Unclaimed => None,
        };
        let waiting = assignment.into_iter().flat_map(|assignment| placed(assignment)).filter_map(|(index, spec)| {
            let sidecar = self.companions.get(&index).filter(|sidecar| !spec.is_init() && !sidecar.is_busy())?;
            let due = sidecar.restart.not_before().map(|at| (at, "the next start of a sidecar"));
            let retry_at = || spec.container.images().filter_map(|image| images.retry_at(image)).min();
            due.or_else(|| retry_at().map(|at| (at, "the next try to pull an image")))
        });
        attempts.filter_map(Attempt::deadline).chain(settled).chain(waiting).min()
    }
}

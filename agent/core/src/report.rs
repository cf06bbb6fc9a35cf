//! What to tell the scheduler, and when: all once a session, then what changed.

use std::{collections::BTreeSet, net::Ipv4Addr};

use api_types::{
    id::InstanceId,
    instance::{Exit, Health, InstanceState},
    time::Timestamp,
};

use crate::{
    Settings,
    attempts::Attempt,
    effect::{Effect, Effects, Report},
    images::Images,
    instances::{Claim, Instance, Network},
    machine::{Agent, Runtime},
};

/// Why what runs on a machine that is being shut down counts as unhealthy.
const MACHINE_ENDS: &str = "its machine is being shut down";

/// Of so many instances one report tells what they wrote and what their probes heard: a report must fit into a message.
const TEXTS_MAX: usize = 500;

/// The open session.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) opened_at: Timestamp,
    /// Whether it was told everything once.
    complete: bool,
}

impl Session {
    /// A session that was told nothing yet.
    pub(crate) fn opened(now: Timestamp) -> Self {
        Self { opened_at: now, complete: false }
    }
}

/// Instances that left nothing behind.
#[derive(Debug, Default)]
pub(crate) struct Gone {
    /// Those that the assignment set still names: told to each session.
    kept: BTreeSet<InstanceId>,
    /// Those that the open session was not told.
    unreported: BTreeSet<InstanceId>,
}

impl Gone {
    pub(crate) fn add(&mut self, id: InstanceId) {
        self.unreported.insert(id.clone());
        self.kept.insert(id);
    }

    pub(crate) fn remove(&mut self, id: &InstanceId) {
        self.kept.remove(id);
        self.unreported.remove(id);
    }

    pub(crate) fn contains(&self, id: &InstanceId) -> bool {
        self.kept.contains(id)
    }

    /// Forgets those that the set does not name.
    pub(crate) fn retain(&mut self, listed: &BTreeSet<InstanceId>) {
        self.kept.retain(|id| listed.contains(id));
    }

    /// Gives those that the session was not told, and forgets those that the set does not name.
    fn take_unreported(&mut self, listed: &BTreeSet<InstanceId>) -> Vec<InstanceId> {
        self.retain(listed);
        std::mem::take(&mut self.unreported).into_iter().collect()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &InstanceId> {
        self.kept.iter()
    }
}

impl Agent {
    /// Brings statuses up to date and emits what the open session was not told yet.
    pub(crate) fn report(&mut self, now: Timestamp, effects: &mut Effects) {
        self.refresh(now);
        let has_set = self.set.is_some();
        let gone = self.gone.take_unreported(&self.listed);
        // Without a session nobody is told; the next one's complete report names all that matters to it.
        let Some(session) = &mut self.session else { return };
        let complete = !session.complete;
        if complete {
            let waits_for_set = !has_set && now < session.opened_at + self.settings.first_set_ms;
            if self.runtime == Runtime::Unseen || waits_for_set {
                return;
            }
            session.complete = true;
        }
        let gone = if complete { self.gone.kept.iter().cloned().collect() } else { gone };
        let (mut statuses, mut texts) = (Vec::new(), 0);
        for instance in self.instances.values_mut() {
            if complete || !instance.reported {
                instance.reported = true;
                let mut status = instance.status.clone();
                texts += usize::from(!status.findings.is_empty());
                if texts > TEXTS_MAX {
                    status.findings.last_lines.clear();
                    status.findings.probes.iter_mut().for_each(|probe| probe.output.clear());
                }
                statuses.push(status);
            }
        }
        effects.extend(self.alone.told().filter(|_| complete).map(Effect::TellAlone));
        if complete || !statuses.is_empty() || !gone.is_empty() {
            effects.push(Effect::Report(Report { statuses, gone, complete }));
        }
    }

    /// When a complete report stops waiting for an assignment set.
    pub(crate) fn report_deadline(&self) -> Option<(Timestamp, &'static str)> {
        let session = self.session.as_ref().filter(|session| !session.complete)?;
        (self.set.is_none() && self.runtime != Runtime::Unseen)
            .then(|| (session.opened_at + self.settings.first_set_ms, "a report without an assignment set"))
    }

    fn refresh(&mut self, now: Timestamp) {
        let healths: Vec<Health> = self.instances.iter().map(|(id, instance)| self.health(id, instance)).collect();
        for (instance, health) in self.instances.values_mut().zip(healths) {
            instance.refresh(now, health, &self.images, (&self.settings, self.machine_ends));
        }
    }
}

impl Instance {
    /// Brings the status up to date; a change is not reported yet.
    fn refresh(
        &mut self,
        now: Timestamp,
        health: Health,
        images: &Images,
        (settings, machine_ends): (&Settings, bool),
    ) {
        let state = self.state();
        let running = self.running();
        let pid = running.map(|(_, pid)| pid);
        let address: Option<Ipv4Addr> = self.reached_at(settings).filter(|_| state >= InstanceState::Starting);
        let restarts = self.alive().map_or(self.attempts.next.saturating_sub(1), |(number, _)| number);
        let last_exit: Option<&Exit> = self.last_exit.as_ref();
        let ends = machine_ends && running.is_some();
        let reason = if ends { MACHINE_ENDS.to_owned() } else { self.reason(state, health, images) };
        let findings = self.findings(images);

        let status = &self.status;
        let unchanged = status.state == state
            && status.health == health
            && status.pid == pid
            && status.address == address
            && status.restarts == restarts
            && status.last_exit.as_ref() == last_exit
            && status.reason == reason
            && status.findings == findings;
        if unchanged {
            return;
        }
        if self.status.state != state {
            let started_at = running.and_then(|(number, _)| match self.attempts.held.get(&number) {
                Some(Attempt::Running { started_at, .. }) => Some((*started_at).min(now)),
                Some(Attempt::Starting | Attempt::Stopping { .. } | Attempt::Ended)
                | Some(Attempt::Removing { .. } | Attempt::RemovalFailed { .. })
                | None => None,
            });
            self.status.since = started_at.unwrap_or(now);
        }
        self.status.state = state;
        self.status.health = health;
        self.status.pid = pid;
        self.status.address = address;
        self.status.restarts = restarts;
        self.status.last_exit = self.last_exit.clone();
        self.status.reason = reason;
        self.status.findings = findings;
        self.reported = false;
    }

    fn state(&self) -> InstanceState {
        if let (Claim::Run(_), Some(outcome)) = (&self.claim, self.outcome()) {
            return outcome;
        }
        let runs = self.running().is_some();
        match self.claim {
            Claim::Leave(_) => InstanceState::Stopping,
            Claim::Run(_) | Claim::Unclaimed if runs => InstanceState::Running,
            Claim::Run(_) | Claim::Unclaimed if self.prepared => InstanceState::Starting,
            Claim::Run(_) if self.address.is_some() || !self.address_trouble.is_empty() => InstanceState::Preparing,
            Claim::Run(_) | Claim::Unclaimed => InstanceState::Assigned,
        }
    }

    /// Why it is not as wanted, the nearest cause first; empty when all is well.
    fn reason(&self, state: InstanceState, health: Health, images: &Images) -> String {
        if state == InstanceState::Stopping {
            let causes = [self.removal_trouble.clone(), self.fenced_reason()];
            return causes.into_iter().find(|cause| !cause.is_empty()).unwrap_or_default();
        }
        if state.is_final() {
            return self.failure();
        }
        if state == InstanceState::Running {
            let trouble = self.probes.trouble(health != Health::Healthy);
            let sidecars = self.sidecars_trouble(images);
            let causes = [self.device_trouble(), &trouble, self.restart.reason(), &sidecars];
            return causes.into_iter().find(|cause| !cause.is_empty()).unwrap_or("").to_owned();
        }
        let network = match &self.network {
            Network::Failed { reason, .. } => reason.as_str(),
            Network::Absent | Network::Doubted | Network::Making => "",
            Network::Ready { .. } | Network::Removing => "",
        };
        let mut needed = self.assignment().into_iter().flat_map(|assignment| assignment.images());
        let image = needed.find_map(|image| Some(images.reason(image)).filter(|reason| !reason.is_empty()));
        let step = self.step_under_way();
        let lease = if self.awaits_lease() { "waits until the scheduler answers" } else { "" };
        let awaited = Some(self.waiting.reason()).filter(|reason| !reason.is_empty()).unwrap_or(lease);
        let causes = [&self.address_trouble, image.unwrap_or(""), network, self.restart.reason(), awaited, &step];
        causes.into_iter().find(|cause| !cause.is_empty()).unwrap_or("").to_owned()
    }
}

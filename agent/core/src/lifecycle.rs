//! The life of one instance: facts change its books, and its books and what is wanted give the next wishes.

use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc};

use api_types::{assignment::Assignment, id::InstanceId, instance::Exit, time::Timestamp};

use crate::{
    Settings,
    attempts::{Attempt, Ended, Found},
    companions::Companion,
    dependencies::Outlook,
    effect::{Effect, Effects},
    farewell::Farewell,
    images::Images,
    instances::{Claim, Instance, Network},
    restart::backoff_ms,
    services::Progress,
};

/// What the life of one instance shares with the others of its node.
pub(crate) struct Surroundings<'a> {
    pub(crate) now: Timestamp,
    pub(crate) settings: &'a Settings,
    pub(crate) images: &'a mut Images,
    pub(crate) balancing: Progress,
    pub(crate) outlook: Outlook<'a>,
    pub(crate) effects: &'a mut Effects,
}

impl Surroundings<'_> {
    /// Sees to images, side by side; true when all are here.
    pub(crate) fn have_images<'i>(&mut self, wanted: impl Iterator<Item = &'i str>) -> bool {
        let mut are_here = true;
        for image in wanted {
            are_here &= self.images.ensure(self.now, image, self.effects);
        }
        are_here
    }
}

/// Facts: what happened to the instance.
impl Instance {
    /// Its process runs, as an answer or a list says. An attempt that is higher than all known ones is taken over.
    pub(crate) fn runs(&mut self, number: u32, pid: u32, started_at: Timestamp, now: Timestamp) {
        let found = self.attempts.runs(number, pid, started_at, now);
        if found == Found::Nothing {
            return;
        }
        self.restart.running();
        self.waiting.end();
        self.probes.reset(found == Found::TakenOver);
        // Nobody knows what one that is taken over was shown before this program started.
        self.shown_in_doubt |= found == Found::TakenOver;
        self.prepared = true;
    }

    /// Its process ended.
    pub(crate) fn ended(&mut self, settings: &Settings, number: u32, exit: Exit, now: Timestamp) {
        match self.attempts.ended(number, now) {
            Some(Ended::ByItself(since)) => {
                self.restart.exited(settings, now, now.since(since), exit.describe(), self.attempts.next);
                self.book_try(number, &exit);
                self.lines_wanted = Some((number, since));
            }
            None => return,
            // It was ended for its probe's sake: that is what people want to know.
            Some(Ended::AsAsked) if self.given_up == Some(number) || self.is_fenced() => return,
            Some(Ended::AsAsked) => {}
        }
        self.last_exit = Some(exit);
    }

    /// It ended while nobody watched: a list shows a container that is not on the books.
    pub(crate) fn found_ended(&mut self, settings: &Settings, number: u32, exit: Exit, now: Timestamp) {
        if !self.attempts.found_ended(number) {
            return;
        }
        if self.alive().is_none() {
            self.restart.exited(settings, now, u64::MAX, exit.describe(), self.attempts.next);
            self.book_try(number, &exit);
            self.prepared = true;
        }
        self.last_exit = Some(exit);
    }

    /// Its process could not be started, and nothing of the attempt is left: its number is free again.
    pub(crate) fn start_failed(
        &mut self,
        number: u32,
        reason: &str,
        (settings, images): (&Settings, &mut Images),
        now: Timestamp,
    ) {
        if !self.attempts.not_started(number) {
            return;
        }
        self.restart.failed(settings, now, reason);
        // Image or network may be the cause: both are made sure of again before the next try.
        if let Some(assignment) = self.assignment() {
            assignment.container.images().for_each(|image| images.doubt(image));
        }
        if matches!(self.network, Network::Ready { .. }) && !self.companions.values().any(Companion::is_busy) {
            self.network = Network::Doubted;
        }
    }

    /// The attempt left nothing behind.
    pub(crate) fn removed(&mut self, number: u32) {
        if self.attempts.removed(number) {
            self.removal_trouble.clear();
        }
    }

    /// The attempt's leftovers stay for now.
    pub(crate) fn removal_failed(&mut self, settings: &Settings, number: u32, reason: &str, now: Timestamp) {
        if let Some(trouble) = self.attempts.removal_failed(settings, number, reason, now) {
            self.removal_trouble = trouble;
        }
    }

    /// Its network is there.
    pub(crate) fn network_ready(&mut self, now: Timestamp) {
        if matches!(self.network, Network::Making) {
            self.network = Network::Ready { known_at: now };
            self.network_failures = 0;
        }
    }

    /// A process whose network is gone cannot be reached any more: it counts as ended.
    pub(crate) fn give_up_without_network(&mut self, settings: &Settings, now: Timestamp) {
        if !self.shall_run() || !matches!(self.network, Network::Absent | Network::Doubted) {
            return;
        }
        if let Some((number, _)) = self.running() {
            self.give_up(settings, number, now);
        }
        self.give_up_companions(settings, now);
    }

    /// A process that runs and is of no use any more counts as ended, and is removed before the next one is started.
    fn give_up(&mut self, settings: &Settings, number: u32, now: Timestamp) {
        self.ended(settings, number, Exit::Unknown, now);
        self.given_up = Some(number);
    }

    /// The devices were looked for. A process whose device is gone is unhealthy; once the device is back the process
    /// counts as ended, as the kernel knows the device as another one by now, and the next attempt gets that one.
    pub(crate) fn devices_seen(&mut self, settings: &Settings, missing: &BTreeMap<String, String>, now: Timestamp) {
        let Claim::Run(assignment) = &self.claim else { return };
        let trouble = assignment.devices.iter().find_map(|grant| {
            let why = missing.get(&grant.device)?;
            Some(format!("device {}: {why}", grant.device))
        });
        let Some((attempt, _)) = self.running() else { return };
        match (trouble, self.bereft.take()) {
            (Some(trouble), _) => self.bereft = Some((attempt, trouble)),
            (None, Some((bereft, _))) if bereft == attempt => self.give_up(settings, attempt, now),
            (None, _) => {}
        }
    }

    /// Its network could not be made.
    pub(crate) fn network_failed(&mut self, settings: &Settings, reason: &str, now: Timestamp) {
        if matches!(self.network, Network::Making) {
            self.network_failures = self.network_failures.saturating_add(1);
            let delay_ms = backoff_ms(settings, self.network_failures);
            let reason = format!("network: {reason}; next try in {} s", delay_ms.div_ceil(1000));
            self.network = Network::Failed { reason, retry_at: now + delay_ms };
        }
    }

    /// Its network is gone, as asked for.
    pub(crate) fn network_removed(&mut self) {
        if matches!(self.network, Network::Removing) {
            self.network = Network::Absent;
        }
    }
}

/// Wishes: what is to be done next. Nothing, when all is as wanted.
impl Instance {
    /// Emits what brings containers and network nearer to what is wanted; containerd must answer.
    pub(crate) fn advance(&mut self, id: &InstanceId, surroundings: &mut Surroundings<'_>) {
        match &self.claim {
            Claim::Unclaimed => return,
            Claim::Run(_) if self.outcome().is_some() => {
                // Only one that was fenced still runs: nobody waits for its connections.
                self.end_attempts(id, false, surroundings);
                self.stop_companions(id, surroundings);
                self.retire(id, surroundings.effects);
            }
            Claim::Run(assignment) => {
                let assignment = assignment.clone();
                self.end_the_unwell(id, &assignment, surroundings);
                self.show(&assignment, surroundings.effects);
                if let Some(address) = self.address
                    && self.has_no_process()
                    && self.restart.take_due(surroundings.now)
                    && self.is_ready(id, address, &assignment, surroundings)
                {
                    let address = self.reached_at(surroundings.settings).unwrap_or(address);
                    if self.advance_steps(id, &assignment, address, surroundings.effects) {
                        self.start(assignment.clone(), address, surroundings.effects);
                    }
                }
                self.advance_sidecars(id, &assignment, surroundings);
            }
            Claim::Leave(_) => {
                self.stop(id, surroundings);
                self.stop_companions(id, surroundings);
            }
        }
        if let Some((attempt, since)) = self.lines_wanted.take() {
            surroundings.effects.push(Effect::ReadLastLines { instance: id.clone(), attempt, since });
        }
        self.remove_ended(id, surroundings);
        self.remove_companions(id, surroundings.now, surroundings.effects);
        if self.shall_leave() && !self.has_remains() {
            self.remove_network(id, false, surroundings.effects);
        }
    }

    /// When `advance` wants to be called again, and why.
    pub(crate) fn deadline(&self, settings: &Settings, images: &Images) -> Option<(Timestamp, &'static str)> {
        let attempts = self.attempts.held.values().filter_map(Attempt::deadline);
        let (mut restart, mut network, mut image, mut waiting) = (None, None, None, None);
        if let Claim::Run(assignment) = &self.claim
            && self.has_no_process()
            && self.address.is_some()
            && self.outcome().is_none()
        {
            restart = self.restart.not_before().map(|at| (at, "the next start of a process"));
            // Before that moment neither is tried.
            let not_sooner = |at: Timestamp| restart.map_or(at, |(restart, _)| at.max(restart));
            network = match &self.network {
                Network::Failed { retry_at, .. } => Some((not_sooner(*retry_at), "the next try to make a network")),
                Network::Absent | Network::Doubted | Network::Making => None,
                Network::Ready { .. } | Network::Removing => None,
            };
            let retry_at = assignment.images().filter_map(|image| images.retry_at(image)).min();
            image = retry_at.map(|at| (not_sooner(at), "the next try to pull an image"));
            waiting = self.waiting.deadline();
        }
        let waits = self.shall_leave() && self.running().is_some();
        let farewell = self.farewell.filter(|_| waits).and_then(|farewell| farewell.look(settings));
        let settled = self.settles_at(settings).map(|at| (at, "a run that was long enough"));
        let companions = self.companions_deadline(settings, images);
        let own = attempts.chain(settled).chain(restart).chain(network).chain(image).chain(farewell);
        own.chain(companions).chain(waiting).min()
    }

    /// Whether all is there that a start needs: what is waited for holds no image and no network up.
    fn is_ready(
        &mut self,
        id: &InstanceId,
        address: Ipv4Addr,
        assignment: &Assignment,
        surroundings: &mut Surroundings<'_>,
    ) -> bool {
        let (outlook, settings, now) = (surroundings.outlook, surroundings.settings, surroundings.now);
        let waits = self.waiting.goes_on(assignment, outlook, settings, now);
        self.prepare(id, address, assignment, surroundings) && !waits && !self.awaits_lease()
    }

    /// Sees to images and network, side by side; true when all are ready.
    fn prepare(
        &mut self,
        id: &InstanceId,
        address: Ipv4Addr,
        assignment: &Assignment,
        surroundings: &mut Surroundings<'_>,
    ) -> bool {
        let make = match &self.network {
            Network::Absent | Network::Doubted => true,
            Network::Failed { retry_at, .. } => *retry_at <= surroundings.now,
            Network::Making | Network::Ready { .. } | Network::Removing => false,
        };
        let images_ready = surroundings.have_images(assignment.images());
        if make {
            self.network = Network::Making;
            let network = assignment.container.network;
            surroundings.effects.push(Effect::EnsureNetwork { network, instance: id.clone(), address });
        }
        images_ready && matches!(self.network, Network::Ready { .. })
    }

    /// Shows a process that runs what it shall be shown, unless it keeps what it has until it is replaced.
    fn show(&mut self, assignment: &Arc<Assignment>, effects: &mut Effects) {
        if self.shown_in_doubt
            && let Some((attempt, _)) = self.running()
        {
            self.shown_in_doubt = false;
            if !assignment.container.content.on_change.is_restart() {
                effects.push(Effect::Refresh { assignment: assignment.clone(), attempt });
            }
        }
    }

    fn start(&mut self, assignment: Arc<Assignment>, address: Ipv4Addr, effects: &mut Effects) {
        let attempt = self.attempts.begin();
        self.prepared = true;
        self.shown_in_doubt = false;
        // The next start has its steps before it again.
        self.companions.values_mut().for_each(|companion| companion.is_done = false);
        effects.push(Effect::Start { assignment, attempt, address });
    }

    /// Asks what runs to end, once the kernel sends it no new connections (or takes too long to stop that) and open ones had
    /// their time; what does not end in time is removed as it is. A start in flight is waited for.
    fn stop(&mut self, id: &InstanceId, surroundings: &mut Surroundings<'_>) {
        let (kernel, settings, now) = (surroundings.balancing, surroundings.settings, surroundings.now);
        let assignment = self.assignment().filter(|assignment| !assignment.ports.is_empty());
        let drain_ms = assignment.map(|assignment| assignment.container.drain_ms);
        let may_be_asked = drain_ms.is_some() && self.may_be_asked(kernel.heard, now);
        let farewell = self.farewell.get_or_insert_with(|| Farewell::begin(drain_ms, settings, now));
        let waits = farewell.waits((kernel, may_be_asked), settings, now);
        self.end_attempts(id, waits, surroundings);
    }

    /// Asks its main process to end, unless one that runs `waits`; what does not end in time is removed as it is.
    fn end_attempts(&mut self, id: &InstanceId, waits: bool, surroundings: &mut Surroundings<'_>) {
        let (settings, now) = (surroundings.settings, surroundings.now);
        let (signal, grace_ms) = match self.assignment() {
            Some(assignment) => (assignment.container.stop_signal.clone(), assignment.container.stop_grace_ms),
            None => (None, settings.leftover_grace_ms),
        };
        for (&number, attempt) in &mut self.attempts.held {
            if waits && matches!(attempt, Attempt::Running { .. }) {
                continue;
            }
            if attempt.begin_end(grace_ms, settings, now) {
                let (instance, signal) = (id.clone(), signal.clone());
                surroundings.effects.push(Effect::Stop { instance, attempt: number, signal, grace_ms });
            }
        }
    }

    /// Removes what is left of attempts that ended.
    fn remove_ended(&mut self, id: &InstanceId, surroundings: &mut Surroundings<'_>) {
        for (&number, attempt) in &mut self.attempts.held {
            if attempt.begin_removal(surroundings.now) {
                surroundings.effects.push(Effect::Remove { instance: id.clone(), attempt: number });
            }
        }
    }

    /// Removes the network of an instance that left nothing else, and with it what it wrote, unless that is kept.
    pub(crate) fn remove_network(&mut self, id: &InstanceId, keeps_output: bool, effects: &mut Effects) {
        match self.network {
            Network::Absent if !self.left_output || keeps_output => {}
            Network::Absent | Network::Ready { .. } | Network::Failed { .. } | Network::Doubted => {
                self.network = Network::Removing;
                self.left_output = keeps_output;
                effects.push(Effect::RemoveNetwork { instance: id.clone(), keeps_output });
            }
            Network::Making | Network::Removing => {}
        }
    }
}

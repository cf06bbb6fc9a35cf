//! The containers beside an instance's main one: init steps that end well before each start of the main process, and sidecars
//! that run while it does.
//!
//! A step is a part of the main process's start: its failure is one of that, with the same back-off and the same count. A
//! sidecar has a back-off of its own and ends nobody but itself; while it does not run its instance is not well. What a step
//! left is removed once the main process is started: until then an agent that is started again knows by it that the step is done.

mod verdicts;
mod wishes;

use api_types::{
    assignment::Assignment,
    companion::CompanionSpec,
    id::{InstanceId, Name},
    instance::Exit,
    time::Timestamp,
};

use crate::{
    Settings,
    attempts::{Attempt, Attempts, Ended, Found},
    effect::{CompanionWish, Effect, Effects},
    images::Images,
    input::{CompanionAttempt, CompanionEvent},
    instances::Instance,
    machine::Agent,
    restart::Restart,
    upkeep::last_words,
};

/// All that is known of one companion.
#[derive(Clone, Debug, Default)]
pub(crate) struct Companion {
    /// Its containers.
    pub(crate) attempts: Attempts,
    /// When the next attempt of a sidecar is due.
    pub(crate) restart: Restart,
    /// Whether it is an init step that ended well for the next start of the main process.
    pub(crate) is_done: bool,
    /// Of which attempt the last lines are still to be asked for, its name, and since when it ran.
    lines_wanted: Option<(u32, Name, Timestamp)>,
    /// What the process that last ended wrote last.
    last_lines: String,
}

impl Companion {
    /// Whether it has a process or may get one.
    pub(crate) fn is_busy(&self) -> bool {
        self.attempts.held.values().any(|attempt| attempt.is_alive() || matches!(attempt, Attempt::Stopping { .. }))
    }

    /// When a sidecar has run for so long that its earlier ends are forgiven; `None` = there is nothing to forgive.
    fn settles_at(&self, settings: &Settings) -> Option<Timestamp> {
        let is_noted = self.restart.is_unsettled() || !self.last_lines.is_empty();
        self.attempts.running_since().filter(|_| is_noted).map(|(_, since)| since + settings.stable_after_ms)
    }

    /// Its process runs, as an answer or a list says. An attempt that is higher than all known ones is taken over.
    pub(crate) fn runs(&mut self, number: u32, pid: u32, started_at: Timestamp, now: Timestamp) {
        if self.attempts.runs(number, pid, started_at, now) != Found::Nothing {
            self.restart.running();
        }
    }

    fn start(&mut self, (instance, companion): (&InstanceId, u8), wish: CompanionWish, effects: &mut Effects) {
        let attempt = self.attempts.begin();
        effects
            .push(Effect::Companion { key: CompanionAttempt { instance: instance.clone(), companion, attempt }, wish });
    }
}

/// The companions of an assignment, each with its place in the list.
fn placed(assignment: &Assignment) -> impl Iterator<Item = (u8, &CompanionSpec)> {
    (0..=u8::MAX).zip(&assignment.companions)
}

impl Agent {
    /// The containers beside main ones whose processes run.
    pub fn companions_running(&self) -> impl Iterator<Item = CompanionAttempt> {
        self.instances.iter().flat_map(|(id, instance)| {
            instance.running_companions().map(|(companion, attempt)| CompanionAttempt {
                instance: id.clone(),
                companion,
                attempt,
            })
        })
    }

    /// Books what one answer or event says of a companion's container. One that is not on the books yet may be in a list that
    /// is on its way.
    pub(crate) fn companion(&mut self, now: Timestamp, key: &CompanionAttempt, event: CompanionEvent) {
        let place = (key.companion, key.attempt);
        match self.instances.get_mut(&key.instance).filter(|instance| instance.knows(place)) {
            Some(instance) => instance.companion_event(place, event, (&self.settings, &mut self.images), now),
            None => self.look_again_at = Some(now),
        }
    }
}

/// Facts: what happened to companions.
impl Instance {
    /// The companions whose processes run, by place and attempt.
    fn running_companions(&self) -> impl Iterator<Item = (u8, u32)> {
        self.companions.iter().flat_map(|(index, companion)| {
            let is_running = |(_, attempt): &(&u32, &Attempt)| matches!(attempt, Attempt::Running { .. });
            companion.attempts.held.iter().filter(is_running).map(|(number, _)| (*index, *number))
        })
    }

    fn knows(&self, (index, number): (u8, u32)) -> bool {
        self.companions.get(&index).is_some_and(|companion| companion.attempts.knows(number))
    }

    fn companion_event(
        &mut self,
        (index, number): (u8, u32),
        event: CompanionEvent,
        (settings, images): (&Settings, &mut Images),
        now: Timestamp,
    ) {
        match event {
            CompanionEvent::Started { pid } => {
                self.companions.entry(index).or_default().runs(number, pid, now, now);
            }
            CompanionEvent::StartFailed { reason } => {
                self.companion_not_started((index, number), &reason, (settings, images), now);
            }
            CompanionEvent::Exited { exit } => self.companion_ended((index, number), exit, settings, now),
            CompanionEvent::Removed => {
                let Some(companion) = self.companions.get_mut(&index) else { return };
                if companion.attempts.removed(number) {
                    self.removal_trouble.clear();
                }
            }
            CompanionEvent::RemoveFailed { reason } => {
                let Some(companion) = self.companions.get_mut(&index) else { return };
                if let Some(trouble) = companion.attempts.removal_failed(settings, number, &reason, now) {
                    self.removal_trouble = trouble;
                }
            }
            CompanionEvent::LastLines { lines } => {
                if let Some(companion) = self.companions.get_mut(&index).filter(|held| held.attempts.knows(number)) {
                    companion.last_lines = last_words(&lines);
                }
            }
        }
    }

    fn companion_spec(&self, index: u8) -> Option<CompanionSpec> {
        self.assignment()?.companions.get(usize::from(index)).cloned()
    }

    /// Its process could not be started, and nothing of the attempt is left: its number is free again.
    fn companion_not_started(
        &mut self,
        (index, number): (u8, u32),
        reason: &str,
        (settings, images): (&Settings, &mut Images),
        now: Timestamp,
    ) {
        let spec = self.companion_spec(index);
        let Some(companion) = self.companions.get_mut(&index) else { return };
        if !companion.attempts.not_started(number) {
            return;
        }
        let Some(spec) = spec else { return };
        spec.container.images().for_each(|image| images.doubt(image));
        if spec.is_init() {
            self.restart.failed(settings, now, &format!("{}: {reason}", spec.describe()));
        } else {
            companion.restart.failed(settings, now, reason);
        }
    }

    /// Its process ended.
    pub(crate) fn companion_ended(
        &mut self,
        (index, number): (u8, u32),
        exit: Exit,
        settings: &Settings,
        now: Timestamp,
    ) {
        let spec = self.companion_spec(index);
        let Some(companion) = self.companions.get_mut(&index) else { return };
        // Who was asked to end, or was never assigned, has no future.
        let Some(Ended::ByItself(since)) = companion.attempts.ended(number, now) else { return };
        let Some(spec) = spec else { return };
        let ran_ms = now.since(since);
        if !spec.is_init() {
            companion.lines_wanted = Some((number, spec.name, since));
            companion.restart.exited(settings, now, ran_ms, exit.describe(), companion.attempts.next);
        } else if exit == Exit::Code(0) {
            companion.is_done = true;
            companion.last_lines.clear();
        } else {
            let how = format!("{} {}", spec.describe(), exit.describe());
            companion.lines_wanted = Some((number, spec.name, since));
            self.restart.exited(settings, now, ran_ms, how, companion.attempts.next);
            // What people ask for is this step's, not what the main process wrote before.
            self.last_lines = None;
            self.last_exit = Some(exit);
        }
    }

    /// It ended while nobody watched: a list shows a container that is not on the books.
    pub(crate) fn companion_found_ended(
        &mut self,
        (index, number): (u8, u32),
        exit: &Exit,
        settings: &Settings,
        now: Timestamp,
    ) {
        let is_init = self.companion_spec(index).is_some_and(|spec| spec.is_init());
        // Beside a main process, or what is left of one, it may be of that one's start.
        let is_for_next = self.attempts.held.is_empty();
        let companion = self.companions.entry(index).or_default();
        if !companion.attempts.found_ended(number) {
            return;
        }
        if is_init {
            companion.is_done = is_for_next && *exit == Exit::Code(0);
        } else if !companion.is_busy() {
            companion.restart.exited(settings, now, u64::MAX, exit.describe(), companion.attempts.next);
        }
    }

    /// Processes whose network is gone count as ended.
    pub(crate) fn give_up_companions(&mut self, settings: &Settings, now: Timestamp) {
        for key in self.running_companions().collect::<Vec<_>>() {
            self.companion_ended(key, Exit::Unknown, settings, now);
        }
    }

    /// Forgives the earlier ends of sidecars that have run long.
    pub(crate) fn mature_companions(&mut self, settings: &Settings, now: Timestamp) {
        for companion in self.companions.values_mut() {
            if companion.settles_at(settings).is_some_and(|at| at <= now) {
                companion.restart.settled();
                companion.last_lines.clear();
            }
        }
    }
}

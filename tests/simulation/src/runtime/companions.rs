//! The containers beside main ones: init steps, which end, and sidecars, which run on.

use std::sync::Arc;

use agent_core::{
    effect::CompanionWish,
    input::{CompanionAttempt, CompanionEvent, Input, ObservedContainer, ObservedProcess},
};
use api_types::{assignment::Assignment, companion::CompanionSpec, instance::Exit, time::Timestamp};

use crate::{
    event::{Event, NodeIndex},
    shape::FLAPS,
    world::World,
};

/// One container beside a main one.
#[derive(Clone, Debug)]
pub struct SimCompanion {
    /// Its process and since when that runs, by its node's clock; else how the process ended.
    pub process: Result<(u32, Timestamp), Exit>,
    /// Whether it is an init step.
    pub is_init: bool,
}

impl SimCompanion {
    fn seen(&self) -> ObservedProcess {
        match &self.process {
            Ok((pid, started_at)) => ObservedProcess::Running { pid: *pid, started_at: *started_at },
            Err(exit) => ObservedProcess::Ended(exit.clone()),
        }
    }
}

impl World {
    /// What a list shows of them.
    pub(super) fn companions_seen(&self, index: NodeIndex) -> impl Iterator<Item = ObservedContainer> {
        self.nodes[index].runtime.companions.iter().map(|(key, companion)| ObservedContainer {
            instance: key.instance.clone(),
            companion: Some(key.companion),
            attempt: key.attempt,
            process: companion.seen(),
        })
    }

    /// How many milliseconds a wish takes.
    pub(super) fn companion_takes(&mut self, index: NodeIndex, wish: &CompanionWish) -> u64 {
        let random = &mut self.nodes[index].random;
        match wish {
            CompanionWish::Start { .. } => random.between(30, 200),
            CompanionWish::Stop { .. } => random.between(5, 800),
            CompanionWish::Remove => random.between(5, 60),
            CompanionWish::ReadLastLines { .. } => 0,
        }
    }

    /// What the agent is told when a wish failed.
    pub(super) fn companion_failed(wish: &CompanionWish) -> Option<CompanionEvent> {
        let reason = || "the disk is tired".to_owned();
        match wish {
            CompanionWish::Start { .. } => Some(CompanionEvent::StartFailed { reason: reason() }),
            CompanionWish::Remove => Some(CompanionEvent::RemoveFailed { reason: reason() }),
            CompanionWish::Stop { .. } | CompanionWish::ReadLastLines { .. } => None,
        }
    }

    /// What the agent is told when it was done.
    pub(super) fn companion_done(
        &mut self,
        index: NodeIndex,
        key: &CompanionAttempt,
        wish: &CompanionWish,
    ) -> Option<CompanionEvent> {
        let companions = &mut self.nodes[index].runtime.companions;
        match wish {
            CompanionWish::Start { assignment, .. } => {
                let pid = self.spawn_companion(index, key, assignment);
                Some(CompanionEvent::Started { pid })
            }
            CompanionWish::Stop { .. } => {
                if let Some(companion) = companions.get_mut(key).filter(|companion| companion.process.is_ok()) {
                    companion.process = Err(Exit::Code(143));
                }
                Some(CompanionEvent::Exited { exit: Exit::Code(143) })
            }
            CompanionWish::Remove => {
                companions.remove(key);
                Some(CompanionEvent::Removed)
            }
            CompanionWish::ReadLastLines { .. } => None,
        }
    }

    /// A start that was cut off leaves a record without a process.
    pub(super) fn companion_half_done(&mut self, index: NodeIndex, key: &CompanionAttempt, wish: &CompanionWish) {
        if let CompanionWish::Start { assignment, .. } = wish
            && let Some(spec) = spec_of(assignment, key)
        {
            let companion = SimCompanion { process: Err(Exit::Unknown), is_init: spec.is_init() };
            self.nodes[index].runtime.companions.insert(key.clone(), companion);
        }
    }

    fn spawn_companion(&mut self, index: NodeIndex, key: &CompanionAttempt, assignment: &Arc<Assignment>) -> u32 {
        self.check_companion(index, key);
        self.pid_count += 1;
        let pid = self.pid_count;
        let started_at = self.nodes[index].by_its_clock(self.now);
        let Some(spec) = spec_of(assignment, key) else {
            self.fail(format!("{key:?} is started, and was not assigned"));
            return pid;
        };
        let (process, is_init) = (Ok((pid, started_at)), spec.is_init());
        self.nodes[index].runtime.companions.insert(key.clone(), SimCompanion { process, is_init });
        let noisy = self.is_noisy();
        let random = &mut self.nodes[index].random;
        let fails = noisy && random.per_mille(80);
        let flaps = noisy && spec.container.image.contains(FLAPS);
        let (lives, code) = match (is_init, fails || flaps) {
            (true, fails) => (random.between(20, 3000), i32::from(fails)),
            (false, true) => (random.between(1, 8000), 1),
            (false, false) => (random.between(20_000, 1_800_000), 1),
        };
        if is_init || noisy {
            let (key, exit) = (key.clone(), Exit::Code(code));
            self.after(lives, Event::CompanionExit { node: index, key, pid, exit });
        }
        pid
    }

    /// A process beside a main one ends by itself: in quiet times only a step, and well.
    pub fn companion_exit(&mut self, index: NodeIndex, key: CompanionAttempt, pid: u32, exit: Exit) {
        let (away, noisy) = (self.nodes[index].runtime.away, self.is_noisy());
        let Some(companion) = self.nodes[index].runtime.companions.get_mut(&key) else { return };
        let is_this = matches!(companion.process, Ok((running, _)) if running == pid);
        if !is_this || (!noisy && !companion.is_init) {
            return;
        }
        let exit = if noisy { exit } else { Exit::Code(0) };
        companion.process = Err(if away { Exit::Unknown } else { exit.clone() });
        self.note(&format!(
            "{}: companion {} of {} exits by itself",
            self.nodes[index].id, key.companion, key.instance
        ));
        if !away {
            self.note_step(index, &key, &exit);
            let takes = self.nodes[index].random.between(1, 20);
            self.answer(index, takes, Input::Companion { key, event: CompanionEvent::Exited { exit } });
        }
    }
}

fn spec_of<'a>(assignment: &'a Assignment, key: &CompanionAttempt) -> Option<&'a CompanionSpec> {
    assignment.companions.get(usize::from(key.companion))
}

//! Judges a rollout: who is on trial, who passed, what failed, and what follows.
//!
//! An instance that is placed while its workload's change is judged is on trial: it gets no connections and replaces nobody
//! until it was well for `healthy_for` without a break. So a revision that dies in that time loses no request.

use api_types::{
    id::WorkloadId,
    instance::{Exit, Health, InstanceState},
    rollout::{OnFailure, RolloutState, UpdateSpec},
    time::Timestamp,
};

use crate::{
    admission,
    cluster::{held::Held, rollouts::Trial, rows::Observation, workloads::WorkloadEntry},
    history::Subject,
    machine::Scheduler,
    reconcile::rollout_share,
    requests::{Origin, keep_count},
    timers::Timer,
};

/// What a look at an instance on trial gives.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// It shows more.
    Goes(Option<Timestamp>),
    /// It works.
    Passed,
    /// It does not.
    Failed(String),
}

/// What is left of a rollout, as a pass over its workload found it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Remainder {
    /// Whether an instance of an earlier revision is on a node that is heard of.
    pub(crate) outdated: bool,
    /// Whether somebody is missing or not well yet.
    pub(crate) under_way: bool,
    /// How many run what is wanted.
    pub(crate) updated: usize,
    /// How many of these are known to do their work.
    pub(crate) serving: usize,
    /// Whether anybody shall run at all.
    pub(crate) is_meant: bool,
}

impl Scheduler {
    /// Looks at the instances of a workload that are on trial; rolls back what failed. Whether that changed what is wanted.
    pub(crate) fn judge_rollout(&mut self, id: &WorkloadId) -> bool {
        let Some(trials) = self.cluster.rollouts.get(id).map(|entry| entry.trials.clone()) else { return false };
        let mut failure = None;
        for (number, mut trial) in trials {
            let Some(held) = self.cluster.held(number).filter(|held| held.is_wanted()) else {
                if let Some(entry) = self.cluster.rollouts.get_mut(id) {
                    entry.trials.remove(&number);
                }
                continue;
            };
            let is_current = self.cluster.workloads.get(id).is_some_and(|entry| held.revision() >= entry.run.since);
            match self.look_at_trial(held, &mut trial) {
                Verdict::Passed => {
                    self.cluster.end_trial(number);
                    continue;
                }
                Verdict::Goes(at) => {
                    if let Some(at) = at {
                        self.timers.set(at, Timer::Look(id.clone()));
                    }
                }
                Verdict::Failed(why) if is_current && failure.is_none() => {
                    failure = Some(format!("{} on {} {why}", held.id(), held.node_id()));
                }
                Verdict::Failed(_) => {}
            }
            if let Some(entry) = self.cluster.rollouts.get_mut(id) {
                entry.trials.insert(number, trial);
            }
        }
        match failure {
            Some(cause) if self.is_judged(id) => self.rollout_failed(id, &cause),
            Some(_) | None => false,
        }
    }

    /// Whether what a rollout shows decides how it goes on: it is judged, and nobody paused it.
    pub(super) fn is_judged(&self, id: &WorkloadId) -> bool {
        self.cluster.rollout(id).is_some_and(|rollout| rollout.is_judged() && rollout.paused_by.is_empty())
    }

    /// What an instance on trial shows now.
    fn look_at_trial(&self, held: Held<'_>, trial: &mut Trial) -> Verdict {
        if !held.node().is_ready() || !held.node().synced {
            *trial = Trial::default();
            return Verdict::Goes(None);
        }
        let since = *trial.since.get_or_insert(self.now);
        let update = self.update_of(held.workload()).cloned().unwrap_or_default();
        let observation = held.observation();
        if let Some(end) = observation.as_ref().and_then(|observation| end_of(held, observation)) {
            return Verdict::Failed(end);
        }
        if let Some(missing) = observation.as_ref().filter(|observation| observation.findings.no_image) {
            return Verdict::Failed(with("cannot start", &missing.reason));
        }
        if held.looks_well() {
            let well_since = *trial.well_since.get_or_insert(self.now);
            let at = well_since + update.healthy_for_ms;
            return if self.is_due(at) { Verdict::Passed } else { Verdict::Goes(Some(at)) };
        }
        let was_well = trial.well_since.take();
        if let (Some(was_well), true) = (was_well, held.fails_its_probe()) {
            let seconds = self.now.since(was_well) / 1_000;
            let heard = observation.as_ref().map(what_it_says).unwrap_or_default();
            return Verdict::Failed(with(&format!("was healthy for {seconds} s, then failed its probe"), &heard));
        }
        let at = since + update.deadline_ms;
        if !self.is_due(at) {
            return Verdict::Goes(Some(at));
        }
        let seconds = update.deadline_ms / 1_000;
        let silent = || "its node said nothing of it".to_owned();
        let heard = observation.as_ref().map_or_else(silent, what_it_says);
        Verdict::Failed(with(&format!("was not healthy within {seconds} s"), &heard))
    }

    /// Whether a time is over. Much may lie unread in the queue when the scheduler was held up, so only a tick says so, but
    /// for what is due at once.
    pub(super) fn is_due(&self, at: Timestamp) -> bool {
        self.now == at || (self.is_tick && self.now >= at)
    }

    /// What follows from a failure; whether that changed what is wanted.
    pub(super) fn rollout_failed(&mut self, id: &WorkloadId, cause: &str) -> bool {
        let on_failure = self.update_of(id).map_or(OnFailure::Rollback, |update| update.on_failure);
        match on_failure {
            OnFailure::Rollback => match self.roll_back(id, cause) {
                Ok(()) => true,
                Err(obstacle) => {
                    self.hold_failed(id, &format!("{cause}; {obstacle}"));
                    false
                }
            },
            OnFailure::Pause => {
                self.hold_failed(id, cause);
                false
            }
        }
    }

    /// Brings back the last revision that is known to work.
    ///
    /// # Errors
    /// Why that cannot be.
    pub(crate) fn roll_back(&mut self, id: &WorkloadId, cause: &str) -> Result<(), String> {
        let nothing = || "no earlier revision is known to work, so nothing comes back".to_owned();
        let rollout = self.cluster.rollout(id).ok_or_else(nothing)?;
        let (failed, good) = (rollout.current().revision, rollout.last_good().cloned().ok_or_else(nothing)?);
        let mut spec = good.spec;
        if let Some(entry) = self.cluster.workloads.get(id) {
            keep_count(&mut spec, entry.spec());
        }
        admission::admit(&self.cluster, &self.settings, std::slice::from_ref(&spec), None)
            .map_err(|refusal| format!("revision {} cannot come back: {refusal}", good.revision))?;
        let reason = format!("rolled back from revision {failed} to {}: {cause}", good.revision);
        self.take_over(spec, &Origin { by: "scheduler".to_owned(), reason, is_good: true });
        self.cluster.change_rollout(id, |rollout| {
            rollout.state = RolloutState::RollingBack;
            rollout.failed = Some(failed);
            cause.clone_into(&mut rollout.cause);
        });
        let message = format!("revision {failed} did not work, revision {} comes back: {cause}", good.revision);
        self.history.add(self.now, Subject::Workload(id), "rolling-back", message);
        Ok(())
    }

    /// Replaces nothing more until somebody says how to go on.
    fn hold_failed(&mut self, id: &WorkloadId, cause: &str) {
        let mut failed = None;
        self.cluster.change_rollout(id, |rollout| {
            rollout.state = RolloutState::Failed;
            rollout.failed = Some(rollout.current().revision);
            cause.clone_into(&mut rollout.cause);
            failed = rollout.failed;
        });
        let message = format!("revision {} does not work: {cause}", failed.unwrap_or_default());
        self.history.add(self.now, Subject::Workload(id), "rollout-failed", message);
    }

    /// Notes how far a rollout is, after a pass over its workload. Nodes that are silent hold none up, but that nothing is left on
    /// those that are heard of proves nothing: somebody must be seen to do its work, where anybody shall.
    pub(crate) fn note_progress(&mut self, id: &WorkloadId, wanted: usize, left: Remainder) {
        let Some(rollout) = self.cluster.rollout(id).filter(|rollout| rollout.is_open()) else { return };
        let revision = rollout.current().revision;
        if left.under_way || (left.is_meant && left.serving == 0) {
            return;
        }
        let is_at_canary = self.canary_of(id, wanted).is_some_and(|canary| left.serving >= canary);
        let (state, kind, message) = if !left.outdated && rollout.state == RolloutState::RollingBack {
            (RolloutState::RolledBack, "rolled-back", format!("revision {revision} runs everywhere"))
        } else if !left.outdated && left.serving == 0 {
            (RolloutState::Complete, "rollout-complete", format!("revision {revision} shall run nowhere"))
        } else if !left.outdated {
            (RolloutState::Complete, "rollout-complete", format!("revision {revision} works"))
        } else if is_at_canary && rollout.state == RolloutState::Progressing {
            let message = format!("{} of {wanted} run revision {revision}: promote or abort it", left.updated);
            (RolloutState::AwaitingPromotion, "canary-well", message)
        } else {
            return;
        };
        self.cluster.change_rollout(id, |rollout| {
            rollout.state = state;
            rollout.current_mut().is_good |= state == RolloutState::Complete && left.serving > 0;
        });
        self.history.add(self.now, Subject::Workload(id), kind, message);
    }

    /// How many instances of a workload may be under way at once in a rollout: none while it is held up.
    pub(crate) fn rollout_width(&self, id: &WorkloadId, wanted: usize, updated: usize) -> usize {
        let share = self.update_of(id).and_then(|update| update.parallel);
        let width = share.map_or_else(|| rollout_share(wanted), |share| share.of(wanted));
        let Some(rollout) = self.cluster.rollout(id) else { return width };
        if !rollout.paused_by.is_empty()
            || matches!(rollout.state, RolloutState::Failed | RolloutState::AwaitingPromotion)
        {
            return 0;
        }
        self.canary_of(id, wanted).map_or(width, |canary| width.min(canary.saturating_sub(updated)))
    }

    /// Of how many instances a person wants to see first how they do; `None` = of none, or they did.
    fn canary_of(&self, id: &WorkloadId, wanted: usize) -> Option<usize> {
        let rollout = self.cluster.rollout(id).filter(|rollout| rollout.is_judged() && !rollout.is_promoted)?;
        let canary = rollout.current().spec.update.as_ref()?.canary?;
        Some(canary.of(wanted))
    }

    /// Whether a rollout is not over yet: then it makes a difference who is well.
    pub(crate) fn is_rolling_out(&self, id: &WorkloadId) -> bool {
        self.cluster.rollout(id).is_some_and(|rollout| rollout.is_open())
    }

    /// Puts an instance on trial that was just placed, if its workload's change is judged.
    pub(crate) fn try_placed(&mut self, id: &WorkloadId, number: u64) {
        if self.cluster.rollout(id).is_some_and(|rollout| rollout.is_judged()) {
            self.cluster.begin_trial(number);
        }
    }

    /// After a restart: an instance is on trial again whose predecessor is still there, as that goes only once it passed.
    pub(crate) fn resume_trials(&mut self) {
        let judged = self.cluster.rollouts.iter().filter(|(_, entry)| entry.rollout.is_judged());
        for id in judged.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            let Some(since) = self.cluster.workloads.get(&id).map(|entry| entry.run.since) else { continue };
            let wanted: Vec<Held<'_>> = self.cluster.instances_of(&id).filter(|held| held.is_wanted()).collect();
            let has_predecessor = |slot| wanted.iter().any(|held| held.slot() == slot && held.revision() < since);
            let tried = wanted.iter().filter(|held| held.revision() >= since && has_predecessor(held.slot()));
            for number in tried.map(|held| held.number).collect::<Vec<_>>() {
                self.cluster.begin_trial(number);
            }
        }
    }

    pub(super) fn update_of(&self, id: &WorkloadId) -> Option<&UpdateSpec> {
        self.cluster.workloads.get(id).map(WorkloadEntry::spec)?.update.as_ref()
    }
}

/// How the process of an instance ended, if that is its own doing; `None` = it did not, or its node went down with it.
fn end_of(held: Held<'_>, observation: &Observation) -> Option<String> {
    let lines = observation.findings.last_lines.trim_end();
    let last_line = lines.rsplit('\n').next().unwrap_or_default();
    match &observation.last_exit {
        // Its node fenced it: that is nobody's fault.
        _ if observation.state == InstanceState::Stopped => None,
        Some(Exit::Unknown) | None if held.has_ended() => {
            let state = observation.state.as_str();
            Some(with(&format!("ended for good ({state})"), &observation.reason))
        }
        Some(Exit::Unknown) | None => None,
        Some(exit) => Some(with(&exit.describe(), last_line)),
    }
}

/// Whether an instance shows that it does not work: it ended, cannot start or fails its probe.
pub(super) fn is_failing(held: Held<'_>) -> bool {
    let shows = |observation: &Observation| end_of(held, observation).is_some() || observation.findings.no_image;
    !held.looks_well() && (held.fails_its_probe() || held.observation().as_ref().is_some_and(shows))
}

/// What a node says of an instance that is not well.
fn what_it_says(observation: &Observation) -> String {
    if !observation.reason.is_empty() {
        return observation.reason.clone();
    }
    let heard = observation.findings.probes.iter().find(|probe| probe.health != Health::Healthy);
    match heard {
        Some(probe) if !probe.output.is_empty() => format!("its {} probe heard: {}", probe.kind.as_str(), probe.output),
        Some(_) | None if observation.state == InstanceState::Running => "its probe does not answer".to_owned(),
        Some(_) | None => format!("it is {}", observation.state.as_str()),
    }
}

fn with(what: &str, detail: &str) -> String {
    if detail.is_empty() { what.to_owned() } else { format!("{what}: {detail}") }
}

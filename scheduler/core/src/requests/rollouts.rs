//! What people do to rollouts, and the revisions that are kept for it.

use api_types::{
    counter::Revision,
    id::WorkloadId,
    rollout::{RolloutAction, RolloutState},
    workload::WorkloadSpec,
};

use crate::{
    admission,
    effect::{KeptRevision, Refusal, Rollout},
    history::Subject,
    machine::Scheduler,
    reconcile::slots::is_current,
};

/// How a revision came about.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    /// Who applied it.
    pub(crate) by: String,
    /// How, for people.
    pub(crate) reason: String,
    /// Whether it is known to work.
    pub(crate) is_good: bool,
}

impl Scheduler {
    /// Keeps a spec that is about to be what is wanted, and begins to judge its rollout.
    pub(crate) fn note_revision(
        &mut self,
        spec: &WorkloadSpec,
        (revision, runs_since): (Revision, Revision),
        action: &str,
        origin: &Origin,
    ) {
        let kept = KeptRevision {
            revision,
            at: self.now,
            by: origin.by.clone(),
            reason: origin.reason.clone(),
            is_good: origin.is_good,
            spec: spec.clone(),
        };
        let Some(mut rollout) = self.rollout_so_far(&spec.id) else {
            self.cluster.put_rollout(Rollout::first(kept));
            return;
        };
        if action == "scale" {
            let current = rollout.current_mut();
            (current.revision, current.spec) = (revision, kept.spec);
            self.cluster.put_rollout(rollout);
            return;
        }
        rollout.current_mut().is_good |= self.does_work(&spec.id, &rollout);
        let is_same = runs_since != revision;
        let is_good = kept.is_good || is_same && rollout.current().is_good;
        rollout.add(KeptRevision { is_good, ..kept });
        if !is_same {
            let is_judged = spec.update.is_some();
            rollout.state = if is_judged { RolloutState::Progressing } else { RolloutState::Complete };
            (rollout.failed, rollout.is_promoted) = (None, false);
            rollout.cause.clear();
        }
        self.cluster.put_rollout(rollout);
    }

    /// What is known of a workload's rollout; of one that is older than this record, what can be told. `None` = there is no
    /// such workload.
    pub(crate) fn rollout_so_far(&self, id: &WorkloadId) -> Option<Rollout> {
        if let Some(rollout) = self.cluster.rollout(id) {
            return Some(rollout.clone());
        }
        let workload = &self.cluster.workloads.get(id)?.workload;
        Some(Rollout::first(KeptRevision {
            revision: workload.revision,
            at: workload.applied_at,
            by: String::new(),
            reason: "applied".to_owned(),
            is_good: false,
            spec: workload.spec.clone(),
        }))
    }

    /// Whether what is wanted now is known to work: nothing failed, and some instance of it did its work when it was last heard
    /// of. Just after a restart nobody knows, and nothing speaks against it.
    pub(crate) fn does_work(&self, id: &WorkloadId, rollout: &Rollout) -> bool {
        if !matches!(rollout.state, RolloutState::Complete | RolloutState::RolledBack) {
            return false;
        }
        let Some(entry) = self.cluster.workloads.get(id) else { return false };
        let mut current = self.cluster.instances_of(id).filter(|held| held.is_wanted() && is_current(*held, entry));
        current.any(|held| self.is_warming_up() || held.is_well())
    }

    /// Does to a rollout what a person asks for; one line says what was done.
    pub(crate) fn act_on_rollout(&mut self, id: &WorkloadId, action: RolloutAction) -> Result<String, Refusal> {
        let rollout = self.rollout_so_far(id).ok_or_else(|| Refusal::UnknownWorkload(id.clone()))?;
        match action {
            RolloutAction::Undo { to } => self.undo(id, rollout, to),
            RolloutAction::Pause => self.pause(id, rollout),
            RolloutAction::Resume => self.resume(id, rollout),
            RolloutAction::Promote => self.promote(id, rollout),
            RolloutAction::Abort => self.abort(id, &rollout),
        }
    }

    fn undo(&mut self, id: &WorkloadId, rollout: Rollout, to: Option<Revision>) -> Result<String, Refusal> {
        let current = rollout.current();
        let target = target_of(id, &rollout, to)?.clone();
        let mut spec = target.spec;
        keep_count(&mut spec, &current.spec);
        if spec == current.spec {
            return Err(Refusal::Conflict(format!("revision {} of `{id}` is what is wanted already", target.revision)));
        }
        admission::admit(&self.cluster, &self.settings, std::slice::from_ref(&spec), None)?;
        let reason = format!("undo of revision {}: back to {}", current.revision, target.revision);
        if !rollout.paused_by.is_empty() {
            self.cluster.put_rollout(Rollout { paused_by: String::new(), ..rollout });
        }
        self.take_over(spec, &Origin { by: self.asked_by.clone(), reason, is_good: target.is_good });
        let now = self.cluster.workloads.get(id).map(|entry| entry.workload.revision).unwrap_or_default();
        let message = format!("revision {} comes back as revision {now}", target.revision);
        self.history.add(self.now, Subject::Workload(id), "undone", message.clone());
        Ok(format!("{id}: {message}"))
    }

    fn pause(&mut self, id: &WorkloadId, mut rollout: Rollout) -> Result<String, Refusal> {
        if !rollout.paused_by.is_empty() {
            return Err(Refusal::Conflict(format!(
                "the rollout of `{id}` is paused already, by {}",
                rollout.paused_by
            )));
        }
        rollout.paused_by = self.who_asks();
        self.history.add(self.now, Subject::Workload(id), "rollout-paused", format!("by {}", rollout.paused_by));
        self.cluster.put_rollout(rollout);
        Ok(format!("{id}: nothing more is replaced or rolled back until `wherry rollout resume {id}`"))
    }

    fn resume(&mut self, id: &WorkloadId, mut rollout: Rollout) -> Result<String, Refusal> {
        let has_failed = rollout.state == RolloutState::Failed;
        if rollout.paused_by.is_empty() && !has_failed {
            return Err(Refusal::Conflict(format!("the rollout of `{id}` is not paused")));
        }
        rollout.paused_by.clear();
        if has_failed {
            rollout.state = RolloutState::Progressing;
            rollout.failed = None;
            rollout.cause.clear();
        }
        self.cluster.put_rollout(rollout);
        if has_failed {
            // What they showed so far would fail it again.
            let tried = self.cluster.rollouts.get(id).map(|entry| entry.trials.keys().copied().collect::<Vec<_>>());
            for number in tried.unwrap_or_default() {
                self.retire(number);
            }
        }
        let done = if has_failed { "tried again" } else { "resumed" };
        let message = format!("{done} by {}", self.who_asks());
        self.history.add(self.now, Subject::Workload(id), "rollout-resumed", message);
        Ok(format!("{id}: the rollout is {done}"))
    }

    fn promote(&mut self, id: &WorkloadId, mut rollout: Rollout) -> Result<String, Refusal> {
        let has_canary = rollout.current().spec.update.as_ref().is_some_and(|update| update.canary.is_some());
        if !rollout.is_judged() || !has_canary || rollout.is_promoted {
            return Err(Refusal::Conflict(format!("`{id}` has no canary that waits to be promoted")));
        }
        rollout.is_promoted = true;
        rollout.state = RolloutState::Progressing;
        let message = format!("revision {} goes on to all", rollout.current().revision);
        self.history.add(self.now, Subject::Workload(id), "promoted", message.clone());
        self.cluster.put_rollout(rollout);
        Ok(format!("{id}: {message}"))
    }

    fn abort(&mut self, id: &WorkloadId, rollout: &Rollout) -> Result<String, Refusal> {
        if !rollout.is_judged() && rollout.state != RolloutState::Failed {
            return Err(Refusal::Conflict(format!(
                "no rollout of `{id}` is under way; `wherry rollout undo {id}` goes back to an earlier revision"
            )));
        }
        let revision = rollout.current().revision;
        let cause = format!("aborted by {}", self.who_asks());
        self.roll_back(id, &cause).map_err(|obstacle| Refusal::Conflict(format!("`{id}`: {obstacle}")))?;
        self.cluster.change_rollout(id, |rollout| rollout.paused_by.clear());
        Ok(format!("{id}: revision {revision} is taken back"))
    }

    fn who_asks(&self) -> String {
        if self.asked_by.is_empty() { "somebody".to_owned() } else { self.asked_by.clone() }
    }
}

/// How many replicas there are is not undone.
pub(crate) fn keep_count(spec: &mut WorkloadSpec, current: &WorkloadSpec) {
    spec.kind.clone_from(&current.kind);
    spec.scale.clone_from(&current.scale);
}

/// Which revision an undo means.
fn target_of<'r>(id: &WorkloadId, rollout: &'r Rollout, to: Option<Revision>) -> Result<&'r KeptRevision, Refusal> {
    let current = rollout.current().revision;
    let Some(to) = to else {
        let last = rollout.revisions.iter().rev().nth(1);
        return rollout
            .last_good()
            .or(last)
            .ok_or_else(|| Refusal::Conflict(format!("`{id}` has no revision before {current} that is kept")));
    };
    rollout.revisions.iter().find(|kept| kept.revision == to).ok_or_else(|| {
        Refusal::Invalid(format!(
            "revision {to} of `{id}` is not kept: `wherry rollout history {id}` shows those that are"
        ))
    })
}

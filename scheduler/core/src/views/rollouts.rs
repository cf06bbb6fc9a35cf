//! Rollouts and revisions, seen from outside.

use api_types::{
    id::WorkloadId,
    node::Liveness,
    rollout::RolloutState,
    view::{RevisionView, RolloutHistory, RolloutView},
};

use crate::{
    admission,
    cluster::{held::Held, rollouts::Trial, workloads::WorkloadEntry},
    effect::{Refusal, Rollout},
    machine::Scheduler,
    reconcile::slots::is_current,
    views::ports::TakenPorts,
};

/// How many lines say what a rollout waits for.
const LINES_MAX: usize = 8;

impl Scheduler {
    /// How far the latest change of a workload is.
    ///
    /// # Errors
    /// When there is no such workload.
    pub fn rollout_view(&self, id: &WorkloadId) -> Result<RolloutView, Refusal> {
        let unknown = || Refusal::UnknownWorkload(id.clone());
        let entry = self.cluster.workloads.get(id).ok_or_else(unknown)?;
        let rollout = self.rollout_so_far(id).ok_or_else(unknown)?;
        let view = self.workload_view(entry, &TakenPorts::default());
        let old = self.outdated(entry).count();
        let is_done = view.ready >= view.wanted && old == 0 && entry.parked.is_none();
        // What nobody judges is as far as what runs.
        let is_behind = rollout.state == RolloutState::Complete && !is_done;
        let state = if is_behind { RolloutState::Progressing } else { rollout.state };
        let is_over = matches!(state, RolloutState::Complete | RolloutState::RolledBack) && is_done;
        Ok(RolloutView {
            workload: id.clone(),
            revision: entry.workload.revision,
            state,
            paused: paused(&rollout),
            failed: rollout.failed,
            cause: rollout.cause.clone(),
            updated: view.ready,
            wanted: view.wanted,
            waits_for: if is_over { Vec::new() } else { self.waits_for(entry, &rollout) },
            waves: self.wave_views(id),
            closed_ports: self.closed_ports(entry.spec(), &TakenPorts::of(&self.cluster)),
        })
    }

    /// The revisions of a workload that are kept, with what each changed.
    ///
    /// # Errors
    /// When there is no such workload.
    pub fn rollout_history(&self, id: &WorkloadId) -> Result<RolloutHistory, Refusal> {
        let rollout = self.rollout_so_far(id).ok_or_else(|| Refusal::UnknownWorkload(id.clone()))?;
        let current = rollout.current().revision;
        let mut before = None;
        let mut revisions = Vec::new();
        for kept in &rollout.revisions {
            let changes = before.map(|before| admission::differences(before, &kept.spec)).unwrap_or_default();
            before = Some(&kept.spec);
            revisions.push(RevisionView {
                revision: kept.revision,
                at: kept.at,
                by: kept.by.clone(),
                reason: kept.reason.clone(),
                is_current: kept.revision == current,
                is_good: kept.is_good || kept.revision == current && self.does_work(id, &rollout),
                image: kept.spec.container.image.clone(),
                changes,
            });
        }
        Ok(RolloutHistory { workload: id.clone(), revisions })
    }

    /// How the latest change of a workload goes, where that is worth a word: not what it waits for.
    pub(crate) fn rollout_news(&self, id: &WorkloadId, updated: u32, wanted: u32) -> Option<RolloutView> {
        let rollout = self.cluster.rollout(id)?;
        let is_news = rollout.state != RolloutState::Complete || !rollout.paused_by.is_empty();
        is_news.then(|| RolloutView {
            workload: id.clone(),
            revision: rollout.current().revision,
            state: rollout.state,
            paused: paused(rollout),
            failed: rollout.failed,
            cause: rollout.cause.clone(),
            updated,
            wanted,
            waits_for: Vec::new(),
            waves: Vec::new(),
            // Whoever shows this beside the workload names them there.
            closed_ports: String::new(),
        })
    }

    /// The instances that shall go on but run an earlier revision.
    fn outdated<'c>(&'c self, entry: &'c WorkloadEntry) -> impl Iterator<Item = Held<'c>> {
        let all = self.cluster.instances_of(&entry.spec().id);
        all.filter(|held| held.is_wanted() && !is_current(*held, entry))
    }

    /// What a rollout waits for, the most telling first.
    fn waits_for(&self, entry: &WorkloadEntry, rollout: &Rollout) -> Vec<String> {
        let id = &entry.spec().id;
        let mut lines = Vec::new();
        match rollout.state {
            RolloutState::AwaitingPromotion => {
                let weight =
                    rollout.weighed().map(|(_, percent)| format!("; the canary gets {percent} % of the connections"));
                let weight = weight.unwrap_or_default();
                lines.push(format!("a person: `wherry rollout promote {id}` or `wherry rollout abort {id}`{weight}"));
            }
            RolloutState::Failed => {
                lines.push(format!(
                    "a person: `wherry rollout undo {id}`, another `wherry apply`, or `resume` to try again"
                ));
            }
            RolloutState::Progressing
            | RolloutState::RollingBack
            | RolloutState::RolledBack
            | RolloutState::Complete => {}
        }
        if !rollout.paused_by.is_empty() {
            lines.push(format!("a person: `wherry rollout resume {id}`"));
        }
        lines.extend(self.parked_told(entry).map(|reason| format!("room: {reason}")));
        if let Some(site) = self.wave(id).filter(|_| !self.later_waves(id).is_empty()) {
            let later: Vec<&str> = self.later_waves(id).into_iter().collect();
            lines.push(format!("site {site}, before the turn of {}", later.join(", ")));
        }
        let current = self.cluster.instances_of(id).filter(|held| held.is_wanted() && is_current(*held, entry));
        for held in current.filter(|held| !held.is_serving()) {
            let trial = self.cluster.rollouts.get(id).and_then(|entry| entry.trials.get(&held.number));
            lines.push(self.instance_line(entry, held, trial));
        }
        let silent = self.outdated(entry).filter(|held| held.node().liveness != Liveness::Ready);
        for held in silent {
            lines.push(format!(
                "{} on {}, which is silent: it is replaced when the node is back",
                held.id(),
                held.node_id()
            ));
        }
        if lines.len() > LINES_MAX {
            let more = lines.len() - LINES_MAX;
            lines.truncate(LINES_MAX);
            lines.push(format!("{more} more"));
        }
        lines
    }

    fn instance_line(&self, entry: &WorkloadEntry, held: Held<'_>, trial: Option<&Trial>) -> String {
        let update = entry.spec().update.clone().unwrap_or_default();
        let said = match trial.and_then(|trial| trial.well_since) {
            Some(since) => {
                let left_ms = update.healthy_for_ms.saturating_sub(self.now.since(since));
                format!("is healthy, counts in {} s if it stays so", left_ms.div_ceil(1_000))
            }
            None => {
                let view = self.instance_view(held);
                if view.reason.is_empty() { view.state.as_str().to_owned() } else { view.reason }
            }
        };
        format!("{} on {}: {said}", held.id(), held.node_id())
    }
}

fn paused(rollout: &Rollout) -> String {
    if rollout.paused_by.is_empty() { String::new() } else { format!("paused by {}", rollout.paused_by) }
}

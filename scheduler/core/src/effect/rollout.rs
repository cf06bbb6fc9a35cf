//! What is durable of how a workload changes: its last revisions, and how the latest goes.

use api_types::{
    counter::Revision,
    id::WorkloadId,
    rollout::{REVISIONS_MAX, RolloutState},
    time::Timestamp,
    workload::WorkloadSpec,
};
use serde::{Deserialize, Serialize};

/// How a workload changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// The workload.
    pub workload: WorkloadId,
    /// Its last revisions, the newest last. Never empty; changes of the number of replicas alone make none.
    pub revisions: Vec<KeptRevision>,
    /// How far the latest is.
    pub state: RolloutState,
    /// The revision that did not work, if one did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<Revision>,
    /// Why it did not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cause: String,
    /// Who paused it; empty = nobody.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub paused_by: String,
    /// Whether a person let it go on beyond its canary.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_promoted: bool,
}

/// A revision that is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeptRevision {
    /// Which.
    pub revision: Revision,
    /// When it was applied.
    pub at: Timestamp,
    /// Who applied it: a token's id, or `scheduler`; empty = not known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub by: String,
    /// How it came about, for people.
    pub reason: String,
    /// Whether it is known to work.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_good: bool,
    /// What was wanted.
    pub spec: WorkloadSpec,
}

impl Rollout {
    /// How a workload changes that never did.
    #[must_use]
    pub(crate) fn first(kept: KeptRevision) -> Self {
        Self {
            workload: kept.spec.id.clone(),
            revisions: vec![kept],
            state: RolloutState::Complete,
            failed: None,
            cause: String::new(),
            paused_by: String::new(),
            is_promoted: false,
        }
    }

    /// The revision that is wanted now.
    #[must_use]
    pub fn current(&self) -> &KeptRevision {
        self.revisions.last().expect("a rollout keeps at least what is wanted now")
    }

    /// The same, to be changed.
    pub(crate) fn current_mut(&mut self) -> &mut KeptRevision {
        self.revisions.last_mut().expect("a rollout keeps at least what is wanted now")
    }

    /// The newest revision before the current one that is known to work and runs something else.
    #[must_use]
    pub fn last_good(&self) -> Option<&KeptRevision> {
        let current = self.current();
        let is_other = |kept: &&KeptRevision| kept.is_good && !kept.spec.runs_the_same_as(&current.spec);
        self.revisions.iter().rev().skip(1).find(is_other)
    }

    /// Adds what is wanted from now on. Beyond the most that are kept the oldest goes, but not the last one that works.
    pub(crate) fn add(&mut self, kept: KeptRevision) {
        self.revisions.push(kept);
        if self.revisions.len() > REVISIONS_MAX {
            let newest_good = self.revisions.iter().rposition(|kept| kept.is_good);
            self.revisions.remove(usize::from(newest_good == Some(0)));
        }
    }

    /// The revision that is tried with a part of the connections of its own, and that part in percent: the one that nobody has
    /// promoted, or the one that is being taken back.
    #[must_use]
    pub(crate) fn weighed(&self) -> Option<(&KeptRevision, u8)> {
        let revision = match self.state {
            RolloutState::Progressing | RolloutState::AwaitingPromotion | RolloutState::Failed => {
                Some(self.current().revision).filter(|_| !self.is_promoted)?
            }
            RolloutState::RollingBack => self.failed?,
            RolloutState::RolledBack | RolloutState::Complete => return None,
        };
        let tried = self.revisions.iter().find(|kept| kept.revision == revision)?;
        Some((tried, tried.spec.update.as_ref()?.canary_weight?))
    }

    /// Whether a kept revision asks for a part of the connections of its own.
    pub(crate) fn may_be_weighed(&self) -> bool {
        let weight = |kept: &KeptRevision| kept.spec.update.as_ref().and_then(|update| update.canary_weight);
        self.revisions.iter().any(|kept| weight(kept).is_some())
    }

    /// Whether instances are being replaced, and their outcome counts.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.state, RolloutState::Progressing | RolloutState::AwaitingPromotion | RolloutState::RollingBack)
    }

    /// Whether new instances must show that they work, lest they are taken back.
    #[must_use]
    pub fn is_judged(&self) -> bool {
        matches!(self.state, RolloutState::Progressing | RolloutState::AwaitingPromotion)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(revision: u64, is_good: bool) -> KeptRevision {
        let id = "web".parse().expect("a name");
        KeptRevision {
            revision: Revision(revision),
            at: Timestamp(0),
            by: String::new(),
            reason: "applied".to_owned(),
            is_good,
            spec: WorkloadSpec::service(id, format!("web:{revision}"), 1),
        }
    }

    #[test]
    fn the_last_revision_that_works_outlives_any_number_of_bad_ones() {
        let mut rollout = Rollout::first(kept(1, true));
        rollout.add(kept(2, true));

        for revision in 3..40 {
            rollout.add(kept(revision, false));
        }

        assert_eq!(rollout.revisions.len(), REVISIONS_MAX);
        assert_eq!(rollout.last_good().map(|kept| kept.revision), Some(Revision(2)));
        assert_eq!(rollout.current().revision, Revision(39));
    }
}

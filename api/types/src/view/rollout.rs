//! Rollouts and revisions, seen from outside.

use serde::{Deserialize, Serialize};

use crate::{counter::Revision, id::WorkloadId, rollout::RolloutState, time::Timestamp, view::FieldChange};

/// How far the latest change of a workload is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutView {
    /// The workload.
    pub workload: WorkloadId,
    /// The revision that is wanted now.
    pub revision: Revision,
    /// How far it is.
    pub state: RolloutState,
    /// Who or what holds it up, until somebody resumes it; empty = nobody.
    #[serde(default)]
    pub paused: String,
    /// The revision that did not work, if one did not.
    #[serde(default)]
    pub failed: Option<Revision>,
    /// Why it did not; empty = nothing went wrong.
    #[serde(default)]
    pub cause: String,
    /// How many instances run what is wanted and are well.
    pub updated: u32,
    /// Of how many.
    pub wanted: u32,
    /// What it waits for, one line for each; empty when it is complete.
    #[serde(default)]
    pub waits_for: Vec<String>,
    /// Its sites in the order of their turns; empty = it does not go site by site.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waves: Vec<WaveView>,
    /// Ports of the nodes that do not lead to it, as somebody else holds them, in one line; empty = none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub closed_ports: String,
}

/// How far a rollout is at one site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaveView {
    /// The site.
    pub site: String,
    /// Whether it has its turn.
    pub turn: WaveTurn,
    /// How many instances there run what is wanted and are well.
    pub updated: u32,
    /// Of how many.
    pub wanted: u32,
    /// How many of the others are on nodes that are not heard of.
    #[serde(default)]
    pub silent: u32,
}

/// Whether a site has its turn in a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaveTurn {
    /// It had it: what is wanted runs there.
    Done,
    /// It has it.
    Now,
    /// Others are before it.
    Later,
    /// What is left there is on nodes that are not heard of: it holds nobody up, and catches up.
    Silent,
}

impl WaveTurn {
    /// As people read it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Now => "now",
            Self::Later => "later",
            Self::Silent => "silent",
        }
    }
}

/// The revisions of a workload that are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutHistory {
    /// The workload.
    pub workload: WorkloadId,
    /// The newest last.
    pub revisions: Vec<RevisionView>,
}

/// A revision that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevisionView {
    /// Which.
    pub revision: Revision,
    /// When it was applied.
    pub at: Timestamp,
    /// Who applied it: a token's id, or `scheduler`; empty = not known.
    #[serde(default)]
    pub by: String,
    /// How it came about.
    pub reason: String,
    /// Whether it is what is wanted now.
    pub is_current: bool,
    /// Whether it is known to work.
    pub is_good: bool,
    /// What it runs.
    pub image: String,
    /// What differs from the one before it in this list; empty for the first.
    pub changes: Vec<FieldChange>,
}

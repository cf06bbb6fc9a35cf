//! Rollouts: how a changed workload takes the place of what runs, who says that it works, and what happens if it does not.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::counter::Revision;

/// Milliseconds for which a new instance must be well before it counts, where nothing else is said.
pub const HEALTHY_FOR_MS: u64 = 10_000;
/// Milliseconds within which a new instance must count, where nothing else is said.
pub const DEADLINE_MS: u64 = 300_000;
/// How many revisions of a workload are kept. One that is known to work stays beyond that, as long as no newer one is.
pub const REVISIONS_MAX: usize = 10;

/// How changes of a workload are rolled out. A workload that says nothing of it is replaced a tenth at a time, each instance as
/// soon as its successor is well, and nobody judges the outcome.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpdateSpec {
    /// Who goes first; `None` = the new instance, unless a host port or a volume forbids that two are there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<UpdateOrder>,
    /// How many instances are replaced at once; `None` = a tenth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallel: Option<Share>,
    /// Milliseconds for which a new instance must be well without a break before it gets connections and its predecessor goes.
    pub healthy_for_ms: u64,
    /// Milliseconds within which it must get there, while its node is heard of.
    pub deadline_ms: u64,
    /// What follows when one does not.
    pub on_failure: OnFailure,
    /// How many instances are replaced before the rollout waits for a person to promote it; `None` = all, without waiting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Share>,
    /// How much of the connections those get together until the rollout is promoted, in percent, [`CANARY_WEIGHT_MIN`] to
    /// [`CANARY_WEIGHT_MAX`]; `None` = as much as any others of the same number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary_weight: Option<u8>,
    /// One site after the other, these first, in this order, then the others by name. `None` = all at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waves: Option<Vec<String>>,
}

/// The smallest part of the connections that a canary is given, in percent.
pub const CANARY_WEIGHT_MIN: u8 = 1;
/// The largest.
pub const CANARY_WEIGHT_MAX: u8 = 99;
/// The most sites whose order is said.
pub const WAVES_MAX: usize = 64;

impl Default for UpdateSpec {
    fn default() -> Self {
        Self {
            order: None,
            parallel: None,
            healthy_for_ms: HEALTHY_FOR_MS,
            deadline_ms: DEADLINE_MS,
            on_failure: OnFailure::Rollback,
            canary: None,
            canary_weight: None,
            waves: None,
        }
    }
}

/// Whether a successor is there before its predecessor goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpdateOrder {
    /// It is: needs room for two, loses nothing.
    StartFirst,
    /// It is not.
    StopFirst,
}

impl UpdateOrder {
    /// As in the manifest.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::StartFirst => "start-first",
            Self::StopFirst => "stop-first",
        }
    }
}

/// What follows when a new instance does not get well, or not for long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// The last revision that is known to work comes back.
    Rollback,
    /// Nothing more is replaced until a person says how to go on.
    Pause,
}

impl OnFailure {
    /// As in the manifest.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rollback => "rollback",
            Self::Pause => "pause",
        }
    }
}

/// A part of a workload's instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Share {
    /// So many.
    Count(u32),
    /// So many of a hundred, rounded down: 1 to 100.
    Percent(u8),
}

impl Share {
    /// How many of `total` that is: at least one.
    #[must_use]
    pub fn of(self, total: usize) -> usize {
        let number = match self {
            Self::Count(count) => count as usize,
            Self::Percent(percent) => total.saturating_mul(percent.into()) / 100,
        };
        number.max(1)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// How far the latest change of a workload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RolloutState {
    /// Instances are being replaced.
    Progressing,
    /// The canary is well: a person is to promote or abort it.
    AwaitingPromotion,
    /// It did not work, and the last revision that did comes back.
    RollingBack,
    /// That revision is back.
    RolledBack,
    /// It did not work: nothing more is replaced until a person says how to go on.
    Failed,
    /// What is wanted runs, wherever nodes are heard of.
    Complete,
}

impl RolloutState {
    /// As people read it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Progressing => "progressing",
            Self::AwaitingPromotion => "awaiting-promotion",
            Self::RollingBack => "rolling-back",
            Self::RolledBack => "rolled-back",
            Self::Failed => "failed",
            Self::Complete => "complete",
        }
    }

    /// Whether what a person applied did not work.
    #[must_use]
    pub fn has_failed(self) -> bool {
        matches!(self, Self::RollingBack | Self::RolledBack | Self::Failed)
    }
}

/// What a person does to a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "action", deny_unknown_fields)]
pub enum RolloutAction {
    /// Applies an earlier revision again.
    Undo {
        /// Which; `None` = the last before this one that is known to work, or else the last.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<Revision>,
    },
    /// Replaces nothing more, and rolls nothing back, until it is resumed.
    Pause,
    /// Goes on; a rollout that failed is tried again.
    Resume,
    /// Goes on beyond the canary.
    Promote,
    /// Brings the last revision back that is known to work.
    Abort,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_at_least_one() {
        assert_eq!(Share::Percent(25).of(10), 2);
        assert_eq!(Share::Percent(1).of(10), 1);
        assert_eq!(Share::Percent(100).of(7), 7);
        assert_eq!(Share::Count(3).of(2), 3, "as many as there are is for the one who asks");
        assert_eq!(Share::Percent(50).of(0), 1);
    }
}

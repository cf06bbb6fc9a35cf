//! Jobs: what runs until it is done, how often it is tried, and what is kept of it.

use serde::{Deserialize, Serialize};

use crate::instance::Exit;

/// The most instances of one run that can be asked for.
pub const COMPLETIONS_MAX: u32 = 1_000;
/// The most tries after the first that a job can have.
pub const RETRIES_MAX: u32 = 1_000;
/// The most runs that ended of which something is kept.
pub const KEEP_MAX: u32 = 100;

/// How a job runs. Without a schedule it runs once when it is applied, and once more each time that what it runs changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobSpec {
    /// How many instances must end with success, each in a slot of its own: 1 to [`COMPLETIONS_MAX`].
    pub completions: u32,
    /// How many of them run at once at most; at least 1.
    pub parallelism: u32,
    /// How often a process that ended otherwise than with code 0 is followed by another, for each slot: up to [`RETRIES_MAX`].
    pub retries: u32,
    /// Milliseconds after its beginning at which a run that is not done fails; `None` = never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// How many runs that ended are kept, with what their instances wrote.
    #[serde(default)]
    pub keep: KeepSpec,
}

impl Default for JobSpec {
    fn default() -> Self {
        Self { completions: 1, parallelism: 1, retries: 0, deadline_ms: None, keep: KeepSpec::default() }
    }
}

impl JobSpec {
    /// Whether a run of `other` can go on as one of this.
    #[must_use]
    pub fn runs_the_same_as(&self, other: &Self) -> bool {
        (self.completions, self.retries) == (other.completions, other.retries)
    }
}

/// How many runs that ended are kept: each at most [`KEEP_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeepSpec {
    /// Of those that succeeded.
    pub succeeded: u32,
    /// Of the others.
    pub failed: u32,
}

impl Default for KeepSpec {
    fn default() -> Self {
        Self { succeeded: 3, failed: 5 }
    }
}

/// How far a run of a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Some slot is not done yet.
    Active,
    /// All slots are done.
    Succeeded,
    /// A slot used its tries up, or the deadline passed.
    Failed,
    /// Another revision or another run took its place.
    Stopped,
}

impl RunState {
    /// The word people see.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        }
    }
}

/// What a node remembers of an instance that shall end by itself, or that it ended for good, through restarts and power cuts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tries {
    /// The number that its next process would have.
    pub next_attempt: u32,
    /// How many of its processes ended with an error. An end that nobody saw counts for nothing.
    pub failed: u32,
    /// How the last one ended.
    pub last_exit: Exit,
    /// Whether the node ended it for good, as nobody was sure to hear the node for too long.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fenced: bool,
}

impl Tries {
    /// Whether it is done.
    #[must_use]
    pub fn has_succeeded(&self) -> bool {
        self.last_exit == Exit::Code(0)
    }
}

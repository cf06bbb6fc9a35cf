//! When a process that runs is started again, and when another node shall try.

use serde::{Deserialize, Serialize};

use crate::probe::ProbeSpec;

/// The most restarts in a row that a spec can allow.
pub const RESTARTS_MAX: u32 = 1000;

/// When an instance's process is started again though it did not end, and how often that helps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestartSpec {
    /// Asked until it is well once; no other probe is asked before. Not well at the end of its grace: started again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startup: Option<ProbeSpec>,
    /// Asked while it runs; its failures in a row: started again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub liveness: Option<ProbeSpec>,
    /// Restarts in a row, none of which led to a long run, after which another node shall try; `None` = never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_restarts: Option<u32>,
}

impl RestartSpec {
    /// Whether it says nothing.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

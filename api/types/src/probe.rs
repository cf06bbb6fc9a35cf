//! Probes: how the agent asks an instance whether it is well.

use serde::{Deserialize, Serialize};

/// How often, how long and how many times to ask, and what.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeSpec {
    /// What is asked.
    pub check: ProbeCheck,
    /// Milliseconds between two probes.
    pub interval_ms: u64,
    /// Milliseconds after which one counts as failed.
    pub timeout_ms: u64,
    /// Failures in a row that make a healthy instance unhealthy.
    pub failures: u32,
    /// Milliseconds after the start in which failures do not count; probes are then four times a second.
    pub grace_ms: u64,
}

/// What a probe does.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ProbeCheck {
    /// Connects to a port of the instance.
    Tcp {
        /// The container's port.
        port: u16,
    },
    /// `GET`s a path; 2xx and 3xx are well, redirects are not followed.
    Http {
        /// The container's port.
        port: u16,
        /// Absolute path with query.
        path: String,
    },
}

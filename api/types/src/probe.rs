//! Probes: how the agent asks an instance whether it is well.

use serde::{Deserialize, Serialize};

use crate::instance::Health;

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
    /// Successes in a row that make one healthy that is not, at least 1. What starts and what is to be started again is known by one.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub successes: u32,
    /// Milliseconds after the start in which failures do not count; probes are then four times a second.
    pub grace_ms: u64,
}

fn one() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_one(number: &u32) -> bool {
    *number == 1
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
    /// Calls `grpc.health.v1.Health/Check` without TLS; `SERVING` is well.
    Grpc {
        /// The container's port.
        port: u16,
        /// Which service's health is asked for; empty = the process's as a whole.
        service: String,
    },
    /// Runs a command in the container; 0 is well. What runs longer than the probe may take is killed.
    Exec {
        /// The command with its arguments, as it is: no shell is around it.
        command: Vec<String>,
    },
}

/// What an instance's probe is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeKind {
    /// Whether it has started: nothing else is asked before, and a process that has not started in time is started again.
    Startup,
    /// Whether it gets connections.
    Health,
    /// Whether its process is to be started again.
    Liveness,
}

impl ProbeKind {
    /// The word people write.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Startup => "startup",
            Self::Health => "health",
            Self::Liveness => "liveness",
        }
    }
}

/// What one probe found out, where it is not simply well.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProbeFinding {
    /// Which probe.
    pub kind: ProbeKind,
    /// Its verdict.
    pub health: Health,
    /// What it got to hear last: a status with the first bytes of a body, or what a command wrote, in one line.
    pub output: String,
}

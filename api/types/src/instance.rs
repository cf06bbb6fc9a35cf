//! Instances: one run of a workload on one node.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::{
    counter::Revision,
    device::DeviceGrant,
    id::{InstanceId, NodeId, WorkloadId},
    probe::{ProbeFinding, ProbeKind},
    time::Timestamp,
};

/// Where an instance is in its life; later ones are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstanceState {
    /// Wanted, no node fits yet.
    Pending,
    /// Has a node, which has not answered yet.
    Assigned,
    /// Its node gets the image and the network ready.
    Preparing,
    /// Its process is being started, or waits for the end of a back-off.
    Starting,
    /// Its process runs.
    Running,
    /// Was asked to end.
    Stopping,
    /// Ended by itself with success.
    Completed,
    /// Ended by itself with an error, for good.
    Failed,
    /// Ended because it was asked to.
    Stopped,
    /// Its node fell silent for too long or left; nobody knows.
    Lost,
}

impl InstanceState {
    /// The one transition table. Within one attempt states only advance; a process that dies goes back from
    /// `Running` to `Starting` under the same id, with a higher attempt.
    #[must_use]
    pub fn may_become(self, next: Self) -> bool {
        if self.is_final() {
            return false;
        }
        next > self
            || (self == Self::Running && next == Self::Starting)
            || (self == Self::Starting && next == Self::Preparing)
    }

    /// Whether nothing follows.
    #[must_use]
    pub fn is_final(self) -> bool {
        self >= Self::Completed
    }

    /// The word people see.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Assigned => "assigned",
            Self::Preparing => "preparing",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
            Self::Lost => "lost",
        }
    }
}

/// The verdict of an instance's probes; an instance without a probe is healthy while it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// No verdict yet.
    #[default]
    Unknown,
    /// Answers.
    Healthy,
    /// Does not answer.
    Unhealthy,
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// By itself, with this code (128 + n for signal n).
    Code(i32),
    /// Killed by the kernel for its memory limit.
    OutOfMemory,
    /// Killed by its node, as this probe failed.
    Probe(ProbeKind),
    /// It is gone and nobody saw how: a power cut, or containerd lost the code.
    Unknown,
}

impl Exit {
    /// What happened to a process, as the end of a sentence about it.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Code(code) => match self.signal() {
                Some(signal) => format!("ended by {signal} (code {code})"),
                None => format!("exited with code {code}"),
            },
            Self::OutOfMemory => "killed at its memory limit".to_owned(),
            Self::Probe(kind) => format!("killed, as its {} probe failed", kind.as_str()),
            Self::Unknown => "ended, nobody saw how".to_owned(),
        }
    }

    /// The signal that ended it, as far as the code says.
    #[must_use]
    pub fn signal(&self) -> Option<&'static str> {
        match self {
            Self::Code(code) => signal_name(*code),
            Self::OutOfMemory | Self::Probe(_) | Self::Unknown => None,
        }
    }
}

/// The signal that a code of 128 + n stands for, where it is one that ends processes (signal(7), all but MIPS).
fn signal_name(code: i32) -> Option<&'static str> {
    let name = match code.checked_sub(128)? {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        10 => "SIGUSR1",
        11 => "SIGSEGV",
        12 => "SIGUSR2",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        31 => "SIGSYS",
        _ => return None,
    };
    Some(name)
}

/// An instance as the scheduler placed it; never changes but for `desired`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Its id.
    pub id: InstanceId,
    /// Whose it is.
    pub workload: WorkloadId,
    /// The place in which instances succeed each other, from 0.
    pub slot: u32,
    /// The spec it runs.
    pub revision: Revision,
    /// The node it was placed on.
    pub node: NodeId,
    /// The devices it was given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<DeviceGrant>,
    /// What is wanted of it.
    pub desired: Desired,
    /// When it was placed.
    pub placed_at: Timestamp,
}

/// What is wanted of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Desired {
    /// It shall run.
    Run,
    /// It shall end and leave nothing.
    Stop,
}

/// What an agent observed of one of its instances.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct InstanceStatus {
    /// Which.
    pub instance: InstanceId,
    /// Where in its life.
    pub state: InstanceState,
    /// The probes' verdict.
    pub health: Health,
    /// Its address; set from `Starting` on.
    pub address: Option<Ipv4Addr>,
    /// Process id on the node, while it runs.
    pub pid: Option<u32>,
    /// How many times its process was started again.
    pub restarts: u32,
    /// How its process last ended.
    pub last_exit: Option<Exit>,
    /// Why it is as it is, in one line for people; empty when all is well.
    pub reason: String,
    /// Since when it is in this state.
    pub since: Timestamp,
    /// What else its node found out.
    #[serde(default, skip_serializing_if = "Findings::is_empty")]
    pub findings: Findings,
}

/// What a node found out about an instance that is not simply well: for who asks why, and for who could place it better.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Findings {
    /// Its probes, by kind; one that was always well is left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub probes: Vec<ProbeFinding>,
    /// The last lines that its process wrote before it last ended, while its ends follow one another.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub last_lines: String,
    /// Whether its process ended again and again, each time shortly after its start.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub crash_loop: bool,
    /// Whether it was restarted as often in a row as its spec allows. Its node goes on; another one may do better.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub used_up: bool,
    /// Whether its image is not there, so that it cannot start before somebody puts it there: the registry does not know it, or
    /// has none for this machine. Its node goes on trying.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_image: bool,
}

/// The most bytes that are kept of the last lines that a process wrote.
pub const LAST_LINES_BYTES_MAX: usize = 500;

impl Findings {
    /// Whether there is nothing to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What one instance used of its node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceUsage {
    /// Thousandths of one CPU, over the last sample.
    pub cpu_millis: u64,
    /// Bytes of memory without reclaimable file pages.
    pub memory_bytes: u64,
    /// Processes and threads.
    pub pids: u64,
    /// Thousandths of a TCP connection that were opened to it each second, over the last sample; `None` = not known, as in all
    /// that people are shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_connections_millis: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_only_advance_but_for_a_restart_in_place() {
        use InstanceState::{Assigned, Completed, Lost, Pending, Preparing, Running, Starting, Stopped, Stopping};

        assert!(Pending.may_become(Assigned) && Assigned.may_become(Running) && Running.may_become(Starting));
        assert!(Starting.may_become(Preparing), "an image may vanish between two attempts");
        assert!(!Stopping.may_become(Running) && !Stopped.may_become(Running) && !Lost.may_become(Completed));
    }

    #[test]
    fn how_a_process_ended_names_the_signal() {
        assert_eq!(Exit::Code(3).describe(), "exited with code 3");
        assert_eq!(Exit::Code(139).describe(), "ended by SIGSEGV (code 139)");
        assert_eq!(Exit::Code(255).describe(), "exited with code 255", "no signal has that number");
        assert_eq!(Exit::Code(i32::MIN).describe(), "exited with code -2147483648");
        assert_eq!(Exit::Probe(ProbeKind::Liveness).describe(), "killed, as its liveness probe failed");
    }
}

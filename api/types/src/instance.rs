//! Instances: one run of a workload on one node.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::{
    counter::Revision,
    device::DeviceGrant,
    id::{InstanceId, NodeId, WorkloadId},
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
    /// It is gone and nobody saw how: a power cut, or containerd lost the code.
    Unknown,
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
}

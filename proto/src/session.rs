//! The messages of a session as values of our own: what was read, or is to be written.

use std::collections::BTreeMap;

use api_types::{
    counter::{Epoch, Generation, RequestId, SessionId},
    id::{InstanceId, Name, WorkloadId},
    instance::{InstanceStatus, InstanceUsage},
    node::{Condition, NodeFacts, NodeUsage},
    relay::VolumeSlot,
    schedule::FollowedAlone,
    time::Timestamp,
    view::LogLine,
};

use crate::{
    network::{InspectNetwork, NetworkInspected},
    relay::OpenRelay,
    update::{AssignmentsUpdate, ServicesUpdate},
};

/// Version of a set or table; ordered by epoch, then generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Marker {
    /// Which run of the scheduler made it.
    pub epoch: Epoch,
    /// Its version in that run.
    pub generation: Generation,
}

/// What an agent says in its session.
#[derive(Clone, Debug, PartialEq)]
pub enum FromAgent {
    /// The first message, once.
    Hello(Box<Hello>),
    /// A sign of life.
    Heartbeat,
    /// A sign of life that is answered by [`FromScheduler::LeaseRenewed`] with the same token, which means nothing to the scheduler.
    RenewLease(u64),
    /// What it did by its own clock while it heard no scheduler, by job; its complete report follows.
    RanAlone(BTreeMap<WorkloadId, FollowedAlone>),
    /// What it observed of its instances.
    Report(Report),
    /// What it observed of its node.
    NodeReport(Box<NodeReport>),
    /// What came of [`FromScheduler::LoadImage`].
    ImageLoaded(ImageLoaded),
    /// The node's kernel balances by this table or a later one.
    Programmed(Marker),
    /// What came of [`FromScheduler::InspectNetwork`].
    NetworkInspected(NetworkInspected),
    /// The bytes that each volume of the node takes on its disk.
    VolumesMeasured(BTreeMap<VolumeSlot, u64>),
}

/// What the scheduler says in a session.
#[derive(Clone, Debug, PartialEq)]
pub enum FromScheduler {
    /// The answer to the hello, once, before anything else.
    Welcome(Welcome),
    /// What shall be on this node: whole, then changes.
    Assignments(AssignmentsUpdate),
    /// How to balance: whole, then changes.
    Services(ServicesUpdate),
    /// What the agent said it holds is what the scheduler has.
    Current(CurrentMarkers),
    /// Send lines of an instance by the `Logs` rpc.
    OpenLogs(OpenLogs),
    /// Nobody reads these lines any more.
    CloseLogs(RequestId),
    /// Fetch this archive by the `ImageArchive` rpc and import it.
    LoadImage(LoadImage),
    /// Try the network.
    InspectNetwork(InspectNetwork),
    /// Serve a person by the `Relay` rpc.
    OpenRelay(OpenRelay),
    /// That person is gone.
    CloseRelay(RequestId),
    /// The [`FromAgent::RenewLease`] with this token was heard.
    LeaseRenewed(u64),
}

/// Who the agent is and what it holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Hello {
    /// The agent's version.
    pub agent_version: String,
    /// Changes at each boot of the machine.
    pub boot_id: String,
    /// The assignment set it holds.
    pub assignments: Option<Marker>,
    /// The service table it holds.
    pub services: Option<Marker>,
    /// The highest epoch it ever saw; a scheduler of a lower one is refused.
    pub highest_epoch: Epoch,
    /// What the node is.
    pub facts: NodeFacts,
}

/// What an agent observed of its instances.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Statuses that changed, or all.
    pub statuses: Vec<InstanceStatus>,
    /// Instances that left nothing behind.
    pub gone: Vec<InstanceId>,
    /// Whether `statuses` is all.
    pub complete: bool,
}

/// What an agent observed of its node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeReport {
    /// What it checks about itself; `None` = as before.
    pub conditions: Option<Vec<Condition>>,
    /// What it is; `None` = as before.
    pub facts: Option<NodeFacts>,
    /// What it uses.
    pub usage: NodeUsage,
    /// What its instances use.
    pub instances: BTreeMap<InstanceId, InstanceUsage>,
    /// The requests that its listeners shared out to instances, wherever they are, in thousandths of a request each second; only
    /// of services whose requests are counted. Who is not named got none.
    pub requests: BTreeMap<InstanceId, u64>,
}

/// What came of a [`LoadImage`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageLoaded {
    /// Which one.
    pub request: RequestId,
    /// The references the node has by it.
    pub images: Vec<String>,
    /// Why not; empty when it went well.
    pub error: String,
}

/// The scheduler's answer to a hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// Which run of the scheduler speaks.
    pub epoch: Epoch,
    /// The session that began.
    pub session: SessionId,
    /// Milliseconds between two heartbeats.
    pub heartbeat_interval_ms: u64,
    /// The scheduler's wall clock.
    pub scheduler_time: Timestamp,
}

/// "You are current."
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CurrentMarkers {
    /// The set that is current; `None` = a set follows.
    pub assignments: Option<Marker>,
    /// The table that is current; `None` = a table follows.
    pub services: Option<Marker>,
}

/// A wish for lines of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenLogs {
    /// Whose answer it will be.
    pub request: RequestId,
    /// Which instance.
    pub instance: InstanceId,
    /// Which of its companions; `None` = its main container.
    pub container: Option<Name>,
    /// How many of the last lines.
    pub tail: u32,
    /// Whether to go on with what comes.
    pub follow: bool,
}

/// A wish to import an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadImage {
    /// Whose answer it will be.
    pub request: RequestId,
    /// `sha256:` and 64 hexadecimal digits.
    pub digest: String,
}

/// Some lines of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogChunk {
    /// For which [`OpenLogs`].
    pub request: RequestId,
    /// Of which instance.
    pub instance: InstanceId,
    /// The lines, oldest first; each of this instance.
    pub lines: Vec<LogLine>,
    /// Why there is no more; empty while all is well.
    pub error: String,
}

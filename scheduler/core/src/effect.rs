//! Everything the scheduler can ask of the world.

mod instance_page;
mod job;
mod rollout;

use std::net::Ipv4Addr;

use api_types::{
    counter::{RequestId, Revision},
    id::{InstanceId, Name, NodeId, SecretId, WorkloadId},
    instance::Instance,
    node::NodeSpec,
    service::WatchKey,
    site::SiteSpec,
    time::Timestamp,
    view::WorkloadChange,
    workload::Workload,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub(crate) use instance_page::PageEntry;
pub use instance_page::{InstancePage, PAGE_NUMBERS, PageError};
pub use job::{ActiveRun, Ahead, EarlierRun, EndedRun, Followed, Job};
pub use rollout::{KeptRevision, Rollout};

/// One wish, as plain data. Within a batch every [`Effect::Persist`] is performed before anything else leaves the process.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Make this durable.
    Persist(Box<Record>),
    /// Forget what is durable under this key.
    Forget(RecordKey),
    /// Answer a person.
    Reply {
        /// Which request.
        request: RequestId,
        /// What came of it.
        outcome: Result<Accepted, Refusal>,
    },
    /// This node's assignment set changed: send what [`crate::Scheduler::assignment_set`] gives.
    AssignmentsChanged(NodeId),
    /// The service table changed: send what [`crate::Scheduler::service_table`] gives to every node.
    ServicesChanged,
    /// The node was removed: end its session and refuse its certificate from now on.
    NodeRemoved(NodeId),
}

/// The effects of one step, in order.
pub type Effects = Vec<Effect>;

/// One durable thing. Loading all of them and calling [`crate::Scheduler::recover`] gives the cluster back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// Counters that must not repeat.
    Counters(Counters),
    /// A registered node.
    Node(NodeSpec),
    /// A workload.
    Workload(Box<Workload>),
    /// Placed instances that have not ended for good.
    Instances(InstancePage),
    /// One of them, as schema 1 wrote it: it is read, and written as a part of its page.
    Instance(Instance),
    /// A service's virtual address.
    ServiceAddress {
        /// Which service.
        workload: WorkloadId,
        /// Its address.
        address: Ipv4Addr,
    },
    /// Data of a slot that stays on its node.
    VolumeHome {
        /// Whose it is.
        workload: WorkloadId,
        /// The slot.
        slot: u32,
        /// The volume's name.
        volume: Name,
        /// Where the data is.
        node: NodeId,
        /// Whether the slot was given up because fewer instances were wanted: it is filled again after all others with data.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        is_given_up: bool,
    },
    /// What an operator said of a site.
    Site(SiteSpec),
    /// With what nodes sign what they tell each other of being alive, since a node was removed.
    WatchKey(WatchKey),
    /// A workload as it was at an earlier revision (`runs_since`) that some instance still runs.
    Revision(Box<Workload>),
    /// How a workload changes: its last revisions, and how the latest goes.
    Rollout(Box<Rollout>),
    /// How many replicas a service has that is scaled by what they use and serve.
    Scale {
        /// Which service.
        workload: WorkloadId,
        /// How many.
        replicas: u32,
    },
    /// A secret.
    Secret(Box<SecretRecord>),
    /// The runs of a job.
    Job(Box<Job>),
}

/// The key of a [`Record`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordKey {
    /// See [`Record::Counters`].
    Counters,
    /// See [`Record::Node`].
    Node(NodeId),
    /// See [`Record::Workload`].
    Workload(WorkloadId),
    /// See [`Record::Instances`]; the number of the page.
    Instances(u64),
    /// See [`Record::Instance`].
    Instance(InstanceId),
    /// See [`Record::ServiceAddress`].
    ServiceAddress(WorkloadId),
    /// See [`Record::VolumeHome`].
    VolumeHome(WorkloadId, u32, Name),
    /// See [`Record::Site`].
    Site(String),
    /// See [`Record::WatchKey`].
    WatchKey,
    /// See [`Record::Revision`]; the revision is the one since which it runs.
    Revision(WorkloadId, Revision),
    /// See [`Record::Rollout`].
    Rollout(WorkloadId),
    /// See [`Record::Scale`].
    Scale(WorkloadId),
    /// See [`Record::Secret`].
    Secret(SecretId),
    /// See [`Record::Job`].
    Job(WorkloadId),
}

impl Record {
    /// The key it is stored under.
    #[must_use]
    pub fn key(&self) -> RecordKey {
        match self {
            Self::Counters(_) => RecordKey::Counters,
            Self::Node(node) => RecordKey::Node(node.id.clone()),
            Self::Workload(workload) => RecordKey::Workload(workload.spec.id.clone()),
            Self::Instances(page) => RecordKey::Instances(page.number()),
            Self::Instance(instance) => RecordKey::Instance(instance.id.clone()),
            Self::ServiceAddress { workload, .. } => RecordKey::ServiceAddress(workload.clone()),
            Self::VolumeHome { workload, slot, volume, .. } => {
                RecordKey::VolumeHome(workload.clone(), *slot, volume.clone())
            }
            Self::Site(site) => RecordKey::Site(site.name.clone()),
            Self::WatchKey(_) => RecordKey::WatchKey,
            Self::Revision(workload) => RecordKey::Revision(workload.spec.id.clone(), workload.runs_since),
            Self::Rollout(rollout) => RecordKey::Rollout(rollout.workload.clone()),
            Self::Scale { workload, .. } => RecordKey::Scale(workload.clone()),
            Self::Secret(secret) => RecordKey::Secret(secret.secret.clone()),
            Self::Job(job) => RecordKey::Job(job.workload.clone()),
        }
    }
}

/// The newest version of a secret. What it is was sealed before it came here: nothing in this crate can read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretRecord {
    /// Its name.
    pub secret: SecretId,
    /// From 1, one more each time it is set.
    pub version: u64,
    /// How long it is.
    pub bytes: u64,
    /// Who set it: the id of a token.
    pub set_by: String,
    /// When.
    pub set_at: Timestamp,
    /// What it is, sealed, as text.
    pub sealed: String,
}

/// Counters that must not repeat, whatever crashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// The next instance's number.
    pub next_instance: u64,
}

/// What came of a change.
#[derive(Clone, Debug, PartialEq)]
pub enum Accepted {
    /// What was changed.
    Workloads(Vec<WorkloadChange>),
    /// The node as registered.
    Node(NodeSpec),
    /// It was done; one line for people says what.
    Done(String),
}

/// Why a change was refused. Nothing of it was done.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// There is no such workload.
    #[error("there is no workload `{0}`")]
    UnknownWorkload(WorkloadId),
    /// There is no such node.
    #[error("there is no node `{0}`")]
    UnknownNode(NodeId),
    /// There is no such node, but one with a name like it.
    #[error("there is no node `{asked}`: did you mean `{nearest}`?")]
    MisspeltNode {
        /// The name that was given.
        asked: NodeId,
        /// The name that was probably meant.
        nearest: NodeId,
    },
    /// There is no such data.
    #[error("{0}")]
    UnknownVolume(String),
    /// There is no such secret.
    #[error("{0}")]
    UnknownSecret(String),
    /// There is no such site.
    #[error("there is no site `{0}`")]
    UnknownSite(String),
    /// There is no such instance.
    #[error("there is no instance `{0}`")]
    UnknownInstance(InstanceId),
    /// It contradicts something else in the cluster.
    #[error("{0}")]
    Conflict(String),
    /// It cannot be as asked for.
    #[error("{0}")]
    Invalid(String),
}

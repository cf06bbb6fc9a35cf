//! What people and programs see of the cluster: the JSON of the HTTP API, version 1.

mod explanation;
mod forecast;
mod job;
mod moves;
mod network;
mod plan;
mod rollout;
mod scale;
mod secret;

use std::{collections::BTreeMap, net::Ipv4Addr};

use serde::{Deserialize, Serialize};

use crate::{
    counter::Revision,
    id::{InstanceId, NodeId, WorkloadId},
    instance::{Exit, Findings, Health, InstanceState, InstanceUsage},
    net::Cidr,
    node::{Availability, Condition, Liveness, NodeFacts, NodeUsage},
    resources::Resources,
    service::ServicePort,
    time::Timestamp,
    workload::WorkloadSpec,
};

pub use explanation::{Explanation, NodeVerdict, PlacedInstance, Rejection, Remedy, ScorePart, VerdictGroup};
pub use forecast::{Forecast, InstanceMove, NodeForecast, QUESTION_NODES_MAX, Question, WorkloadForecast};
pub use job::{JobRunView, JobView};
pub use moves::{Done, RebalanceMove, RebalancePlan, SiteView, VolumeView};
pub use network::{
    CheckKind, Datagram, NetworkCheck, NetworkFailure, NetworkReport, NetworkTrace, NetworkVerdict, TraceRequest,
    TraceStep, VerifyRequest,
};
pub use plan::{Displaced, FieldChange, Plan, PlannedPlacement, PlannedStep, StepKind, WorkloadChange};
pub use rollout::{RevisionView, RolloutHistory, RolloutView, WaveTurn, WaveView};
pub use scale::{LoadView, ScaleView};
pub use secret::SecretView;

/// A list and the version of the cluster's view it was read at. Ask with `?after=VERSION` to wait for a newer one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct List<T> {
    /// Grows with every change that a reader could see; starts anew with each run of the scheduler.
    pub version: u64,
    /// The items, sorted by name.
    pub items: Vec<T>,
}

/// A node, seen from outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeView {
    /// Its name.
    pub name: NodeId,
    /// Its site.
    pub site: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether it is heard of.
    pub liveness: Liveness,
    /// What an operator wants of it.
    pub availability: Availability,
    /// What it says it is.
    pub facts: NodeFacts,
    /// What it checks about itself.
    pub conditions: Vec<Condition>,
    /// What it uses.
    pub usage: NodeUsage,
    /// What placement may give away: the capacity less the system's reserve.
    pub allocatable: Resources,
    /// What placement gave away.
    pub allocated: Resources,
    /// How many instances are placed on it.
    pub instances: u32,
    /// The range of its instances' addresses.
    pub subnet: Cidr,
    /// When it was last heard of; `None` = not since this run of the scheduler began.
    pub last_seen: Option<Timestamp>,
    /// When it joined.
    pub joined_at: Timestamp,
}

/// An instance, seen from outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceView {
    /// Its id; for one that no node fits yet, `WORKLOAD-SLOT` with no node.
    pub name: String,
    /// Whose it is.
    pub workload: WorkloadId,
    /// Its slot.
    pub slot: u32,
    /// The spec's version it runs.
    pub revision: Revision,
    /// Its node.
    pub node: Option<NodeId>,
    /// Where in its life.
    pub state: InstanceState,
    /// The probes' verdict.
    pub health: Health,
    /// Its address.
    pub address: Option<Ipv4Addr>,
    /// Its process id on the node.
    pub pid: Option<u32>,
    /// How many times its process was started again.
    pub restarts: u32,
    /// How its process last ended.
    pub last_exit: Option<Exit>,
    /// Why it is as it is; empty when all is well.
    pub reason: String,
    /// Since when it is in this state.
    pub since: Timestamp,
    /// What it uses.
    pub usage: InstanceUsage,
    /// What it was promised.
    pub reserve: Resources,
    /// What else its node found out.
    #[serde(default, skip_serializing_if = "Findings::is_empty")]
    pub findings: Findings,
}

/// A workload, seen from outside; `services`, `daemons` and `jobs` list these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadView {
    /// Its name.
    pub name: WorkloadId,
    /// `service`, `daemon` or `job`.
    pub kind: String,
    /// The image.
    pub image: String,
    /// Version of the spec.
    pub revision: Revision,
    /// How many instances are wanted now; of a job: by the run that is active.
    pub wanted: u32,
    /// How many run.
    pub running: u32,
    /// How many are healthy and of this revision.
    pub ready: u32,
    /// How many no node fits.
    pub pending: u32,
    /// Its virtual address, if it has ports.
    pub address: Option<Ipv4Addr>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// How many endpoints balance it.
    pub endpoints: u32,
    /// Why it is not as wanted; empty when all is well.
    pub reason: String,
    /// How its latest change goes; `None` = it is complete, and nothing went wrong with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutView>,
    /// How it is scaled by what its replicas use and serve; `None` = it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<ScaleView>,
    /// What a job did and does; `None` = it is no job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobView>,
    /// When this revision was applied.
    pub applied_at: Timestamp,
    /// What was asked for.
    pub spec: WorkloadSpec,
}

/// One line of the history shown to people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Grows by one.
    pub sequence: u64,
    /// When.
    pub at: Timestamp,
    /// Of what: a node's, an instance's or a workload's name.
    pub subject: String,
    /// A short fixed word (`placed`, `node-lost`, `restarted`).
    pub kind: String,
    /// One sentence.
    pub message: String,
}

/// A thing with its instances and history: what `describe` shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// The node, when a node was asked for.
    pub node: Option<NodeView>,
    /// The workload, when a workload was asked for.
    pub workload: Option<WorkloadView>,
    /// Its instances, or the one asked for.
    pub instances: Vec<InstanceView>,
    /// What happened to it, oldest first.
    pub events: Vec<Event>,
}

/// What the whole cluster is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterView {
    /// The cluster's id.
    pub cluster: String,
    /// The scheduler's version.
    pub version: String,
    /// Which run of the scheduler this is.
    pub epoch: u64,
    /// When it started.
    pub started_at: Timestamp,
    /// Nodes by liveness.
    pub ready: u32,
    /// Nodes silent for a short while.
    pub unreachable: u32,
    /// Nodes given up.
    pub lost: u32,
}

/// A join token, shown once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinTokenView {
    /// `WJ1-...`: give it to `wherry-agent join`.
    pub token: String,
    /// Until when it is good.
    pub expires_at: Timestamp,
    /// The address to dial, as the scheduler advertises it (`host:port`).
    pub scheduler: String,
}

/// What an error body holds (RFC 9457, `application/problem+json`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// HTTP status.
    pub status: u16,
    /// A stable short word (`not_found`, `invalid`, `conflict`, `unauthorized`, `too_large`, `unavailable`).
    pub code: String,
    /// One sentence: what is wrong.
    pub title: String,
    /// What to do next; may be empty.
    #[serde(default)]
    pub hint: String,
    /// Each single fault, when there are several.
    #[serde(default)]
    pub faults: Vec<Fault>,
}

/// One fault in what was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// A stable short word (`unknown_key`).
    pub code: String,
    /// Which field, as a path.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to write instead; may be empty.
    #[serde(default)]
    pub help: String,
    /// Byte offset in what was sent.
    pub offset: usize,
    /// Length in bytes.
    pub length: usize,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

/// One line of a streamed answer (NDJSON).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamLine<T> {
    /// An item.
    Item(T),
    /// What ended the stream early; always the last line.
    Problem(Problem),
}

/// One line of output of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Which instance.
    pub instance: InstanceId,
    /// When it was written.
    pub at: Timestamp,
    /// `stdout` or `stderr`.
    pub stream: String,
    /// The text without its line end.
    pub text: String,
}

/// What one node did with an image that was loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageOutcome {
    /// Which node.
    pub node: NodeId,
    /// The references it has now.
    pub images: Vec<String>,
    /// Why not; empty when it has them.
    pub error: String,
}

//! Everything that can happen to a cluster.

use std::collections::BTreeMap;

use api_types::{
    counter::{Epoch, Generation, RequestId, Revision, SessionId},
    id::{InstanceId, Name, NodeId, SecretId, WorkloadId},
    instance::{InstanceStatus, InstanceUsage},
    node::{Availability, Condition, NodeFacts, NodeUsage},
    relay::VolumeSlot,
    rollout::RolloutAction,
    schedule::FollowedAlone,
    service::WatchKey,
    site::{Across, Reach},
    workload::WorkloadSpec,
};

use crate::schedule::Zone;

/// One thing that happened. A bad one is refused with [`crate::effect::Effect::Reply`] or counted and ignored.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Time passed: a deadline of [`crate::Scheduler::next_deadline`] is due.
    Tick,
    /// A person asks for something and waits for the answer.
    Request {
        /// Whose answer it will be.
        request: RequestId,
        /// Who asks, for the history: a token's id; empty = not known.
        by: String,
        /// What is asked.
        change: Change,
    },
    /// How the clocks of these time zones go, as the machine of the scheduler knows them. Given at the start for all that
    /// schedules name, and before each change that may name others.
    Zones(BTreeMap<String, Zone>),
    /// An agent said hello on a new session; an older session of that node is over.
    SessionOpened {
        /// Which node, proven by its certificate.
        node: NodeId,
        /// The new session.
        session: SessionId,
        /// What the node says it is.
        facts: NodeFacts,
    },
    /// A session ended. Silence counts from the last heartbeat, not from here.
    SessionClosed {
        /// Which node.
        node: NodeId,
        /// The session that ended; an older one than the node's newest is ignored.
        session: SessionId,
    },
    /// A sign of life.
    Heartbeat {
        /// Which node.
        node: NodeId,
        /// Through which session.
        session: SessionId,
    },
    /// A node's kernel balances by this table or a later one. Counts as a heartbeat.
    Programmed {
        /// Which node.
        node: NodeId,
        /// Through which session.
        session: SessionId,
        /// Which run of the scheduler made the table.
        epoch: Epoch,
        /// The table's version in that run.
        generation: Generation,
    },
    /// What an agent did by its own clock while it heard no scheduler, by job. Its complete report follows. Counts as a heartbeat.
    RanAlone {
        /// Which node.
        node: NodeId,
        /// Through which session.
        session: SessionId,
        /// How far it followed each schedule, and what it began.
        jobs: BTreeMap<WorkloadId, FollowedAlone>,
    },
    /// What an agent observed. Counts as a heartbeat.
    Reported {
        /// Which node.
        node: NodeId,
        /// Through which session.
        session: SessionId,
        /// The statuses of its instances.
        statuses: Vec<InstanceStatus>,
        /// Instances that left nothing behind: stopped and removed.
        gone: Vec<InstanceId>,
        /// Whether `statuses` names every instance the agent knows; what it leaves out is not there.
        complete: bool,
    },
    /// What a node checks about itself, uses, and is. Counts as a heartbeat.
    NodeReported {
        /// Which node.
        node: NodeId,
        /// Through which session.
        session: SessionId,
        /// What it checks about itself; `None` = as before.
        conditions: Option<Vec<Condition>>,
        /// What it is; `None` = as before.
        facts: Option<NodeFacts>,
        /// What it uses.
        usage: NodeUsage,
        /// What its instances use.
        instances: BTreeMap<InstanceId, InstanceUsage>,
        /// The requests that its listeners shared out to instances of services that are scaled by that, wherever they are, in
        /// thousandths of a request each second. Who is not named got none.
        requests: BTreeMap<InstanceId, u64>,
    },
    /// How much the volumes of a node take on its disk. Counts as a heartbeat.
    VolumesMeasured {
        /// Which node.
        node: NodeId,
        /// Through which session.
        session: SessionId,
        /// In bytes.
        volumes: BTreeMap<VolumeSlot, u64>,
    },
}

/// A change of desired state that a person asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Create or update workloads, all or none. An equal spec changes nothing.
    Apply {
        /// What is wanted.
        specs: Vec<WorkloadSpec>,
        /// Refuse unless each existing workload is at this revision; `None` = whatever it is.
        expect: Option<Revision>,
    },
    /// Set the number of replicas of a service.
    Scale {
        /// Which.
        workload: WorkloadId,
        /// How many.
        replicas: u32,
    },
    /// Begin a run of a job now.
    RunJob {
        /// Which.
        workload: WorkloadId,
    },
    /// Remove a workload; its instances end.
    Delete {
        /// Which.
        workload: WorkloadId,
    },
    /// Do something to the rollout of a workload.
    Rollout {
        /// Which.
        workload: WorkloadId,
        /// What.
        action: RolloutAction,
    },
    /// Register a node, or accept the return of a known one with a new key.
    AdmitNode {
        /// Its name.
        node: NodeId,
        /// Its site.
        site: String,
        /// Its labels.
        labels: BTreeMap<String, String>,
    },
    /// Say what is wanted of a node.
    SetAvailability {
        /// Which.
        node: NodeId,
        /// What is wanted.
        availability: Availability,
    },
    /// Forget a node; its instances are replaced elsewhere. Refused while it is ready, unless `force`.
    RemoveNode {
        /// Which.
        node: NodeId,
        /// Even if it is ready.
        force: bool,
        /// With what the nodes sign from now on what they tell each other of being alive: the removed one does not know it.
        /// `None` = with what they sign now.
        watch_key: Option<WatchKey>,
    },
    /// Begin to move instances to where they would be better.
    Rebalance,
    /// Give up data that stays on its node: its slots are placed anywhere, with none.
    ForgetVolume {
        /// Whose it is.
        workload: WorkloadId,
        /// The volume's name.
        volume: Name,
        /// Of this slot; `None` = of all.
        slot: Option<u32>,
    },
    /// Set a secret: the first version, or the one after the newest.
    SetSecret {
        /// Which.
        secret: SecretId,
        /// Which version this is. Refused if it is not the next one: it was sealed for this one.
        version: u64,
        /// How long it is.
        bytes: u64,
        /// Who sets it.
        set_by: String,
        /// What it is, sealed.
        sealed: String,
    },
    /// Forget a secret that nothing uses.
    DeleteSecret {
        /// Which.
        secret: SecretId,
    },
    /// Say how instances of a site are reached. What is `None` stays as it is.
    SetSite {
        /// Which.
        site: String,
        /// By nodes of the site.
        reach: Option<Reach>,
        /// By nodes of other sites.
        across: Option<Across>,
    },
    /// An operator knows that what is silent of a site is dead, not cut off: replace it now, frozen or not.
    ResumeSite {
        /// Which.
        site: String,
    },
}

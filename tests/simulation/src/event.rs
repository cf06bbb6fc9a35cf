//! Everything that is going to happen in the world.

use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc};

use agent_core::{
    Followed, Version,
    effect::Report,
    input::{CompanionAttempt, Input},
};
use api_types::{
    assignment::AssignmentSet,
    counter::{Epoch, RequestId},
    id::{InstanceId, WorkloadId},
    instance::{Exit, InstanceUsage},
    node::{Availability, Condition, NodeFacts},
    probe::ProbeKind,
    service::ServiceTable,
    time::Timestamp,
};
use scheduler_core::effect::Refusal;

use crate::shape::Shape;

/// The number of a node in the world.
pub type NodeIndex = usize;
/// One dialled connection; never used twice.
pub type ConnectionId = u64;
/// Which instance, which attempt.
pub type Key = (InstanceId, u32);

/// One thing that is going to happen.
#[derive(Clone, Debug)]
pub enum Event {
    /// A deadline of the scheduler's core may be due.
    SchedulerTick,
    /// The scheduler's transaction is durable.
    Committed {
        /// In which run of the scheduler.
        epoch: Epoch,
    },
    /// The scheduler starts.
    SchedulerStart,
    /// A session of the scheduler sends what its node does not have yet.
    Pump(ConnectionId),
    /// A session answers what its agent said at this moment, once all is sent that was decided before.
    AnswerLease(ConnectionId, Timestamp),
    /// A message arrives at the scheduler.
    Up(ConnectionId, Up),
    /// A message arrives at an agent.
    Down(ConnectionId, Down),
    /// The scheduler notices that a connection is broken.
    SchedulerNotices(ConnectionId),
    /// The agent notices that a connection is broken.
    AgentNotices(ConnectionId),
    /// One end of a connection has waited long enough for the other, which is stopped.
    GiveUp(ConnectionId),
    /// An agent dials.
    Dial(NodeIndex),
    /// An agent says that it is alive.
    Heartbeat(ConnectionId),
    /// A deadline of an agent's core may be due.
    AgentTick(NodeIndex),
    /// An agent starts.
    AgentStart(NodeIndex),
    /// A node that was forgotten joins again.
    Rejoin(NodeIndex),
    /// A kernel is done with what its agent asked it last.
    Programmed {
        /// Where.
        node: NodeIndex,
        /// By which life of the agent.
        life: u64,
    },
    /// An agent dies, and starts soon after.
    AgentDies(NodeIndex),
    /// A stopped agent goes on.
    AgentThaws {
        /// Where.
        node: NodeIndex,
        /// In which life of the agent it was stopped.
        life: u64,
    },
    /// The stopped scheduler goes on.
    SchedulerThaws {
        /// Which run was stopped.
        epoch: Epoch,
    },
    /// An agent looks for its devices.
    LookForDevices {
        /// Where.
        node: NodeIndex,
        /// In which life of the agent.
        life: u64,
    },
    /// Somebody plugs a device in again.
    Plugged {
        /// Where.
        node: NodeIndex,
        /// Its name.
        device: String,
    },
    /// Power is back.
    PowerOn(NodeIndex),
    /// containerd is back.
    RuntimeBack(NodeIndex),
    /// Something that the agent wished for is done, or failed.
    Done {
        /// Where.
        node: NodeIndex,
        /// Which of its operations.
        operation: u64,
    },
    /// What an agent wants to keep is on its disk.
    Kept {
        /// Where.
        node: NodeIndex,
        /// By which life of the agent.
        life: u64,
        /// What.
        what: Kept,
    },
    /// Something arrives at an agent's core.
    Answer {
        /// Where.
        node: NodeIndex,
        /// For which life of the agent.
        life: u64,
        /// What.
        input: Input,
    },
    /// A process ends by itself.
    Exit {
        /// Where.
        node: NodeIndex,
        /// Which container.
        key: Key,
        /// Which process.
        pid: u32,
        /// How.
        exit: Exit,
    },
    /// A process beside a main one ends by itself.
    CompanionExit {
        /// Where.
        node: NodeIndex,
        /// Which container.
        key: CompanionAttempt,
        /// Which process.
        pid: u32,
        /// How.
        exit: Exit,
    },
    /// A probe is due.
    Probe {
        /// Where.
        node: NodeIndex,
        /// For which life of the agent.
        life: u64,
        /// Whom.
        key: Key,
        /// By which of its probes.
        kind: ProbeKind,
    },
    /// A link, or a whole site's, works again.
    Heal(Vec<NodeIndex>),
    /// Something goes wrong somewhere.
    Fault,
    /// A person wants something.
    Demand,
    /// People look whether what did not work has to be tried again, once all is repaired.
    TryAgain,
    /// A person hears the scheduler's answer.
    Reply {
        /// To which request.
        request: RequestId,
        /// What it was.
        outcome: Result<(), Refusal>,
    },
    /// A request was not answered in time.
    DemandTimeout {
        /// Which.
        request: u64,
    },
    /// A node's availability ends, back to active.
    Uncordon(NodeIndex),
    /// Everything that can be checked at any time is checked.
    Sweep,
}

/// What an agent keeps on its disk.
#[derive(Clone, Debug)]
pub enum Kept {
    /// The assignment set.
    Assignments(Arc<AssignmentSet>),
    /// The service table.
    Services(Arc<ServiceTable>),
    /// Which instance is where.
    Addresses(Arc<BTreeMap<InstanceId, Ipv4Addr>>),
}

/// What an agent tells the scheduler.
#[derive(Clone, Debug)]
pub enum Up {
    /// Who it is and what it holds.
    Hello {
        /// What the node says it is.
        facts: Box<NodeFacts>,
        /// The set and the table that it holds.
        held: (Option<Version>, Option<Version>),
    },
    /// It is alive.
    Heartbeat,
    /// What it did by its own clock.
    Alone(Arc<Followed>),
    /// It is alive, and said so at this moment: to be answered.
    RenewLease(Timestamp),
    /// What it observed.
    Report(Report),
    /// What it checks about itself, and what instances use.
    NodeReport(Vec<Condition>, BTreeMap<InstanceId, InstanceUsage>),
    /// By which table its kernel balances.
    Programmed(Version),
    /// What it is now.
    Facts(Box<NodeFacts>),
}

/// What the scheduler tells an agent.
#[derive(Clone, Debug)]
pub enum Down {
    /// The session began.
    Welcome {
        /// Which run of the scheduler.
        epoch: Epoch,
    },
    /// What shall be on the node.
    Assignments(Arc<AssignmentSet>),
    /// How to balance.
    Services(Arc<ServiceTable>),
    /// What it said at this moment was heard.
    LeaseRenewed(Timestamp),
}

/// A wish of a person.
#[derive(Clone, Debug)]
pub enum Wish {
    /// A node joins.
    Admit(NodeIndex),
    /// A node is forgotten, whatever it does.
    Remove(NodeIndex),
    /// A workload shall be like this.
    Apply(Box<Shape>),
    /// So many replicas.
    Scale(WorkloadId, u32),
    /// A workload shall go.
    Delete(WorkloadId),
    /// A node shall be used like this.
    Availability(NodeIndex, Availability),
    /// The data of a workload is given up: of one slot, or of all.
    ForgetVolume(WorkloadId, Option<u32>),
    /// What is silent of a site is dead.
    Resume(usize),
    /// What would be better elsewhere shall go there.
    Rebalance,
    /// A change that did not work is tried again.
    TryAgain(WorkloadId),
}

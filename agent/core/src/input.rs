//! Everything that can happen to a node.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
};

use api_types::{
    assignment::AssignmentSet,
    counter::Epoch,
    id::{InstanceId, NodeId},
    instance::Exit,
    probe::ProbeKind,
    service::ServiceTable,
    time::Timestamp,
};

/// One thing that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Time passed: a deadline of [`crate::Agent::next_deadline`] is due.
    Tick,
    /// All of ours that containerd and the kernel have now. Comes after the start, after each reconnection to
    /// containerd, and whenever an event hints that something changed behind our back. Truth: what it leaves out is gone.
    /// A list that was made before a `RuntimeLost` is never given after it.
    Observed {
        /// Our containers.
        containers: Vec<ObservedContainer>,
        /// Our instances' networks.
        networks: Vec<ObservedNetwork>,
    },
    /// containerd does not answer; another `Observed` will follow its return.
    RuntimeLost,
    /// The scheduler says what shall be on this node. Always whole; the session made it so.
    Assigned(AssignmentSet),
    /// The scheduler says how to balance. Always whole.
    Services(Arc<ServiceTable>),
    /// A session began: the next report must be complete.
    SessionOpened {
        /// Which run of the scheduler is at the other end.
        epoch: Epoch,
    },
    /// The session ended.
    SessionClosed,
    /// The scheduler surely had heard of this node at a moment. Comes when a session opens, while [`crate::Agent::holds_leases`]
    /// with each answer to a sign of life, and first of all where an earlier run since the machine's start left it.
    LeaseRenewed {
        /// How many milliseconds ago, whatever happened to clocks and this program meanwhile.
        age_ms: u64,
    },
    /// The machine slept, which the time that is given with inputs does not count.
    Slept {
        /// For how many milliseconds.
        ms: u64,
    },
    /// How far the node's wall clock is ahead of the time that is given with inputs, in milliseconds. Comes whenever that changed
    /// by a second or more: somebody set it, or the machine slept.
    WallClock {
        /// Negative: it is behind.
        ahead_ms: i64,
    },
    /// The image is here and unpacked.
    ImageReady {
        /// Its reference.
        image: String,
    },
    /// The image could not be had.
    ImageFailed {
        /// Its reference.
        image: String,
        /// Why, in one line for people.
        reason: String,
        /// Whether it is not there for anybody who asks, so that somebody must put it there first.
        is_missing: bool,
    },
    /// The instance's network is there.
    NetworkReady {
        /// Whose.
        instance: InstanceId,
    },
    /// The instance's network could not be made.
    NetworkFailed {
        /// Whose.
        instance: InstanceId,
        /// Why, in one line for people.
        reason: String,
    },
    /// The instance's network is gone.
    NetworkRemoved {
        /// Whose.
        instance: InstanceId,
    },
    /// The process runs.
    Started {
        /// Whose.
        instance: InstanceId,
        /// Which attempt, from 0.
        attempt: u32,
        /// Its process id on the node.
        pid: u32,
    },
    /// The process could not be started; nothing of the attempt is left.
    StartFailed {
        /// Whose.
        instance: InstanceId,
        /// Which attempt.
        attempt: u32,
        /// Why, in one line for people.
        reason: String,
    },
    /// The process ended.
    Exited {
        /// Whose.
        instance: InstanceId,
        /// Which attempt.
        attempt: u32,
        /// How.
        exit: Exit,
    },
    /// The attempt's container, snapshot and process are gone.
    Removed {
        /// Whose.
        instance: InstanceId,
        /// Which attempt.
        attempt: u32,
    },
    /// The attempt's leftovers could not be removed; it will be tried again.
    RemoveFailed {
        /// Whose.
        instance: InstanceId,
        /// Which attempt.
        attempt: u32,
        /// Why, in one line for people.
        reason: String,
    },
    /// Something happened to a container beside the main one.
    Companion {
        /// Which.
        key: CompanionAttempt,
        /// What.
        event: CompanionEvent,
    },
    /// A probe answered, or did not.
    Probed {
        /// Whose.
        instance: InstanceId,
        /// Which attempt.
        attempt: u32,
        /// Which of its probes.
        kind: ProbeKind,
        /// What it got to hear, or what was wrong, in one line for people.
        outcome: Result<String, String>,
    },
    /// What a process that ended wrote last.
    LastLines {
        /// Whose.
        instance: InstanceId,
        /// Which attempt.
        attempt: u32,
        /// The lines, the latest last.
        lines: String,
    },
    /// The node's devices were looked for. Comes again and again while one is missing, and once when none is any more.
    DevicesSeen {
        /// Those that the node's configuration names and that are not there, each with why, in one line for people.
        missing: BTreeMap<String, String>,
    },
    /// The open connections of instances were counted, as [`crate::effect::Effect::CountConnections`] asked for.
    ConnectionsCounted {
        /// How many each has, or why they cannot be counted, in one line for people.
        open: Result<BTreeMap<InstanceId, u32>, String>,
    },
    /// Which neighbours this node cannot reach, as [`crate::watch::Watch`] judged. Always whole.
    Unreachable {
        /// Who cannot be reached.
        nodes: BTreeSet<NodeId>,
    },
    /// The machine is being shut down: whoever runs here soon does no more.
    MachineEnds,
    /// Which endpoints in other sites can be asked by a tunnel: this node listens for them, and their nodes are connected.
    /// Always whole.
    Tunnelled {
        /// Where it listens, for each address and port of theirs.
        detours: BTreeMap<SocketAddrV4, SocketAddrV4>,
    },
    /// The kernel balances as [`crate::effect::Effect::ProgramServices`] said.
    ServicesProgrammed {
        /// Its number.
        number: u64,
    },
    /// The kernel does not; it will be tried again.
    ServicesFailed {
        /// Why, in one line for people.
        reason: String,
    },
}

/// Which attempt of which container beside the main one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CompanionAttempt {
    /// Whose.
    pub instance: InstanceId,
    /// Which companion, by its place in the assignment's list.
    pub companion: u8,
    /// Which attempt, from 0; each companion counts its own.
    pub attempt: u32,
}

/// What happened to a container beside the main one; each means what it means for the main one.
#[derive(Clone, Debug, PartialEq)]
pub enum CompanionEvent {
    /// The process runs.
    Started {
        /// Its process id on the node.
        pid: u32,
    },
    /// The process could not be started; nothing of the attempt is left.
    StartFailed {
        /// Why, in one line for people.
        reason: String,
    },
    /// The process ended.
    Exited {
        /// How.
        exit: Exit,
    },
    /// Container, snapshot and process are gone.
    Removed,
    /// They could not be removed; it will be tried again.
    RemoveFailed {
        /// Why, in one line for people.
        reason: String,
    },
    /// What the process that ended wrote last.
    LastLines {
        /// The lines, the latest last.
        lines: String,
    },
}

/// A container of ours that containerd has, by its labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedContainer {
    /// Whose.
    pub instance: InstanceId,
    /// Which companion, by its place in the assignment's list; `None` = the main container.
    pub companion: Option<u8>,
    /// Which attempt.
    pub attempt: u32,
    /// What its process does.
    pub process: ObservedProcess,
}

/// What an observed container's process does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObservedProcess {
    /// It runs.
    Running {
        /// Its process id on the node.
        pid: u32,
        /// When it was started, as far as known.
        started_at: Timestamp,
    },
    /// It ended; [`Exit::Unknown`] where there is a record without a process.
    Ended(Exit),
}

/// A network of an instance that the kernel has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedNetwork {
    /// Whose.
    pub instance: InstanceId,
    /// Its address.
    pub address: Ipv4Addr,
}

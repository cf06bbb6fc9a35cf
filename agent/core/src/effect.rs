//! Everything the agent can ask of its node.

use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc};

use api_types::{
    assignment::{Assignment, AssignmentSet},
    balance::Bind,
    container::{NetworkMode, Protocol},
    id::{InstanceId, Name, WorkloadId},
    instance::InstanceStatus,
    job::Tries,
    net::{Cidr, IpRange, Ipv6Prefix},
    probe::{ProbeKind, ProbeSpec},
    service::{Peer, Service, ServiceTable},
    time::Timestamp,
};

use crate::{alone::Followed, input::CompanionAttempt, machine::Version, tunnels::Tunnels};

/// One wish, as plain data. Its outcome returns as an [`crate::input::Input`]; success is never assumed.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Keep this on disk: what the node boots from when nobody answers.
    KeepAssignments(Arc<AssignmentSet>),
    /// Keep this on disk: how the node balances when nobody answers.
    KeepServices(Arc<ServiceTable>),
    /// Keep this on disk: which instance is where, so that it is there again after a boot.
    KeepAddresses(Arc<BTreeMap<InstanceId, Ipv4Addr>>),
    /// Keep this on disk: how processes ended of instances that shall end by themselves, so that what is done is not done again.
    KeepTries(Arc<BTreeMap<InstanceId, Tries>>),
    /// Keep this on disk: how far this node followed schedules by its own clock, so that no run happens twice.
    KeepFollowed(Arc<Followed>),
    /// Look again at what containerd and the kernel have. Answer: `Observed` or `RuntimeLost`.
    Observe,
    /// Have this image, pulled and unpacked. Answer: `ImageReady` or `ImageFailed`.
    EnsureImage {
        /// Its reference.
        image: String,
    },
    /// Make the instance's network namespace with this address. Answer: `NetworkReady` or `NetworkFailed`.
    EnsureNetwork {
        /// Whose network it is in; in the node's own only its name and address are booked.
        network: NetworkMode,
        /// Whose.
        instance: InstanceId,
        /// Its address.
        address: Ipv4Addr,
    },
    /// Remove the instance's network namespace, if it is there. Answer: `NetworkRemoved`; a failure is tried again by the shell.
    RemoveNetwork {
        /// Whose.
        instance: InstanceId,
        /// Whether what its processes wrote stays; else it goes with the network, as the last of the instance.
        keeps_output: bool,
    },
    /// Make container and process. Answer: `Started` or `StartFailed`; later `Exited`.
    Start {
        /// What to run.
        assignment: Arc<Assignment>,
        /// Which attempt, from 0.
        attempt: u32,
        /// The instance's address.
        address: Ipv4Addr,
    },
    /// Write the files of a process that runs anew where they differ from what it shall be shown, then tell it, if its
    /// assignment says so. No answer: what fails is told to the operator, and the next start shows what is right.
    Refresh {
        /// What it shall be shown.
        assignment: Arc<Assignment>,
        /// Which attempt.
        attempt: u32,
    },
    /// Ask the process to end, then kill it. Answer: `Exited`.
    Stop {
        /// Whose.
        instance: InstanceId,
        /// Which attempt.
        attempt: u32,
        /// The signal that asks, by name; `None` = as the image says, else SIGTERM.
        signal: Option<String>,
        /// Milliseconds until SIGKILL.
        grace_ms: u64,
    },
    /// Remove the attempt's process, container and snapshot, whatever of it is there. Answer: `Removed` or `RemoveFailed`.
    Remove {
        /// Whose.
        instance: InstanceId,
        /// Which attempt.
        attempt: u32,
    },
    /// Do this with a container beside the main one. Answer: [`crate::input::Input::Companion`].
    Companion {
        /// Which.
        key: CompanionAttempt,
        /// What.
        wish: CompanionWish,
    },
    /// Probe from now on, at these intervals. Answers: `Probed`, again and again.
    StartProbe {
        /// Whose.
        instance: InstanceId,
        /// Which attempt.
        attempt: u32,
        /// Which of its probes: each runs beside the others.
        kind: ProbeKind,
        /// Where.
        address: Ipv4Addr,
        /// What and how often.
        probe: ProbeSpec,
    },
    /// Probe no more.
    StopProbe {
        /// Whose.
        instance: InstanceId,
        /// Which of its probes.
        kind: ProbeKind,
    },
    /// Give what the attempt, whose process ended, wrote last. Answer: `LastLines`, or none if nothing is to be read.
    ReadLastLines {
        /// Whose.
        instance: InstanceId,
        /// Which attempt.
        attempt: u32,
        /// When its process was started: what was written before is another one's.
        since: Timestamp,
    },
    /// Make the kernel balance like this. Only the latest counts. Answer: `ServicesProgrammed` or `ServicesFailed`.
    ProgramServices {
        /// Grows with each change, so that the answer says how far the kernel is.
        number: u64,
        /// How to balance.
        balancing: Arc<Balancing>,
    },
    /// Tell the scheduler that the kernel balances by this service table, or a later one. Only performed while a session is open.
    ConfirmTable(Version),
    /// Count the open connections to these instances. Answer: `ConnectionsCounted`.
    CountConnections(Vec<(InstanceId, Ipv4Addr)>),
    /// Tell the scheduler what was done by this node's own clock; the complete report follows. Only performed while a session is open.
    TellAlone(Arc<Followed>),
    /// Tell the scheduler. Only performed while a session is open.
    Report(Report),
}

/// What is wished of a container beside the main one.
#[derive(Clone, Debug, PartialEq)]
pub enum CompanionWish {
    /// Make container and process, with the image and network that the core sees to. Answer: `Started` or `StartFailed`;
    /// later `Exited`.
    Start {
        /// Whose companion it is.
        assignment: Arc<Assignment>,
        /// The instance's address.
        address: Ipv4Addr,
    },
    /// Ask the process to end, then kill it. Answer: `Exited`.
    Stop {
        /// The signal that asks, by name; `None` = as the image says, else SIGTERM.
        signal: Option<String>,
        /// Milliseconds until SIGKILL.
        grace_ms: u64,
    },
    /// Remove process, container and snapshot, whatever is there. Answer: `Removed` or `RemoveFailed`.
    Remove,
    /// Give what the process, which ended, wrote last. Answer: `LastLines`, or none if nothing is to be read.
    ReadLastLines {
        /// The companion's name, by which its output is found.
        name: Name,
        /// When it was started: what was written before is another one's.
        since: Timestamp,
    },
}

/// The effects of one step, in order.
pub type Effects = Vec<Effect>;

/// How this node's kernel shall balance and route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Balancing {
    /// The range of all instances' addresses.
    pub cluster_range: Cidr,
    /// The range of all virtual addresses.
    pub service_range: Cidr,
    /// Where both ranges are embedded in IPv6; `None` = nowhere.
    pub ipv6_prefix: Option<Ipv6Prefix>,
    /// This node's part of the cluster range.
    pub subnet: Cidr,
    /// The services with the endpoints that this node shall use, sorted by id.
    pub services: Vec<Arc<Service>>,
    /// The other nodes, sorted by node.
    pub peers: Arc<[Peer]>,
    /// Ports of this node that lead to one instance, sorted.
    pub host_ports: Vec<HostPort>,
    /// Instances here that only ports of the nodes lead to, sorted.
    pub closed: Vec<ClosedInstance>,
    /// What crosses sites by tunnels between agents.
    pub tunnels: Tunnels,
}

/// An instance that only ports of the nodes lead to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClosedInstance {
    /// Its address, which lets nobody else in.
    pub address: Ipv4Addr,
    /// Its workload: to the ports that every node publishes for it, other nodes lead connections.
    pub workload: WorkloadId,
}

/// A port of this node that leads to one instance.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    /// The transport.
    pub protocol: Protocol,
    /// The node's port.
    pub host: u16,
    /// The instance's address.
    pub address: Ipv4Addr,
    /// The instance's port.
    pub container: u16,
    /// Where it answers; `None` = at every address of the node.
    pub bind: Option<Bind>,
    /// Who may connect from beyond the node; empty = everybody.
    pub allow: Vec<IpRange>,
    /// Whether it also answers by IPv6.
    pub ipv6: bool,
}

/// What to tell the scheduler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Statuses that changed, or all.
    pub statuses: Vec<InstanceStatus>,
    /// Instances that left nothing behind.
    pub gone: Vec<InstanceId>,
    /// Whether `statuses` is all.
    pub complete: bool,
}

impl ClosedInstance {
    /// The instance of this assignment at this address, if only ports of the nodes lead to it.
    pub(crate) fn of(assignment: &Assignment, address: Ipv4Addr) -> Option<Self> {
        let is_closed = assignment.container.network == NetworkMode::Published;
        is_closed.then(|| Self { address, workload: assignment.workload.clone() })
    }
}

/// The host ports of an assignment.
pub(crate) fn host_ports(assignment: &Assignment, address: Ipv4Addr) -> impl Iterator<Item = HostPort> {
    assignment.ports.iter().filter_map(move |port| {
        port.host.map(|host| HostPort {
            protocol: port.protocol,
            host,
            address,
            container: port.container,
            bind: port.bind.clone(),
            allow: port.allow.clone(),
            ipv6: assignment.ipv6,
        })
    })
}

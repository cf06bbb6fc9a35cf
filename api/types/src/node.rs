//! Nodes: what they are, what is wanted of them, how they do.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr, SocketAddrV4},
};

use serde::{Deserialize, Serialize};

use crate::{container::Protocol, device::Device, id::NodeId, net::Cidr, resources::Resources, time::Timestamp};

/// A node as the scheduler registered it. Labels and site come from the join token or an operator, never from the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSpec {
    /// Its name.
    pub id: NodeId,
    /// Its site; `default` where nobody said one.
    pub site: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What an operator wants of it.
    pub availability: Availability,
    /// The range its instances get their addresses from; the first address is the node's own.
    pub subnet: Cidr,
    /// When it joined.
    pub joined_at: Timestamp,
}

/// What an operator wants of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Availability {
    /// Takes instances.
    #[default]
    Active,
    /// Keeps what it has, takes nothing.
    Cordoned,
    /// Gives away what it has, takes nothing.
    Draining,
}

/// Whether a node is heard of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Liveness {
    /// Its heartbeats come.
    Ready,
    /// Silent for three heartbeats: its endpoints left the balancers, nothing else happens.
    Unreachable,
    /// Silent for longer than workloads wait: their instances are replaced.
    Lost,
}

/// What a node says it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFacts {
    /// CPU architecture as images name it: `amd64`, `arm64`, `arm`.
    pub arch: String,
    /// Operating system as images name it: `linux`.
    pub os: String,
    /// Kernel release.
    pub kernel: String,
    /// All the CPU and memory of the machine.
    pub capacity: Resources,
    /// The address at which the other nodes reach it.
    pub address: Option<Ipv4Addr>,
    /// The same in IPv6, where the node has one beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_address: Option<Ipv6Addr>,
    /// Where nodes of other sites dial its end of a tunnel; `None` = it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<SocketAddrV4>,
    /// The agent's version.
    pub agent_version: String,
    /// containerd's version; empty while it is away.
    pub runtime_version: String,
    /// Changes at each boot of the machine.
    pub boot_id: String,
    /// 1 or 2.
    pub cgroup_version: u8,
    /// Its devices and other countable things, as its own configuration names them; sorted by name.
    #[serde(default)]
    pub devices: Vec<Device>,
}

/// One thing that a node checks about itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Condition {
    /// What (`runtime`, `balancing`, `ports`, `http_ports`, `ipv6`, `firewall`, `peers`, `neighbours`, `tunnels`,
    /// `names`, `identity`, `state`, `devices`).
    pub name: String,
    /// Whether it is well.
    pub ok: bool,
    /// What was seen, in one line for people.
    pub reason: String,
    /// Ports of the node that somebody else holds, where that is what is wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taken: Vec<TakenPort>,
}

/// The most ports that a condition names.
pub const TAKEN_PORTS_MAX: usize = 64;

/// A port of a node that somebody else holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TakenPort {
    /// The port.
    pub port: u16,
    /// The transport.
    pub protocol: Protocol,
    /// Who holds it, for people: `nginx (pid 812)`.
    pub owner: String,
}

/// What a node uses in all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeUsage {
    /// Thousandths of one CPU, over the last sample.
    pub cpu_millis: u64,
    /// Bytes of memory in use.
    pub memory_bytes: u64,
    /// Bytes free on the file system that holds the agent's state.
    pub disk_free_bytes: u64,
}

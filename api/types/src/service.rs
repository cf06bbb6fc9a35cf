//! Services: a stable address in front of instances.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr, SocketAddrV4},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{
    access::Access,
    balance::{BalancePolicy, Bind},
    container::Protocol,
    counter::{Epoch, Generation},
    id::{InstanceId, NodeId, WorkloadId},
    net::{Cidr, IpRange, Ipv6Prefix},
    site::{Across, Reach},
};

/// All that a node must know to balance: every service, every peer. The same for all nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceTable {
    /// Which run of the scheduler made it.
    pub epoch: Epoch,
    /// Its version in that run.
    pub generation: Generation,
    /// The range of all instances' addresses.
    pub cluster_range: Cidr,
    /// The range of all virtual addresses.
    pub service_range: Cidr,
    /// Where both ranges are embedded in IPv6; `None` = nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_prefix: Option<Ipv6Prefix>,
    /// The services, sorted by id; one that did not change is shared with the table before.
    pub services: Vec<Arc<Service>>,
    /// The nodes and where their instances are, sorted by node; shared in the same way.
    pub peers: Arc<[Peer]>,
    /// With what nodes sign what they tell each other of being alive; `None` = they tell nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watch_key: Option<WatchKey>,
}

/// The key that proves that a sign of life is from a node of this cluster. Never shown.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WatchKey(pub [u8; 32]);

impl fmt::Debug for WatchKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WatchKey(not shown)")
    }
}

/// One service: its virtual address, its ports and who answers. While some workload admits only some others, workloads
/// without ports are in the table too, at the address 0.0.0.0: as those who ask.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Service {
    /// The workload behind it.
    pub id: WorkloadId,
    /// Its virtual address, which stays as long as the workload exists; unspecified where it has none.
    pub address: Ipv4Addr,
    /// Its ports, sorted by name.
    pub ports: Vec<ServicePort>,
    /// How its connections are shared out.
    #[serde(default, skip_serializing_if = "BalancePolicy::is_default")]
    pub balance: BalancePolicy,
    /// Who answers, sorted by instance.
    pub endpoints: Vec<Endpoint>,
    /// Whether it also answers on the IPv6 form of its address and of its endpoints' addresses, and its published ports on
    /// the nodes' IPv6 addresses.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ipv6: bool,
    /// Whether it also answers to sites that are reached by a tunnel.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub across_sites: bool,
    /// Whether nodes tell how many requests their listeners of HTTP ports shared out to it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub counts_requests: bool,
    /// Who may ask; `None` while no workload of the cluster admits only some others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<Access>,
}

impl Service {
    /// Whether only ports of the nodes lead to it: it has no virtual address and no name.
    #[must_use]
    pub fn is_published_only(&self) -> bool {
        self.address.is_unspecified() && !self.ports.is_empty()
    }
}

/// One port of a service.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ServicePort {
    /// Its name in the manifest.
    pub name: String,
    /// The transport.
    pub protocol: Protocol,
    /// The port of the virtual address.
    pub service: u16,
    /// The port of the instances.
    pub container: u16,
    /// The port on every node that leads here.
    pub publish: Option<u16>,
    /// Whether `publish` is a listener of the agent, which shares out HTTP requests, instead of connections by the kernel.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub http: bool,
    /// Where on the nodes `publish` answers; `None` = at every address of the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bind: Option<Bind>,
    /// Who may connect to `publish` from beyond the node; empty = everybody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<IpRange>,
}

/// One instance's address behind a service: a healthy one, unless no instance of the service is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Endpoint {
    /// Which instance.
    pub instance: InstanceId,
    /// On which node.
    pub node: NodeId,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its part of the connections, relative to the others' weights; at least 1. In what a node makes of the table: zero for
    /// those that it does not use, as there are nearer ones.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub weight: u16,
    /// It runs but is not ready: used only while the service has nobody who is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub last_resort: bool,
}

impl Endpoint {
    /// An endpoint that is ready and weighs as much as others of which nothing is said.
    #[must_use]
    pub fn new(instance: InstanceId, node: NodeId, address: Ipv4Addr) -> Self {
        Self { instance, node, address, weight: 1, last_resort: false }
    }
}

fn one() -> u16 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
fn is_one(weight: &u16) -> bool {
    *weight == 1
}

/// Another node of the cluster, as the network needs it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Peer {
    /// Which node.
    pub node: NodeId,
    /// The address at which it is reached.
    pub address: Ipv4Addr,
    /// The same in IPv6, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_address: Option<Ipv6Addr>,
    /// The range of its instances.
    pub subnet: Cidr,
    /// Its site; empty where the table was made by a version that did not say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub site: String,
    /// How nodes of its own site reach its instances.
    #[serde(default, skip_serializing_if = "Reach::is_default")]
    pub reach: Reach,
    /// How nodes of other sites reach its instances.
    #[serde(default, skip_serializing_if = "Across::is_default")]
    pub across: Across,
    /// Where nodes of other sites dial its agent's end of a tunnel; `None` = it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<SocketAddrV4>,
}

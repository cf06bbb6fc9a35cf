//! What the kernel shall become, and what stood in the way.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddrV4},
    path::PathBuf,
};

use api_types::{
    balance::Bind,
    container::Protocol,
    id::{NodeId, WorkloadId},
    net::{Cidr, IpRange, Ipv6Prefix},
    service::{Peer, Service},
};

/// What does not change while the agent runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How the names of all our host-side links begin, at most 5 bytes (`wh-`): one firewall rule covers all.
    pub interface_prefix: String,
    /// Where the instances' namespaces are pinned, one file each. Must not outlive a reboot: below `/run`.
    pub netns_dir: PathBuf,
    /// The name of our one nftables table.
    pub table: String,
    /// The address under which other nodes reach this one; the source of what the node itself asks of services.
    pub node_address: Ipv4Addr,
    /// How the table is kept from others.
    pub table_guard: TableGuard,
    /// What is done about other programs' tables that drop what is forwarded.
    pub firewall: Firewall,
    /// Ports of nodes that instances here may ask besides names and published ports.
    pub node_ports: Vec<(Protocol, u16)>,
    /// Whether instances may be in the node's own network.
    pub allow_in_node: bool,
}

impl Settings {
    /// Gives the settings of an ordinary node: prefix `wh-`, namespaces in `/run/wherry/netns`, table `wherry`, owned, the
    /// nodes' own ports closed to instances.
    #[must_use]
    pub fn new(node_address: Ipv4Addr) -> Self {
        Self {
            interface_prefix: "wh-".to_owned(),
            netns_dir: PathBuf::from("/run/wherry/netns"),
            table: "wherry".to_owned(),
            node_address,
            table_guard: TableGuard::Owned,
            firewall: Firewall::Open,
            node_ports: Vec::new(),
            allow_in_node: false,
        }
    }
}

/// What is done about other programs' tables that drop what is forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firewall {
    /// Where `iptables` or `ip6tables` drops by policy, four rules let pass what instances send and get: in front of Docker's
    /// chain for the machine's owner where there is one. Other tables are reported.
    Open,
    /// Nothing is added to any other table; what drops is reported. Who comes in at ports of the node is what the other tables'
    /// rules for INPUT let pass.
    Respect,
}

/// How our nftables table is kept from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableGuard {
    /// The kernel refuses changes by others and keeps the table when the agent ends (Linux 6.9); older kernels: watched.
    Owned,
    /// Others may change it; [`crate::Network::verify`] restores it.
    Watched,
}

/// How this node's kernel shall balance and route. Whole: what it leaves out goes away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The range of all instances' addresses.
    pub cluster_range: Cidr,
    /// The range of all virtual addresses. Its last but one address is used by [`crate::Network::self_check`].
    pub service_range: Cidr,
    /// Where both ranges are embedded in IPv6; `None` = nowhere.
    pub ipv6_prefix: Option<Ipv6Prefix>,
    /// This node's part of the cluster range.
    pub subnet: Cidr,
    /// The services with the endpoints that this node shall use.
    pub services: Vec<Service>,
    /// The other nodes.
    pub peers: Vec<Peer>,
    /// Ports of this node that lead to one instance.
    pub host_ports: Vec<HostPort>,
    /// Instances here that only ports of the nodes lead to.
    pub closed: Vec<ClosedInstance>,
    /// Endpoints that no packet reaches, and where on this node somebody listens who passes connections on to them.
    pub detours: BTreeMap<SocketAddrV4, SocketAddrV4>,
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

/// An instance here that only ports of the nodes lead to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClosedInstance {
    /// Its address, which lets nobody else in.
    pub address: Ipv4Addr,
    /// Its workload: to the ports that every node publishes for it, other nodes lead connections.
    pub workload: WorkloadId,
}

/// What of the plan could not be had; all the rest is in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Programmed {
    /// Ports of the node that somebody else holds. They are tried again at each program and verify.
    pub port_conflicts: Vec<PortConflict>,
    /// Ports of the node whose address or link is not here. They are tried again at each program and verify.
    pub unbound_ports: Vec<UnboundPort>,
    /// Nodes to whose instances no route could be made. They are tried again at each program and verify.
    pub unreachable_peers: Vec<UnreachablePeer>,
    /// Why nothing is balanced by IPv6 although a service asks for it, in one line for people.
    pub ipv6_missing: Option<String>,
    /// Other programs' chains that drop what instances send and get, each in one line for people with what mends it.
    pub dropped_by: Vec<String>,
}

/// A port of the node that somebody else holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortConflict {
    /// The port.
    pub port: u16,
    /// The transport.
    pub protocol: Protocol,
    /// Who holds it, for people: `nginx (pid 812)`, or which two parts of the plan ask for it.
    pub owner: String,
}

/// A port that is to answer at an address or a link that this node does not have now.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnboundPort {
    /// The port.
    pub port: u16,
    /// The transport.
    pub protocol: Protocol,
    /// What this node does not have.
    pub bind: Bind,
}

/// A node to whose instances no route could be made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnreachablePeer {
    /// Which.
    pub node: NodeId,
    /// Why, in one line for people.
    pub reason: String,
}

/// What [`crate::Network::verify`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Whether somebody else had changed something of ours, which is restored.
    pub repaired: bool,
    /// What of the plan is still missing.
    pub programmed: Programmed,
}

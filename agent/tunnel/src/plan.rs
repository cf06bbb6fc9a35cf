//! What a tunnel is told, and what it says.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddrV4},
};

use api_types::{
    id::{InstanceId, NodeId},
    net::Cidr,
};

/// Whom this node asks and whom it answers. Whole: what it leaves out ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The address of this node at which it listens for its own clients.
    pub here: Ipv4Addr,
    /// The range of all instances' addresses.
    pub cluster_range: Cidr,
    /// The nodes at other ends; nobody else is spoken to.
    pub peers: Vec<Peer>,
    /// Endpoints there that may be asked.
    pub remote: Vec<Remote>,
    /// Instances here that may be asked from there.
    pub served: Vec<Served>,
}

/// A node at another end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Which.
    pub node: NodeId,
    /// Where it is dialled; `None` = it cannot be.
    pub dialled: Option<SocketAddrV4>,
}

/// An endpoint at another end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Which instance.
    pub instance: InstanceId,
    /// On which node.
    pub node: NodeId,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its ports.
    pub ports: Vec<u16>,
}

/// An instance here that may be asked from other ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// Which.
    pub instance: InstanceId,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its ports that may be asked.
    pub ports: Vec<u16>,
    /// The instances' addresses from which it may be asked; `None` = all. Who asks from no instance always may.
    pub admitted: Option<Vec<Ipv4Addr>>,
}

/// What can be asked now, and what hinders the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Where this node listens, for each address and port that can be asked.
    pub detours: BTreeMap<SocketAddrV4, SocketAddrV4>,
    /// Nodes whose endpoints cannot be asked, each with why, in one line for people.
    pub unreachable: BTreeMap<NodeId, String>,
    /// Nodes whose endpoints can be asked.
    pub reached: BTreeSet<NodeId>,
    /// What this node cannot listen on, each in one line for people.
    pub refused: BTreeSet<String>,
}

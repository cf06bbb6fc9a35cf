//! What crosses sites by tunnels between agents: whom this node asks, and whom it answers.
//!
//! An endpoint behind a tunnel is balanced to like any other, by a detour: an address and port of this node where the agent
//! listens for it. The shell says where, once the endpoint's node is connected. Which endpoints these may be is decided here.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
};

use api_types::{
    container::Protocol,
    id::{InstanceId, NodeId},
    net::Cidr,
    service::{Peer, Service, ServiceTable},
};

use crate::services::Local;

/// The most nodes that are asked by a tunnel: each costs a connection that waits.
pub const ASKED_NODES_MAX: usize = 256;

/// What crosses sites by tunnels. Empty where no site is joined to this node's by one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tunnels {
    /// The nodes of sites that are joined to this node's by a tunnel, sorted by node.
    pub peers: Vec<TunnelPeer>,
    /// Endpoints there that this node may ask, sorted by instance. Whether each can be asked, the shell says.
    pub remote: Vec<RemoteEndpoint>,
    /// Where this node listens for those that can be asked now, for each address and port of theirs.
    pub detours: BTreeMap<SocketAddrV4, SocketAddrV4>,
    /// Instances here that nodes of those sites may ask, sorted by instance.
    pub served: Vec<ServedInstance>,
}

/// A node at the other end of a tunnel.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TunnelPeer {
    /// Which.
    pub node: NodeId,
    /// Where it is dialled; `None` = it has no end of a tunnel.
    pub dialled: Option<SocketAddrV4>,
}

/// An endpoint at the other end of a tunnel.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RemoteEndpoint {
    /// Which instance.
    pub instance: InstanceId,
    /// On which node.
    pub node: NodeId,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its ports, sorted.
    pub ports: Vec<u16>,
}

/// An instance here that other sites may ask.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServedInstance {
    /// Which.
    pub instance: InstanceId,
    /// Its address.
    pub address: Ipv4Addr,
    /// The ports that may be asked, sorted.
    pub ports: Vec<u16>,
    /// The addresses of instances that may ask, sorted; `None` = all may. Who asks from no instance always may.
    pub admitted: Option<Vec<Ipv4Addr>>,
}

impl Tunnels {
    /// Reads a table, and who of each service runs here.
    pub(crate) fn of(
        table: &ServiceTable,
        tunnelled: &[(TunnelPeer, Cidr)],
        local: &Local,
        detours: &BTreeMap<SocketAddrV4, SocketAddrV4>,
    ) -> Self {
        if tunnelled.is_empty() {
            return Self::default();
        }
        let peers = tunnelled.iter().map(|(peer, _)| peer.clone()).collect();
        let subnets: BTreeMap<&NodeId, Cidr> = tunnelled.iter().map(|(peer, subnet)| (&peer.node, *subnet)).collect();
        let local = local.by_workload();
        let crossing = || table.services.iter().filter(|service| service.across_sites);
        let mut remote: Vec<RemoteEndpoint> = crossing()
            .flat_map(|service| {
                let (ports, subnets) = (ports(service), &subnets);
                let there = service.endpoints.iter().filter(move |endpoint| {
                    // In the node's own network it would be the node's address, which is another's here.
                    subnets.get(&endpoint.node).is_some_and(|subnet| subnet.contains(endpoint.address))
                });
                there.map(move |endpoint| RemoteEndpoint {
                    instance: endpoint.instance.clone(),
                    node: endpoint.node.clone(),
                    address: endpoint.address,
                    ports: ports.clone(),
                })
            })
            .collect();
        let asked: BTreeSet<NodeId> = remote.iter().map(|endpoint| endpoint.node.clone()).collect();
        if let Some(beyond) = asked.iter().nth(ASKED_NODES_MAX) {
            remote.retain(|endpoint| endpoint.node < *beyond);
        }
        remote.sort();
        let mut served: Vec<ServedInstance> = crossing()
            .flat_map(|service| {
                let (ports, admitted) = (ports(service), admitted(table, service));
                let here = local.get(&service.id).into_iter().flatten();
                here.map(move |(instance, address)| ServedInstance {
                    instance: (*instance).clone(),
                    address: *address,
                    ports: ports.clone(),
                    admitted: admitted.clone(),
                })
            })
            .collect();
        served.sort();
        let wanted: BTreeSet<SocketAddrV4> = remote.iter().flat_map(RemoteEndpoint::places).collect();
        let detours = detours.iter().filter(|(place, _)| wanted.contains(place));
        let detours = detours.map(|(place, here)| (*place, *here)).collect();
        Self { peers, remote, detours, served }
    }

    /// The endpoints that can be asked on all of their ports.
    pub(crate) fn ready(&self) -> BTreeSet<&InstanceId> {
        let can = |endpoint: &&RemoteEndpoint| endpoint.places().all(|place| self.detours.contains_key(&place));
        self.remote.iter().filter(can).map(|endpoint| &endpoint.instance).collect()
    }
}

impl TunnelPeer {
    pub(crate) fn of(peer: &Peer) -> Self {
        Self { node: peer.node.clone(), dialled: peer.tunnel }
    }
}

impl RemoteEndpoint {
    /// Where it answers.
    pub fn places(&self) -> impl Iterator<Item = SocketAddrV4> {
        self.ports.iter().map(|port| SocketAddrV4::new(self.address, *port))
    }
}

/// The instances' ports that a tunnel carries.
fn ports(service: &Service) -> Vec<u16> {
    let tcp = service.ports.iter().filter(|port| port.protocol == Protocol::Tcp);
    tcp.map(|port| port.container).collect::<BTreeSet<u16>>().into_iter().collect()
}

/// The instances that a service admits; `None` = all.
fn admitted(table: &ServiceTable, service: &Service) -> Option<Vec<Ipv4Addr>> {
    let sources = service.access.as_ref()?.allow_from.as_ref()?;
    let admits = |other: &&Arc<Service>| other.id == service.id || sources.iter().any(|source| source.is(&other.id));
    let known = table.services.iter().filter(admits).filter_map(|other| other.access.as_ref());
    let addresses: BTreeSet<Ipv4Addr> = known.flat_map(|access| access.instances.iter().copied()).collect();
    Some(addresses.into_iter().collect())
}

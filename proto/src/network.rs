//! What a person asks of a node's network, and what the node found, as values of our own.

use std::net::{Ipv4Addr, Ipv6Addr};

use api_types::{
    container::Protocol,
    counter::RequestId,
    fnv,
    id::{InstanceId, WorkloadId},
    service::ServiceTable,
    view::{NetworkCheck, TraceStep},
};

use crate::session::Marker;

/// A wish to try the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InspectNetwork {
    /// Whose answer it will be.
    pub request: RequestId,
    /// Which way to look at; `None`: try everything that the service table names.
    pub trace: Option<TraceQuestion>,
    /// Try the ways to these services alone; empty: all.
    pub services: Vec<WorkloadId>,
}

/// Which way to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceQuestion {
    /// The instance that asks; `None`: the node itself, or somebody from outside.
    pub instance: Option<InstanceId>,
    /// Where the packet comes from.
    pub source: Ipv4Addr,
    /// Where it shall go.
    pub destination: Ipv4Addr,
    /// The same in IPv6, where the way by that is meant.
    pub ipv6: Option<Ipv6Addr>,
    /// The port there.
    pub port: u16,
    /// The transport.
    pub protocol: Protocol,
}

/// What came of an [`InspectNetwork`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkInspected {
    /// Which one.
    pub request: RequestId,
    /// The service table that the node balances by; `None`: it has none.
    pub table: Option<Marker>,
    /// [`table_sum`] of it.
    pub table_sum: u64,
    /// What was tried.
    pub checks: Vec<NetworkCheck>,
    /// What would happen to the packet.
    pub steps: Vec<TraceStep>,
    /// How many checks were left out because there are too many.
    pub untried: u64,
}

/// A sum over services and peers: FNV-1a over their bytes on the wire, with a length before each. The same on both ends
/// if they speak the same version of the protocol.
#[must_use]
pub fn table_sum(table: &ServiceTable) -> u64 {
    use prost::Message as _;

    let services = table.services.iter().map(|service| crate::v1::Service::from((**service).clone()).encode_to_vec());
    let peers = table.peers.iter().map(|peer| crate::v1::Peer::from(peer.clone()).encode_to_vec());
    let length = |bytes: &Vec<u8>| u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes();
    services.chain(peers).fold(fnv::EMPTY, |sum, bytes| fnv::sum_after(sum, length(&bytes).into_iter().chain(bytes)))
}

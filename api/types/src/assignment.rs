//! Assignments: what belongs to one node.

use serde::{Deserialize, Serialize};

use crate::{
    container::{ContainerSpec, PortSpec},
    counter::{Epoch, Generation, Revision},
    device::DeviceGrant,
    id::{InstanceId, NodeId, WorkloadId},
    instance::Desired,
    net::Cidr,
    probe::ProbeSpec,
    resources::ResourceSpec,
    restart::RestartSpec,
};

/// All that one node must do. A later one, by epoch and then generation, replaces an earlier one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignmentSet {
    /// Which run of the scheduler made it.
    pub epoch: Epoch,
    /// Its version in that run.
    pub generation: Generation,
    /// The node it is for.
    pub node: NodeId,
    /// The range this node's instances get their addresses from; the first address is the node's own.
    pub subnet: Cidr,
    /// The instances, sorted by id.
    pub assignments: Vec<Assignment>,
}

/// "This instance belongs to this node."
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Assignment {
    /// Which instance.
    pub instance: InstanceId,
    /// Whose it is.
    pub workload: WorkloadId,
    /// Its slot, from 0.
    pub slot: u32,
    /// The spec's version.
    pub revision: Revision,
    /// What is wanted of it.
    pub desired: Desired,
    /// What it runs.
    pub container: ContainerSpec,
    /// What it gets.
    pub resources: ResourceSpec,
    /// The devices it was given.
    #[serde(default)]
    pub devices: Vec<DeviceGrant>,
    /// Its ports.
    pub ports: Vec<PortSpec>,
    /// How health is asked for.
    pub probe: Option<ProbeSpec>,
    /// When its process is started again though it runs, and when another node shall try.
    #[serde(default, skip_serializing_if = "RestartSpec::is_default")]
    pub restart: RestartSpec,
}

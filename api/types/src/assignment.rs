//! Assignments: what belongs to one node.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    companion::CompanionSpec,
    container::{ContainerSpec, PortSpec},
    counter::{Epoch, Generation, Revision},
    dependency::Dependency,
    device::DeviceGrant,
    id::{InstanceId, Name, NodeId, SecretId, WorkloadId},
    instance::Desired,
    net::Cidr,
    probe::ProbeSpec,
    resources::ResourceSpec,
    restart::RestartSpec,
    schedule::JobAhead,
    secret::SecretValue,
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
    /// What is so of that for which its instances wait and which the service table does not tell, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub met: Vec<Dependency>,
    /// Jobs that it begins by its own clock while it hears no scheduler, sorted by job.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ahead: Vec<JobAhead>,
    /// The secrets that its instances are shown. A node alone has them; none is ever written as it is.
    #[serde(skip)]
    pub secrets: BTreeMap<SecretId, SecretValue>,
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
    /// What its main container gets.
    pub resources: ResourceSpec,
    /// The containers beside it: init steps in the order in which they run, then sidecars.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub companions: Vec<CompanionSpec>,
    /// What it waits for before its first process is started, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<Dependency>,
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
    /// Whether its node, too, balances to it only once the service table names it: it may be on trial.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_judged: bool,
    /// Whether its host ports also answer by IPv6.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ipv6: bool,
    /// It shall end by itself: how often a process that ended otherwise than with code 0 is followed by another. `None`: it
    /// shall run, whatever its process does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// Milliseconds after which this node ends it for good when it is not sure to be heard by the scheduler; `None` = never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_after_ms: Option<u64>,
    /// The versions of the secrets of its namespace that it is shown.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<Name, u64>,
}

impl Assignment {
    /// Every image that its containers need, the main one's first.
    pub fn images(&self) -> impl Iterator<Item = &str> {
        let beside = self.companions.iter().map(|companion| &companion.container);
        std::iter::once(&self.container).chain(beside).flat_map(ContainerSpec::images)
    }
}

impl AssignmentSet {
    /// What it assigns, and what it may come to by its own clock.
    pub fn assignments_and_ahead(&self) -> impl Iterator<Item = &Assignment> {
        self.assignments.iter().chain(self.ahead.iter().map(|job| &job.template))
    }

    /// Secrets that an instance shall be shown and that are not here, or only in an earlier version: the set is not whole.
    pub fn missing_secrets(&self) -> impl Iterator<Item = SecretId> {
        self.assignments_and_ahead().flat_map(move |assignment| {
            let namespace = &assignment.workload.namespace;
            assignment.secrets.iter().filter_map(move |(name, version)| {
                let id = SecretId { namespace: namespace.clone(), name: name.clone() };
                self.secrets.get(&id).is_none_or(|held| held.version < *version).then_some(id)
            })
        })
    }
}

//! The state: nodes, workloads and instances with their indexes. The only module whose methods change it.
//!
//! Each change notes what is to become durable (`journal`) and whom it concerns (`touched`); nothing is decided here.

pub(crate) mod addresses;
pub(crate) mod instances;
pub(crate) mod nodes;
pub(crate) mod workloads;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use api_types::{
    counter::Revision,
    id::{InstanceId, NodeId, WorkloadId},
};

use crate::{
    cluster::{
        instances::InstanceEntry,
        nodes::NodeEntry,
        workloads::{EarlierRun, WorkloadEntry},
    },
    effect::{Counters, Effect, Effects, Record, RecordKey},
};

/// Every table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cluster {
    /// The registered nodes.
    pub(crate) nodes: BTreeMap<NodeId, NodeEntry>,
    /// The workloads that are wanted.
    pub(crate) workloads: BTreeMap<WorkloadId, WorkloadEntry>,
    /// The placed instances, until nothing of them is left.
    pub(crate) instances: BTreeMap<InstanceId, InstanceEntry>,
    /// Index: the instances of each workload, deleted ones included.
    pub(crate) by_workload: BTreeMap<WorkloadId, BTreeSet<InstanceId>>,
    /// What instances run that were placed before their workload last changed.
    pub(crate) earlier_runs: BTreeMap<(WorkloadId, Revision), EarlierRun>,
    /// The services' virtual addresses.
    pub(crate) addresses: BTreeMap<WorkloadId, Ipv4Addr>,
    /// Counters that must not repeat.
    pub(crate) counters: Counters,
    /// Whether the counters moved since they were last made durable.
    pub(crate) counted: bool,
    /// What is to become durable or be forgotten, in order.
    pub(crate) journal: Effects,
    /// Whom the changes concern.
    pub(crate) touched: Touched,
}

/// Whom changes concern: it only saves work, everything could be looked at anew at any time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Touched {
    /// Workloads whose instances may not be as wanted.
    pub(crate) workloads: BTreeSet<WorkloadId>,
    /// Nodes whose assignment set may differ.
    pub(crate) sets: BTreeSet<NodeId>,
    /// Workloads whose entry in the service table may differ.
    pub(crate) services: BTreeSet<WorkloadId>,
    /// Single endpoints that may differ.
    pub(crate) endpoints: BTreeSet<(WorkloadId, InstanceId)>,
    /// Whether the list of peers may differ.
    pub(crate) peers: bool,
    /// Nodes that may take more than before.
    pub(crate) room: BTreeSet<NodeId>,
    /// Whether nodes fell silent or returned.
    pub(crate) liveness: bool,
    /// Whether a reader could see something new.
    pub(crate) seen: bool,
}

impl Cluster {
    /// Notes something to be made durable.
    pub(crate) fn persist(&mut self, record: Record) {
        self.journal.push(Effect::Persist(Box::new(record)));
    }

    /// Notes something durable to be forgotten.
    pub(crate) fn unpersist(&mut self, key: RecordKey) {
        self.journal.push(Effect::Forget(key));
    }

    /// The instances of a workload, in the order of their ids.
    pub(crate) fn instances_of(&self, workload: &WorkloadId) -> impl Iterator<Item = &InstanceEntry> {
        self.by_workload.get(workload).into_iter().flatten().filter_map(|id| self.instances.get(id))
    }

    /// The instances on a node, in the order of their ids.
    pub(crate) fn instances_on(&self, node: &NodeEntry) -> impl Iterator<Item = &InstanceEntry> {
        node.instances.iter().filter_map(|id| self.instances.get(id))
    }

    /// Notes that what runs on a node may count for more or less than before.
    pub(crate) fn touch_instances_on(&mut self, node: &NodeId) {
        let Some(entry) = self.nodes.get(node) else { return };
        for id in &entry.instances {
            if let Some(held) = self.instances.get(id) {
                self.touched.workloads.insert(held.instance.workload.clone());
                self.touched.endpoints.insert((held.instance.workload.clone(), id.clone()));
            }
        }
    }
}

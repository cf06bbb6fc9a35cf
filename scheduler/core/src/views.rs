//! What people and programs see: made from the state when asked for.

mod explanation;
mod instances;
mod jobs;
mod nodes;
mod ports;
mod remedies;
mod rollouts;
mod scale;
mod sites;
mod volumes;
mod waves;
mod workloads;

use api_types::{
    id::{InstanceId, NodeId, WorkloadId},
    view::{Description, Event, InstanceView, NodeView, WorkloadView},
};

use crate::{effect::Refusal, machine::Scheduler, views::ports::TakenPorts};

pub use nodes::LivenessCounts;
pub(crate) use workloads::WARMING_UP;

impl Scheduler {
    /// All nodes, sorted by name.
    #[must_use]
    pub fn node_views(&self) -> Vec<NodeView> {
        self.cluster.nodes.values().map(nodes::view).collect()
    }

    /// All workloads, sorted by name.
    #[must_use]
    pub fn workload_views(&self) -> Vec<WorkloadView> {
        let taken = TakenPorts::of(&self.cluster);
        self.cluster.workloads.values().map(|entry| self.workload_view(entry, &taken)).collect()
    }

    /// All instances, sorted by name, with those that have no node yet.
    #[must_use]
    pub fn instance_views(&self) -> Vec<InstanceView> {
        let mut views: Vec<InstanceView> = self.cluster.instances().map(|held| self.instance_view(held)).collect();
        views.extend(self.cluster.workloads.values().flat_map(|entry| self.pending_views(entry)));
        views.sort_by(|a, b| a.name.cmp(&b.name));
        views
    }

    /// What happened, the oldest first; a bounded ring.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.history.all()
    }

    /// A node with its instances and history.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn describe_node(&self, node: &NodeId) -> Result<Description, Refusal> {
        let entry = self.cluster.nodes.get(node).ok_or_else(|| Refusal::UnknownNode(node.clone()))?;
        let mut instances: Vec<_> = self.cluster.instances_on(entry).map(|held| self.instance_view(held)).collect();
        instances.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Description {
            node: Some(nodes::view(entry)),
            workload: None,
            instances,
            events: self.history.of_node(node),
        })
    }

    /// A workload with its instances and history.
    ///
    /// # Errors
    /// When there is no such workload.
    pub fn describe_workload(&self, workload: &WorkloadId) -> Result<Description, Refusal> {
        let entry = self.cluster.workloads.get(workload).ok_or_else(|| Refusal::UnknownWorkload(workload.clone()))?;
        let mut instances: Vec<_> = self.cluster.instances_of(workload).map(|held| self.instance_view(held)).collect();
        instances.extend(self.pending_views(entry));
        instances.sort_by(|a, b| (a.slot, &a.name).cmp(&(b.slot, &b.name)));
        Ok(Description {
            node: None,
            workload: Some(self.workload_view(entry, &TakenPorts::of(&self.cluster))),
            instances,
            events: self.history.of_workload(workload),
        })
    }

    /// An instance with its history.
    ///
    /// # Errors
    /// When there is no such instance.
    pub fn describe_instance(&self, instance: &InstanceId) -> Result<Description, Refusal> {
        let held = self.cluster.held_by_id(instance).ok_or_else(|| Refusal::UnknownInstance(instance.clone()))?;
        Ok(Description {
            node: None,
            workload: None,
            instances: vec![self.instance_view(held)],
            events: self.history.of_instance(instance),
        })
    }

    /// How many nodes are how.
    #[must_use]
    pub fn liveness_counts(&self) -> LivenessCounts {
        nodes::counts(self.cluster.nodes.values())
    }
}

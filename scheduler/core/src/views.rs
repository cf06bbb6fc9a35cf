//! What people and programs see: made from the state when asked for.

mod instances;
mod nodes;
mod volumes;
mod workloads;

use api_types::{
    id::{InstanceId, NodeId, WorkloadId},
    view::{Description, Event, Explanation, InstanceView, NodeVerdict, NodeView, WorkloadView},
    workload::WorkloadKind,
};

use crate::{
    effect::Refusal,
    machine::Scheduler,
    placement::{self, explain, filters::Miss},
};

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
        self.cluster.workloads.values().map(|entry| self.workload_view(entry)).collect()
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
            workload: Some(self.workload_view(entry)),
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

    /// Why a workload's instances are where they are, or nowhere: what every node says to one more.
    ///
    /// # Errors
    /// When there is no such workload.
    pub fn explain(&self, workload: &WorkloadId) -> Result<Explanation, Refusal> {
        let entry = self.cluster.workloads.get(workload).ok_or_else(|| Refusal::UnknownWorkload(workload.clone()))?;
        let spec = entry.spec();
        let view = self.workload_view(entry);
        let placed = view.wanted.saturating_sub(view.pending);
        let mut summary = format!("{placed} of {} placed", view.wanted);
        if let Some(reason) = self.parked_reason(entry) {
            summary = format!("{summary}; {reason}");
        } else if view.pending > 0 && self.is_warming_up() {
            summary = format!("{summary}; {}", workloads::WARMING_UP);
        }
        let mut explanation = Explanation {
            workload: workload.clone(),
            summary,
            instances: Vec::new(),
            groups: Vec::new(),
            nodes: Vec::new(),
            nodes_left_out: 0,
            counts: std::collections::BTreeMap::new(),
            remedies: Vec::new(),
            hint: if view.pending > 0 { explain::hint(&self.cluster, spec) } else { String::new() },
        };
        for (id, node) in &self.cluster.nodes {
            let instances = placement::instances_there(&self.cluster, node, spec);
            let miss = placement::check(&self.cluster, node, spec).err();
            // A daemon's own instance is no reason against its node.
            let miss = miss.filter(|miss| !(spec.kind == WorkloadKind::Daemon && matches!(miss, Miss::PerNode(_))));
            if let Some(miss) = &miss {
                *explanation.counts.entry(miss.filter().to_owned()).or_default() += 1;
            }
            explanation.nodes.push(NodeVerdict {
                node: id.clone(),
                filter: miss.as_ref().map(|miss| miss.filter().to_owned()).unwrap_or_default(),
                reason: miss.as_ref().map(|miss| explain::reason(&self.cluster, node, miss)).unwrap_or_default(),
                also: Vec::new(),
                instances,
                score: Vec::new(),
            });
        }
        Ok(explanation)
    }

    /// How many nodes are how.
    #[must_use]
    pub fn liveness_counts(&self) -> LivenessCounts {
        nodes::counts(self.cluster.nodes.values())
    }
}

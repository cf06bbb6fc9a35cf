//! What each node must do: its assignment set, made when somebody asks for it.
//!
//! An instance never changes but for what is desired of it, so a set differs exactly when an instance came, went or was told
//! to stop, or the subnet is another: the tables note that, and the set's generation counts it.

use std::collections::BTreeMap;

use api_types::{
    assignment::{Assignment, AssignmentSet},
    counter::{Epoch, Generation},
    id::InstanceId,
    instance::Desired,
    net::Cidr,
};

use crate::cluster::{Cluster, held::Held, nodes::NodeEntry};

/// What somebody holds of a node's set: a line per instance, enough to make the next change from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetOutline {
    generation: Option<Generation>,
    /// By number.
    lines: Vec<Line>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    number: u64,
    instance: InstanceId,
    desired: Desired,
}

/// What leads from one version of a node's set to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetChange {
    /// The version it starts from; `None` = from nothing.
    pub base: Option<Generation>,
    /// The version it leads to.
    pub generation: Generation,
    /// The range of the node's instances.
    pub subnet: Cidr,
    /// Assignments that are new or differ, sorted by instance.
    pub upserts: Vec<Assignment>,
    /// Assignments that are no longer there, sorted.
    pub removals: Vec<InstanceId>,
}

impl SetOutline {
    /// The version that is held; `None` = nothing is.
    #[must_use]
    pub fn generation(&self) -> Option<Generation> {
        self.generation
    }
}

/// What leads from what is held to the set as it is; afterwards the outline is of that.
pub(crate) fn change(cluster: &Cluster, node: &NodeEntry, outline: &mut SetOutline) -> SetChange {
    let base = outline.generation.replace(node.set_generation);
    let mut before = std::mem::take(&mut outline.lines).into_iter().peekable();
    let (mut upserts, mut removals) = (Vec::new(), Vec::new());
    outline.lines.reserve_exact(node.instances.len());
    for held in cluster.instances_on(node) {
        while let Some(gone) = before.next_if(|line| line.number < held.number) {
            removals.push(gone.instance);
        }
        let known = before.next_if(|line| line.number == held.number);
        // It never changes but for this.
        if known.as_ref().is_none_or(|line| line.desired != held.desired()) {
            upserts.push(assignment(held));
        }
        let instance = known.map_or_else(|| held.id(), |line| line.instance);
        outline.lines.push(Line { number: held.number, instance, desired: held.desired() });
    }
    removals.extend(before.map(|line| line.instance));
    upserts.sort_unstable_by(|a, b| a.instance.cmp(&b.instance));
    removals.sort_unstable();
    SetChange { base, generation: node.set_generation, subnet: node.spec.subnet, upserts, removals }
}

/// A node's set.
pub(crate) fn make(cluster: &Cluster, epoch: Epoch, node: &NodeEntry) -> AssignmentSet {
    let mut assignments: Vec<Assignment> = cluster.instances_on(node).map(assignment).collect();
    assignments.sort_unstable_by(|a, b| a.instance.cmp(&b.instance));
    AssignmentSet {
        epoch,
        generation: node.set_generation,
        node: node.spec.id.clone(),
        subnet: node.spec.subnet,
        assignments,
        secrets: BTreeMap::new(),
    }
}

fn assignment(held: Held<'_>) -> Assignment {
    let spec = held.spec();
    let mut ports = spec.ports.clone();
    for port in &mut ports {
        // How a service balances is the table's business; here it would only make equal assignments differ.
        port.service = port.container;
        port.publish = None;
        if port.host.is_none() {
            port.bind = None;
            port.allow = Vec::new();
        }
    }
    Assignment {
        instance: held.id(),
        workload: held.workload().clone(),
        slot: held.slot(),
        revision: held.revision(),
        desired: held.desired(),
        container: spec.container.clone(),
        resources: spec.resources,
        devices: held.devices().to_vec(),
        ports,
        probe: spec.probe.clone(),
        restart: spec.restart.clone(),
        secrets: BTreeMap::new(),
    }
}

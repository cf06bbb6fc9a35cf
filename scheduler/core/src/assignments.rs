//! What each node must do: its assignment set, made when somebody asks for it.
//!
//! An instance never changes but for what is desired of it, so a set differs exactly when an instance came, went or was told
//! to stop, or the subnet is another: the tables note that, and the set's generation counts it.

use api_types::{
    assignment::{Assignment, AssignmentSet},
    counter::Epoch,
};

use crate::cluster::{Cluster, held::Held, nodes::NodeEntry};

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
    }
}

fn assignment(held: Held<'_>) -> Assignment {
    let spec = held.spec();
    let mut ports = spec.ports.clone();
    for port in &mut ports {
        // How a service balances is the table's business; here it would only make equal assignments differ.
        port.service = port.container;
        port.publish = None;
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
    }
}

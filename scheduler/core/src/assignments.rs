//! What each node must do: its assignment set, whole, with its generation.

use std::{collections::BTreeMap, sync::Arc};

use api_types::{
    assignment::{Assignment, AssignmentSet},
    counter::{Epoch, Generation},
    id::NodeId,
};

use crate::cluster::{Cluster, instances::InstanceEntry};

/// The sets as last made.
#[derive(Clone, Debug, Default)]
pub(crate) struct Assignments {
    sets: BTreeMap<NodeId, Arc<AssignmentSet>>,
}

impl Assignments {
    /// The set of a node.
    pub(crate) fn get(&self, node: &NodeId) -> Option<Arc<AssignmentSet>> {
        self.sets.get(node).cloned()
    }

    /// Makes the set of a node anew; whether it differs from the one before. The set of a removed node goes.
    pub(crate) fn refresh(&mut self, cluster: &Cluster, epoch: Epoch, node: &NodeId) -> bool {
        let Some(mut set) = make(cluster, epoch, node) else {
            self.sets.remove(node);
            return false;
        };
        if let Some(before) = self.sets.get(node) {
            set.generation = before.generation;
            if set == **before {
                return false;
            }
        }
        set.generation = set.generation.next();
        self.sets.insert(node.clone(), Arc::new(set));
        true
    }
}

/// What a node's set should say, with generation zero; `None` for a node that is not registered.
pub(crate) fn make(cluster: &Cluster, epoch: Epoch, node: &NodeId) -> Option<AssignmentSet> {
    let entry = cluster.nodes.get(node)?;
    Some(AssignmentSet {
        epoch,
        generation: Generation(0),
        node: node.clone(),
        subnet: entry.spec.subnet,
        assignments: cluster.instances_on(entry).map(assignment).collect(),
    })
}

fn assignment(held: &InstanceEntry) -> Assignment {
    let spec = &held.run.spec;
    let mut ports = spec.ports.clone();
    for port in &mut ports {
        // How a service balances is the table's business; here it would only make equal assignments differ.
        port.service = port.container;
        port.publish = None;
    }
    Assignment {
        instance: held.instance.id.clone(),
        workload: held.instance.workload.clone(),
        slot: held.instance.slot,
        revision: held.instance.revision,
        desired: held.instance.desired,
        container: spec.container.clone(),
        resources: spec.resources,
        devices: held.instance.devices.clone(),
        ports,
        probe: spec.probe.clone(),
    }
}

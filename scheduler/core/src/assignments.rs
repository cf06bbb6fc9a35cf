//! What each node must do: its assignment set, made when somebody asks for it.
//!
//! An instance never changes but for what is desired of it and what it is shown, so a set differs exactly when an instance
//! came, went, was told to stop or is shown something else, what it waits for came to pass, or the subnet is another: the
//! tables note that, and the set's generation counts it.

use std::collections::{BTreeMap, BTreeSet};

use api_types::{
    assignment::{Assignment, AssignmentSet},
    counter::{Epoch, Generation},
    dependency::Dependency,
    id::InstanceId,
    instance::Desired,
    net::Cidr,
    workload::WorkloadKind,
};

use crate::{
    cluster::{Cluster, content, held::Held, nodes::NodeEntry},
    effect::SecretRecord,
};

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
    /// See [`Cluster::content_version`].
    content: u64,
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
    /// The secrets of the assignments that are new or differ, sealed, each once.
    pub secrets: Vec<SecretRecord>,
    /// All that is so of what instances of the set wait for, sorted.
    pub met: Vec<Dependency>,
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
    let (mut upserts, mut removals, mut secrets) = (Vec::new(), Vec::new(), BTreeSet::new());
    let met = cluster.met_for(node);
    outline.lines.reserve_exact(node.instances.len());
    for held in cluster.instances_on(node) {
        while let Some(gone) = before.next_if(|line| line.number < held.number) {
            removals.push(gone.instance);
        }
        let known = before.next_if(|line| line.number == held.number);
        let (desired, content) = (held.desired(), cluster.content_version(held));
        // It never changes but for these.
        if known.as_ref().is_none_or(|line| (line.desired, line.content) != (desired, content)) {
            secrets.extend(content::secrets(held.spec()).map(|(_, id)| id));
            upserts.push(assignment(cluster, held));
        }
        let instance = known.map_or_else(|| held.id(), |line| line.instance);
        outline.lines.push(Line { number: held.number, instance, desired, content });
    }
    removals.extend(before.map(|line| line.instance));
    upserts.sort_unstable_by(|a, b| a.instance.cmp(&b.instance));
    removals.sort_unstable();
    let secrets = secrets.iter().filter_map(|id| cluster.secrets.get(id)).cloned().collect();
    SetChange { base, generation: node.set_generation, subnet: node.spec.subnet, upserts, removals, secrets, met }
}

/// A node's set.
pub(crate) fn make(cluster: &Cluster, epoch: Epoch, node: &NodeEntry) -> AssignmentSet {
    let mut assignments: Vec<Assignment> = cluster.instances_on(node).map(|held| assignment(cluster, held)).collect();
    assignments.sort_unstable_by(|a, b| a.instance.cmp(&b.instance));
    AssignmentSet {
        epoch,
        generation: node.set_generation,
        node: node.spec.id.clone(),
        subnet: node.spec.subnet,
        assignments,
        met: cluster.met_for(node),
        // Who reads is a node: only it is told what they are.
        secrets: BTreeMap::new(),
    }
}

fn assignment(cluster: &Cluster, held: Held<'_>) -> Assignment {
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
    let retries = match spec.kind {
        WorkloadKind::Job(job) => Some(job.retries),
        WorkloadKind::Service { .. } | WorkloadKind::Daemon => None,
    };
    Assignment {
        instance: held.id(),
        workload: held.workload().clone(),
        slot: held.slot(),
        revision: held.revision(),
        desired: held.desired(),
        container: spec.container.clone(),
        resources: spec.resources,
        companions: spec.companions.clone(),
        after: spec.after.clone(),
        devices: held.devices().to_vec(),
        ports,
        probe: spec.probe.clone(),
        restart: spec.restart.clone(),
        is_judged: spec.update.is_some(),
        // Of a service's own address the table tells; here it would only make equal assignments differ.
        ipv6: spec.ipv6 && spec.ports.iter().any(|port| port.host.is_some()),
        retries,
        stop_after_ms: spec.disconnect.stop_after_ms,
        secrets: content::secrets(spec)
            .filter_map(|(name, id)| Some((name.clone(), cluster.secrets.get(&id)?.version)))
            .collect(),
    }
}

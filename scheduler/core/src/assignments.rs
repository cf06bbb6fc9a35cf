//! What each node must do: its assignment set, made when somebody asks for it.
//!
//! An instance never changes but for what is desired of it and what it is shown, so a set differs exactly when an instance
//! came, went, was told to stop or is shown something else, what it waits for came to pass, the subnet is another, or coming
//! times of jobs are: the tables note that, and the set's generation counts it.

use std::collections::{BTreeMap, BTreeSet};

use api_types::{
    assignment::{Assignment, AssignmentSet},
    counter::{Epoch, Generation, Revision},
    dependency::Dependency,
    device::DeviceGrant,
    id::InstanceId,
    instance::Desired,
    net::Cidr,
    schedule::{JobAhead, ON_TIME_MS, ScheduleSpec},
    workload::{WorkloadKind, WorkloadSpec},
};

use crate::{
    cluster::{Cluster, content, held::Held, ids::instance_id, nodes::NodeEntry},
    effect::SecretRecord,
};

/// What somebody holds of a node's set: a line per instance, enough to make the next change from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetOutline {
    generation: Option<Generation>,
    /// By number.
    lines: Vec<Line>,
    /// Which version of what the node is told of coming times; `None` = none.
    ahead: Option<u64>,
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
    /// All jobs that the node begins by its own clock while it hears no scheduler, sorted by job; `None` = as before.
    pub ahead: Option<Vec<JobAhead>>,
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
    let is_told = outline.ahead.replace(node.ahead.version) == Some(node.ahead.version);
    let ahead = (!is_told).then(|| {
        let specs = cluster.ahead_of(node).into_iter().map(|(_, entry)| &entry.run.spec);
        secrets.extend(specs.flat_map(|spec| content::secrets(spec)).map(|(_, id)| id));
        ahead(cluster, node)
    });
    let secrets = secrets.iter().filter_map(|id| cluster.secrets.get(id)).cloned().collect();
    let (generation, subnet) = (node.set_generation, node.spec.subnet);
    SetChange { base, generation, subnet, upserts, removals, secrets, met, ahead }
}

/// What a node is told of the coming times of jobs.
fn ahead(cluster: &Cluster, node: &NodeEntry) -> Vec<JobAhead> {
    let told = cluster.ahead_of(node).into_iter().map(|(ahead, entry)| {
        let id = &entry.workload.spec.id;
        let instance = |number: &u64| instance_id(id, *number);
        let schedule = entry.spec().schedule.as_ref();
        let what = What {
            // Each run has its own.
            instance: instance_id(id, 0),
            slot: 0,
            revision: entry.workload.revision,
            desired: Desired::Run,
            devices: &[],
        };
        JobAhead {
            template: assigned(cluster, &entry.run.spec, what),
            late_ms: schedule.map_or(ON_TIME_MS, ScheduleSpec::late_ms),
            overlap: schedule.map(|schedule| schedule.overlap).unwrap_or_default(),
            coming: ahead.coming.iter().map(|(at, number)| (*at, instance(number))).collect(),
            withdrawn: ahead.withdrawn.values().map(instance).collect(),
        }
    });
    told.collect()
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
        ahead: ahead(cluster, node),
        // Who reads is a node: only it is told what they are.
        secrets: BTreeMap::new(),
    }
}

fn assignment(cluster: &Cluster, held: Held<'_>) -> Assignment {
    let what = What {
        instance: held.id(),
        slot: held.slot(),
        revision: held.revision(),
        desired: held.desired(),
        devices: held.devices(),
    };
    assigned(cluster, held.spec(), what)
}

/// Of what an instance's spec does not tell.
struct What<'a> {
    instance: InstanceId,
    slot: u32,
    revision: Revision,
    desired: Desired,
    devices: &'a [DeviceGrant],
}

fn assigned(cluster: &Cluster, spec: &WorkloadSpec, what: What<'_>) -> Assignment {
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
        instance: what.instance,
        workload: spec.id.clone(),
        slot: what.slot,
        revision: what.revision,
        desired: what.desired,
        container: spec.container.clone(),
        resources: spec.resources,
        companions: spec.companions.clone(),
        after: spec.after.clone(),
        devices: what.devices.to_vec(),
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

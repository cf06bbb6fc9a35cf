//! What would make an instance fit: on a copy a rule gives way, and the check that places is asked again.

use std::{cmp::Reverse, collections::BTreeMap};

use api_types::{
    container::PortSpec,
    id::NodeId,
    node::{Availability, Liveness, NodeSpec},
    resources::Resources,
    view::{Rejection, Remedy},
    workload::{Workload, WorkloadSpec},
};

use crate::{
    cluster::{Cluster, nodes::NodeEntry},
    placement::{self, explain, filters::Miss},
};

/// How many different specs are tried for all the nodes that are shown.
const TRIALS_MAX: usize = 32;
/// How many different remedies are tried and told.
const REMEDIES_MAX: usize = 8;
/// For how many nodes all of their rules are let go.
const NODES_TRIED_MAX: usize = 16;
/// How many nodes that take nothing now are tried as if they did.
const UNAVAILABLE_MAX: usize = 100;

/// Copies of the cluster in which a workload has fewer rules, by what was let go.
#[derive(Debug)]
pub(super) struct Trials<'c> {
    cluster: &'c Cluster,
    known: BTreeMap<Vec<String>, Trial>,
}

/// One such copy.
#[derive(Debug)]
struct Trial {
    cluster: Cluster,
    spec: WorkloadSpec,
}

/// A spec without one of its rules, and that as an order.
struct Change {
    spec: WorkloadSpec,
    action: String,
    less: Resources,
}

impl Trial {
    fn new(cluster: &Cluster, spec: WorkloadSpec) -> Self {
        let mut cluster = cluster.clone();
        if let Some(workload) = cluster.workloads.get(&spec.id).map(|entry| entry.workload.clone()) {
            cluster.put_workload(Workload { spec: spec.clone(), ..workload });
        }
        Self { cluster, spec }
    }

    /// What the check says; a node that is not there says nothing.
    fn miss(&self, node: &NodeId) -> Option<(&NodeEntry, Miss<'_>)> {
        let node = self.cluster.nodes.get(node)?;
        Some((node, placement::check(&self.cluster, node, &self.spec).err()?))
    }
}

impl<'c> Trials<'c> {
    pub(super) fn new(cluster: &'c Cluster, spec: &WorkloadSpec) -> Self {
        let whole = Trial { cluster: cluster.clone(), spec: spec.clone() };
        Self { cluster, known: BTreeMap::from([(Vec::new(), whole)]) }
    }

    /// Everything for which a node turns an instance away: each rule that says no is let go, then the next is asked.
    pub(super) fn rejections(&mut self, node: &NodeId) -> Vec<Rejection> {
        let (mut rejections, mut gone) = (Vec::new(), Vec::new());
        while let Some((trial, (entry, miss))) =
            self.known.get(&gone).and_then(|trial| Some((trial, trial.miss(node)?)))
        {
            let reason = explain::reason(&trial.cluster, entry, &miss);
            rejections.push(Rejection { filter: miss.filter().to_owned(), reason });
            // Nothing is asked after resources.
            let change = without(&trial.spec, &miss).filter(|_| !matches!(miss, Miss::Resources(_)));
            let Some(change) = change else { break };
            gone.push(change.action);
            if !self.known.contains_key(&gone) {
                if self.known.len() >= TRIALS_MAX {
                    break;
                }
                self.known.insert(gone.clone(), Trial::new(self.cluster, change.spec));
            }
        }
        rejections
    }
}

/// The changes that make one more instance fit, the smallest first.
pub(super) fn find(
    cluster: &Cluster,
    spec: &WorkloadSpec,
    verdicts: &[(&NodeId, &NodeEntry, Option<Miss<'_>>)],
) -> Vec<Remedy> {
    let mut groups: BTreeMap<String, Vec<(&NodeEntry, &Miss<'_>)>> = BTreeMap::new();
    for (_, node, miss) in verdicts {
        if let Some(miss) = miss {
            groups.entry(explain::sentence(miss, 2)).or_default().push((node, miss));
        }
    }
    let mut groups: Vec<_> = groups.into_values().collect();
    groups.sort_by_key(|group| Reverse(group.len()));
    let tried = groups.iter().take(REMEDIES_MAX);
    let mut remedies: Vec<Remedy> = tried.filter_map(|group| one_rule(cluster, spec, group)).collect();
    if remedies.is_empty() {
        remedies.extend(several_rules(cluster, spec, &groups));
    }
    remedies.sort_by_key(|remedy| (effort(&remedy.filter), Reverse(remedy.nodes)));
    remedies
}

/// Lets the rule go that says no; `None` where it is not the spec that would have to change.
fn without(spec: &WorkloadSpec, miss: &Miss<'_>) -> Option<Change> {
    let mut change = Change { spec: spec.clone(), action: String::new(), less: Resources::default() };
    match miss {
        Miss::Architecture(constraint) | Miss::Constraint(constraint) => {
            change.spec.placement.constraints.retain(|other| other != *constraint);
            change.action = format!("drop `{constraint}`");
        }
        Miss::HostPort(port, protocol) => {
            let is_it = |other: &&mut PortSpec| other.host == Some(*port) && other.protocol == *protocol;
            change.spec.ports.iter_mut().filter(is_it).for_each(|other| other.host = None);
            change.action = format!("free port {port}/{}", protocol.as_str());
        }
        Miss::Affinity(rule) => {
            change.spec.placement.affinities.retain(|other| other != *rule);
            change.action = format!("drop `{rule}`");
        }
        Miss::Spread(rule) => {
            change.spec.placement.spread.iter_mut().filter(|other| other == rule).for_each(|it| it.skew_max = None);
            change.action = format!("let `{rule}` be soft");
        }
        Miss::NoDevice(request) | Miss::Device(request) => {
            change.spec.devices.retain(|other| other != *request);
            change.action = format!("free {request} or ask for none");
        }
        Miss::PerNode(limit) => {
            change.spec.placement.per_node_max = None;
            change.action = format!("allow more than {limit} on a node");
        }
        Miss::Resources(lack) => {
            change.spec.resources.reserve = change.spec.resources.reserve.saturating_sub(*lack);
            change.action = format!("reserve {} less, or free as much there", explain::amount(*lack));
            change.less = *lack;
        }
        Miss::Cordoned
        | Miss::Draining
        | Miss::Unreachable
        | Miss::Lost
        | Miss::Unknown
        | Miss::RuntimeAway
        | Miss::Claimed
        | Miss::AvoidedBy(_) => {
            return None;
        }
    }
    Some(change)
}

/// What one change does for nodes that say no for the same reason.
fn one_rule(cluster: &Cluster, spec: &WorkloadSpec, group: &[(&NodeEntry, &Miss<'_>)]) -> Option<Remedy> {
    let (first, miss) = group.first()?;
    let nearest = explain::nearest(group).map(|(node, lack)| (node, Miss::Resources(lack)));
    let (node, miss) = nearest.unwrap_or((*first, **miss));
    let Some(change) = without(spec, &miss) else { return available(cluster, spec, group) };
    let trial = Trial::new(cluster, change.spec);
    let fitting: Vec<&NodeId> =
        trial.cluster.nodes.iter().map(|(id, _)| id).filter(|id| trial.miss(id).is_none()).collect();
    // Of several that then fit, the one that needs the change least is named.
    let named = fitting.iter().find(|id| ***id == node.spec.id).or(fitting.first())?;
    Some(Remedy {
        filter: miss.filter().to_owned(),
        action: change.action,
        node: (*named).clone(),
        nodes: u32::try_from(fitting.len()).unwrap_or(u32::MAX),
        less: change.less,
    })
}

/// What comes of it when nodes take instances again that do not now.
fn available(cluster: &Cluster, spec: &WorkloadSpec, group: &[(&NodeEntry, &Miss<'_>)]) -> Option<Remedy> {
    let mut trial = Trial { cluster: cluster.clone(), spec: spec.clone() };
    for (node, _) in group.iter().take(UNAVAILABLE_MAX) {
        let id = &node.spec.id;
        trial.cluster.put_node(NodeSpec { availability: Availability::Active, ..node.spec.clone() });
        trial.cluster.set_liveness(id, Liveness::Ready);
        trial.cluster.set_conditions(id, Vec::new());
    }
    let mut fitting = group.iter().take(UNAVAILABLE_MAX).filter(|(node, _)| trial.miss(&node.spec.id).is_none());
    let (node, miss) = fitting.next()?;
    let id = &node.spec.id;
    let action = match miss {
        Miss::Cordoned | Miss::Draining => format!("uncordon {id}"),
        Miss::RuntimeAway => format!("mend the container runtime of {id}"),
        Miss::Unreachable | Miss::Lost | Miss::Unknown => format!("bring {id} back"),
        // It ends by itself.
        Miss::Claimed
        | Miss::Architecture(_)
        | Miss::Constraint(_)
        | Miss::NoDevice(_)
        | Miss::Affinity(_)
        | Miss::AvoidedBy(_)
        | Miss::Spread(_)
        | Miss::HostPort(..)
        | Miss::PerNode(_)
        | Miss::Device(_)
        | Miss::Resources(_) => return None,
    };
    let nodes = u32::try_from(fitting.count() + 1).unwrap_or(u32::MAX);
    Some(Remedy { filter: miss.filter().to_owned(), action, node: id.clone(), nodes, less: Resources::default() })
}

/// Where no single change helps: all that one node asks for, the node that asks for least.
fn several_rules(cluster: &Cluster, spec: &WorkloadSpec, groups: &[Vec<(&NodeEntry, &Miss<'_>)>]) -> Option<Remedy> {
    let nodes = groups.iter().flatten().map(|(node, _)| &node.spec.id).take(NODES_TRIED_MAX);
    let each = nodes.filter_map(|node| {
        let mut trial = Trial::new(cluster, spec.clone());
        let (mut filter, mut actions, mut less) = (None, Vec::new(), Resources::default());
        while actions.len() < TRIALS_MAX {
            let Some((_, miss)) = trial.miss(node) else { break };
            filter = filter.or(Some(miss.filter()));
            let change = without(&trial.spec, &miss)?;
            actions.push(change.action);
            less = less.checked_add(change.less)?;
            trial = Trial::new(cluster, change.spec);
        }
        trial.miss(node).is_none().then(|| (actions, filter.unwrap_or_default(), node, less))
    });
    let (actions, filter, node, less) =
        each.min_by_key(|(actions, _, node, less)| (actions.len(), less.cpu_millis, less.memory_bytes, *node))?;
    let (filter, action) = (filter.to_owned(), actions.join(" and "));
    Some(Remedy { filter, action, node: node.clone(), nodes: 1, less })
}

/// How much it takes to let a rule go, the least first.
fn effort(filter: &str) -> usize {
    let order = [
        "resources",
        "per_node",
        "host_ports",
        "devices",
        "availability",
        "spread",
        "affinity",
        "constraints",
        "architecture",
    ];
    order.iter().position(|known| *known == filter).unwrap_or(order.len())
}

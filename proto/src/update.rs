//! Changes of assignment sets and service tables: whole first, then chained by generation. Pure, used by both ends.

use std::{collections::BTreeMap, fmt::Debug, sync::Arc};

use api_types::{
    assignment::{Assignment, AssignmentSet},
    dependency::Dependency,
    id::{InstanceId, NodeId, SecretId, WorkloadId},
    net::{Cidr, Ipv6Prefix},
    schedule::JobAhead,
    secret::SecretValue,
    service::{Peer, Service, ServiceTable, WatchKey},
};
use thiserror::Error;

use crate::session::Marker;

/// A change of an assignment set, or a whole one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssignmentsUpdate {
    /// What it changes; `None` = it is whole.
    pub base: Option<Marker>,
    /// What is held after it.
    pub marker: Marker,
    /// Whose set it is.
    pub node: NodeId,
    /// The range of the node's instances.
    pub subnet: Cidr,
    /// Assignments that are new or differ.
    pub upserts: Vec<Assignment>,
    /// Assignments that are no longer there.
    pub removals: Vec<InstanceId>,
    /// The secrets that those which are new or differ are shown.
    pub secrets: BTreeMap<SecretId, SecretValue>,
    /// All that is so of what instances of the set wait for.
    pub met: Vec<Dependency>,
    /// All jobs that the node begins by its own clock while it hears no scheduler; `None` = as before.
    pub ahead: Option<Vec<JobAhead>>,
}

/// A change of the service table, or a whole one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicesUpdate {
    /// What it changes; `None` = it is whole.
    pub base: Option<Marker>,
    /// What is held after it.
    pub marker: Marker,
    /// The range of all instances' addresses.
    pub cluster_range: Cidr,
    /// The range of all virtual addresses.
    pub service_range: Cidr,
    /// Where both ranges are embedded in IPv6; `None` = nowhere.
    pub ipv6_prefix: Option<Ipv6Prefix>,
    /// Services that are new or differ, each whole.
    pub upserts: Vec<Arc<Service>>,
    /// Services that are no longer there.
    pub removals: Vec<WorkloadId>,
    /// All peers; `None` = as before.
    pub peers: Option<Arc<[Peer]>>,
    /// With what nodes sign their signs of life to each other.
    pub watch_key: Option<WatchKey>,
}

/// A change that does not follow what is held: the session must start anew.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the change starts from {base:?}, but {held:?} is held: open a new session")]
pub struct GapError {
    /// What the change starts from.
    pub base: Marker,
    /// What is held.
    pub held: Option<Marker>,
}

/// The version of a set.
#[must_use]
pub fn assignments_marker(set: &AssignmentSet) -> Marker {
    Marker { epoch: set.epoch, generation: set.generation }
}

/// The version of a table.
#[must_use]
pub fn services_marker(table: &ServiceTable) -> Marker {
    Marker { epoch: table.epoch, generation: table.generation }
}

/// A set as an update that starts from nothing.
#[must_use]
pub fn whole_assignments(set: &AssignmentSet) -> AssignmentsUpdate {
    AssignmentsUpdate {
        base: None,
        marker: assignments_marker(set),
        node: set.node.clone(),
        subnet: set.subnet,
        upserts: set.assignments.clone(),
        removals: Vec::new(),
        secrets: set.secrets.clone(),
        met: set.met.clone(),
        ahead: Some(set.ahead.clone()),
    }
}

/// What leads from `old` to `new`.
#[must_use]
pub fn diff_assignments(old: &AssignmentSet, new: &AssignmentSet) -> AssignmentsUpdate {
    let (upserts, removals) = changed(&old.assignments, &new.assignments, |assignment| &assignment.instance);
    let secrets = new.secrets.iter().filter(|(id, value)| old.secrets.get(*id) != Some(*value));
    let secrets = secrets.map(|(id, value)| (id.clone(), value.clone())).collect();
    let ahead = (old.ahead != new.ahead).then(|| new.ahead.clone());
    AssignmentsUpdate { base: Some(assignments_marker(old)), upserts, removals, secrets, ahead, ..header(new) }
}

/// What is held after an update.
///
/// # Errors
/// When the update is a change of something else than what is held.
pub fn apply_assignments(held: Option<&AssignmentSet>, update: AssignmentsUpdate) -> Result<AssignmentSet, GapError> {
    let (before, mut secrets, ahead) = match update.base {
        None => (Vec::new(), BTreeMap::new(), Vec::new()),
        Some(base) => {
            let set = held.filter(|set| assignments_marker(set) == base && set.node == update.node);
            let gap = || GapError { base, held: held.map(assignments_marker) };
            let set = set.ok_or_else(gap)?;
            (set.assignments.clone(), set.secrets.clone(), set.ahead.clone())
        }
    };
    secrets.extend(update.secrets);
    let mut set = AssignmentSet {
        epoch: update.marker.epoch,
        generation: update.marker.generation,
        node: update.node,
        subnet: update.subnet,
        assignments: merged(before, update.upserts, &update.removals, |assignment| &assignment.instance),
        met: update.met,
        ahead: update.ahead.unwrap_or(ahead),
        secrets: BTreeMap::new(),
    };
    secrets.retain(|id, _| set.assignments_and_ahead().any(|assignment| uses(assignment, id)));
    set.secrets = secrets;
    Ok(set)
}

/// A table as an update that starts from nothing.
#[must_use]
pub fn whole_services(table: &ServiceTable) -> ServicesUpdate {
    ServicesUpdate {
        base: None,
        marker: services_marker(table),
        cluster_range: table.cluster_range,
        service_range: table.service_range,
        ipv6_prefix: table.ipv6_prefix,
        upserts: table.services.clone(),
        removals: Vec::new(),
        peers: Some(table.peers.clone()),
        watch_key: table.watch_key,
    }
}

/// What leads from `old` to `new`.
#[must_use]
pub fn diff_services(old: &ServiceTable, new: &ServiceTable) -> ServicesUpdate {
    let (upserts, removals) = changed(&old.services, &new.services, |service| &service.id);
    ServicesUpdate {
        base: Some(services_marker(old)),
        marker: services_marker(new),
        cluster_range: new.cluster_range,
        service_range: new.service_range,
        ipv6_prefix: new.ipv6_prefix,
        upserts,
        removals,
        peers: (old.peers != new.peers).then(|| new.peers.clone()),
        watch_key: new.watch_key,
    }
}

/// What is held after an update.
///
/// # Errors
/// When the update is a change of something else than what is held.
pub fn apply_services(held: Option<&ServiceTable>, update: ServicesUpdate) -> Result<ServiceTable, GapError> {
    let (before, peers) = match update.base {
        None => (Vec::new(), Arc::default()),
        Some(base) => {
            let gap = || GapError { base, held: held.map(services_marker) };
            let table = held.filter(|table| services_marker(table) == base).ok_or_else(gap)?;
            (table.services.clone(), table.peers.clone())
        }
    };
    Ok(ServiceTable {
        epoch: update.marker.epoch,
        generation: update.marker.generation,
        cluster_range: update.cluster_range,
        service_range: update.service_range,
        ipv6_prefix: update.ipv6_prefix,
        services: merged(before, update.upserts, &update.removals, |service| &service.id),
        peers: update.peers.unwrap_or(peers),
        watch_key: update.watch_key,
    })
}

fn header(set: &AssignmentSet) -> AssignmentsUpdate {
    AssignmentsUpdate {
        base: None,
        marker: assignments_marker(set),
        node: set.node.clone(),
        subnet: set.subnet,
        upserts: Vec::new(),
        removals: Vec::new(),
        secrets: BTreeMap::new(),
        met: set.met.clone(),
        ahead: None,
    }
}

fn uses(assignment: &Assignment, secret: &SecretId) -> bool {
    assignment.workload.namespace == secret.namespace && assignment.secrets.contains_key(&secret.name)
}

fn changed<T: Clone + PartialEq, K: Ord + Clone>(old: &[T], new: &[T], key: fn(&T) -> &K) -> (Vec<T>, Vec<K>) {
    let before: BTreeMap<&K, &T> = old.iter().map(|item| (key(item), item)).collect();
    let after: BTreeMap<&K, &T> = new.iter().map(|item| (key(item), item)).collect();
    let upserts = new.iter().filter(|item| before.get(key(item)) != Some(item)).cloned().collect();
    let removals = before.keys().filter(|key| !after.contains_key(*key)).map(|&key| key.clone()).collect();
    (upserts, removals)
}

fn merged<T, K: Ord + Clone>(before: Vec<T>, upserts: Vec<T>, removals: &[K], key: fn(&T) -> &K) -> Vec<T> {
    let mut items: BTreeMap<K, T> = before.into_iter().map(|item| (key(&item).clone(), item)).collect();
    for gone in removals {
        items.remove(gone);
    }
    items.extend(upserts.into_iter().map(|item| (key(&item).clone(), item)));
    items.into_values().collect()
}

//! One instance on every node that the rules mean: placed when the node is ready, ended when it is drained or meant no more.
//!
//! A daemon belongs to its node: silence changes nothing. A changed one is stopped first, on a tenth of the nodes at once.

use std::collections::{BTreeMap, BTreeSet};

use api_types::{
    id::{NodeId, WorkloadId},
    node::Availability,
};

use crate::{
    cluster::{Cluster, held::Held, nodes::NodeEntry},
    machine::Scheduler,
    placement::{
        self, explain,
        filters::{Miss, is_meant},
    },
    reconcile::{ENDED_RETRY_MS, rollout::Remainder, slots::is_current},
    timers::Timer,
};

/// What a daemon's pass found.
#[derive(Debug, Default)]
struct Found {
    to_end: Vec<u64>,
    to_place: Vec<NodeId>,
    to_renew: Vec<u64>,
    under_way: usize,
    /// On how many nodes it runs or shall run.
    nodes: usize,
    /// On how many of them it is as wanted now.
    updated: usize,
    /// On how many of these it does its work.
    serving: usize,
    /// Whether it shall run on any node, be that heard of or not.
    is_meant: bool,
    /// Whether some node that is heard of has an earlier revision.
    outdated: bool,
    misses: Vec<String>,
}

impl Scheduler {
    /// Brings a daemon up to date.
    pub(crate) fn reconcile_daemon(&mut self, id: &WorkloadId) {
        if self.judge_rollout(id) {
            return;
        }
        let found = self.look_at_nodes(id);
        let is_calm = found.to_end.is_empty() && found.to_place.is_empty() && found.to_renew.is_empty();
        let is_steady = is_calm && !self.is_rolling_out(id);
        if let Some(entry) = self.cluster.workloads.get_mut(id) {
            entry.is_steady = is_steady;
        }
        for instance in &found.to_end {
            self.retire(*instance);
        }
        let mut slots: BTreeSet<u32> = self.cluster.instances_of(id).map(|held| held.slot()).collect();
        let mut slot = 0;
        for node in &found.to_place {
            if self.placements_left == 0 {
                self.cluster.touched.workloads.insert(id.clone());
                break;
            }
            let own = self.slot_with_data(id, node).filter(|slot| !slots.contains(slot));
            let chosen = own.unwrap_or_else(|| {
                let is_free = |slot: &u32| !slots.contains(slot) && !self.has_data(id, *slot);
                slot = (slot..).find(is_free).expect("there are fewer instances than numbers");
                slot
            });
            slots.insert(chosen);
            self.commit(id, chosen, node);
        }
        let under_way = found.under_way + found.to_place.len();
        let waits_for_room =
            found.updated == 0 && under_way == 0 && found.to_renew.is_empty() && !found.misses.is_empty();
        let mut to_renew = found.to_renew;
        self.keep_to_wave(id, &mut to_renew, |old| *old);
        to_renew.sort_by_key(|old| self.serves(*old));
        let width = self.rollout_width(id, found.nodes, found.updated);
        for old in to_renew.iter().take(width.saturating_sub(under_way)) {
            self.retire(*old);
        }
        let Found { outdated, updated, serving, is_meant, .. } = found;
        let left = Remainder { outdated, under_way: under_way > 0, updated, serving, is_meant };
        self.note_progress(id, found.nodes, left);
        if !found.misses.is_empty() {
            self.displace(id, found.misses.len(), None);
        }
        match found.misses.len() {
            0 => self.unpark(id),
            1 => self.park_because(id, found.misses.concat()),
            count => self.park_because(id, format!("{count} nodes: {}", found.misses.join("; "))),
        }
        self.judge_room(id, waits_for_room);
    }

    /// Whether a node shall have an instance of this daemon, be it able to take it now or not.
    pub(crate) fn is_meant_for(&self, id: &WorkloadId, node: &NodeEntry) -> bool {
        let spec = self.cluster.workloads.get(id).map(|entry| entry.spec());
        spec.is_some_and(|spec| node.spec.availability != Availability::Draining && is_meant(node, spec) == Some(true))
    }

    fn look_at_nodes(&mut self, id: &WorkloadId) -> Found {
        let mut found = Found::default();
        let mut there: BTreeMap<u32, Vec<Held<'_>>> = BTreeMap::new();
        for held in self.cluster.instances_of(id) {
            there.entry(held.node_index()).or_default().push(held);
        }
        let Some(entry) = self.cluster.workloads.get(id) else { return found };
        let mut looks = Vec::new();
        for (index, node) in self.cluster.nodes.indexed() {
            let here = there.get(&index).map(Vec::as_slice).unwrap_or_default();
            let wanted: Vec<Held<'_>> = here.iter().copied().filter(|held| held.is_wanted()).collect();
            let draining = node.spec.availability == Availability::Draining;
            if draining || is_meant(node, entry.spec()) == Some(false) {
                found.to_end.extend(wanted.iter().map(|held| held.number));
                continue;
            }
            found.is_meant = true;
            found.nodes += usize::from(node.is_ready());
            let Some(held) = wanted.last().copied() else {
                if here.is_empty() {
                    match placement::check(&self.cluster, node, entry.spec()) {
                        Ok(()) => found.to_place.push(node.spec.id.clone()),
                        Err(miss) => found.misses.extend(daemon_miss(&self.cluster, node, &miss)),
                    }
                } else if node.is_ready() {
                    found.under_way += 1;
                }
                continue;
            };
            found.to_end.extend(wanted[..wanted.len() - 1].iter().map(|held| held.number));
            let instance = held.number;
            match held.ended_at() {
                Some(at) if self.now >= at + ENDED_RETRY_MS => found.to_end.push(instance),
                Some(at) => looks.push(at + ENDED_RETRY_MS),
                None if !node.is_ready() => {}
                None if !is_current(held, entry) => {
                    found.outdated |= node.is_ready();
                    // What works is not stopped for a successor that its node would not take.
                    match placement::check_instead_of(&self.cluster, held, entry.spec()) {
                        Ok(()) => found.to_renew.push(instance),
                        Err(miss) => found.misses.extend(daemon_miss(&self.cluster, node, &miss)),
                    }
                }
                None if !held.is_serving() => {
                    found.updated += 1;
                    found.under_way += 1;
                }
                None => {
                    found.updated += 1;
                    found.serving += 1;
                }
            }
        }
        for at in looks {
            self.timers.set(at, Timer::Look(id.clone()));
        }
        found
    }
}

/// What to tell people about a node that does not take a daemon meant for it; nothing where an operator wants it so.
fn daemon_miss(cluster: &Cluster, node: &NodeEntry, miss: &Miss<'_>) -> Option<String> {
    match miss {
        Miss::Cordoned
        | Miss::Draining
        | Miss::Unreachable
        | Miss::Lost
        | Miss::Unknown
        | Miss::Architecture(_)
        | Miss::Constraint(_)
        | Miss::NoDevice(_)
        | Miss::Affinity(_)
        | Miss::Spread(_)
        | Miss::PerNode(_) => None,
        Miss::AvoidedBy(_)
        | Miss::Device(_)
        | Miss::RuntimeAway
        | Miss::Claimed
        | Miss::HostPort(..)
        | Miss::Resources(_) => Some(format!("{} {}", node.spec.id, explain::reason(cluster, node, miss))),
    }
}

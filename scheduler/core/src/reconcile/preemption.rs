//! Who waits for room and is more urgent displaces others: those whose end is enough retire in the ordinary way, and their
//! node takes nobody else until the one that waits is there.

use std::collections::BTreeSet;

use api_types::{id::WorkloadId, placement::Priority};
use scheduler_placement::{NodeIndex, preempt};

use crate::{
    cluster::workloads::WorkloadEntry,
    history::Subject,
    machine::Scheduler,
    placement::{explain, ledger::is_available},
};

/// So many nodes are claimed for one workload at once.
const CLAIMS_MAX: usize = 16;

/// How many of those that make room are named in one line.
const NAMES_MAX: usize = 3;

/// A node that is kept for a workload until room was made on it.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    /// Who waits.
    workload: WorkloadId,
    /// The index of the node.
    node: u32,
    /// Who has not made room yet, by number.
    waiting: BTreeSet<u64>,
}

impl Scheduler {
    /// Ends the claims that are met, or pointless by now. Whom they were for gets its place before anybody else looks.
    pub(crate) fn tend_claims(&mut self) {
        let mut over = Vec::new();
        let mut claims = std::mem::take(&mut self.claims);
        claims.retain_mut(|claim| {
            claim.waiting.retain(|number| self.cluster.held(*number).is_some());
            let waits = self.cluster.workloads.get(&claim.workload).is_some_and(|entry| entry.parked.is_some());
            let could_take = self.cluster.nodes.at(claim.node).is_some_and(is_available);
            let goes_on = !claim.waiting.is_empty() && waits && could_take;
            if !goes_on {
                over.push((claim.workload.clone(), claim.node));
            }
            goes_on
        });
        self.claims = claims;
        for (workload, node) in over {
            self.cluster.set_claimed(node, None);
            // Before everybody, also before daemons: the room was made for it.
            self.reconcile(&workload);
        }
    }

    /// Makes room for `count` instances of a workload that fit nowhere, as far as less urgent ones are in their way: on one
    /// node `only`, or wherever it costs least.
    pub(crate) fn displace(&mut self, id: &WorkloadId, count: usize, only: Option<u32>) {
        let Some(entry) = self.cluster.workloads.get(id) else { return };
        let (priority, placement) = (entry.spec().placement.priority, &entry.spec().placement);
        // Each claim changes what such rules allow elsewhere: one after the other.
        let is_bound = placement.spread.iter().any(|rule| rule.skew_max.is_some()) || !placement.affinities.is_empty();
        let most = count.min(if is_bound { 1 } else { CLAIMS_MAX });
        let open = self.claims.iter().filter(|claim| claim.workload == *id).count();
        let is_lower = |entry: &WorkloadEntry| entry.spec().placement.priority < priority;
        if open >= most || !self.cluster.workloads.values().any(is_lower) {
            return;
        }
        let Some(group) = self.cluster.ledger.group(id) else { return };
        for _ in open..most {
            self.cluster.know_displaceable();
            let cluster = &self.cluster;
            let Some(displaceable) = &cluster.ledger.displaceable else { return };
            let victims_on = |node: NodeIndex| match only {
                Some(index) if node.0 != index => Vec::new(),
                Some(_) | None => cluster.victims_on(node),
            };
            let Some(plan) = preempt(&cluster.ledger.engine, displaceable, group, victims_on) else { return };
            self.claim(id, plan.node.0, &plan.victims, priority);
        }
    }

    /// Why a workload waits, as far as priorities are the reason: who makes room for it, or for whom it made room.
    pub(crate) fn waits_for_room(&self, entry: &WorkloadEntry) -> String {
        let id = &entry.spec().id;
        if let Some(text) = self.makes_room(id) {
            return text;
        }
        let summary = match self.wave(id).filter(|_| self.fits_somewhere(id)) {
            // There is room, but not where it must be.
            Some(site) => {
                let there = self.cluster.nodes.values().filter(|node| node.spec.site == site);
                format!("at site {site}, {}", explain::summary_of(&self.cluster, entry.spec(), there))
            }
            None => explain::summary(&self.cluster, entry.spec()),
        };
        match entry.displaced_by.as_ref().filter(|urgent| self.cluster.workloads.contains_key(*urgent)) {
            Some(urgent) => format!("{summary}; displaced by {urgent}, which is more urgent"),
            None => summary,
        }
    }

    /// Whether somebody who waits may displace others.
    pub(crate) fn is_urgent(&self, id: &WorkloadId) -> bool {
        self.cluster.workloads.get(id).is_some_and(|entry| entry.spec().placement.priority > Priority::Low)
    }

    /// Whether room is being made for a workload.
    pub(crate) fn is_claimed_for(&self, id: &WorkloadId) -> bool {
        self.claims.iter().any(|claim| claim.workload == *id)
    }

    /// Who makes room for a workload, in one line; `None` = nobody.
    fn makes_room(&self, id: &WorkloadId) -> Option<String> {
        let claim = self.claims.iter().find(|claim| claim.workload == *id)?;
        let named = claim.waiting.iter().filter_map(|number| Some(self.cluster.held(*number)?.id().to_string()));
        let mut names: Vec<String> = named.take(NAMES_MAX).collect();
        let hidden = claim.waiting.len().saturating_sub(NAMES_MAX);
        if hidden > 0 {
            names.push(format!("{hidden} more"));
        }
        let node = &self.cluster.nodes.at(claim.node)?.spec.id;
        Some(format!("{} {} room on {node}", names.join(", "), if claim.waiting.len() == 1 { "makes" } else { "make" }))
    }

    fn claim(&mut self, id: &WorkloadId, node: u32, victims: &[u64], priority: Priority) {
        let here = self.cluster.nodes.at(node).into_iter().flat_map(|entry| self.cluster.instances_on(entry));
        let leaving =
            here.filter(|held| !held.is_wanted() && self.cluster.gives_way_as(*held).is_some_and(|own| own < priority));
        let waiting = leaving.map(|held| held.number);
        let waiting = waiting.chain(victims.iter().copied()).collect();
        self.claims.push(Claim { workload: id.clone(), node, waiting });
        self.cluster.set_claimed(node, Some(id.clone()));
        for number in victims {
            let Some(held) = self.cluster.held(*number) else { continue };
            let (instance, own) = (held.instance(), self.cluster.priority_of(held));
            let message = format!(
                "makes room on {} for {id}, whose priority is {}; its own is {}",
                instance.node,
                priority.as_str(),
                own.as_str()
            );
            self.history.add(self.now, Subject::Instance(&instance), "displaced", message);
            let message = format!("{} makes room on {}", instance.id, instance.node);
            self.history.add(self.now, Subject::Workload(id), "displaces", message);
            if let Some(entry) = self.cluster.workloads.get_mut(&instance.workload) {
                entry.displaced_by = Some(id.clone());
            }
            self.retire(*number);
        }
    }
}

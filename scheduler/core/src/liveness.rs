//! Silence: ready → unreachable → lost, the warm-up after a restart, and the freeze of a site that falls silent as a whole.

use std::collections::{BTreeMap, BTreeSet};

use api_types::{
    counter::SessionId,
    id::NodeId,
    node::{Liveness, NodeFacts},
    time::Timestamp,
};

use crate::{
    cluster::{Cluster, instances::InstanceEntry},
    history::Subject,
    machine::Scheduler,
    settings::Settings,
};

/// A site freezes when at least so many of its nodes fall silent at once, and more than a third of it.
const FREEZE_NODES_MIN: usize = 3;

/// The nodes of a site that were ever heard of.
#[derive(Debug, Default)]
struct SiteNodes<'c> {
    ready: usize,
    silent: Vec<(Timestamp, &'c NodeId)>,
}

/// What the silence of its node means for an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Silence {
    /// The node is heard of.
    None,
    /// It is waited for: until then, or for ever.
    Waits(Option<Timestamp>),
    /// The instance is to be replaced.
    GivenUp,
}

impl Scheduler {
    /// An agent said hello.
    pub(crate) fn session_opened(&mut self, node: &NodeId, session: SessionId, facts: NodeFacts) {
        let Some(entry) = self.cluster.nodes.get_mut(node).filter(|entry| entry.session < Some(session)) else {
            self.ignored += 1;
            return;
        };
        entry.session = Some(session);
        let rebooted = entry.facts.as_ref().is_some_and(|before| before.boot_id != facts.boot_id);
        let was_away = !entry.is_ready();
        if rebooted || was_away {
            // What its instances were is not what they are: nobody balances to them before its complete report.
            self.cluster.set_synced(node, false);
        }
        self.cluster.set_facts(node, facts, &self.settings.system_reserve);
        self.heard(node, session);
    }

    /// Takes a sign of life; whether it counts: the node is known and the session is its newest.
    pub(crate) fn heard(&mut self, node: &NodeId, session: SessionId) -> bool {
        let Some(entry) = self.cluster.nodes.get_mut(node).filter(|entry| entry.session == Some(session)) else {
            self.ignored += 1;
            return false;
        };
        entry.last_seen = Some(self.now);
        if !entry.is_ready() {
            self.cluster.set_liveness(node, Liveness::Ready);
            self.history.add(self.now, Subject::Node(node), "node-ready", "its heartbeats come");
        }
        let due = self.now + self.settings.unreachable_after_ms();
        self.silence_check_at = Some(self.silence_check_at.map_or(due, |at| at.min(due)));
        true
    }

    /// Looks who fell silent, when it is time to.
    pub(crate) fn check_silence(&mut self) {
        let Some(due) = self.silence_check_at.filter(|due| *due <= self.now) else { return };
        if self.is_warming_up() {
            self.silence_check_at = None;
            return;
        }
        if self.now.since(due) > self.settings.unreachable_after_ms() {
            // This very program was stopped for so long that heartbeats may lie unread before it: judge nobody by that.
            self.silence_check_at = Some(self.now + self.settings.heartbeat_interval_ms);
            return;
        }
        self.judge_silence();
    }

    /// Ends the warm-up when every node has reported, or its time is over.
    pub(crate) fn check_warm_up(&mut self) {
        let Some(until) = self.warm_up_until else { return };
        let all_reported = self.cluster.nodes.values().all(|node| node.synced);
        if self.now < until && !all_reported {
            return;
        }
        self.warm_up_until = None;
        self.cluster.touched.seen = true;
        self.judge_silence();
    }

    /// Whether the scheduler has just started and waits for the nodes to report.
    pub(crate) fn is_warming_up(&self) -> bool {
        self.warm_up_until.is_some()
    }

    /// What the silence of its node means for an instance with this `replace_after_ms`.
    pub(crate) fn silence_of(&self, held: &InstanceEntry, replace_after_ms: Option<u64>) -> Silence {
        let node = &held.instance.node;
        let Some(entry) = self.cluster.nodes.get(node) else { return Silence::GivenUp };
        if entry.is_ready() {
            return Silence::None;
        }
        let (Some(since), Some(replace_after_ms)) = (entry.silent_since(), replace_after_ms) else {
            return Silence::Waits(None);
        };
        if self.frozen.contains(node) {
            return Silence::Waits(None);
        }
        // One heartbeat more than it takes to see who else fell silent: before that a cut link looks like one dead node.
        let least = self.settings.unreachable_after_ms() + self.settings.heartbeat_interval_ms;
        let at = entry.excused_until.map_or(since, |until| since.max(until)) + replace_after_ms.max(least);
        if self.now >= at { Silence::GivenUp } else { Silence::Waits(Some(at)) }
    }

    /// Judges anew which sites are frozen, after nodes fell silent, returned, came or went.
    pub(crate) fn judge_freeze(&mut self) {
        if !std::mem::take(&mut self.cluster.touched.liveness) {
            return;
        }
        let frozen = frozen_nodes(&self.cluster, &self.settings);
        let changed: Vec<NodeId> = frozen.symmetric_difference(&self.frozen).cloned().collect();
        let sites = |nodes: &BTreeSet<NodeId>| -> BTreeMap<String, usize> {
            let mut counts = BTreeMap::new();
            for site in nodes.iter().filter_map(|node| self.cluster.nodes.get(node)).map(|node| &node.spec.site) {
                *counts.entry(site.clone()).or_default() += 1;
            }
            counts
        };
        let (before, after) = (sites(&self.frozen), sites(&frozen));
        for (site, count) in after.iter().filter(|(site, _)| !before.contains_key(*site)) {
            let message = format!("{count} nodes fell silent at once: that looks like a cut link, nothing is replaced");
            self.history.add(self.now, Subject::Site(site), "site-frozen", message);
        }
        for site in before.keys().filter(|site| !after.contains_key(*site)) {
            let message = "enough nodes returned: the rest is waited for once more, then replaced";
            self.history.add(self.now, Subject::Site(site), "site-resumed", message);
        }
        self.frozen = frozen;
        for node in &changed {
            if let Some(entry) = self.cluster.nodes.get_mut(node).filter(|_| !self.frozen.contains(node)) {
                // When a link is mended, nodes return one after the other: the last ones are not to be replaced at once.
                entry.excused_until = Some(self.now);
            }
            self.cluster.touch_instances_on(node);
        }
    }

    fn judge_silence(&mut self) {
        let mut next: Option<Timestamp> = None;
        let mut fallen = Vec::new();
        for (id, node) in &self.cluster.nodes {
            let Some(since) = node.silent_since() else { continue };
            let (unreachable_at, lost_at) =
                (since + self.settings.unreachable_after_ms(), since + self.settings.lost_after_ms);
            let (liveness, at) = match node.liveness {
                Liveness::Lost => continue,
                Liveness::Ready | Liveness::Unreachable if self.now >= lost_at && self.now >= unreachable_at => {
                    (Liveness::Lost, None)
                }
                Liveness::Ready if self.now < unreachable_at => (Liveness::Ready, Some(unreachable_at)),
                Liveness::Ready | Liveness::Unreachable => (Liveness::Unreachable, Some(lost_at)),
            };
            next = next.into_iter().chain(at).min();
            if liveness != node.liveness {
                fallen.push((id.clone(), liveness, self.now.since(since)));
            }
        }
        self.silence_check_at = next;
        for (id, liveness, silent_ms) in fallen {
            self.cluster.set_liveness(&id, liveness);
            let seconds = silent_ms / 1_000;
            let (kind, message) = if liveness == Liveness::Lost {
                ("node-lost", format!("silent for {seconds} s: given up, what may be replaced is replaced"))
            } else {
                ("node-unreachable", format!("silent for {seconds} s: its endpoints left the balancers"))
            };
            self.history.add(self.now, Subject::Node(&id), kind, message);
        }
    }
}

/// The nodes that fell silent together with so many others of their site that a link is the likelier cause.
///
/// Nodes that fell silent one after the other, each within the time it takes to notice, belong together. They are
/// measured by those of their site that were alive then.
fn frozen_nodes(cluster: &Cluster, settings: &Settings) -> BTreeSet<NodeId> {
    let mut sites: BTreeMap<&str, SiteNodes<'_>> = BTreeMap::new();
    for (id, node) in &cluster.nodes {
        let site = sites.entry(&node.spec.site).or_default();
        match node.silent_since() {
            Some(_) if node.is_ready() => site.ready += 1,
            Some(since) => site.silent.push((since, id)),
            None => {}
        }
    }
    let mut frozen = BTreeSet::new();
    for SiteNodes { ready, mut silent } in sites.into_values() {
        silent.sort_unstable();
        let mut alive = ready + silent.len();
        for group in silent.chunk_by(|a, b| b.0.since(a.0) <= settings.unreachable_after_ms()) {
            if group.len() >= FREEZE_NODES_MIN && group.len() * 3 > alive {
                frozen.extend(group.iter().map(|(_, id)| (*id).clone()));
            }
            alive -= group.len();
        }
    }
    frozen
}

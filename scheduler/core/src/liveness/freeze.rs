//! Too many at once: nodes that fall silent together are behind a cut link, not dead. Their instances are not replaced.

use std::collections::{BTreeMap, BTreeSet};

use api_types::{id::NodeId, time::Timestamp};

use crate::{cluster::Cluster, history::Subject, machine::Scheduler, settings::Settings};

/// A site freezes when at least so many of its nodes fall silent at once, and more than a third of it.
const FREEZE_NODES_MIN: usize = 3;

/// Nodes that are judged together, as far as they were ever heard of.
#[derive(Debug, Default)]
struct Together<'c> {
    ready: usize,
    /// Since when, which, and where.
    silent: Vec<(Timestamp, &'c NodeId, &'c str)>,
}

impl Scheduler {
    /// Judges anew which sites are frozen, after nodes fell silent, returned, came or went.
    pub(crate) fn judge_freeze(&mut self) {
        if !std::mem::take(&mut self.cluster.touched.liveness) {
            return;
        }
        self.ladder.forget_living(&self.cluster);
        let mut frozen = frozen_nodes(&self.cluster, &self.settings);
        frozen.retain(|node| !self.ladder.is_overruled(node));
        let changed: Vec<NodeId> = frozen.symmetric_difference(&self.frozen).cloned().collect();
        let (before, after) = (self.sites_of(&self.frozen), self.sites_of(&frozen));
        for (site, count) in after.iter().filter(|(site, _)| !before.contains_key(*site)) {
            let nodes = if *count == 1 { "node" } else { "nodes" };
            let others = if *count < FREEZE_NODES_MIN { " with those of other sites" } else { "" };
            let message =
                format!("{count} {nodes} fell silent at once{others}: that looks like a cut link, nothing is replaced");
            self.history.add(self.now, Subject::Site(site), "site-frozen", message);
        }
        let mut returned: Vec<&String> = before.keys().filter(|site| !after.contains_key(*site)).collect();
        returned.retain(|site| !self.is_overruled_in(site));
        for site in returned {
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

    /// Whether an operator ended the freeze, not the nodes' return.
    fn is_overruled_in(&self, site: &str) -> bool {
        let here = |node: &NodeId| self.cluster.nodes.get(node).is_some_and(|entry| entry.spec.site == site);
        self.frozen.iter().any(|node| self.ladder.is_overruled(node) && here(node))
    }

    fn sites_of(&self, nodes: &BTreeSet<NodeId>) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for site in nodes.iter().filter_map(|node| self.cluster.nodes.get(node)).map(|node| &node.spec.site) {
            *counts.entry(site.clone()).or_default() += 1;
        }
        counts
    }
}

/// The nodes that fell silent together with so many others of their site, or of the whole fleet, that a link is the
/// likelier cause: theirs, or the scheduler's own.
fn frozen_nodes(cluster: &Cluster, settings: &Settings) -> BTreeSet<NodeId> {
    let mut sites: BTreeMap<&str, Together<'_>> = BTreeMap::new();
    let mut fleet = Together::default();
    for (id, node) in &cluster.nodes {
        let site = sites.entry(&node.spec.site).or_default();
        match node.silent_since() {
            Some(_) if node.is_ready() => {
                site.ready += 1;
                fleet.ready += 1;
            }
            Some(since) => {
                site.silent.push((since, id, &node.spec.site));
                fleet.silent.push((since, id, &node.spec.site));
            }
            None => {}
        }
    }
    let mut frozen = BTreeSet::new();
    for site in sites.into_values() {
        site.add_frozen(settings, 1, &mut frozen);
    }
    fleet.add_frozen(settings, 2, &mut frozen);
    frozen
}

impl Together<'_> {
    /// Adds those that fell silent one after the other, each within the time it takes to notice, if they are many of those
    /// that were alive then, from at least so many sites.
    fn add_frozen(mut self, settings: &Settings, sites_min: usize, frozen: &mut BTreeSet<NodeId>) {
        self.silent.sort_unstable();
        let mut alive = self.ready + self.silent.len();
        for group in self.silent.chunk_by(|a, b| b.0.since(a.0) <= settings.unreachable_after_ms()) {
            let sites: BTreeSet<&str> = group.iter().map(|(_, _, site)| *site).collect();
            if group.len() >= FREEZE_NODES_MIN && group.len() * 3 > alive && sites.len() >= sites_min {
                frozen.extend(group.iter().map(|(_, id, _)| (*id).clone()));
            }
            alive -= group.len();
        }
    }
}

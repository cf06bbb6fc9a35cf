//! Nodes, seen from outside.

use api_types::{node::Liveness, view::NodeView};

use crate::cluster::nodes::NodeEntry;

/// How many nodes are how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LivenessCounts {
    /// Heard of.
    pub ready: u32,
    /// Silent for a short while.
    pub unreachable: u32,
    /// Given up.
    pub lost: u32,
}

pub(super) fn view(node: &NodeEntry) -> NodeView {
    NodeView {
        name: node.spec.id.clone(),
        site: node.spec.site.clone(),
        labels: node.spec.labels.clone(),
        liveness: node.liveness,
        availability: node.spec.availability,
        facts: node.facts.clone().unwrap_or_default(),
        conditions: node.conditions.clone(),
        usage: node.usage.clone(),
        allocatable: node.allocatable,
        allocated: node.allocated,
        instances: u32::try_from(node.instances.len()).unwrap_or(u32::MAX),
        subnet: node.spec.subnet,
        last_seen: node.last_seen,
        joined_at: node.spec.joined_at,
    }
}

pub(super) fn counts<'a>(nodes: impl Iterator<Item = &'a NodeEntry>) -> LivenessCounts {
    let mut counts = LivenessCounts::default();
    for node in nodes {
        match node.liveness {
            Liveness::Ready => counts.ready += 1,
            Liveness::Unreachable => counts.unreachable += 1,
            Liveness::Lost => counts.lost += 1,
        }
    }
    counts
}

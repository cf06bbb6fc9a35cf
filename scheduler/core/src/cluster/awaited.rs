//! Which nodes are waited for when an endpoint comes or goes, and which service table their kernels hold.

use std::collections::BTreeMap;

use api_types::{counter::Generation, id::NodeId};

use crate::cluster::{Cluster, nodes::NodeEntry};

/// How many of the nodes that are waited for hold which table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Awaited(BTreeMap<Generation, u32>);

impl Awaited {
    /// Whether the kernel of every node that is waited for holds this table or a later one.
    pub(crate) fn all_hold(&self, generation: Generation) -> bool {
        self.0.first_key_value().is_none_or(|(least, _)| *least >= generation)
    }

    /// Counts one node.
    pub(crate) fn add(&mut self, generation: Generation) {
        *self.0.entry(generation).or_default() += 1;
    }

    fn remove(&mut self, generation: Generation) {
        let Some(count) = self.0.get_mut(&generation) else { return };
        *count -= 1;
        if *count == 0 {
            self.0.remove(&generation);
        }
    }
}

impl NodeEntry {
    /// The table that is to be waited on until this node's kernel holds a later one; `None` = nobody waits for it. A node that
    /// said nothing in its session may hold any, also one of an earlier run of the scheduler.
    pub(crate) fn awaited_with(&self) -> Option<Generation> {
        (self.is_ready() && !self.is_mute).then_some(self.programmed)
    }
}

impl Cluster {
    /// Brings up to date whether, and with which table, a node is waited for.
    pub(crate) fn await_node(&mut self, index: u32) {
        let Some(entry) = self.nodes.at_mut(index) else { return };
        let now = entry.awaited_with();
        let before = std::mem::replace(&mut entry.awaited, now);
        if before != now {
            before.into_iter().for_each(|generation| self.awaited.remove(generation));
            now.into_iter().for_each(|generation| self.awaited.add(generation));
        }
    }

    /// Takes over which table a node's kernel holds; whether the node was mute.
    pub(crate) fn set_programmed(&mut self, node: &NodeId, generation: Generation) -> bool {
        let Some(index) = self.nodes.index_of(node) else { return false };
        let Some(entry) = self.nodes.at_mut(index) else { return false };
        entry.programmed = generation;
        let was_mute = std::mem::take(&mut entry.is_mute);
        self.await_node(index);
        was_mute
    }

    /// A new session began: what its kernel holds is to be said anew.
    pub(crate) fn forget_programmed(&mut self, node: &NodeId) {
        let Some(index) = self.nodes.index_of(node) else { return };
        if let Some(entry) = self.nodes.at_mut(index) {
            entry.programmed = Generation(0);
        }
        self.await_node(index);
    }

    /// Waits no more for the nodes that should long hold this table and do not say so, until they speak again.
    pub(crate) fn set_mute(&mut self, generation: Generation) -> Vec<NodeId> {
        let late = |entry: &NodeEntry| entry.awaited_with().is_some_and(|held| held < generation);
        let found: Vec<(u32, NodeId)> = self
            .nodes
            .indexed()
            .filter(|(_, entry)| late(entry))
            .map(|(index, entry)| (index, entry.spec.id.clone()))
            .collect();
        for (index, _) in &found {
            if let Some(entry) = self.nodes.at_mut(*index) {
                entry.is_mute = true;
            }
            self.await_node(*index);
        }
        found.into_iter().map(|(_, node)| node).collect()
    }
}

//! Why instances are where they are, or nowhere.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    id::{InstanceId, NodeId, WorkloadId},
    resources::Resources,
};

/// Why a workload's instances are where they are, or nowhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// Which workload.
    pub workload: WorkloadId,
    /// One line: `3 of 3 placed`, or what keeps the rest from being placed.
    pub summary: String,
    /// The first instances that have a node, by slot, and what speaks for it now; none for a workload that is not applied.
    pub instances: Vec<PlacedInstance>,
    /// How many more instances have a node than `instances` holds.
    pub instances_left_out: u32,
    /// What the nodes say to one more instance, in groups of the same reason, the most nodes first; those that fit are not
    /// in a group.
    pub groups: Vec<VerdictGroup>,
    /// What single nodes say to one more instance, sorted by name; in a big cluster a few for each reason.
    pub nodes: Vec<NodeVerdict>,
    /// How many more nodes there are than `nodes` holds.
    pub nodes_left_out: u32,
    /// How many nodes each filter turns away; a node counts once, for the first that does.
    pub counts: BTreeMap<String, u32>,
    /// What would make one more instance fit, the smallest change first; each was tried with the check that places. Empty
    /// when a node fits.
    pub remedies: Vec<Remedy>,
    /// The first remedy in words, or what else helps; empty when something fits.
    pub hint: String,
}

/// Why one instance is where it is: how its node compares, if it were placed anew now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacedInstance {
    /// Which.
    pub instance: InstanceId,
    /// Its slot.
    pub slot: u32,
    /// Its node.
    pub node: NodeId,
    /// The place of its node among those that fit now, from 1; 0 = it would not be placed there now.
    pub rank: u32,
    /// How many nodes fit now, its own among them.
    pub fits: u32,
    /// What decides between them, the most important first.
    pub score: Vec<ScorePart>,
    /// One line: what speaks for its node, or why it would not be placed there now.
    pub reason: String,
}

/// One part of a node's score. Nodes are compared part by part; the lower value wins, then the node's subnet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScorePart {
    /// `spread`, `balance`, `scarcity`, `use`, ...
    pub name: String,
    /// What is compared.
    pub value: u64,
    /// The same in words: `1 more at site berlin`.
    pub words: String,
}

/// What one node says to one more instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeVerdict {
    /// Which node.
    pub node: NodeId,
    /// The first filter that turns it away (`availability`, `architecture`, `constraints`, `host_ports`, `resources`, ...);
    /// empty when it fits.
    pub filter: String,
    /// What is missing, in one line; empty when it fits.
    pub reason: String,
    /// The filters after it that turn it away as well.
    pub also: Vec<Rejection>,
    /// How many instances of this workload are there already.
    pub instances: u32,
    /// Its score, the most important part first; empty unless it fits.
    pub score: Vec<ScorePart>,
}

/// One filter's no.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// The filter's name.
    pub filter: String,
    /// What is missing, in one line.
    pub reason: String,
}

/// Nodes that say no for the same reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictGroup {
    /// The filter that turns them away first.
    pub filter: String,
    /// The reason as all of them would say it: `does not meet "arch == arm64"`.
    pub reason: String,
    /// How many they are.
    pub count: u32,
    /// The first few by name.
    pub examples: Vec<NodeId>,
}

/// A change that would make one more instance fit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remedy {
    /// The filter that gives way.
    pub filter: String,
    /// What to change, as an order: `reserve 64 MiB less`.
    pub action: String,
    /// The node that then takes it; the one that needs the least change.
    pub node: NodeId,
    /// How many nodes then take it.
    pub nodes: u32,
    /// How much less to reserve, or to free on the node; nothing where it is not about resources.
    pub less: Resources,
}

//! What an operator moves, or ties to a place: rebalancing, sites given up, data on nodes.

use serde::{Deserialize, Serialize};

use crate::{
    id::{InstanceId, Name, NodeId, WorkloadId},
    site::{Across, Reach},
};

/// It was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// What, in one line.
    pub message: String,
}

/// What a rebalancing would move, and what it cannot make better.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RebalancePlan {
    /// The moves, in the order in which they would begin.
    pub moves: Vec<RebalanceMove>,
    /// So many moves evenness alone asks for, were there room everywhere: fewer cannot do.
    pub moves_min: u64,
    /// What stays uneven, and why: one line each.
    pub residuals: Vec<String>,
    /// Moves of a rebalancing that goes on now and are not done yet; 0 = none goes on.
    pub left: u32,
}

/// One instance that would be better elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RebalanceMove {
    /// Which.
    pub instance: InstanceId,
    /// Whose it is.
    pub workload: WorkloadId,
    /// Its slot.
    pub slot: u32,
    /// Where it is.
    pub from: NodeId,
    /// Where it would go.
    pub to: NodeId,
    /// What gets better by it.
    pub gain: String,
}

/// A site, seen from outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteView {
    /// Its name.
    pub name: String,
    /// How its nodes reach each other's instances.
    pub reach: Reach,
    /// How nodes of other sites reach its instances.
    pub across: Across,
    /// How many nodes it has.
    pub nodes: u32,
    /// How many of these are heard of.
    pub ready: u32,
}

/// Data of one slot of a workload that stays on its node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeView {
    /// Whose it is; the workload may be deleted since.
    pub workload: WorkloadId,
    /// The volume's name in it.
    pub volume: Name,
    /// The slot.
    pub slot: u32,
    /// Where the data is.
    pub node: NodeId,
    /// The instance that holds it now.
    pub instance: Option<InstanceId>,
    /// The bytes that it took on the node's disk when the node last measured it; `None` = it did not yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_bytes: Option<u64>,
    /// The bytes that its workload means it to hold at most; `None` = nothing is said. Nothing stops who writes more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// Why nobody can use it; empty when somebody can.
    pub reason: String,
}

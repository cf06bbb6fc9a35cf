//! What would happen if: questions and answers of `what-if`.
//!
//! A forecast is the real reconciliation, played on a copy in virtual time. It knows no image and no process: what is
//! placed counts as well at once, so times are those of silence, waiting and ordering, without pulling and starting.

use serde::{Deserialize, Serialize};

use crate::{
    id::{NodeId, WorkloadId},
    resources::Resources,
    view::RebalancePlan,
    workload::WorkloadSpec,
};

/// The most nodes that one question names or makes.
pub const QUESTION_NODES_MAX: usize = 1_000;

/// What is supposed to happen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Question {
    /// These nodes lose their power, all at once.
    NodeLoss {
        /// Which; 1 to [`QUESTION_NODES_MAX`].
        nodes: Vec<NodeId>,
    },
    /// Every node of a site loses its power.
    SiteLoss {
        /// Which.
        site: String,
    },
    /// These nodes are drained, all at once.
    Drain {
        /// Which; 1 to [`QUESTION_NODES_MAX`].
        nodes: Vec<NodeId>,
    },
    /// New nodes join: copies of one that is there, with its site, labels, size and devices.
    Join {
        /// The node they are like.
        like: NodeId,
        /// How many; 1 to [`QUESTION_NODES_MAX`].
        count: u32,
    },
    /// Workloads are applied. Over HTTP this is a manifest, never JSON: only the parser of manifests makes specs.
    #[serde(skip)]
    Apply {
        /// Which.
        specs: Vec<WorkloadSpec>,
    },
}

/// What would happen. Times are virtual milliseconds after the event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forecast {
    /// What was supposed, in words: `n1 and n2 lose their power`.
    pub question: String,
    /// What comes of it, in one line.
    pub summary: String,
    /// After how long nothing moves any more; `None` when it was not played to its end.
    pub settled_after_ms: Option<u64>,
    /// Why it was not played to its end, or what of it is left out; empty when nothing is.
    pub cut: String,
    /// The workloads that notice it, the hardest hit first.
    pub workloads: Vec<WorkloadForecast>,
    /// Which instances change their place, in the order of time.
    pub moves: Vec<InstanceMove>,
    /// How many there are; more than `moves` holds where that is cut.
    pub moves_count: u32,
    /// What is given away on the nodes afterwards, the fullest first.
    pub nodes: Vec<NodeForecast>,
    /// What a careful person would want to know besides: a site that freezes, services without any endpoint.
    pub warnings: Vec<String>,
    /// Nodes that join: what a rebalancing would move afterwards. Without one nothing is moved to them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebalance: Option<RebalancePlan>,
}

/// What a workload notices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadForecast {
    /// Which.
    pub workload: WorkloadId,
    /// `service` or `daemon`.
    pub kind: String,
    /// How many instances are wanted afterwards.
    pub wanted: u32,
    /// How many serve now.
    pub ready_before: u32,
    /// The fewest that serve at any time on the way.
    pub ready_least: u32,
    /// How many serve in the end.
    pub ready_after: u32,
    /// How many of its instances end or are lost with their node.
    pub ended: u32,
    /// For how long fewer serve than should, in sum; `None` = also in the end.
    pub short_ms: Option<u64>,
    /// For how long none serves though some did before or should, in sum; 0 = always one did, `None` = also in the end.
    pub down_ms: Option<u64>,
    /// How many instances find no node in the end.
    pub unplaced: u32,
    /// Why they find none, or why nothing is done; empty otherwise.
    pub reason: String,
}

/// An instance that changes its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceMove {
    /// When its successor is placed, or when it ends without one.
    pub at_ms: u64,
    /// Whose it is.
    pub workload: WorkloadId,
    /// Its slot.
    pub slot: u32,
    /// Where it was; `None` for one that had no place.
    pub from: Option<NodeId>,
    /// Where it goes; `None` for one that finds none.
    pub to: Option<NodeId>,
}

/// What is given away on a node afterwards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeForecast {
    /// Which node.
    pub node: NodeId,
    /// How many instances it has now.
    pub instances_before: u32,
    /// How many it has afterwards.
    pub instances: u32,
    /// What is given away now.
    pub allocated_before: Resources,
    /// What is given away afterwards.
    pub allocated: Resources,
    /// What can be given away.
    pub allocatable: Resources,
}

//! What a change would do, or did.

use serde::{Deserialize, Serialize};

use crate::id::{InstanceId, NodeId, WorkloadId};

/// What an apply would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The workloads of the manifest, in its order.
    pub changes: Vec<WorkloadChange>,
    /// What starts and what ends, in order, as far as it can be foreseen: every new instance gets well at once.
    pub steps: Vec<PlannedStep>,
    /// Instances of other workloads that give way to ones of a higher priority.
    pub displaced: Vec<Displaced>,
    /// Why `steps` ends before the end; empty when it does not.
    pub cut: String,
}

/// What a change of one workload would do, or did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadChange {
    /// Which.
    pub workload: WorkloadId,
    /// `create`, `update`, `scale`, `none` or `delete`.
    pub action: String,
    /// Changed fields: path, before, after; in the order of the spec.
    pub fields: Vec<FieldChange>,
    /// Where instances would go; filled by `plan`.
    pub placements: Vec<PlannedPlacement>,
    /// Things that a careful person would want to know first.
    pub warnings: Vec<String>,
}

/// One changed field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldChange {
    /// Where (`container.image`).
    pub path: String,
    /// JSON of the value before; empty where there was none.
    pub before: String,
    /// JSON of the value after; empty where there is none.
    pub after: String,
}

/// Where one new instance would go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedPlacement {
    /// Its slot.
    pub slot: u32,
    /// Its node; `None` where nothing fits.
    pub node: Option<NodeId>,
    /// Why nothing fits; empty otherwise.
    pub reason: String,
}

/// One thing that happens on the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedStep {
    /// The round it belongs to, from 1: the next round begins when what this one started is well and what it ended is gone.
    pub round: u32,
    /// Whose instance.
    pub workload: WorkloadId,
    /// Its slot.
    pub slot: u32,
    /// Whether it starts or ends.
    pub does: StepKind,
    /// Where.
    pub node: NodeId,
    /// The instance, when it exists already.
    pub instance: Option<InstanceId>,
}

/// What a planned step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    /// A new instance starts.
    Start,
    /// An instance is told to end.
    End,
}

/// An instance that gives way to one of a higher priority.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Displaced {
    /// Which.
    pub instance: InstanceId,
    /// Whose it is.
    pub workload: WorkloadId,
    /// Where it runs.
    pub node: NodeId,
    /// Whose instance takes its room.
    pub by: WorkloadId,
    /// Where it would go; `None` where nothing fits.
    pub to: Option<NodeId>,
}

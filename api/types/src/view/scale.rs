//! Autoscaling, seen from outside.

use serde::{Deserialize, Serialize};

use crate::{scale::Metric, time::Timestamp};

/// How a service is scaled by what its replicas use and serve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScaleView {
    /// The fewest replicas.
    pub min: u32,
    /// The most replicas.
    pub max: u32,
    /// How many the last numbers ask for, within both; `None` = there are no numbers yet.
    #[serde(default)]
    pub wish: Option<u32>,
    /// What the last numbers are.
    pub loads: Vec<LoadView>,
    /// Why the number of replicas is what it is, in one line.
    pub reason: String,
    /// When it was last changed; `None` = not since this run of the scheduler began.
    #[serde(default)]
    pub changed_at: Option<Timestamp>,
}

/// What one metric says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadView {
    /// Of what.
    pub metric: Metric,
    /// The mean of a replica that was measured, in the metric's own unit; `None` = none was.
    #[serde(default)]
    pub load: Option<u64>,
    /// What it shall be.
    pub target: u32,
    /// How many replicas it asks for; `None` = it does not know.
    #[serde(default)]
    pub wish: Option<u32>,
}

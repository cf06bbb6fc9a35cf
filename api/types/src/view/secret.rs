//! What people see of a secret: everything but what it is.

use serde::{Deserialize, Serialize};

use crate::{
    id::{SecretId, WorkloadId},
    time::Timestamp,
};

/// A secret, seen from outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretView {
    /// Its name.
    pub secret: SecretId,
    /// From 1, one more each time it is set.
    pub version: u64,
    /// How long it is.
    pub bytes: u64,
    /// The id of the token with which this version was set.
    pub set_by: String,
    /// When this version was set.
    pub set_at: Timestamp,
    /// The workloads that show it to their instances, sorted.
    pub used_by: Vec<WorkloadId>,
}

//! How workloads change.

use api_types::{
    id::WorkloadId,
    rollout::RolloutAction,
    view::{Done, List, RolloutHistory, RolloutView},
};
use http::Method;

use crate::{
    client::{Client, JSON},
    error::ClientError,
};

impl Client {
    /// How far the latest change of a workload is, as the one item of a list; see [`Self::nodes`] for `after`.
    ///
    /// # Errors
    /// See [`Self::cluster`].
    pub async fn rollout(&self, workload: &WorkloadId, after: Option<u64>) -> Result<List<RolloutView>, ClientError> {
        self.list(&format!("rollouts/status/{workload}"), after).await
    }

    /// The revisions of a workload that are kept.
    ///
    /// # Errors
    /// See [`Self::cluster`].
    pub async fn rollout_history(&self, workload: &WorkloadId) -> Result<RolloutHistory, ClientError> {
        self.get(&format!("/v1/rollouts/history/{workload}")).await
    }

    /// Does something to the rollout of a workload.
    ///
    /// # Errors
    /// See [`Self::cluster`].
    pub async fn act_on_rollout(&self, workload: &WorkloadId, action: RolloutAction) -> Result<Done, ClientError> {
        let body = serde_json::json!({ "workload": workload, "what": action });
        self.ask(Method::POST, "/v1/rollouts", JSON, body.to_string().into_bytes()).await
    }
}

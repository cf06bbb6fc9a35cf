//! Questions about why things are, and what would be. Nothing here changes the cluster.

use api_types::{
    id::{InstanceId, WorkloadId},
    view::{Explanation, Forecast, Plan, Question},
};
use http::Method;

use crate::{
    client::{Client, JSON, TOML},
    error::ClientError,
};

impl Client {
    /// Why a workload's instances are where they are; with `all`, what every node says, not a few for each reason.
    ///
    /// # Errors
    /// See [`Self::cluster`].
    pub async fn why_workload(&self, workload: &WorkloadId, all: bool) -> Result<Explanation, ClientError> {
        self.get(&format!("/v1/why/workload/{workload}?all={all}")).await
    }

    /// Why an instance is where it is; see [`Self::why_workload`] for `all`.
    ///
    /// # Errors
    /// See [`Self::cluster`].
    pub async fn why_instance(&self, instance: &InstanceId, all: bool) -> Result<Explanation, ClientError> {
        self.get(&format!("/v1/why/instance/{instance}?all={all}")).await
    }

    /// Where the workloads of a manifest could go, or only one of them; see [`Self::why_workload`] for `all`.
    ///
    /// # Errors
    /// See [`Self::cluster`].
    pub async fn why_manifest(
        &self,
        manifest: &str,
        only: Option<&WorkloadId>,
        all: bool,
    ) -> Result<Vec<Explanation>, ClientError> {
        // A name is letters, digits, hyphens and at most one slash: all may stand in a query as they are.
        let only = only.map(|workload| format!("&workload={workload}")).unwrap_or_default();
        let path = format!("/v1/why?all={all}{only}");
        self.ask(Method::POST, &path, TOML, manifest.as_bytes().to_vec()).await
    }

    /// What `apply` would do.
    ///
    /// # Errors
    /// See [`Self::cluster`].
    pub async fn plan(&self, manifest: &str) -> Result<Plan, ClientError> {
        self.ask(Method::POST, "/v1/plan", TOML, manifest.as_bytes().to_vec()).await
    }

    /// What would happen if something else did.
    ///
    /// # Errors
    /// See [`Self::cluster`].
    pub async fn what_if(&self, question: &Question) -> Result<Forecast, ClientError> {
        let body = serde_json::to_vec(question)
            .map_err(|_| ClientError::Upload("a manifest is asked about with what_if_applied".to_owned()))?;
        self.ask(Method::POST, "/v1/what-if", JSON, body).await
    }

    /// What would happen if a manifest were applied.
    ///
    /// # Errors
    /// See [`Self::cluster`].
    pub async fn what_if_applied(&self, manifest: &str) -> Result<Forecast, ClientError> {
        self.ask(Method::POST, "/v1/what-if/apply", TOML, manifest.as_bytes().to_vec()).await
    }
}

//! What an operator moves, ties to a place, or tries.

use api_types::{
    id::{Name, WorkloadId},
    site::{Across, Reach},
    view::{
        Done, List, NetworkTrace, NetworkVerdict, RebalancePlan, SiteView, TraceRequest, VerifyRequest, VolumeView,
    },
};
use http::Method;

use crate::{
    client::{Client, JSON},
    error::ClientError,
};

impl Client {
    /// Begins a run of a job now.
    ///
    /// # Errors
    /// See [`Self::cluster`].
    pub async fn run_job(&self, workload: &WorkloadId) -> Result<Done, ClientError> {
        let body = serde_json::json!({ "workload": workload });
        self.ask(Method::POST, "/v1/jobs/run", JSON, body.to_string().into_bytes()).await
    }

    /// Gives up what is silent of a site: it is replaced now.
    ///
    /// # Errors
    /// See [`Self::cluster`].
    pub async fn resume_site(&self, site: &str) -> Result<Done, ClientError> {
        let body = serde_json::json!({ "site": site });
        self.ask(Method::POST, "/v1/sites/resume", JSON, body.to_string().into_bytes()).await
    }

    /// All sites; see [`Self::nodes`] for `after`.
    ///
    /// # Errors
    /// See [`Self::cluster`].
    pub async fn sites(&self, after: Option<u64>) -> Result<List<SiteView>, ClientError> {
        self.list("sites", after).await
    }

    /// Says how instances of a site are reached; `None` = as before.
    ///
    /// # Errors
    /// See [`Self::cluster`].
    pub async fn set_site(
        &self,
        site: &str,
        reach: Option<Reach>,
        across: Option<Across>,
    ) -> Result<Done, ClientError> {
        let body = serde_json::json!({ "site": site, "reach": reach, "across": across });
        self.ask(Method::POST, "/v1/sites/set", JSON, body.to_string().into_bytes()).await
    }

    /// Has every node try its network.
    ///
    /// # Errors
    /// See [`Self::cluster`].
    pub async fn verify_network(&self, request: &VerifyRequest) -> Result<NetworkVerdict, ClientError> {
        let body = serde_json::json!(request);
        self.ask(Method::POST, "/v1/network/verify", JSON, body.to_string().into_bytes()).await
    }

    /// Follows one packet.
    ///
    /// # Errors
    /// See [`Self::cluster`].
    pub async fn trace_network(&self, request: &TraceRequest) -> Result<NetworkTrace, ClientError> {
        let body = serde_json::json!(request);
        self.ask(Method::POST, "/v1/network/trace", JSON, body.to_string().into_bytes()).await
    }

    /// What a rebalancing would move.
    ///
    /// # Errors
    /// See [`Self::cluster`].
    pub async fn rebalance_plan(&self) -> Result<RebalancePlan, ClientError> {
        self.get("/v1/rebalance").await
    }

    /// Begins to rebalance.
    ///
    /// # Errors
    /// See [`Self::cluster`].
    pub async fn rebalance(&self) -> Result<Done, ClientError> {
        self.ask(Method::POST, "/v1/rebalance", JSON, Vec::new()).await
    }

    /// All data that stays on its node; see [`Self::nodes`] for `after`.
    ///
    /// # Errors
    /// See [`Self::cluster`].
    pub async fn volumes(&self, after: Option<u64>) -> Result<List<VolumeView>, ClientError> {
        self.list("volumes", after).await
    }

    /// Gives up data that stays on its node, of one slot or of all.
    ///
    /// # Errors
    /// See [`Self::cluster`].
    pub async fn forget_volume(
        &self,
        workload: &WorkloadId,
        volume: &Name,
        slot: Option<u32>,
    ) -> Result<Done, ClientError> {
        let body = serde_json::json!({ "workload": workload, "volume": volume, "slot": slot });
        self.ask(Method::POST, "/v1/volumes/forget", JSON, body.to_string().into_bytes()).await
    }
}

//! All that this crate needs from the scheduler.

use std::{future::Future, pin::Pin};

use api_types::{
    counter::Revision,
    id::{InstanceId, Name, NodeId, SecretId, WorkloadId},
    join::{JoinReply, JoinRequest, NodeTokenRequest},
    node::Availability,
    relay::{RelayInput, RelayOutput, RelayRequest},
    rollout::RolloutAction,
    secret::Secret,
    site::{Across, Reach},
    view::{
        ClusterView, Description, Done, Event, Explanation, Forecast, ImageOutcome, InstanceView, JoinTokenView, List,
        LogLine, NetworkTrace, NetworkVerdict, NodeView, Plan, Problem, Question, RebalancePlan, RolloutHistory,
        RolloutView, SecretView, SiteView, TraceRequest, VerifyRequest, VolumeView, WorkloadChange, WorkloadView,
    },
    workload::WorkloadSpec,
};
use bytes::Bytes;
use futures_util::Stream;

/// A stream of values that ends, or fails with a problem.
pub type BoxStream<T> = Pin<Box<dyn Stream<Item = Result<T, Problem>> + Send>>;

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The token's id, never the token.
    pub token: String,
    /// What it may do.
    pub role: Role,
}

/// What a subject may do, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Looks.
    Viewer,
    /// Applies, scales, deletes workloads; loads images.
    Deployer,
    /// Cordons and drains nodes; reaches into instances.
    Operator,
    /// Adds and removes nodes, makes tokens.
    Admin,
}

/// Which node, workload or instance is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A node.
    Node(NodeId),
    /// A workload.
    Workload(WorkloadId),
    /// An instance.
    Instance(InstanceId),
}

/// What of the log is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogQuery {
    /// Of one instance, or of all instances of a workload.
    pub target: Target,
    /// Of which companion; `None` = of the main container.
    pub container: Option<Name>,
    /// How many of the last lines of each instance.
    pub tail: u32,
    /// Whether to go on with what comes.
    pub follow: bool,
}

/// Waits for a version of the view newer than the given one, for at most 30 s; `None` answers at once.
pub type After = Option<u64>;

/// The scheduler, as the HTTP API sees it. Every method answers, or gives a [`Problem`] with status, code, title and hint.
pub trait ControlPlane: Clone + Send + Sync + 'static {
    /// Who holds this bearer token.
    fn authenticate(&self, token: &str) -> impl Future<Output = Result<Subject, Problem>> + Send;
    /// Creates or updates workloads, all or none.
    fn apply(
        &self,
        subject: Subject,
        specs: Vec<WorkloadSpec>,
        expect: Option<Revision>,
    ) -> impl Future<Output = Result<Vec<WorkloadChange>, Problem>> + Send;
    /// What `apply` would do and where instances would go. Changes nothing.
    fn plan(&self, specs: Vec<WorkloadSpec>) -> impl Future<Output = Result<Plan, Problem>> + Send;
    /// Sets the number of replicas.
    fn scale(
        &self,
        subject: Subject,
        workload: WorkloadId,
        replicas: u32,
    ) -> impl Future<Output = Result<Vec<WorkloadChange>, Problem>> + Send;
    /// Begins a run of a job now.
    fn run_job(&self, workload: WorkloadId) -> impl Future<Output = Result<Done, Problem>> + Send;
    /// Removes a workload.
    fn delete(&self, workload: WorkloadId) -> impl Future<Output = Result<Vec<WorkloadChange>, Problem>> + Send;
    /// Does something to the rollout of a workload.
    fn act_on_rollout(
        &self,
        subject: Subject,
        workload: WorkloadId,
        action: RolloutAction,
    ) -> impl Future<Output = Result<Done, Problem>> + Send;
    /// How far the latest change of a workload is.
    fn rollout(
        &self,
        workload: WorkloadId,
        after: After,
    ) -> impl Future<Output = Result<List<RolloutView>, Problem>> + Send;
    /// The revisions of a workload that are kept.
    fn rollout_history(&self, workload: WorkloadId) -> impl Future<Output = Result<RolloutHistory, Problem>> + Send;
    /// The cluster in a few numbers.
    fn cluster(&self) -> impl Future<Output = Result<ClusterView, Problem>> + Send;
    /// All nodes.
    fn nodes(&self, after: After) -> impl Future<Output = Result<List<NodeView>, Problem>> + Send;
    /// All workloads.
    fn workloads(&self, after: After) -> impl Future<Output = Result<List<WorkloadView>, Problem>> + Send;
    /// All instances.
    fn instances(&self, after: After) -> impl Future<Output = Result<List<InstanceView>, Problem>> + Send;
    /// What happened, the oldest first; a bounded ring.
    fn events(&self, after: After) -> impl Future<Output = Result<List<Event>, Problem>> + Send;
    /// One thing with its instances and history.
    fn describe(&self, target: Target) -> impl Future<Output = Result<Description, Problem>> + Send;
    /// Why an instance, or those of a workload, are where they are. `all`: with every node, not a few for each reason.
    fn why(&self, target: Target, all: bool) -> impl Future<Output = Result<Explanation, Problem>> + Send;
    /// The same for workloads as they would be if they were applied, one after the other. Changes nothing.
    fn why_specs(
        &self,
        specs: Vec<WorkloadSpec>,
        all: bool,
    ) -> impl Future<Output = Result<Vec<Explanation>, Problem>> + Send;
    /// What would happen if something else did. Changes nothing.
    fn what_if(&self, question: Question) -> impl Future<Output = Result<Forecast, Problem>> + Send;
    /// Says what is wanted of a node.
    fn set_availability(
        &self,
        node: NodeId,
        availability: Availability,
    ) -> impl Future<Output = Result<(), Problem>> + Send;
    /// All sites.
    fn sites(&self, after: After) -> impl Future<Output = Result<List<SiteView>, Problem>> + Send;
    /// Says how instances of a site are reached; `None` = as before.
    fn set_site(
        &self,
        site: String,
        reach: Option<Reach>,
        across: Option<Across>,
    ) -> impl Future<Output = Result<Done, Problem>> + Send;
    /// Gives up what is silent of a site: it is replaced now.
    fn resume_site(&self, site: String) -> impl Future<Output = Result<Done, Problem>> + Send;
    /// What a rebalancing would move. Changes nothing.
    fn rebalance_plan(&self) -> impl Future<Output = Result<RebalancePlan, Problem>> + Send;
    /// Begins to rebalance.
    fn rebalance(&self) -> impl Future<Output = Result<Done, Problem>> + Send;
    /// All data that stays on its node.
    fn volumes(&self, after: After) -> impl Future<Output = Result<List<VolumeView>, Problem>> + Send;
    /// Gives up data that stays on its node, of one slot or of all.
    fn forget_volume(
        &self,
        workload: WorkloadId,
        volume: Name,
        slot: Option<u32>,
    ) -> impl Future<Output = Result<Done, Problem>> + Send;
    /// All secrets, but for what they are.
    fn secrets(&self, after: After) -> impl Future<Output = Result<List<SecretView>, Problem>> + Send;
    /// Sets a secret; who uses it follows. It is sealed before anything is decided or kept.
    fn set_secret(
        &self,
        subject: Subject,
        secret: SecretId,
        value: Secret,
    ) -> impl Future<Output = Result<Done, Problem>> + Send;
    /// Forgets a secret that nothing uses.
    fn delete_secret(&self, secret: SecretId) -> impl Future<Output = Result<Done, Problem>> + Send;
    /// Has every node try its network.
    fn verify_network(&self, request: VerifyRequest) -> impl Future<Output = Result<NetworkVerdict, Problem>> + Send;
    /// Follows one packet.
    fn trace_network(&self, request: TraceRequest) -> impl Future<Output = Result<NetworkTrace, Problem>> + Send;
    /// Makes a join token.
    fn node_token(&self, request: NodeTokenRequest) -> impl Future<Output = Result<JoinTokenView, Problem>> + Send;
    /// Forgets a node.
    fn remove_node(&self, node: NodeId, force: bool) -> impl Future<Output = Result<(), Problem>> + Send;
    /// Lets a node in: the only call without a bearer token, authenticated by the join token inside.
    fn join(&self, request: JoinRequest) -> impl Future<Output = Result<JoinReply, Problem>> + Send;
    /// Lines of output, through the agents' own connections.
    fn logs(&self, query: LogQuery) -> impl Future<Output = Result<BoxStream<LogLine>, Problem>> + Send;
    /// Connects a person with an instance, through the agent's own connection. What comes back ends with how it ended; to
    /// drop it ends what runs for that person.
    fn relay(
        &self,
        subject: Subject,
        request: RelayRequest,
        input: BoxStream<RelayInput>,
    ) -> impl Future<Output = Result<BoxStream<RelayOutput>, Problem>> + Send;
    /// Takes an OCI archive and has every ready node import it; one outcome for each node, as they come.
    fn load_image(
        &self,
        archive: BoxStream<Bytes>,
    ) -> impl Future<Output = Result<BoxStream<ImageOutcome>, Problem>> + Send;
}

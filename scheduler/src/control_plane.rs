//! The port of the HTTP API, as messages to the control loop.

mod joining;
mod places;
mod schedules;
mod secrets;

use std::{sync::Arc, time::Duration};

use api_server::control_plane::{After, BoxStream, ControlPlane, LogQuery, Subject, Target};
use api_types::{
    counter::Revision,
    id::{Name, NodeId, SecretId, WorkloadId},
    join::{JoinReply, JoinRequest, NodeTokenRequest},
    node::Availability,
    relay::{RelayInput, RelayOutput, RelayPurpose, RelayRequest, RelayTarget},
    rollout::RolloutAction,
    secret::Secret,
    site::{Across, Reach},
    time::Timestamp,
    view::{
        ClusterView, Description, Done, Event, Explanation, Forecast, ImageOutcome, InstanceView, JoinTokenView, List,
        LogLine, NetworkTrace, NetworkVerdict, NodeView, Plan, Problem, Question, RebalancePlan, RolloutHistory,
        RolloutView, SecretView, SiteView, TraceRequest, VerifyRequest, VolumeView, WorkloadChange, WorkloadView,
    },
    workload::WorkloadSpec,
};
use bytes::Bytes;
use scheduler_core::{
    Scheduler,
    effect::{Accepted, Refusal},
    input::Change,
};
use tokio::{sync::Mutex, time::timeout};

use crate::{
    clock,
    control_loop::LoopHandle,
    dispatcher::{
        images::Images,
        logs::{LogRequests, Wanted},
        network::Inspections,
        relays::Relays,
    },
    identity::{
        authority::{Authority, fresh_watch_key},
        node_keys::NodeKeys,
        tokens::Tokens,
    },
    problem,
    vault::Vault,
};

/// How long a reader may wait for a newer version.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// The most lines of each instance that a person may ask for.
const TAIL_MAX: u32 = 10_000;

/// The scheduler, as people and programs reach it.
#[derive(Clone)]
pub(crate) struct Port(Arc<Parts>);

/// What the port needs.
pub(crate) struct Parts {
    pub(crate) cluster: String,
    pub(crate) started_at: Timestamp,
    pub(crate) api_address: String,
    pub(crate) session_address: String,
    pub(crate) control: LoopHandle,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) keys: Arc<NodeKeys>,
    pub(crate) vault: Arc<Vault>,
    pub(crate) authority: Arc<Authority>,
    pub(crate) logs: Arc<LogRequests>,
    pub(crate) relays: Arc<Relays>,
    pub(crate) images: Arc<Images>,
    pub(crate) inspections: Arc<Inspections>,
    /// Joins go one by one, so that the uses of a token become durable in the order they were taken.
    pub(crate) joining: Mutex<()>,
    /// Explanations, plans and forecasts go one by one, each on a copy of the state.
    pub(crate) thinking: Mutex<()>,
}

impl Port {
    /// Makes the port.
    pub(crate) fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    async fn change(&self, change: Change) -> Result<Accepted, Problem> {
        self.change_by(String::new(), change).await
    }

    /// The same, with who asks for the history.
    async fn change_by(&self, by: String, change: Change) -> Result<Accepted, Problem> {
        let outcome = self.0.control.change(by, change, Vec::new()).await.map_err(problem::stopped)?;
        outcome.map_err(|refusal| problem::refused(&refusal))
    }

    async fn workload_change(&self, by: String, change: Change) -> Result<Vec<WorkloadChange>, Problem> {
        match self.change_by(by, change).await? {
            Accepted::Workloads(changes) => Ok(changes),
            Accepted::Node(_) | Accepted::Done(_) => Err(problem::internal("the scheduler answered something else")),
        }
    }

    async fn done(&self, change: Change) -> Result<Done, Problem> {
        self.done_by(String::new(), change).await
    }

    async fn done_by(&self, by: String, change: Change) -> Result<Done, Problem> {
        match self.change_by(by, change).await? {
            Accepted::Done(message) => Ok(Done { message }),
            Accepted::Workloads(_) | Accepted::Node(_) => {
                Err(problem::internal("the scheduler answered something else"))
            }
        }
    }

    async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Scheduler) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Problem> {
        let seen = self.0.control.query(move |scheduler, _| look(scheduler)).await.map_err(problem::stopped)?;
        seen.map_err(|refusal| problem::refused(&refusal))
    }

    /// Answers from a copy of the state, beside the loop: decisions do not wait for it. One answer at a time, so that
    /// copies do not pile up.
    async fn think<T: Send + 'static>(
        &self,
        think: impl FnOnce(&Scheduler) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Problem> {
        let _one_by_one = self.0.thinking.lock().await;
        let copy = self.look(|scheduler| Ok(scheduler.clone())).await?;
        let thought = tokio::task::spawn_blocking(move || think(&copy)).await;
        let thought = thought.map_err(|_| problem::internal("the answer broke off"))?;
        thought.map_err(|refusal| problem::refused(&refusal))
    }

    async fn list<T: Send + 'static>(
        &self,
        after: After,
        look: impl FnOnce(&Scheduler) -> Vec<T> + Send + 'static,
    ) -> Result<List<T>, Problem> {
        self.wait_for_newer(after).await;
        self.look(move |scheduler| Ok(List { version: scheduler.view_version(), items: look(scheduler) })).await
    }

    async fn wait_for_newer(&self, after: After) {
        let Some(after) = after else { return };
        let mut version = self.0.control.version();
        // A version of an earlier run is answered at once, whether it is greater or less. After the limit the
        // reader gets what there is; when the loop is gone, the question that follows says so.
        timeout(WAIT_MAX, version.wait_for(|version| *version != after)).await.ok();
    }
}

impl ControlPlane for Port {
    async fn authenticate(&self, token: &str) -> Result<Subject, Problem> {
        self.0.tokens.subject(token, clock::wall_now()).map_err(|refusal| problem::token_refused(&refusal))
    }

    async fn apply(
        &self,
        subject: Subject,
        specs: Vec<WorkloadSpec>,
        expect: Option<Revision>,
    ) -> Result<Vec<WorkloadChange>, Problem> {
        self.tell_zones(&specs).await?;
        self.workload_change(subject.token, Change::Apply { specs, expect }).await
    }

    async fn plan(&self, specs: Vec<WorkloadSpec>) -> Result<Plan, Problem> {
        self.tell_zones(&specs).await?;
        self.think(move |scheduler| scheduler.plan(&specs)).await
    }

    async fn scale(
        &self,
        subject: Subject,
        workload: WorkloadId,
        replicas: u32,
    ) -> Result<Vec<WorkloadChange>, Problem> {
        self.workload_change(subject.token, Change::Scale { workload, replicas }).await
    }

    async fn run_job(&self, workload: WorkloadId) -> Result<Done, Problem> {
        self.done(Change::RunJob { workload }).await
    }

    async fn delete(&self, workload: WorkloadId) -> Result<Vec<WorkloadChange>, Problem> {
        self.workload_change(String::new(), Change::Delete { workload }).await
    }

    async fn act_on_rollout(
        &self,
        subject: Subject,
        workload: WorkloadId,
        action: RolloutAction,
    ) -> Result<Done, Problem> {
        self.done_by(subject.token, Change::Rollout { workload, action }).await
    }

    async fn rollout(&self, workload: WorkloadId, after: After) -> Result<List<RolloutView>, Problem> {
        self.wait_for_newer(after).await;
        self.look(move |scheduler| {
            Ok(List { version: scheduler.view_version(), items: vec![scheduler.rollout_view(&workload)?] })
        })
        .await
    }

    async fn rollout_history(&self, workload: WorkloadId) -> Result<RolloutHistory, Problem> {
        self.look(move |scheduler| scheduler.rollout_history(&workload)).await
    }

    async fn cluster(&self) -> Result<ClusterView, Problem> {
        let (cluster, started_at) = (self.0.cluster.clone(), self.0.started_at);
        self.look(move |scheduler| {
            let counts = scheduler.liveness_counts();
            Ok(ClusterView {
                cluster,
                version: env!("CARGO_PKG_VERSION").to_owned(),
                epoch: scheduler.epoch().0,
                started_at,
                ready: counts.ready,
                unreachable: counts.unreachable,
                lost: counts.lost,
            })
        })
        .await
    }

    async fn nodes(&self, after: After) -> Result<List<NodeView>, Problem> {
        self.list(after, Scheduler::node_views).await
    }

    async fn workloads(&self, after: After) -> Result<List<WorkloadView>, Problem> {
        self.list(after, Scheduler::workload_views).await
    }

    async fn instances(&self, after: After) -> Result<List<InstanceView>, Problem> {
        self.list(after, Scheduler::instance_views).await
    }

    async fn events(&self, after: After) -> Result<List<Event>, Problem> {
        self.list(after, Scheduler::events).await
    }

    async fn describe(&self, target: Target) -> Result<Description, Problem> {
        self.look(move |scheduler| match target {
            Target::Node(node) => scheduler.describe_node(&node),
            Target::Workload(workload) => scheduler.describe_workload(&workload),
            Target::Instance(instance) => scheduler.describe_instance(&instance),
        })
        .await
    }

    async fn why(&self, target: Target, all: bool) -> Result<Explanation, Problem> {
        match target {
            Target::Workload(workload) => self.think(move |scheduler| scheduler.explain(&workload, all)).await,
            Target::Instance(instance) => self.think(move |scheduler| scheduler.explain_instance(&instance, all)).await,
            Target::Node(_) => Err(problem::invalid("a node is not placed", "ask for a workload or an instance")),
        }
    }

    async fn why_specs(&self, specs: Vec<WorkloadSpec>, all: bool) -> Result<Vec<Explanation>, Problem> {
        self.tell_zones(&specs).await?;
        self.think(move |scheduler| scheduler.explain_specs(&specs, all)).await
    }

    async fn what_if(&self, question: Question) -> Result<Forecast, Problem> {
        self.think(move |scheduler| scheduler.what_if(&question)).await
    }

    async fn set_availability(&self, node: NodeId, availability: Availability) -> Result<(), Problem> {
        self.change(Change::SetAvailability { node, availability }).await.map(drop)
    }

    async fn sites(&self, after: After) -> Result<List<SiteView>, Problem> {
        self.list(after, Scheduler::site_views).await
    }

    async fn set_site(&self, site: String, reach: Option<Reach>, across: Option<Across>) -> Result<Done, Problem> {
        self.done(Change::SetSite { site, reach, across }).await
    }

    async fn resume_site(&self, site: String) -> Result<Done, Problem> {
        self.done(Change::ResumeSite { site }).await
    }

    async fn rebalance_plan(&self) -> Result<RebalancePlan, Problem> {
        self.think(|scheduler| Ok(scheduler.rebalance_plan())).await
    }

    async fn rebalance(&self) -> Result<Done, Problem> {
        self.done(Change::Rebalance).await
    }

    async fn volumes(&self, after: After) -> Result<List<VolumeView>, Problem> {
        self.list(after, Scheduler::volume_views).await
    }

    async fn forget_volume(&self, workload: WorkloadId, volume: Name, slot: Option<u32>) -> Result<Done, Problem> {
        self.done(Change::ForgetVolume { workload, volume, slot }).await
    }

    async fn secrets(&self, after: After) -> Result<List<SecretView>, Problem> {
        self.list(after, Scheduler::secret_views).await
    }

    async fn set_secret(&self, subject: Subject, secret: SecretId, value: Secret) -> Result<Done, Problem> {
        self.seal_and_set(subject, secret, &value).await
    }

    async fn delete_secret(&self, secret: SecretId) -> Result<Done, Problem> {
        self.done(Change::DeleteSecret { secret }).await
    }

    async fn verify_network(&self, request: VerifyRequest) -> Result<NetworkVerdict, Problem> {
        let services = request.services.clone();
        let nodes = self.look(move |scheduler| Ok(places::all_of(scheduler, &services))).await??;
        self.0.inspections.verify(nodes, &request.services).await
    }

    async fn trace_network(&self, request: TraceRequest) -> Result<NetworkTrace, Problem> {
        let asked = self.look(move |scheduler| Ok(places::question(scheduler, &request))).await??;
        let (node, question, [source, destination]) = asked;
        let steps = self.0.inspections.trace(&node, question).await?;
        Ok(NetworkTrace { node, source, destination, steps })
    }

    async fn node_token(&self, request: NodeTokenRequest) -> Result<JoinTokenView, Problem> {
        let prepared = self.0.tokens.prepare_join(request, clock::wall_now());
        let (token, record, writes) = prepared.map_err(|reason| problem::invalid(&reason, ""))?;
        self.0.control.keep(writes).await.map_err(problem::stopped)?;
        let expires_at = record.expires_at;
        self.0.tokens.keep_join(token.id.clone(), record);
        Ok(JoinTokenView { token: token.to_string(), expires_at, scheduler: self.0.api_address.clone() })
    }

    async fn remove_node(&self, node: NodeId, force: bool) -> Result<(), Problem> {
        let key = fresh_watch_key();
        let watch_key = Some(key.map_err(|error| problem::internal(&error.to_string()))?);
        self.change(Change::RemoveNode { node, force, watch_key }).await.map(drop)
    }

    async fn join(&self, request: JoinRequest) -> Result<JoinReply, Problem> {
        let this = self.clone();
        // On its own, so that it goes to its end when the one who asked is gone: half of it would leave the node's key
        // durable but unknown here, and the same node could not try again.
        let joined = tokio::spawn(async move { this.let_in(request).await });
        joined.await.unwrap_or_else(|_| Err(problem::internal("the join broke off")))
    }

    async fn logs(&self, query: LogQuery) -> Result<BoxStream<LogLine>, Problem> {
        let placed = self.placed(query.target).await?;
        let wanted = Wanted { container: query.container, tail: query.tail.min(TAIL_MAX), follow: query.follow };
        self.0.logs.open(&placed, &wanted)
    }

    async fn relay(
        &self,
        subject: Subject,
        request: RelayRequest,
        input: BoxStream<RelayInput>,
    ) -> Result<BoxStream<RelayOutput>, Problem> {
        let node = match &request.target {
            RelayTarget::Instance(instance) => {
                let placed = self.placed(Target::Instance(instance.clone())).await?;
                placed.into_iter().next().ok_or_else(|| problem::internal("the instance has no node"))?.1
            }
            RelayTarget::Volume(volume) => {
                let (views, volume) = (self.look(|scheduler| Ok(scheduler.volume_views())).await?, volume.clone());
                places::home(views, &volume, matches!(request.purpose, RelayPurpose::Restore {}))?
            }
        };
        let (target, purpose, detail) = (&request.target, request.purpose.word(), request.purpose.detail());
        // Who, where, what: before it happens, whatever comes of it. Quoted, as a command may hold anything.
        tracing::info!(token = subject.token, %node, %target, purpose, detail = ?detail, "reached into a node");
        self.0.relays.open(&node, request, input)
    }

    async fn load_image(&self, archive: BoxStream<Bytes>) -> Result<BoxStream<ImageOutcome>, Problem> {
        self.0.images.load(archive).await
    }
}

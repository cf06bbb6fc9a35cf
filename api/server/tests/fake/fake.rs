//! A control plane without a cluster: fixed nodes, workloads that grow ready step by step, and every way to fail.

#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, clippy::unwrap_in_result, reason = "a fake that cannot go on fails its test")]

mod explain;
mod moves;
mod network;
mod relay;
mod rollouts;
mod secrets;
mod views;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use api_server::control_plane::{After, BoxStream, ControlPlane, LogQuery, Role, Subject, Target};
use api_types::{
    counter::Revision,
    id::{InstanceId, Name, NodeId, SecretId, WorkloadId},
    join::{JoinReply, JoinRequest, NodeTokenRequest},
    node::{Availability, Liveness},
    relay::{RelayInput, RelayOutput, RelayRequest},
    rollout::RolloutAction,
    secret::Secret,
    site::{Across, Reach},
    time::Timestamp,
    view::{
        ClusterView, Description, Done, Event, Explanation, FieldChange, Forecast, ImageOutcome, InstanceView,
        JoinTokenView, List, LogLine, NetworkTrace, NetworkVerdict, NodeView, Plan, Problem, Question, RebalancePlan,
        RolloutHistory, RolloutView, SecretView, SiteView, TraceRequest, VerifyRequest, VolumeView, WorkloadChange,
        WorkloadView,
    },
    workload::{WorkloadKind, WorkloadSpec},
};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tokio::sync::Notify;

/// Tokens and what they may do, the least first.
pub(crate) const TOKENS: &[(&str, Role)] = &[
    ("WA1-view", Role::Viewer),
    ("WA1-deploy", Role::Deployer),
    ("WA1-operate", Role::Operator),
    ("WA1-admin", Role::Admin),
];

/// When everything here happened.
pub(crate) const THEN: Timestamp = Timestamp(1_700_000_000_000);

/// The control plane.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fake {
    pub(crate) state: Arc<Mutex<State>>,
    /// Lets a followed log go on.
    pub(crate) more: Arc<Notify>,
}

/// What it keeps.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) version: u64,
    pub(crate) workloads: BTreeMap<WorkloadId, Kept>,
    pub(crate) availability: BTreeMap<NodeId, Availability>,
    pub(crate) calls: Vec<String>,
}

/// A workload and how far it is.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) spec: WorkloadSpec,
    pub(crate) revision: u64,
    pub(crate) ready: u32,
}

impl Fake {
    /// Remembers a call.
    fn called(&self, call: String) {
        self.state.lock().unwrap().calls.push(call);
    }

    /// Each look at the workloads brings each one replica further; those named `stuck` find no node.
    fn advance(&self, after: After) {
        let mut state = self.state.lock().unwrap();
        state.version += 1;
        for kept in state.workloads.values_mut().filter(|_| after.is_some()) {
            if kept.ready < wanted(&kept.spec) && kept.spec.id.name.as_str() != "stuck" {
                kept.ready += 1;
            }
        }
    }
}

fn wanted(spec: &WorkloadSpec) -> u32 {
    match spec.kind {
        WorkloadKind::Service { replicas } => replicas,
        WorkloadKind::Daemon => 2,
        WorkloadKind::Job(job) => job.completions.min(job.parallelism),
    }
}

pub(crate) fn problem(status: u16, code: &str, title: &str, hint: &str) -> Problem {
    Problem { status, code: code.into(), title: title.into(), hint: hint.into(), faults: Vec::new() }
}

fn node_id(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn change(workload: WorkloadId, action: &str) -> WorkloadChange {
    let (fields, placements, warnings) = (Vec::new(), Vec::new(), Vec::new());
    WorkloadChange { workload, action: action.into(), fields, placements, warnings }
}

impl Fake {
    fn changes(&self, specs: &[WorkloadSpec]) -> Result<Vec<WorkloadChange>, Problem> {
        let state = self.state.lock().unwrap();
        let each = |spec: &WorkloadSpec| match (spec.id.name.as_str(), state.workloads.get(&spec.id)) {
            ("panic", _) => panic!("asked to"),
            ("taken", _) => {
                Err(problem(409, "conflict", "port 80/tcp of every node is published by `web`", "publish another port"))
            }
            (_, None) => Ok(change(spec.id.clone(), "create")),
            (_, Some(kept)) if kept.spec == *spec => Ok(change(spec.id.clone(), "none")),
            (_, Some(kept)) => Ok(WorkloadChange {
                fields: vec![FieldChange {
                    path: "container.image".into(),
                    before: format!("{:?}", kept.spec.container.image),
                    after: format!("{:?}", spec.container.image),
                }],
                ..change(spec.id.clone(), "update")
            }),
        };
        specs.iter().map(each).collect()
    }
}

impl ControlPlane for Fake {
    async fn authenticate(&self, token: &str) -> Result<Subject, Problem> {
        if token == "WA1-old" {
            return Err(problem(401, "unauthorized", "the token expired", "make a new one"));
        }
        let known = TOKENS.iter().find(|(known, _)| *known == token);
        let (token, role) = known.ok_or_else(|| problem(401, "unauthorized", "nobody knows this token", ""))?;
        Ok(Subject { token: token.trim_start_matches("WA1-").into(), role: *role })
    }

    async fn apply(
        &self,
        _: Subject,
        specs: Vec<WorkloadSpec>,
        expect: Option<Revision>,
    ) -> Result<Vec<WorkloadChange>, Problem> {
        self.called(format!("apply {} expect {expect:?}", specs.len()));
        let changes = self.changes(&specs)?;
        let mut state = self.state.lock().unwrap();
        for spec in specs {
            let kept = state.workloads.get(&spec.id);
            let revision = kept.map_or(1, |kept| kept.revision + u64::from(kept.spec != spec));
            if expect.is_some_and(|expect| kept.is_some_and(|kept| kept.revision != expect.0)) {
                let title = format!("`{}` is at revision {revision}", spec.id);
                return Err(problem(409, "conflict", &title, "look at what changed, then apply again"));
            }
            state.workloads.insert(spec.id.clone(), Kept { spec, revision, ready: 0 });
        }
        Ok(changes)
    }

    async fn plan(&self, specs: Vec<WorkloadSpec>) -> Result<Plan, Problem> {
        Ok(explain::plan(self.changes(&specs)?, &specs))
    }

    async fn act_on_rollout(
        &self,
        subject: Subject,
        workload: WorkloadId,
        action: RolloutAction,
    ) -> Result<Done, Problem> {
        rollouts::act(&subject.token, &workload, action)
    }

    async fn rollout(&self, workload: WorkloadId, _: After) -> Result<List<RolloutView>, Problem> {
        rollouts::status(&workload)
    }

    async fn rollout_history(&self, workload: WorkloadId) -> Result<RolloutHistory, Problem> {
        rollouts::history(&workload)
    }

    async fn scale(&self, _: Subject, workload: WorkloadId, replicas: u32) -> Result<Vec<WorkloadChange>, Problem> {
        self.called(format!("scale {workload} {replicas}"));
        let mut state = self.state.lock().unwrap();
        let kept = state.workloads.get_mut(&workload);
        let missing = || problem(404, "not_found", &format!("there is no workload `{workload}`"), "");
        kept.ok_or_else(missing)?.spec.kind = WorkloadKind::Service { replicas };
        Ok(vec![change(workload, "scale")])
    }

    async fn run_job(&self, workload: WorkloadId) -> Result<Done, Problem> {
        self.called(format!("run job {workload}"));
        let state = self.state.lock().unwrap();
        let missing = || problem(404, "not_found", &format!("there is no workload `{workload}`"), "");
        match state.workloads.get(&workload).ok_or_else(missing)?.spec.kind {
            WorkloadKind::Job(_) => Ok(Done { message: format!("run 3 of {workload} began") }),
            WorkloadKind::Service { .. } | WorkloadKind::Daemon => {
                let title = format!("`{workload}` is a service: only jobs run when they are asked to");
                Err(problem(422, "invalid", &title, ""))
            }
        }
    }

    async fn delete(&self, workload: WorkloadId) -> Result<Vec<WorkloadChange>, Problem> {
        self.called(format!("delete {workload}"));
        let removed = self.state.lock().unwrap().workloads.remove(&workload);
        let missing = || problem(404, "not_found", &format!("there is no workload `{workload}`"), "");
        removed.map(|_| vec![change(workload.clone(), "delete")]).ok_or_else(missing)
    }

    async fn cluster(&self) -> Result<ClusterView, Problem> {
        Ok(ClusterView {
            cluster: "c-1".into(),
            version: "0.1.0".into(),
            epoch: 3,
            started_at: THEN,
            ready: 2,
            unreachable: 1,
            lost: 0,
        })
    }

    async fn nodes(&self, after: After) -> Result<List<NodeView>, Problem> {
        self.called(format!("nodes after {after:?}"));
        let wanted = |name: &str| {
            self.state.lock().unwrap().availability.get(&node_id(name)).copied().unwrap_or(Availability::Active)
        };
        let items = vec![
            views::node("n1", 1, Liveness::Ready, wanted("n1")),
            views::node("n2", 2, Liveness::Ready, wanted("n2")),
            views::node("n3", 3, Liveness::Unreachable, wanted("n3")),
        ];
        Ok(List { version: 5, items })
    }

    async fn workloads(&self, after: After) -> Result<List<WorkloadView>, Problem> {
        self.advance(after);
        let state = self.state.lock().unwrap();
        Ok(List { version: state.version, items: state.workloads.values().map(views::view).collect() })
    }

    async fn instances(&self, _: After) -> Result<List<InstanceView>, Problem> {
        let state = self.state.lock().unwrap();
        Ok(List { version: state.version, items: state.workloads.values().flat_map(views::instance_views).collect() })
    }

    async fn events(&self, _: After) -> Result<List<Event>, Problem> {
        let event = |sequence, subject: &str, kind: &str, message: &str| Event {
            sequence,
            at: THEN + sequence * 1000,
            subject: subject.into(),
            kind: kind.into(),
            message: message.into(),
        };
        let items = vec![
            event(1, "n1", "joined", "the node joined site berlin"),
            event(2, "web-0a", "placed", "placed on n1"),
            event(3, "web-0a", "failed", "\u{1b}]52;c;aGk=\u{7}the image says \u{202e}hello"),
        ];
        Ok(List { version: 3, items })
    }

    async fn describe(&self, target: Target) -> Result<Description, Problem> {
        let events = self.events(None).await?.items;
        let state = self.state.lock().unwrap();
        let missing = |what: String| problem(404, "not_found", &format!("there is no {what}"), "");
        match target {
            Target::Node(name) if name.as_str() == "n1" => Ok(Description {
                node: Some(views::node("n1", 1, Liveness::Ready, Availability::Active)),
                workload: None,
                instances: state.workloads.values().flat_map(views::instance_views).collect(),
                events,
            }),
            Target::Node(name) => Err(missing(format!("node `{name}`"))),
            Target::Workload(id) => {
                let kept = state.workloads.get(&id).ok_or_else(|| missing(format!("workload `{id}`")))?;
                let (node, workload) = (None, Some(views::view(kept)));
                Ok(Description { node, workload, instances: views::instance_views(kept), events })
            }
            Target::Instance(id) => {
                let mut instances = state.workloads.values().flat_map(views::instance_views);
                let found = instances.find(|instance| instance.name == id.as_str());
                let instance = found.ok_or_else(|| missing(format!("instance `{id}`")))?;
                Ok(Description { node: None, workload: None, instances: vec![instance], events })
            }
        }
    }

    async fn why(&self, target: Target, all: bool) -> Result<Explanation, Problem> {
        explain::why(&target, all)
    }

    async fn why_specs(&self, specs: Vec<WorkloadSpec>, all: bool) -> Result<Vec<Explanation>, Problem> {
        let applied = |spec: WorkloadSpec| explain::why(&Target::Workload(spec.id), all);
        let nowhere_yet = |explained: Explanation| Explanation { instances: Vec::new(), ..explained };
        specs.into_iter().map(|spec| applied(spec).map(nowhere_yet)).collect()
    }

    async fn what_if(&self, question: Question) -> Result<Forecast, Problem> {
        self.called(format!("what-if {question:?}"));
        explain::what_if(&question)
    }

    async fn set_availability(&self, node: NodeId, availability: Availability) -> Result<(), Problem> {
        self.called(format!("{node} {availability:?}"));
        self.state.lock().unwrap().availability.insert(node, availability);
        Ok(())
    }

    async fn sites(&self, _: After) -> Result<List<SiteView>, Problem> {
        Ok(moves::sites())
    }

    async fn set_site(&self, site: String, reach: Option<Reach>, across: Option<Across>) -> Result<Done, Problem> {
        self.called(format!("set site {site} {reach:?} {across:?}"));
        moves::set_site(&site, reach, across)
    }

    async fn resume_site(&self, site: String) -> Result<Done, Problem> {
        self.called(format!("resume site {site}"));
        moves::resume_site(&site)
    }

    async fn rebalance_plan(&self) -> Result<RebalancePlan, Problem> {
        let begun = self.state.lock().unwrap().calls.iter().filter(|call| *call == "rebalance").count();
        Ok(moves::rebalance_plan(if begun > 0 { 2 } else { 0 }))
    }

    async fn rebalance(&self) -> Result<Done, Problem> {
        self.called("rebalance".into());
        Ok(Done { message: "moves 2 instances, a few at a time".into() })
    }

    async fn verify_network(&self, request: VerifyRequest) -> Result<NetworkVerdict, Problem> {
        self.called(request.services.iter().fold("verify network".to_owned(), |said, id| format!("{said} {id}")));
        network::verdict(&request)
    }

    async fn trace_network(&self, request: TraceRequest) -> Result<NetworkTrace, Problem> {
        self.called(format!("trace {} {} {} {}", request.from, request.to, request.protocol.as_str(), request.port));
        network::trace(&request)
    }

    async fn volumes(&self, _: After) -> Result<List<VolumeView>, Problem> {
        Ok(moves::volumes())
    }

    async fn forget_volume(&self, workload: WorkloadId, volume: Name, slot: Option<u32>) -> Result<Done, Problem> {
        self.called(format!("forget {workload} {volume} {slot:?}"));
        moves::forget_volume(&workload, &volume, slot)
    }

    async fn secrets(&self, _: After) -> Result<List<SecretView>, Problem> {
        Ok(secrets::secrets())
    }

    async fn set_secret(&self, subject: Subject, secret: SecretId, value: Secret) -> Result<Done, Problem> {
        self.called(format!("set secret {secret} by {}: {}", subject.token, value.reveal().escape_ascii()));
        Ok(Done { message: format!("{secret} is at version 1; nothing uses it yet") })
    }

    async fn delete_secret(&self, secret: SecretId) -> Result<Done, Problem> {
        self.called(format!("delete secret {secret}"));
        secrets::delete_secret(&secret)
    }

    async fn node_token(&self, request: NodeTokenRequest) -> Result<JoinTokenView, Problem> {
        self.called(format!("token {request:?}"));
        Ok(JoinTokenView {
            token: "WJ1-ca-id-secret-crc".into(),
            expires_at: THEN + request.lifetime_ms.unwrap_or(3_600_000),
            scheduler: "scheduler.lan:7300".into(),
        })
    }

    async fn remove_node(&self, node: NodeId, force: bool) -> Result<(), Problem> {
        self.called(format!("remove {node} force {force}"));
        if node.as_str() == "n1" && !force {
            return Err(problem(409, "conflict", "`n1` is ready", "drain it first, or use force"));
        }
        Ok(())
    }

    async fn join(&self, request: JoinRequest) -> Result<JoinReply, Problem> {
        if request.token != "WJ1-good" {
            return Err(problem(401, "unauthorized", "the join token is wrong", "ask for a new one"));
        }
        Ok(JoinReply {
            node: node_id(&request.name),
            certificate: "CERT".into(),
            ca: "CA".into(),
            session_address: "scheduler.lan:7301".into(),
        })
    }

    async fn logs(&self, query: LogQuery) -> Result<BoxStream<LogLine>, Problem> {
        self.called(format!("{query:?}"));
        let line = |text: &str| LogLine {
            instance: InstanceId::new("web-0a").unwrap(),
            at: THEN,
            stream: "stdout".into(),
            text: text.into(),
        };
        let first = stream::iter([Ok(line("first")), Ok(line("second \u{1b}[31mred"))]);
        if !query.follow {
            return Ok(Box::pin(first));
        }
        let more = Arc::clone(&self.more);
        let third = stream::once(async move {
            more.notified().await;
            Ok(line("third"))
        });
        let last = stream::once(async { Err(problem(503, "unavailable", "n1 is unreachable", "try again later")) });
        Ok(Box::pin(first.chain(third).chain(last)))
    }

    async fn relay(
        &self,
        subject: Subject,
        request: RelayRequest,
        input: BoxStream<RelayInput>,
    ) -> Result<BoxStream<RelayOutput>, Problem> {
        self.called(format!(
            "{} {} {} {}",
            subject.token,
            request.purpose.word(),
            request.target,
            request.purpose.detail()
        ));
        relay::answer(request, input)
    }

    async fn load_image(&self, mut archive: BoxStream<Bytes>) -> Result<BoxStream<ImageOutcome>, Problem> {
        let mut bytes = 0;
        while let Some(chunk) = archive.next().await {
            bytes += chunk?.len();
        }
        self.called(format!("image of {bytes} bytes"));
        let outcome = |name: &str, images: &[&str], error: &str| {
            let images = images.iter().map(|&image| image.to_owned()).collect();
            Ok(ImageOutcome { node: node_id(name), images, error: error.into() })
        };
        let outcomes = [outcome("n1", &["docker.io/library/web:1"], ""), outcome("n2", &[], "the disk is full")];
        Ok(Box::pin(stream::iter(outcomes)))
    }
}

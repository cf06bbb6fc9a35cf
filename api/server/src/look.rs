//! Routes that only look.

use api_types::{
    content::FileContent,
    id::{InstanceId, NodeId, WorkloadId},
    view::{ClusterView, Description, Event, InstanceView, List, NodeView, WorkloadView},
};
use axum::{Extension, Json, extract::State};
use serde::Deserialize;

use crate::{
    body::{Asked, Named},
    control_plane::{After, ControlPlane, Role, Subject, Target},
    problem::Refused,
};

/// What stands where a viewer may not read.
const HIDDEN: &str = "(hidden)";

/// The query of a list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Newer {
    pub(crate) after: After,
}

/// The query of what takes none.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Nothing {}

pub(crate) type Answer<T> = Result<Json<T>, Refused>;

pub(crate) async fn cluster<C: ControlPlane>(State(plane): State<C>, _: Asked<Nothing>) -> Answer<ClusterView> {
    Ok(Json(plane.cluster().await?))
}

pub(crate) async fn nodes<C: ControlPlane>(State(plane): State<C>, asked: Asked<Newer>) -> Answer<List<NodeView>> {
    Ok(Json(plane.nodes(asked.0.after).await?))
}

pub(crate) async fn instances<C: ControlPlane>(
    State(plane): State<C>,
    asked: Asked<Newer>,
) -> Answer<List<InstanceView>> {
    Ok(Json(plane.instances(asked.0.after).await?))
}

pub(crate) async fn events<C: ControlPlane>(State(plane): State<C>, asked: Asked<Newer>) -> Answer<List<Event>> {
    Ok(Json(plane.events(asked.0.after).await?))
}

pub(crate) async fn workloads<C: ControlPlane>(
    State(plane): State<C>,
    Extension(subject): Extension<Subject>,
    asked: Asked<Newer>,
) -> Answer<List<WorkloadView>> {
    let mut list = plane.workloads(asked.0.after).await?;
    list.items.iter_mut().for_each(|view| hide(&subject, view));
    Ok(Json(list))
}

pub(crate) async fn services<C: ControlPlane>(
    plane: State<C>,
    subject: Extension<Subject>,
    asked: Asked<Newer>,
) -> Answer<List<WorkloadView>> {
    let Json(mut list) = workloads(plane, subject, asked).await?;
    list.items.retain(|view| view.kind == "service");
    Ok(Json(list))
}

pub(crate) async fn daemons<C: ControlPlane>(
    plane: State<C>,
    subject: Extension<Subject>,
    asked: Asked<Newer>,
) -> Answer<List<WorkloadView>> {
    let Json(mut list) = workloads(plane, subject, asked).await?;
    list.items.retain(|view| view.kind == "daemon");
    Ok(Json(list))
}

pub(crate) async fn jobs<C: ControlPlane>(
    plane: State<C>,
    subject: Extension<Subject>,
    asked: Asked<Newer>,
) -> Answer<List<WorkloadView>> {
    let Json(mut list) = workloads(plane, subject, asked).await?;
    list.items.retain(|view| view.kind == "job");
    Ok(Json(list))
}

pub(crate) async fn describe_node<C: ControlPlane>(
    plane: State<C>,
    subject: Extension<Subject>,
    Named(node): Named<NodeId>,
    _: Asked<Nothing>,
) -> Answer<Description> {
    describe(plane, subject, Target::Node(node)).await
}

pub(crate) async fn describe_workload<C: ControlPlane>(
    plane: State<C>,
    subject: Extension<Subject>,
    Named(workload): Named<WorkloadId>,
    _: Asked<Nothing>,
) -> Answer<Description> {
    describe(plane, subject, Target::Workload(workload)).await
}

pub(crate) async fn describe_instance<C: ControlPlane>(
    plane: State<C>,
    subject: Extension<Subject>,
    Named(instance): Named<InstanceId>,
    _: Asked<Nothing>,
) -> Answer<Description> {
    describe(plane, subject, Target::Instance(instance)).await
}

async fn describe<C: ControlPlane>(
    State(plane): State<C>,
    Extension(subject): Extension<Subject>,
    target: Target,
) -> Answer<Description> {
    let mut description = plane.describe(target).await?;
    description.workload.iter_mut().for_each(|view| hide(&subject, view));
    Ok(Json(description))
}

/// Values in the environment are often secrets: a viewer sees their names only.
fn hide(subject: &Subject, view: &mut WorkloadView) {
    if subject.role < Role::Deployer {
        let companions = view.spec.companions.iter_mut().map(|companion| &mut companion.container);
        for container in [&mut view.spec.container].into_iter().chain(companions) {
            container.env.values_mut().for_each(|value| HIDDEN.clone_into(value));
            for file in container.content.files.values_mut() {
                if let FileContent::Text(text) = &mut file.content {
                    HIDDEN.clone_into(text);
                }
            }
        }
    }
}

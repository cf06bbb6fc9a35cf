//! Routes that change something.

use api_types::{
    counter::Revision,
    id::{NodeId, WorkloadId},
    join::{JoinReply, JoinRequest, NodeTokenRequest},
    node::Availability,
    view::{Done, JoinTokenView, Problem, WorkloadChange},
    workload::WorkloadSpec,
};
use axum::{Extension, Json, extract::State};
use http::StatusCode;
use serde::Deserialize;

use crate::{
    body::{Asked, ManifestText, Named, Payload},
    control_plane::{ControlPlane, Subject},
    look::Nothing,
    problem::{Refused, invalid},
};

/// The query of `apply`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Expecting {
    /// Refuse unless each existing workload is at this revision.
    expect: Option<Revision>,
}

/// The body of `scale`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scale {
    workload: WorkloadId,
    replicas: u32,
}

/// The body that names a job.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Job {
    workload: WorkloadId,
}

/// The body that says what is wanted of a node.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    availability: Availability,
}

/// The query of a node's removal.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Forced {
    #[serde(default)]
    force: bool,
}

type Changes = Result<Json<Vec<WorkloadChange>>, Refused>;

pub(crate) async fn apply<C: ControlPlane>(
    State(plane): State<C>,
    Extension(subject): Extension<Subject>,
    asked: Asked<Expecting>,
    ManifestText(text): ManifestText,
) -> Changes {
    Ok(Json(plane.apply(subject, specs(&text)?, asked.0.expect).await?))
}

pub(crate) async fn scale<C: ControlPlane>(
    State(plane): State<C>,
    Extension(subject): Extension<Subject>,
    Payload(scale): Payload<Scale>,
) -> Changes {
    Ok(Json(plane.scale(subject, scale.workload, scale.replicas).await?))
}

pub(crate) async fn run_job<C: ControlPlane>(
    State(plane): State<C>,
    Payload(job): Payload<Job>,
) -> Result<Json<Done>, Refused> {
    Ok(Json(plane.run_job(job.workload).await?))
}

pub(crate) async fn delete<C: ControlPlane>(
    State(plane): State<C>,
    Named(workload): Named<WorkloadId>,
    _: Asked<Nothing>,
) -> Changes {
    Ok(Json(plane.delete(workload).await?))
}

pub(crate) async fn set_availability<C: ControlPlane>(
    State(plane): State<C>,
    Named(node): Named<NodeId>,
    Payload(wanted): Payload<Wanted>,
) -> Result<StatusCode, Refused> {
    plane.set_availability(node, wanted.availability).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(crate) async fn node_token<C: ControlPlane>(
    State(plane): State<C>,
    Payload(request): Payload<NodeTokenRequest>,
) -> Result<Json<JoinTokenView>, Refused> {
    Ok(Json(plane.node_token(request).await?))
}

pub(crate) async fn remove_node<C: ControlPlane>(
    State(plane): State<C>,
    Named(node): Named<NodeId>,
    asked: Asked<Forced>,
) -> Result<StatusCode, Refused> {
    plane.remove_node(node, asked.0.force).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(crate) async fn join<C: ControlPlane>(
    State(plane): State<C>,
    Payload(request): Payload<JoinRequest>,
) -> Result<Json<JoinReply>, Refused> {
    Ok(Json(plane.join(request).await?))
}

/// Reads a manifest.
pub(crate) fn specs(text: &str) -> Result<Vec<WorkloadSpec>, Problem> {
    let manifest = api_manifest::parse(text).map_err(|faults| {
        let title = match faults.len() {
            1 => "the manifest has a fault".to_owned(),
            many => format!("the manifest has {many} faults"),
        };
        Problem { faults, ..invalid(title, "nothing was changed") }
    })?;
    Ok(manifest.workloads)
}

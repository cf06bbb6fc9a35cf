//! Routes that say why, and what would be. They change nothing; what reads manifests needs the role that may apply them,
//! and so does what costs the scheduler a good deal of thought.

use api_types::{
    id::{InstanceId, WorkloadId},
    view::{Explanation, Forecast, Plan, Problem, QUESTION_NODES_MAX, Question},
};
use axum::{Json, extract::State};
use http::StatusCode;
use serde::Deserialize;

use crate::{
    body::{Asked, ManifestText, Named, Payload},
    control_plane::{ControlPlane, Target},
    look::Nothing,
    problem::{Refused, invalid, problem},
    write::specs,
};

/// The query of `why`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Shown {
    /// Every node, not a few for each reason.
    #[serde(default)]
    all: bool,
}

/// The query of `why` for a manifest.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Chosen {
    /// Only this workload of it.
    workload: Option<WorkloadId>,
    #[serde(default)]
    all: bool,
}

type Answer<T> = Result<Json<T>, Refused>;

pub(crate) async fn why_workload<C: ControlPlane>(
    State(plane): State<C>,
    Named(workload): Named<WorkloadId>,
    asked: Asked<Shown>,
) -> Answer<Explanation> {
    Ok(Json(plane.why(Target::Workload(workload), asked.0.all).await?))
}

pub(crate) async fn why_instance<C: ControlPlane>(
    State(plane): State<C>,
    Named(instance): Named<InstanceId>,
    asked: Asked<Shown>,
) -> Answer<Explanation> {
    Ok(Json(plane.why(Target::Instance(instance), asked.0.all).await?))
}

pub(crate) async fn why_manifest<C: ControlPlane>(
    State(plane): State<C>,
    Asked(chosen): Asked<Chosen>,
    ManifestText(text): ManifestText,
) -> Answer<Vec<Explanation>> {
    let mut specs = specs(&text)?;
    if let Some(wanted) = &chosen.workload {
        let known = specs.iter().map(|spec| spec.id.to_string()).collect::<Vec<_>>().join(", ");
        specs.retain(|spec| spec.id == *wanted);
        if specs.is_empty() {
            let title = format!("the manifest has no workload `{wanted}`");
            return Err(Refused(problem(StatusCode::NOT_FOUND, "not_found", title, &format!("it has: {known}"))));
        }
    }
    Ok(Json(plane.why_specs(specs, chosen.all).await?))
}

pub(crate) async fn plan<C: ControlPlane>(
    State(plane): State<C>,
    _: Asked<Nothing>,
    ManifestText(text): ManifestText,
) -> Answer<Plan> {
    Ok(Json(plane.plan(specs(&text)?).await?))
}

pub(crate) async fn what_if<C: ControlPlane>(
    State(plane): State<C>,
    _: Asked<Nothing>,
    Payload(question): Payload<Question>,
) -> Answer<Forecast> {
    check(&question)?;
    Ok(Json(plane.what_if(question).await?))
}

pub(crate) async fn what_if_applied<C: ControlPlane>(
    State(plane): State<C>,
    _: Asked<Nothing>,
    ManifestText(text): ManifestText,
) -> Answer<Forecast> {
    Ok(Json(plane.what_if(Question::Apply { specs: specs(&text)? }).await?))
}

/// Refuses what no cluster is to be asked.
fn check(question: &Question) -> Result<(), Problem> {
    let named = match question {
        Question::NodeLoss { nodes } | Question::Drain { nodes } => nodes.len(),
        Question::Join { count, .. } => usize::try_from(*count).unwrap_or(usize::MAX),
        Question::SiteLoss { .. } | Question::Apply { .. } => return Ok(()),
    };
    if (1..=QUESTION_NODES_MAX).contains(&named) {
        return Ok(());
    }
    Err(invalid(format!("{named} nodes are asked about"), &format!("ask about 1 to {QUESTION_NODES_MAX} at once")))
}

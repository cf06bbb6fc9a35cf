//! Routes of rollouts: how far they are, what they were, what people do to them.

use api_types::{
    id::WorkloadId,
    rollout::RolloutAction,
    view::{Done, List, RolloutHistory, RolloutView},
};
use axum::{Extension, Json, extract::State};
use serde::Deserialize;

use crate::{
    body::{Asked, Named, Payload},
    control_plane::{ControlPlane, Subject},
    look::{Newer, Nothing},
    problem::Refused,
};

/// The body that says what is done to a rollout.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wish {
    workload: WorkloadId,
    /// What: `{"action": "undo", "to": 3}`, `{"action": "pause"}`.
    what: RolloutAction,
}

type Answer<T> = Result<Json<T>, Refused>;

pub(crate) async fn act<C: ControlPlane>(
    State(plane): State<C>,
    Extension(subject): Extension<Subject>,
    Payload(wish): Payload<Wish>,
) -> Answer<Done> {
    Ok(Json(plane.act_on_rollout(subject, wish.workload, wish.what).await?))
}

pub(crate) async fn status<C: ControlPlane>(
    State(plane): State<C>,
    Named(workload): Named<WorkloadId>,
    asked: Asked<Newer>,
) -> Answer<List<RolloutView>> {
    Ok(Json(plane.rollout(workload, asked.0.after).await?))
}

pub(crate) async fn history<C: ControlPlane>(
    State(plane): State<C>,
    Named(workload): Named<WorkloadId>,
    _: Asked<Nothing>,
) -> Answer<RolloutHistory> {
    Ok(Json(plane.rollout_history(workload).await?))
}

//! Routes that try the nodes' network.

use api_types::view::{NetworkTrace, NetworkVerdict, TraceRequest};
use axum::{Json, extract::State};

use crate::{
    body::{Asked, Payload},
    control_plane::ControlPlane,
    look::Nothing,
    problem::Refused,
};

type Answer<T> = Result<Json<T>, Refused>;

pub(crate) async fn verify<C: ControlPlane>(State(plane): State<C>, _: Asked<Nothing>) -> Answer<NetworkVerdict> {
    Ok(Json(plane.verify_network().await?))
}

pub(crate) async fn trace<C: ControlPlane>(
    State(plane): State<C>,
    Payload(request): Payload<TraceRequest>,
) -> Answer<NetworkTrace> {
    Ok(Json(plane.trace_network(request).await?))
}

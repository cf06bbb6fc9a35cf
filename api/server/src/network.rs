//! Routes that try the nodes' network.

use api_types::view::{NetworkTrace, NetworkVerdict, TraceRequest, VerifyRequest};
use axum::{Json, extract::State};

use crate::{body::Payload, control_plane::ControlPlane, problem::Refused};

type Answer<T> = Result<Json<T>, Refused>;

pub(crate) async fn verify<C: ControlPlane>(
    State(plane): State<C>,
    Payload(request): Payload<VerifyRequest>,
) -> Answer<NetworkVerdict> {
    Ok(Json(plane.verify_network(request).await?))
}

pub(crate) async fn trace<C: ControlPlane>(
    State(plane): State<C>,
    Payload(request): Payload<TraceRequest>,
) -> Answer<NetworkTrace> {
    Ok(Json(plane.trace_network(request).await?))
}

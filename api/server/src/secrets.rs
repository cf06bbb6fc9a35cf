//! Routes of secrets: what they are goes in, and never comes out.

use api_types::{
    id::SecretId,
    view::{Done, List, SecretView},
};
use axum::{Extension, Json, extract::State};

use crate::{
    body::{Asked, Named, Sealable},
    control_plane::{ControlPlane, Subject},
    look::{Answer, Newer, Nothing},
    problem::Refused,
};

pub(crate) async fn secrets<C: ControlPlane>(State(plane): State<C>, asked: Asked<Newer>) -> Answer<List<SecretView>> {
    Ok(Json(plane.secrets(asked.0.after).await?))
}

pub(crate) async fn set_secret<C: ControlPlane>(
    State(plane): State<C>,
    Extension(subject): Extension<Subject>,
    Named(secret): Named<SecretId>,
    _: Asked<Nothing>,
    Sealable(value): Sealable,
) -> Result<Json<Done>, Refused> {
    Ok(Json(plane.set_secret(subject, secret, value).await?))
}

pub(crate) async fn delete_secret<C: ControlPlane>(
    State(plane): State<C>,
    Named(secret): Named<SecretId>,
    _: Asked<Nothing>,
) -> Result<Json<Done>, Refused> {
    Ok(Json(plane.delete_secret(secret).await?))
}

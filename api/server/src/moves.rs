//! Routes for what moves or stays: sites given up, rebalancing, data on nodes.

use api_types::{
    id::{Name, WorkloadId},
    site::{Across, Reach},
    view::{Done, List, RebalancePlan, SiteView, VolumeView},
};
use axum::{Json, extract::State};
use serde::Deserialize;

use crate::{
    body::{Asked, Payload},
    control_plane::ControlPlane,
    look::{Newer, Nothing},
    problem::Refused,
};

/// The body that names a site.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Site {
    site: String,
}

/// The body that says how instances of a site are reached.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SiteChange {
    site: String,
    /// By nodes of the site; left out, as before.
    #[serde(default)]
    reach: Option<Reach>,
    /// By nodes of other sites; left out, as before.
    #[serde(default)]
    across: Option<Across>,
}

/// The body that names data.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Volume {
    workload: WorkloadId,
    volume: Name,
    /// Of one slot; left out, of all.
    #[serde(default)]
    slot: Option<u32>,
}

type Answer<T> = Result<Json<T>, Refused>;

pub(crate) async fn resume_site<C: ControlPlane>(State(plane): State<C>, Payload(body): Payload<Site>) -> Answer<Done> {
    Ok(Json(plane.resume_site(body.site).await?))
}

pub(crate) async fn sites<C: ControlPlane>(State(plane): State<C>, asked: Asked<Newer>) -> Answer<List<SiteView>> {
    Ok(Json(plane.sites(asked.0.after).await?))
}

pub(crate) async fn set_site<C: ControlPlane>(
    State(plane): State<C>,
    Payload(body): Payload<SiteChange>,
) -> Answer<Done> {
    Ok(Json(plane.set_site(body.site, body.reach, body.across).await?))
}

pub(crate) async fn rebalance_plan<C: ControlPlane>(
    State(plane): State<C>,
    _: Asked<Nothing>,
) -> Answer<RebalancePlan> {
    Ok(Json(plane.rebalance_plan().await?))
}

pub(crate) async fn rebalance<C: ControlPlane>(State(plane): State<C>, _: Asked<Nothing>) -> Answer<Done> {
    Ok(Json(plane.rebalance().await?))
}

pub(crate) async fn volumes<C: ControlPlane>(State(plane): State<C>, asked: Asked<Newer>) -> Answer<List<VolumeView>> {
    Ok(Json(plane.volumes(asked.0.after).await?))
}

pub(crate) async fn forget_volume<C: ControlPlane>(
    State(plane): State<C>,
    Payload(body): Payload<Volume>,
) -> Answer<Done> {
    Ok(Json(plane.forget_volume(body.workload, body.volume, body.slot).await?))
}

//! All routes of the API, each with who may use it and how much it may send.

use std::sync::Arc;

use api_types::{secret::SECRET_BYTES_MAX, view::Problem};
use axum::{
    Router, middleware,
    response::IntoResponse,
    routing::{delete, get, post, put},
};
use http::{Method, StatusCode, Uri};

use crate::{
    auth::{Access, Declared, Gate, Rule, gate, method_not_allowed},
    control_plane::{ControlPlane, Role},
    explain, look, moves, network,
    problem::{Refused, problem},
    relay, rollouts, secrets, streams, write,
};

/// The longest body of a request, in bytes.
const BODY_BYTES_MAX: usize = 256 << 10;
/// The longest manifest, in bytes.
const MANIFEST_BYTES_MAX: usize = 4 << 20;

/// Gives the whole API, version 1, over a control plane.
pub fn router<C: ControlPlane>(control_plane: C) -> Router {
    let Declared { router, rules } = declared::<C>();
    let keeper = Arc::new(Gate { control_plane: control_plane.clone(), rules });
    router
        .route_layer(middleware::from_fn_with_state(keeper, gate::<C>))
        .method_not_allowed_fallback(async |method: Method| Refused(method_not_allowed(&method)).into_response())
        .fallback(async |uri: Uri| Refused(no_route(uri.path())).into_response())
        .with_state(control_plane)
}

/// What answers where there is no route.
fn no_route(path: &str) -> Problem {
    let title = format!("there is nothing at {path}");
    problem(StatusCode::NOT_FOUND, "not_found", title, "the API begins with /v1")
}

fn declared<C: ControlPlane>() -> Declared<C> {
    let open = Rule { access: Access::Open, body_bytes_max: Some(BODY_BYTES_MAX) };
    let least = |role| Rule { access: Access::Least(role), ..open };
    let manifest = Rule { body_bytes_max: Some(MANIFEST_BYTES_MAX), ..least(Role::Deployer) };
    let secret = Rule { body_bytes_max: Some(SECRET_BYTES_MAX), ..least(Role::Deployer) };
    let stream = Rule { body_bytes_max: None, ..least(Role::Deployer) };
    let reaches_in = Rule { body_bytes_max: None, ..least(Role::Operator) };
    let (looks, deploys) = (least(Role::Viewer), least(Role::Deployer));
    let (operates, administers) = (least(Role::Operator), least(Role::Admin));
    Declared::new()
        .route(Method::GET, "/healthz", open, get(async || "ok\n"))
        .route(Method::GET, "/v1/cluster", looks, get(look::cluster::<C>))
        .route(Method::GET, "/v1/nodes", looks, get(look::nodes::<C>))
        .route(Method::GET, "/v1/workloads", looks, get(look::workloads::<C>))
        .route(Method::GET, "/v1/services", looks, get(look::services::<C>))
        .route(Method::GET, "/v1/daemons", looks, get(look::daemons::<C>))
        .route(Method::GET, "/v1/jobs", looks, get(look::jobs::<C>))
        .route(Method::GET, "/v1/instances", looks, get(look::instances::<C>))
        .route(Method::GET, "/v1/events", looks, get(look::events::<C>))
        .route(Method::GET, "/v1/describe/node/{name}", looks, get(look::describe_node::<C>))
        .route(Method::GET, "/v1/describe/workload/{*name}", looks, get(look::describe_workload::<C>))
        .route(Method::GET, "/v1/describe/instance/{name}", looks, get(look::describe_instance::<C>))
        .route(Method::GET, "/v1/why/workload/{*name}", looks, get(explain::why_workload::<C>))
        .route(Method::GET, "/v1/why/instance/{name}", looks, get(explain::why_instance::<C>))
        .route(Method::POST, "/v1/why", manifest, post(explain::why_manifest::<C>))
        .route(Method::GET, "/v1/logs/workload/{*name}", deploys, get(streams::workload_logs::<C>))
        .route(Method::GET, "/v1/logs/instance/{name}", deploys, get(streams::instance_logs::<C>))
        .route(Method::POST, "/v1/plan", manifest, post(explain::plan::<C>))
        .route(Method::POST, "/v1/what-if", deploys, post(explain::what_if::<C>))
        .route(Method::POST, "/v1/what-if/apply", manifest, post(explain::what_if_applied::<C>))
        .route(Method::POST, "/v1/apply", manifest, post(write::apply::<C>))
        .route(Method::POST, "/v1/scale", deploys, post(write::scale::<C>))
        .route(Method::POST, "/v1/jobs/run", deploys, post(write::run_job::<C>))
        .route(Method::POST, "/v1/rollouts", deploys, post(rollouts::act::<C>))
        .route(Method::GET, "/v1/rollouts/status/{*name}", looks, get(rollouts::status::<C>))
        .route(Method::GET, "/v1/rollouts/history/{*name}", deploys, get(rollouts::history::<C>))
        .route(Method::DELETE, "/v1/workloads/{*name}", deploys, delete(write::delete::<C>))
        .route(Method::POST, "/v1/images", stream, post(streams::load_image::<C>))
        .route(Method::POST, "/v1/relay", reaches_in, post(relay::relay::<C>))
        .route(Method::POST, "/v1/nodes/{name}/availability", operates, post(write::set_availability::<C>))
        .route(Method::GET, "/v1/sites", looks, get(moves::sites::<C>))
        .route(Method::POST, "/v1/sites/set", operates, post(moves::set_site::<C>))
        .route(Method::POST, "/v1/sites/resume", operates, post(moves::resume_site::<C>))
        .route(Method::GET, "/v1/rebalance", looks, get(moves::rebalance_plan::<C>))
        .route(Method::POST, "/v1/rebalance", operates, post(moves::rebalance::<C>))
        .route(Method::GET, "/v1/secrets", looks, get(secrets::secrets::<C>))
        .route(Method::PUT, "/v1/secrets/{*name}", secret, put(secrets::set_secret::<C>))
        .route(Method::DELETE, "/v1/secrets/{*name}", deploys, delete(secrets::delete_secret::<C>))
        .route(Method::POST, "/v1/network/verify", operates, post(network::verify::<C>))
        .route(Method::POST, "/v1/network/trace", operates, post(network::trace::<C>))
        .route(Method::GET, "/v1/volumes", looks, get(moves::volumes::<C>))
        .route(Method::POST, "/v1/volumes/forget", administers, post(moves::forget_volume::<C>))
        .route(Method::POST, "/v1/nodes", administers, post(write::node_token::<C>))
        .route(Method::DELETE, "/v1/nodes/{name}", administers, delete(write::remove_node::<C>))
        .route(Method::POST, "/v1/join", open, post(write::join::<C>))
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, extract::Request};
    use tower::ServiceExt;

    use super::*;
    use crate::fake::{Fake, TOKENS};

    /// What is open to everybody: a new one is a decision, made here.
    const OPEN: &[&str] = &["/healthz", "/v1/join"];

    async fn status(router: Router, method: &Method, path: &str, token: Option<&str>) -> StatusCode {
        let path = path.replace("{name}", "n1").replace("{*name}", "prod/web");
        let mut request = Request::builder().method(method.clone()).uri(path);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap().status()
    }

    #[tokio::test]
    async fn every_route_refuses_strangers_and_lower_roles() {
        for (path, method, rule) in declared::<Fake>().rules.all() {
            let Access::Least(least) = rule.access else {
                assert!(OPEN.contains(&path), "{method} {path} is open");
                continue;
            };
            assert_eq!(status(router(Fake::default()), method, path, None).await, StatusCode::UNAUTHORIZED, "{path}");
            for (token, role) in TOKENS {
                let status = status(router(Fake::default()), method, path, Some(token)).await;
                assert_eq!(status == StatusCode::FORBIDDEN, *role < least, "{method} {path} for {role:?}: {status}");
                assert_ne!(status, StatusCode::UNAUTHORIZED, "{method} {path} for {role:?}");
            }
        }
    }

    #[tokio::test]
    async fn a_route_that_is_not_declared_is_shut_to_all() {
        let Declared { router, rules } = declared::<Fake>();
        let keeper = Arc::new(Gate { control_plane: Fake::default(), rules });
        let router = router
            .route("/v1/forgotten", get(async || "open"))
            .route_layer(middleware::from_fn_with_state(keeper, gate::<Fake>))
            .with_state(Fake::default());
        for (token, _) in TOKENS {
            let status = status(router.clone(), &Method::GET, "/v1/forgotten", Some(token)).await;
            assert_eq!(status, StatusCode::FORBIDDEN);
        }
    }

    #[test]
    fn routes_are_added_in_this_file_only() {
        for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src")).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            let allowed = path.ends_with("routes.rs") || path.ends_with("auth.rs");
            assert!(allowed || !text.contains(".route("), "{path:?} adds a route");
        }
    }
}

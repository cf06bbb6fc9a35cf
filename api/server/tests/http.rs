//! What goes over the wire: every answer, whole, as golden files; streams; bodies that are wrong or too large.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "fake/fake.rs"]
mod fake;

use std::{fmt::Write as _, fs, path::Path};

use api_server::{control_plane::Role, router};
use axum::body::Body;
use bytes::Bytes;
use fake::{Fake, TOKENS};
use futures_util::{StreamExt, stream};
use http::{Request, Response};
use http_body_util::BodyExt;
use tower::ServiceExt;

const SHOP: &str = "[service.web]\nimage = \"web:1\"\nreplicas = 2\nenv = { PASSWORD = \"hush\" }\n\
                    ports = { http = { container = 80, publish = 80 } }\n\n[daemon.probe]\nimage = \"probe:1\"\n";
const JOB: &str = "[job.migrate]\nimage = \"web:1\"\nretries = 2\n";
const ADMIN: &str = "WA1-admin";

/// A request: method and path, token, content type, body.
type Ask<'a> = (&'a str, &'a str, &'a str, &'a str);

async fn ask(fake: &Fake, (line, token, kind, body): Ask<'_>) -> Response<Body> {
    let (method, path) = line.split_once(' ').unwrap();
    let mut request = Request::builder().method(method).uri(path);
    if !token.is_empty() {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    if !kind.is_empty() {
        request = request.header("content-type", kind);
    }
    router(fake.clone()).oneshot(request.body(Body::from(body.to_owned())).unwrap()).await.unwrap()
}

/// The request, the status, the headers that matter and the body, readable.
async fn exchange(fake: &Fake, asked: Ask<'_>) -> String {
    let response = ask(fake, asked).await;
    let mut text = format!("> {} [{}]\n< {}\n", asked.0, asked.1, response.status());
    for name in ["content-type", "www-authenticate", "allow"] {
        if let Some(value) = response.headers().get(name) {
            writeln!(text, "< {name}: {}", value.to_str().unwrap()).unwrap();
        }
    }
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let body = String::from_utf8(body.to_vec()).unwrap();
    match serde_json::from_str::<serde_json::Value>(&body) {
        Ok(json) => writeln!(text, "{}\n", serde_json::to_string_pretty(&json).unwrap()).unwrap(),
        Err(_) => writeln!(text, "{body}\n").unwrap(),
    }
    text
}

async fn golden(name: &str, asked: &[Ask<'_>]) {
    let fake = Fake::default();
    let mut text = String::new();
    for asked in asked {
        text += &exchange(&fake, *asked).await;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let wanted = fs::read_to_string(&path).unwrap_or_default();
    assert!(wanted == text, "{path:?} differs; UPDATE_GOLDEN=1 writes it anew. Now:\n{text}");
}

#[tokio::test]
async fn rollouts() {
    let json = "application/json";
    golden(
        "rollouts.http",
        &[
            ("GET /v1/rollouts/status/web", "WA1-view", "", ""),
            ("GET /v1/rollouts/status/prod/db?after=4", "WA1-view", "", ""),
            ("GET /v1/rollouts/status/nobody", "WA1-view", "", ""),
            ("GET /v1/rollouts/history/prod/db", "WA1-deploy", "", ""),
            ("GET /v1/rollouts/history/prod/db", "WA1-view", "", ""),
            ("POST /v1/rollouts", "WA1-deploy", json, r#"{"workload":"web","what":{"action":"undo","to":1}}"#),
            ("POST /v1/rollouts", "WA1-deploy", json, r#"{"workload":"web","what":{"action":"undo"}}"#),
            ("POST /v1/rollouts", "WA1-deploy", json, r#"{"workload":"web","what":{"action":"pause"}}"#),
            ("POST /v1/rollouts", "WA1-deploy", json, r#"{"workload":"web","what":{"action":"promote"}}"#),
            ("POST /v1/rollouts", "WA1-deploy", json, r#"{"workload":"web","what":{"action":"unde"}}"#),
            ("POST /v1/rollouts", "WA1-view", json, r#"{"workload":"web","what":{"action":"pause"}}"#),
        ],
    )
    .await;
}

#[tokio::test]
async fn changes_and_lists() {
    let toml = "application/toml";
    golden(
        "changes.http",
        &[
            ("POST /v1/plan", "WA1-deploy", toml, SHOP),
            ("POST /v1/apply", "WA1-deploy", toml, SHOP),
            ("POST /v1/apply?expect=1", "WA1-deploy", toml, SHOP),
            ("POST /v1/apply?expect=7", "WA1-deploy", toml, SHOP),
            ("GET /v1/services?after=1", "WA1-view", "", ""),
            ("GET /v1/daemons", "WA1-deploy", "", ""),
            ("POST /v1/apply", "WA1-deploy", toml, JOB),
            ("GET /v1/jobs", "WA1-view", "", ""),
            ("DELETE /v1/workloads/migrate", "WA1-deploy", "", ""),
            ("POST /v1/scale", "WA1-deploy", "application/json", r#"{"workload":"web","replicas":3}"#),
            ("DELETE /v1/workloads/web", "WA1-deploy", "", ""),
            ("DELETE /v1/workloads/prod/web", "WA1-deploy", "", ""),
            ("DELETE /v1/workloads/prod%2Fweb", "WA1-deploy", "", ""),
        ],
    )
    .await;
}

#[tokio::test]
async fn explanations_and_forecasts() {
    let (toml, json) = ("application/toml", "application/json");
    golden(
        "explain.http",
        &[
            ("GET /v1/why/workload/web", "WA1-view", "", ""),
            ("GET /v1/why/instance/web-0a?all=true", "WA1-view", "", ""),
            ("GET /v1/why/instance/web-9z", "WA1-view", "", ""),
            ("GET /v1/why/workload/web?every=true", "WA1-view", "", ""),
            ("POST /v1/why?workload=probe", "WA1-deploy", toml, SHOP),
            ("POST /v1/why?workload=wbe", "WA1-deploy", toml, SHOP),
            ("POST /v1/what-if", "WA1-deploy", json, r#"{"node_loss":{"nodes":["n1"]}}"#),
            ("POST /v1/what-if", "WA1-deploy", json, r#"{"join":{"like":"n1","count":2}}"#),
            ("POST /v1/what-if", "WA1-deploy", json, r#"{"drain":{"nodes":["n7"]}}"#),
            ("POST /v1/what-if", "WA1-deploy", json, r#"{"drain":{"nodes":[]}}"#),
            ("POST /v1/what-if", "WA1-deploy", json, r#"{"join":{"like":"n1","count":1001}}"#),
            ("POST /v1/what-if", "WA1-deploy", json, r#"{"site_loss":{"site":"berlin","force":true}}"#),
            ("POST /v1/what-if", "WA1-deploy", json, r#"{"apply":{"specs":[]}}"#),
            ("POST /v1/what-if", "WA1-deploy", json, r#"{"flood":{}}"#),
            ("POST /v1/what-if", "WA1-view", json, r#"{"site_loss":{"site":"berlin"}}"#),
            ("POST /v1/what-if/apply", "WA1-deploy", toml, SHOP),
        ],
    )
    .await;
}

#[tokio::test]
async fn nodes_and_joining() {
    let json = "application/json";
    golden(
        "nodes.http",
        &[
            ("GET /v1/cluster", "WA1-view", "", ""),
            ("GET /v1/describe/node/n1", "WA1-view", "", ""),
            ("GET /v1/describe/node/n9", "WA1-view", "", ""),
            ("POST /v1/nodes/n1/availability", "WA1-operate", json, r#"{"availability":"draining"}"#),
            ("POST /v1/nodes/n1/availability", "WA1-operate", json, r#"{"availability":"asleep"}"#),
            ("POST /v1/nodes", ADMIN, json, r#"{"site":"berlin","labels":{"tier":"edge"},"lifetime_ms":60000}"#),
            ("DELETE /v1/nodes/n1", ADMIN, "", ""),
            ("DELETE /v1/nodes/n1?force=true", ADMIN, "", ""),
            ("POST /v1/join", "", json, r#"{"token":"WJ1-good","name":"n4","csr":"CSR"}"#),
            ("POST /v1/join", "", json, r#"{"token":"WJ1-bad","name":"n4","csr":"CSR"}"#),
            ("GET /v1/events", "WA1-view", "", ""),
        ],
    )
    .await;
}

#[tokio::test]
async fn moves_and_volumes() {
    let json = "application/json";
    golden(
        "moves.http",
        &[
            ("GET /v1/sites", "WA1-view", "", ""),
            ("POST /v1/sites/set", "WA1-operate", json, r#"{"site":"default","reach":"vxlan"}"#),
            ("POST /v1/sites/set", "WA1-operate", json, r#"{"site":"default","across":"pigeon"}"#),
            ("POST /v1/sites/set", "WA1-operate", json, r#"{"site":"bonn","across":"apart"}"#),
            ("POST /v1/sites/set", "WA1-deploy", json, r#"{"site":"default","reach":"vxlan"}"#),
            ("POST /v1/sites/resume", "WA1-operate", json, r#"{"site":"berlin"}"#),
            ("POST /v1/sites/resume", "WA1-operate", json, r#"{"site":"bonn"}"#),
            ("POST /v1/sites/resume", "WA1-operate", json, r#"{"city":"bonn"}"#),
            ("POST /v1/sites/resume", "WA1-deploy", json, r#"{"site":"berlin"}"#),
            ("GET /v1/rebalance", "WA1-view", "", ""),
            ("POST /v1/rebalance", "WA1-view", "", ""),
            ("POST /v1/rebalance", "WA1-operate", "", ""),
            ("POST /v1/network/verify", "WA1-operate", json, "{}"),
            ("POST /v1/network/verify", "WA1-operate", json, r#"{"services":["prod/dns"]}"#),
            ("POST /v1/network/verify", "WA1-operate", json, r#"{"services":["nobody"]}"#),
            ("POST /v1/network/verify", "WA1-operate", json, r#"{"nodes":["n1"]}"#),
            (
                "POST /v1/network/trace",
                "WA1-operate",
                json,
                r#"{"from":"web-1","to":"db","port":5432,"protocol":"tcp"}"#,
            ),
            (
                "POST /v1/network/trace",
                "WA1-operate",
                json,
                r#"{"from":"web-1","to":"nobody","port":1,"protocol":"tcp"}"#,
            ),
            ("GET /v1/volumes", "WA1-view", "", ""),
            ("POST /v1/volumes/forget", "WA1-operate", json, r#"{"workload":"prod/db","volume":"data"}"#),
            ("POST /v1/volumes/forget", ADMIN, json, r#"{"workload":"prod/db","volume":"data","slot":1}"#),
            ("POST /v1/volumes/forget", ADMIN, json, r#"{"workload":"prod/db","volume":"data","slot":2}"#),
        ],
    )
    .await;
}

#[tokio::test]
async fn refusals() {
    let (toml, json) = ("application/toml", "application/json");
    golden(
        "refusals.http",
        &[
            ("GET /healthz", "", "", ""),
            ("GET /v1/nodes", "", "", ""),
            ("GET /v1/nodes", "WA1-wrong", "", ""),
            ("GET /v1/nodes", "WA1-old", "", ""),
            ("GET /v1/nodes?token=WA1-admin", "", "", ""),
            ("GET /v1/nodes?afer=1", ADMIN, "", ""),
            ("GET /v1/nodes?after=soon", ADMIN, "", ""),
            ("POST /v1/apply", "WA1-view", toml, SHOP),
            ("GET /v1/nothing", "", "", ""),
            ("PUT /v1/nodes", ADMIN, "", ""),
            ("POST /v1/apply", ADMIN, json, "{}"),
            ("POST /v1/apply", ADMIN, "", SHOP),
            ("POST /v1/apply", ADMIN, toml, "[service.web]\nimagee = \"web:1\"\nreplicas = -1\n"),
            ("POST /v1/apply", ADMIN, toml, "[service.taken]\nimage = \"web:1\"\n"),
            ("POST /v1/apply", ADMIN, toml, "[service.panic]\nimage = \"web:1\"\n"),
            ("POST /v1/scale", ADMIN, json, "{\"workload\":"),
            ("POST /v1/scale", ADMIN, json, r#"{"workload":"web","replicas":-1}"#),
            ("POST /v1/scale", ADMIN, json, r#"{"workload":"../web","replicas":1}"#),
            ("POST /v1/scale", ADMIN, json, r#"{"workload":"web","replicas":1,"force":true}"#),
            ("GET /v1/describe/node/..%2F..%2Fetc", ADMIN, "", ""),
            ("GET /v1/describe/node/%ff", ADMIN, "", ""),
            ("GET /v1/describe/workload/a/b/c", ADMIN, "", ""),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_however_it_is_sent() {
    let toml = format!("# {}\n{SHOP}", "x".repeat(4 << 20));
    let json = format!("{{\"workload\":\"web\",\"replicas\":1{}}}", " ".repeat(256 << 10));
    for (path, kind, body) in [
        ("/v1/apply", "application/toml", &toml),
        ("/v1/plan", "application/toml", &toml),
        ("/v1/scale", "application/json", &json),
        ("/v1/why", "application/toml", &toml),
        ("/v1/what-if", "application/json", &json),
        ("/v1/what-if/apply", "application/toml", &toml),
        ("/v1/join", "application/json", &json),
    ] {
        let bytes = Bytes::from(body.clone());
        let chunks = stream::iter(0..bytes.len().div_ceil(65536))
            .map(move |n| Ok::<_, std::io::Error>(bytes.slice(n * 65536..bytes.len().min((n + 1) * 65536))));
        let declared = Request::post(path).header("content-length", body.len()).body(Body::from(body.clone()));
        let chunked = Request::post(path).body(Body::from_stream(chunks));
        for mut request in [declared.unwrap(), chunked.unwrap()] {
            request.headers_mut().insert("content-type", kind.parse().unwrap());
            request.headers_mut().insert("authorization", format!("Bearer {ADMIN}").parse().unwrap());
            let fake = Fake::default();
            let response = router(fake.clone()).oneshot(request).await.unwrap();
            assert_eq!(response.status(), 413, "{path}");
            assert_eq!(response.headers()["content-type"], "application/problem+json");
            assert!(fake.state.lock().unwrap().calls.is_empty(), "{path} reached the control plane");
        }
    }
}

#[tokio::test]
async fn a_stranger_is_refused_before_the_body_is_read() {
    let never = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
    let request = Request::post("/v1/images").body(never).unwrap();
    assert_eq!(router(Fake::default()).oneshot(request).await.unwrap().status(), 401);
}

#[tokio::test]
async fn lines_of_a_followed_log_come_as_they_are_written() {
    let fake = Fake::default();
    let response = ask(&fake, ("GET /v1/logs/workload/web?follow=true&tail=2", "WA1-deploy", "", "")).await;
    assert_eq!(response.headers()["content-type"], "application/x-ndjson");
    let mut lines = response.into_body().into_data_stream();
    let next = async |lines: &mut axum::body::BodyDataStream| {
        lines.next().await.map(|line| String::from_utf8(line.unwrap().to_vec()).unwrap())
    };

    assert!(next(&mut lines).await.is_some_and(|line| line.contains("first")));
    assert!(next(&mut lines).await.is_some_and(|line| line.contains("second")));
    fake.more.notify_one();
    assert!(next(&mut lines).await.is_some_and(|line| line.starts_with("{\"item\":") && line.contains("third")));
    assert!(next(&mut lines).await.is_some_and(|line| line.starts_with("{\"problem\":") && line.ends_with("}\n")));
    assert_eq!(next(&mut lines).await, None);
    assert!(fake.state.lock().unwrap().calls[0].contains("tail: 2"));
}

#[tokio::test]
async fn an_image_larger_than_every_limit_streams_through() {
    let fake = Fake::default();
    let chunk = Bytes::from(vec![0; 1 << 20]);
    let chunks = stream::iter(0..16).map(move |_| Ok::<_, std::io::Error>(chunk.clone()));
    let mut request = Request::post("/v1/images").body(Body::from_stream(chunks)).unwrap();
    request.headers_mut().insert("authorization", "Bearer WA1-deploy".parse().unwrap());
    let response = router(fake.clone()).oneshot(request).await.unwrap();

    let body = response.into_body().collect().await.unwrap().to_bytes();
    let lines: Vec<&[u8]> = body.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).collect();
    assert_eq!(lines.len(), 2);
    assert!(lines[1].starts_with(b"{\"item\":{\"node\":\"n2\""));
    assert_eq!(fake.state.lock().unwrap().calls, ["image of 16777216 bytes"]);
}

#[tokio::test]
async fn only_those_who_deploy_see_the_environment() {
    for (token, role) in TOKENS {
        let fake = Fake::default();
        ask(&fake, ("POST /v1/apply", ADMIN, "application/toml", SHOP)).await;
        for path in ["GET /v1/workloads", "GET /v1/services", "GET /v1/describe/workload/web"] {
            let seen = exchange(&fake, (path, token, "", "")).await;
            assert!(seen.contains("PASSWORD"), "{path}");
            assert_eq!(seen.contains("hush"), *role >= Role::Deployer, "{path} for {role:?}");
        }
    }
}

//! Who gets in, who does not, and what they are told.

use std::time::{SystemTime, UNIX_EPOCH};

use hyper::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    cluster::{Answer, Cluster, MANIFEST},
    fake_agent::{Member, hello, key_and_csr},
};

#[tokio::test]
async fn a_token_lets_one_node_in_and_says_why_it_lets_in_no_other() {
    let cluster = Cluster::start("join").await;
    let (_, csr) = key_and_csr();
    let open = cluster.token(json!({ "site": "berlin", "labels": { "disk": "ssd" } })).await;
    let bound = cluster.token(json!({ "name": "edge-9" })).await;

    let joined = cluster.join(&open, "edge-1", &csr).await;
    assert_eq!((joined.status, &joined.body["node"]), (200, &json!("edge-1")), "{}", joined.body);
    let node = cluster.ask(Method::GET, "/v1/describe/node/edge-1", "").await.body;
    assert_eq!((&node["node"]["site"], &node["node"]["labels"]), (&json!("berlin"), &json!({ "disk": "ssd" })));

    let (_, other) = key_and_csr();
    expect(&cluster.join(&open, "edge-2", &other).await, 401, "used up");
    expect(&cluster.join(&bound, "edge-2", &other).await, 403, "for the node `edge-9`");
    expect(&cluster.join("WJ1-nonsense", "edge-2", &other).await, 401, "incomplete");
    expect(&cluster.join(&cluster.admin, "edge-2", &other).await, 401, "not a join token");

    let fresh = cluster.token(json!({})).await;
    expect(&cluster.join(&fresh, "Edge_2", &other).await, 422, "not a name");
    expect(&cluster.join(&fresh, "edge-1", &other).await, 409, "there is a node `edge-1` already");
    expect(&cluster.join(&fresh, "edge-2", "no request").await, 422, "signing request");
    let joined = cluster.join(&fresh, "edge-2", &other).await;
    assert_eq!(joined.status, 200, "what was refused took no use: {}", joined.body);
}

#[tokio::test]
async fn an_expired_token_and_one_of_another_cluster_are_told_apart() {
    let (cluster, other) = (Cluster::start("expired").await, Cluster::start("foreign").await);
    let (_, csr) = key_and_csr();
    let brief = cluster.ask(Method::POST, "/v1/nodes", json!({ "lifetime_ms": 1 }).to_string()).await.body;
    let foreign = other.token(json!({})).await;

    while now_ms() <= brief["expires_at"].as_u64().expect("a time") {
        tokio::task::yield_now().await;
    }

    expect(&cluster.join(brief["token"].as_str().expect("a token"), "edge-1", &csr).await, 401, "expired");
    expect(&cluster.join(&foreign, "edge-1", &csr).await, 401, "another cluster");
}

#[tokio::test]
async fn a_join_whose_answer_was_lost_may_be_tried_again_by_the_same_key() {
    let cluster = Cluster::start("again").await;
    let token = cluster.token(json!({})).await;
    let ((_, csr), (_, other)) = (key_and_csr(), key_and_csr());

    assert_eq!(cluster.join(&token, "edge-1", &csr).await.status, 200);
    assert_eq!(cluster.join(&token, "edge-1", &csr).await.status, 200);
    expect(&cluster.join(&token, "edge-1", &other).await, 401, "used up");
}

#[tokio::test]
async fn a_join_whose_asker_hangs_up_at_any_moment_may_be_tried_again() {
    let cluster = Cluster::start("hang-up").await;

    for round in 0..20 {
        let (token, (_, csr), name) = (cluster.token(json!({})).await, key_and_csr(), format!("edge-{round}"));
        let body = json!({ "token": token, "name": name, "csr": csr }).to_string();
        let head = "POST /v1/join HTTP/1.1\r\nHost: scheduler\r\nContent-Type: application/json";
        let request = format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let mut stream = cluster.dial_api().await;
        stream.write_all(request.as_bytes()).await.expect("open");
        stream.flush().await.expect("open");
        for _ in 0..round {
            tokio::task::yield_now().await;
        }
        drop(stream);

        let again = cluster.join(&token, &name, &csr).await;
        assert_eq!(again.status, 200, "{name}: {}", again.body);
    }
}

#[tokio::test]
async fn guessing_is_cut_short_and_a_good_token_still_passes() {
    let cluster = Cluster::start("guess").await;
    let good = cluster.token(json!({})).await;
    let (_, csr) = key_and_csr();

    for _ in 0..20 {
        expect(&cluster.join("WJ1-nonsense", "edge-1", &csr).await, 401, "incomplete");
    }
    expect(&cluster.join("WJ1-nonsense", "edge-1", &csr).await, 429, "too many");
    assert_eq!(cluster.join(&good, "edge-1", &csr).await.status, 200);
}

#[tokio::test]
async fn a_join_survives_a_restart_and_a_used_token_stays_used() {
    let mut cluster = Cluster::start("durable").await;
    let token = cluster.token(json!({ "uses": 2 })).await;
    let ((_, first), (_, second), (_, third)) = (key_and_csr(), key_and_csr(), key_and_csr());
    assert_eq!(cluster.join(&token, "edge-1", &first).await.status, 200);

    cluster.restart().await;

    assert_eq!(cluster.join(&token, "edge-2", &second).await.status, 200);
    expect(&cluster.join(&token, "edge-3", &third).await, 401, "used up");
    let nodes = cluster.ask(Method::GET, "/v1/nodes", "").await.body;
    let names: Vec<&Value> = nodes["items"].as_array().expect("a list").iter().map(|node| &node["name"]).collect();
    assert_eq!(names, ["edge-1", "edge-2"]);
}

#[tokio::test]
async fn a_node_that_takes_the_place_of_another_shuts_it_out() {
    let cluster = Cluster::start("replaced").await;
    let old = Member::join(&cluster, "edge-1").await;
    let mut session = old.connect(&cluster).await;

    let new = Member::join(&cluster, "edge-1").await;

    let refused = old.open(&cluster, hello(None, None)).await.map(drop).expect_err("its key is void");
    assert_ne!(refused.message(), "");
    new.connect(&cluster).await;
    assert_eq!(session.ended().await.code(), tonic::Code::Aborted);
}

#[tokio::test]
async fn the_api_wants_a_token_that_it_knows() {
    let cluster = Cluster::start("token").await;
    let nodes = |token: Option<String>| {
        let cluster = &cluster;
        async move { cluster.ask_as(token.as_deref(), Method::GET, "/v1/nodes", "").await }
    };
    let mut wrong = cluster.admin.clone();
    let last = if wrong.ends_with('A') { "B" } else { "A" };
    wrong.replace_range(wrong.len() - 1.., last);

    assert_eq!(nodes(Some(cluster.admin.clone())).await.status, 200);
    expect(&nodes(None).await, 401, "no token");
    expect(&nodes(Some(wrong)).await, 401, "not known");
    expect(&nodes(Some(format!("WA1-{}-{}", "A".repeat(8), "A".repeat(26)))).await, 401, "not known");
    expect(&nodes(Some("nonsense".to_owned())).await, 401, "API token");
}

#[tokio::test]
async fn what_is_too_large_is_refused_and_nothing_of_it_is_done() {
    let cluster = Cluster::start("large").await;
    let padded = format!("{MANIFEST}# {}", "x".repeat(5 << 20));

    assert_eq!(cluster.apply(&padded).await.status, 413);

    let workloads = cluster.ask(Method::GET, "/v1/workloads", "").await.body;
    assert_eq!(workloads["items"], json!([]));
}

#[tokio::test]
async fn a_client_that_does_not_finish_its_headers_is_cut_off() {
    let cluster = Cluster::start("slow").await;
    let mut stream = cluster.dial_api().await;
    stream.write_all(b"GET /v1/nodes HTTP/1.1\r\nHost:").await.expect("open");

    let mut answer = Vec::new();
    let read = tokio::time::timeout(crate::cluster::LIMIT, stream.read_to_end(&mut answer)).await;

    assert!(read.is_ok(), "it is still open");
    assert!(!String::from_utf8_lossy(&answer).contains("200"));
}

fn expect(answer: &Answer, status: u16, title: &str) {
    let said = answer.body["title"].as_str().unwrap_or_default();
    assert!(
        answer.status == status && said.contains(title),
        "wanted {status} {title}: {} {}",
        answer.status,
        answer.body
    );
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    u64::try_from(since.as_millis()).expect("fits")
}

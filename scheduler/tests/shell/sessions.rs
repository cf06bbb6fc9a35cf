//! Sessions: the order of messages, durable before visible, recovery, and agents that misbehave.

use api_types::counter::Epoch;
use hyper::Method;
use proto::{
    limits::FROM_AGENT_BYTES_MAX,
    session::{FromAgent, FromScheduler, Report},
    update::{assignments_marker, services_marker},
    v1,
};
use scheduler::store::Store;
use scheduler_core::effect::Record;
use serde_json::json;
use tonic::Code;

use crate::{
    cluster::{Cluster, MANIFEST},
    fake_agent::{Member, hello, key_and_csr},
};

#[tokio::test]
async fn an_agent_is_welcomed_and_told_all_it_must_do() {
    let cluster = Cluster::start("welcome").await;
    let member = Member::join(&cluster, "edge-1").await;

    let mut agent = member.open(&cluster, hello(None, None)).await.expect("a session");
    let welcome = agent.welcome().await;
    assert_eq!((welcome.epoch, welcome.heartbeat_interval_ms), (Epoch(1), 1000));
    agent.say(FromAgent::Report(Report { complete: true, ..Report::default() })).await;
    agent.until(|agent| agent.set.is_some() && agent.table.is_some()).await;
    assert!(agent.set.as_ref().is_some_and(|set| set.assignments.is_empty() && set.node.as_str() == "edge-1"));

    assert_eq!(cluster.apply(MANIFEST).await.status, 200);
    agent.until(|agent| agent.set.as_ref().is_some_and(|set| set.assignments.len() == 1)).await;
    agent.report_running().await;
    agent.until(|agent| endpoints(agent.table.as_ref()) == 1).await;

    let instances = cluster.ask(Method::GET, "/v1/instances", "").await.body;
    assert_eq!((&instances["items"][0]["state"], &instances["items"][0]["pid"]), (&json!("running"), &json!(4242)));
}

#[tokio::test]
async fn what_an_agent_hears_is_durable_before() {
    let cluster = Cluster::start("before").await;
    let mut agent = Member::join(&cluster, "edge-1").await.connect(&cluster).await;
    cluster.apply(MANIFEST).await;
    agent.until(|agent| agent.set.as_ref().is_some_and(|set| !set.assignments.is_empty())).await;

    let (_, loaded) = Store::open(&cluster.copy_state()).expect("a whole copy");

    let records = loaded.below::<Record>("core/").expect("readable");
    let wanted = agent.set.expect("a set").assignments[0].instance.clone();
    let holds = |record: &Record| matches!(record, Record::Instances(page) if page.find(&wanted).is_some());
    assert!(records.values().any(holds), "{wanted} is not among {records:?}");
}

#[tokio::test]
async fn a_restart_gives_the_cluster_back_in_a_later_epoch() {
    let mut cluster = Cluster::start("restart").await;
    let member = Member::join(&cluster, "edge-1").await;
    let mut agent = member.connect(&cluster).await;
    cluster.apply(MANIFEST).await;
    agent.until(|agent| agent.set.as_ref().is_some_and(|set| !set.assignments.is_empty())).await;
    let before = agent.set.clone().expect("a set");

    cluster.restart().await;
    assert_eq!(agent.ended().await.code(), Code::Unavailable);
    let again = member.connect(&cluster).await;

    let after = again.set.expect("a set");
    assert_eq!((before.epoch, after.epoch), (Epoch(1), Epoch(2)));
    assert_eq!(before.assignments, after.assignments);
}

#[tokio::test]
async fn an_agent_that_is_current_is_sent_nothing() {
    let cluster = Cluster::start("current").await;
    let member = Member::join(&cluster, "edge-1").await;
    let agent = member.connect(&cluster).await;
    let set = agent.set.as_ref().map(assignments_marker);
    let table = agent.table.as_ref().map(services_marker);

    let mut again = member.open(&cluster, hello(set, table)).await.expect("a session");
    again.welcome().await;
    let current = again.next().await.expect("what is current");

    let FromScheduler::Current(current) = current else { panic!("not {current:?}") };
    assert_eq!((current.assignments, current.services.is_some()), (set, table.is_some()));
}

#[tokio::test]
async fn the_newest_session_wins() {
    let cluster = Cluster::start("newest").await;
    let member = Member::join(&cluster, "edge-1").await;
    let mut old = member.connect(&cluster).await;

    let new = member.connect(&cluster).await;

    assert_eq!(old.ended().await.code(), Code::Aborted);
    new.say(FromAgent::Heartbeat).await;
}

#[tokio::test]
async fn a_lease_is_renewed_with_the_token_that_was_sent() {
    let cluster = Cluster::start("lease").await;
    let member = Member::join(&cluster, "edge-1").await;
    let mut agent = member.connect(&cluster).await;

    agent.say(FromAgent::RenewLease(7)).await;

    let renewed = loop {
        if let FromScheduler::LeaseRenewed(token) = agent.next().await.expect("an answer") {
            break token;
        }
    };
    assert_eq!(renewed, 7);
}

#[tokio::test]
async fn a_removed_node_is_out_at_once() {
    let cluster = Cluster::start("removed").await;
    let member = Member::join(&cluster, "edge-1").await;
    let mut agent = member.connect(&cluster).await;

    let removed = cluster.ask(Method::DELETE, "/v1/nodes/edge-1?force=true", "").await;

    assert!((200..300).contains(&removed.status), "{} {}", removed.status, removed.body);
    assert_eq!(agent.ended().await.code(), Code::PermissionDenied);
    let mut open = agent.dispatcher.clone();
    let (_, csr) = key_and_csr();
    let renewed = open.renew(v1::RenewRequest { csr }).await.expect_err("each rpc is checked");
    assert_eq!(renewed.code(), Code::PermissionDenied);
    assert!(member.open(&cluster, hello(None, None)).await.is_err(), "its certificate is refused");
}

#[tokio::test]
async fn an_agent_of_another_cluster_gets_no_connection() {
    let (cluster, other) = (Cluster::start("ours").await, Cluster::start("theirs").await);
    let ours = Member::join(&cluster, "edge-1").await;
    let theirs = Member::join(&other, "edge-1").await;

    let stranger = Member { name: "edge-1".to_owned(), ..theirs };

    assert!(stranger.open(&cluster, hello(None, None)).await.is_err());
    ours.connect(&cluster).await;
}

#[tokio::test]
async fn a_bad_message_ends_its_session_and_no_other() {
    let cluster = Cluster::start("hostile").await;
    let (bad, good) = (Member::join(&cluster, "bad").await, Member::join(&cluster, "good").await);
    let (mut hostile, mut other) = (bad.connect(&cluster).await, good.connect(&cluster).await);

    let climbing = v1::Report { gone: vec!["../../etc".to_owned()], ..v1::Report::default() };
    hostile.say_wire(v1::FromAgent { message: Some(v1::from_agent::Message::Report(climbing)) }).await;
    let ended = hostile.ended().await;
    assert_eq!(ended.code(), Code::InvalidArgument);
    assert!(ended.message().starts_with("report.gone[0]"), "{ended}");

    let mut twice = bad.connect(&cluster).await;
    twice.say_wire(hello(None, None)).await;
    assert_eq!(twice.ended().await.code(), Code::InvalidArgument);

    let mut large = bad.connect(&cluster).await;
    let gone = vec!["a".repeat(60); FROM_AGENT_BYTES_MAX / 60];
    let report = v1::Report { gone, ..v1::Report::default() };
    large.say_wire(v1::FromAgent { message: Some(v1::from_agent::Message::Report(report)) }).await;
    assert_eq!(large.ended().await.code(), Code::OutOfRange);

    let heartbeat = v1::FromAgent { message: Some(v1::from_agent::Message::Heartbeat(v1::Heartbeat {})) };
    let mut mute = bad.open(&cluster, heartbeat).await.expect("a stream");
    assert_eq!(mute.ended().await.code(), Code::InvalidArgument, "the hello comes first");

    other.say(FromAgent::Heartbeat).await;
    cluster.apply(MANIFEST).await;
    other.until(|agent| agent.set.is_some()).await;
}

#[tokio::test]
async fn a_scheduler_that_is_older_than_what_the_agent_saw_steps_back() {
    let cluster = Cluster::start("old").await;
    let member = Member::join(&cluster, "edge-1").await;
    let mut first = hello(None, None);
    let Some(v1::from_agent::Message::Hello(said)) = &mut first.message else { panic!("a hello") };
    said.highest_epoch = 7;

    let mut agent = member.open(&cluster, first).await.expect("a stream");

    let ended = agent.ended().await;
    assert_eq!(ended.code(), Code::FailedPrecondition);
    assert!(ended.message().contains("epoch 7"), "{ended}");
}

#[tokio::test]
async fn a_renewed_certificate_is_of_the_same_node() {
    let cluster = Cluster::start("renew").await;
    let member = Member::join(&cluster, "edge-1").await;
    let mut agent = member.connect(&cluster).await;
    let (key, csr) = key_and_csr();

    let renewed = agent.dispatcher.renew(v1::RenewRequest { csr }).await.expect("a certificate").into_inner();

    let renewed = Member { name: member.name.clone(), key, certificate: renewed.certificate };
    let again = renewed.connect(&cluster).await;
    assert!(again.set.is_some_and(|set| set.node.as_str() == "edge-1"));
    member.connect(&cluster).await;
}

fn endpoints(table: Option<&api_types::service::ServiceTable>) -> usize {
    table.map_or(0, |table| table.services.iter().map(|service| service.endpoints.len()).sum())
}

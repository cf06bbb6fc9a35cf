//! Logs up, images down: bulk beside the session.

use api_types::{id::InstanceId, time::Timestamp, view::LogLine};
use hyper::Method;
use proto::{
    session::{FromAgent, FromScheduler, ImageLoaded, LogChunk},
    v1,
};
use serde_json::json;
use tests_support::wait::wait_until_async;
use tokio::{io::AsyncWriteExt, sync::mpsc};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::Code;

use crate::{
    cluster::{Cluster, LIMIT, MANIFEST, next_line},
    fake_agent::{Agent, Member},
};

#[tokio::test]
async fn lines_of_output_come_through_the_agents_own_connection() {
    let cluster = Cluster::start("logs").await;
    let (mut agent, instance) = with_instance(&cluster).await;

    let asked = cluster.stream(Method::GET, "/v1/logs/workload/web?tail=5&follow=true", "");
    let answered = async {
        let open = agent.find(|message| if let FromScheduler::OpenLogs(open) = message { Some(open) } else { None });
        let open = open.await;
        assert_eq!((&open.instance, open.tail, open.follow), (&instance, 5, true));
        let (lines, chunks) = mpsc::channel(4);
        lines.send(chunk(&open.instance, open.request, &["one", "two"])).await.expect("open");
        let mut dispatcher = agent.dispatcher.clone();
        let done = tokio::spawn(async move { dispatcher.logs(ReceiverStream::new(chunks)).await });
        (lines, done, open)
    };
    let (mut body, (lines, done, open)) = tokio::join!(asked, answered);

    let mut rest = Vec::new();
    let first = next_line(&mut body, &mut rest).await.expect("a line");
    assert_eq!((&first["item"]["text"], &first["item"]["stream"]), (&json!("one"), &json!("stdout")));
    assert_eq!(next_line(&mut body, &mut rest).await.expect("a line")["item"]["text"], "two");

    // The reader goes: the agent's rpc ends, and it is told not to go on.
    drop(body);
    done.await.expect("no panic").expect("an orderly end");
    let closed = agent.find(|message| if let FromScheduler::CloseLogs(id) = message { Some(id) } else { None });
    assert_eq!(closed.await, open.request);
    drop(lines);
}

#[tokio::test]
async fn an_empty_log_is_an_answer_and_one_that_cannot_be_read_says_why() {
    let cluster = Cluster::start("empty").await;
    let (mut agent, _) = with_instance(&cluster).await;

    for (error, lines) in [("", 0), ("the file is gone", 1)] {
        let asked = cluster.stream(Method::GET, "/v1/logs/workload/web", "");
        let answered = async {
            let open =
                agent.find(|message| if let FromScheduler::OpenLogs(open) = message { Some(open) } else { None });
            let open = open.await;
            let begin = chunk(&open.instance, open.request, &[]);
            let end = v1::LogChunk { error: error.to_owned(), ..begin.clone() };
            agent.dispatcher.clone().logs(tokio_stream::iter([begin, end])).await.expect("an orderly end");
        };
        let (mut body, ()) = tokio::join!(asked, answered);

        let (mut rest, mut seen) = (Vec::new(), Vec::new());
        while let Some(line) = next_line(&mut body, &mut rest).await {
            seen.push(line);
        }
        assert_eq!(seen.len(), lines, "{seen:?}");
        assert!(seen.iter().all(|line| line["problem"]["title"].as_str().is_some_and(|title| title.contains(error))));
    }
}

#[tokio::test]
async fn nobody_may_send_lines_that_nobody_asked_for() {
    let cluster = Cluster::start("unasked").await;
    let (mut agent, instance) = with_instance(&cluster).await;

    let chunks = tokio_stream::iter([chunk(&instance, api_types::counter::RequestId(1), &["one"])]);

    let refused = agent.dispatcher.logs(chunks).await.expect_err("nobody asked");
    assert_eq!(refused.code(), Code::NotFound);
}

#[tokio::test]
async fn the_log_of_a_node_that_is_away_is_a_problem_with_a_reason() {
    let cluster = Cluster::start("away").await;
    let (mut agent, _) = with_instance(&cluster).await;

    let asked = cluster.stream(Method::GET, "/v1/logs/workload/web", "");
    let answered = agent.find(|message| if let FromScheduler::OpenLogs(open) = message { Some(open) } else { None });
    let (mut body, open) = tokio::join!(asked, answered);
    let (lines, chunks) = mpsc::channel(4);
    lines.send(chunk(&open.instance, open.request, &["one"])).await.expect("open");
    let mut dispatcher = agent.dispatcher.clone();
    let sending = tokio::spawn(async move { dispatcher.logs(ReceiverStream::new(chunks)).await });
    let mut rest = Vec::new();
    next_line(&mut body, &mut rest).await.expect("a line");

    agent.cut();

    let last = next_line(&mut body, &mut rest).await.expect("the problem");
    let title = last["problem"]["title"].as_str().unwrap_or_default();
    assert!(title.contains("`edge-1`") && title.contains("not connected"), "{last}");
    assert!(sending.await.expect("no panic").is_err());
    drop(lines);
}

#[tokio::test]
async fn an_image_reaches_the_nodes_that_are_there_and_those_that_need_it_later() {
    let cluster = Cluster::start("image").await;
    let (mut agent, _) = with_instance(&cluster).await;
    let archive = "not really an archive, but nobody looks here ".repeat(20_000);

    let mut body = cluster.stream(Method::POST, "/v1/images", archive.clone()).await;
    let load = agent.find(|message| if let FromScheduler::LoadImage(load) = message { Some(load) } else { None });
    let load = load.await;
    assert_eq!(fetch(&mut agent, &load.digest).await.as_deref(), Ok(archive.as_bytes()));
    let images = vec!["registry.lan/web:1".to_owned(), "registry.lan/other:1".to_owned()];
    agent.say(FromAgent::ImageLoaded(ImageLoaded { request: load.request, images, error: String::new() })).await;

    let mut rest = Vec::new();
    let outcome = next_line(&mut body, &mut rest).await.expect("an outcome");
    assert_eq!((&outcome["item"]["node"], &outcome["item"]["error"]), (&json!("edge-1"), &json!("")));
    assert!(next_line(&mut body, &mut rest).await.is_none(), "all nodes answered");
    assert_eq!(fetch(&mut agent, "registry.lan/web:1").await.as_deref(), Ok(archive.as_bytes()));
    let digest = fetch(&mut agent, &load.digest).await;
    assert_eq!(digest, Err(Code::NotFound), "the load is over");
    let other = fetch(&mut agent, "registry.lan/other:1").await;
    assert_eq!(other, Err(Code::NotFound), "this node runs no such image");
    assert_eq!(fetch(&mut agent, "../../etc/passwd").await, Err(Code::NotFound));
}

#[tokio::test]
async fn a_loaded_image_is_known_after_a_restart() {
    let mut cluster = Cluster::start("kept").await;
    let (mut agent, _) = with_instance(&cluster).await;
    let mut body = cluster.stream(Method::POST, "/v1/images", "archive").await;
    let load = agent.find(|message| if let FromScheduler::LoadImage(load) = message { Some(load) } else { None });
    let request = load.await.request;
    let images = vec!["registry.lan/web:1".to_owned()];
    agent.say(FromAgent::ImageLoaded(ImageLoaded { request, images, error: String::new() })).await;
    assert!(next_line(&mut body, &mut Vec::new()).await.is_some());
    // A message after it: when that one was answered, the first was dealt with.
    assert_eq!(fetch(&mut agent, "registry.lan/web:1").await.as_deref(), Ok("archive".as_bytes()));

    cluster.restart().await;

    let member = Member::join(&cluster, "edge-1").await;
    let mut again = member.connect(&cluster).await;
    again.until(|agent| agent.set.as_ref().is_some_and(|set| !set.assignments.is_empty())).await;
    assert_eq!(fetch(&mut again, "registry.lan/web:1").await.as_deref(), Ok("archive".as_bytes()));
}

#[tokio::test]
async fn an_archive_over_the_limit_leaves_nothing() {
    let cluster = Cluster::start_with("cap", |config| config.images.archive_bytes_max = 1000).await;

    let refused = cluster.ask(Method::POST, "/v1/images", "x".repeat(1001)).await;

    assert_eq!(refused.status, 413);
    let left = std::fs::read_dir(cluster.state().join("images")).expect("there").count();
    assert_eq!(left, 0);
    assert_eq!(cluster.ask(Method::POST, "/v1/images", "").await.status, 422);
}

#[tokio::test]
async fn an_archive_that_breaks_off_leaves_nothing() {
    let cluster = Cluster::start("broken").await;
    let images = cluster.state().join("images");
    let files = || std::fs::read_dir(&images).expect("there").count();
    let mut stream = cluster.dial_api().await;
    let head = format!("POST /v1/images HTTP/1.1\r\nHost: scheduler\r\nAuthorization: Bearer {}", cluster.admin);
    stream.write_all(format!("{head}\r\nContent-Length: 1000\r\n\r\nhalf of it").as_bytes()).await.expect("open");
    wait_until_async(LIMIT, async || files() == 1).await;

    drop(stream);

    wait_until_async(LIMIT, async || files() == 0).await;
}

#[tokio::test]
async fn an_archive_that_no_reference_leads_to_any_more_is_removed() {
    let mut cluster = Cluster::start("prune").await;
    let (mut agent, _) = with_instance(&cluster).await;
    let files = |cluster: &Cluster| std::fs::read_dir(cluster.state().join("images")).expect("there").count();

    for archive in ["old", "new"] {
        let mut body = cluster.stream(Method::POST, "/v1/images", archive).await;
        let load = agent.find(|message| if let FromScheduler::LoadImage(load) = message { Some(load) } else { None });
        let request = load.await.request;
        let images = vec!["registry.lan/web:1".to_owned()];
        agent.say(FromAgent::ImageLoaded(ImageLoaded { request, images, error: String::new() })).await;
        assert!(next_line(&mut body, &mut Vec::new()).await.is_some());
    }
    wait_until_async(LIMIT, async || files(&cluster) == 1).await;
    assert_eq!(fetch(&mut agent, "registry.lan/web:1").await.as_deref(), Ok("new".as_bytes()));

    // One that no node could use is known by no name.
    let mut body = cluster.stream(Method::POST, "/v1/images", "useless").await;
    let load = agent.find(|message| if let FromScheduler::LoadImage(load) = message { Some(load) } else { None });
    let (request, error) = (load.await.request, "not an archive".to_owned());
    agent.say(FromAgent::ImageLoaded(ImageLoaded { request, images: Vec::new(), error })).await;
    assert!(next_line(&mut body, &mut Vec::new()).await.is_some());
    cluster.restart().await;
    wait_until_async(LIMIT, async || files(&cluster) == 1).await;
}

#[tokio::test]
async fn lines_that_cannot_be_had_are_missed_after_those_that_can() {
    let cluster = Cluster::start("partly").await;
    let (mut near, mut far) = (
        Member::join(&cluster, "edge-1").await.connect(&cluster).await,
        Member::join(&cluster, "edge-2").await.connect(&cluster).await,
    );
    assert_eq!(cluster.apply(&MANIFEST.replace("replicas = 1", "replicas = 2")).await.status, 200);
    for agent in [&mut near, &mut far] {
        agent.until(|agent| agent.set.as_ref().is_some_and(|set| !set.assignments.is_empty())).await;
    }
    far.cut();
    wait_until_async(LIMIT, async || {
        cluster.ask(Method::GET, "/v1/describe/node/edge-2", "").await.body["node"]["liveness"] != "ready"
    })
    .await;

    let asked = cluster.stream(Method::GET, "/v1/logs/workload/web", "");
    let answered = async {
        let open =
            near.find(|message| if let FromScheduler::OpenLogs(open) = message { Some(open) } else { None }).await;
        let lines = chunk(&open.instance, open.request, &["one"]);
        near.dispatcher.clone().logs(tokio_stream::iter([lines])).await.expect("an orderly end");
    };
    let (mut body, ()) = tokio::join!(asked, answered);

    let mut rest = Vec::new();
    assert_eq!(next_line(&mut body, &mut rest).await.expect("a line")["item"]["text"], "one");
    let last = next_line(&mut body, &mut rest).await.expect("what is missing");
    assert!(last["problem"]["title"].as_str().is_some_and(|title| title.contains("`edge-2`")), "{last}");
}

pub(crate) async fn with_instance(cluster: &Cluster) -> (Agent, InstanceId) {
    let mut agent = Member::join(cluster, "edge-1").await.connect(cluster).await;
    assert_eq!(cluster.apply(MANIFEST).await.status, 200);
    agent.until(|agent| agent.set.as_ref().is_some_and(|set| !set.assignments.is_empty())).await;
    agent.report_running().await;
    let instance = agent.set.as_ref().expect("a set").assignments[0].instance.clone();
    (agent, instance)
}

fn chunk(instance: &InstanceId, request: api_types::counter::RequestId, texts: &[&str]) -> v1::LogChunk {
    let line = |text: &&str| LogLine {
        instance: instance.clone(),
        at: Timestamp(1),
        stream: "stdout".to_owned(),
        text: (*text).to_owned(),
    };
    let lines = texts.iter().map(line).collect();
    LogChunk { request, instance: instance.clone(), lines, error: String::new() }.into()
}

async fn fetch(agent: &mut Agent, image: &str) -> Result<Vec<u8>, Code> {
    let request = v1::ImageArchiveRequest { image: image.to_owned() };
    let mut chunks = agent.dispatcher.image_archive(request).await.map_err(|status| status.code())?.into_inner();
    let mut content = Vec::new();
    while let Some(chunk) = chunks.next().await {
        content.extend_from_slice(&chunk.map_err(|status| status.code())?.content);
    }
    Ok(content)
}

//! People who reach into instances: through the scheduler to the agent and back.

use api_types::{
    counter::RequestId,
    id::InstanceId,
    relay::{
        RelayEnd, RelayInput, RelayOutput, RelayPurpose, RelayRequest, RelayTarget,
        frame::{Frame, Frames, Kind},
    },
};
use hyper::{Method, body::Incoming};
use proto::{
    relay::{OpenRelay, RelayFromAgent},
    session::FromScheduler,
    v1,
};
use tests_support::wait::wait_until_async;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};

use crate::{
    cluster::{Cluster, LIMIT, next_part},
    fake_agent::Agent,
    streams::with_instance,
};

#[tokio::test]
async fn what_a_person_sends_reaches_the_agent_and_its_answer_comes_back() {
    let cluster = Cluster::start("relay").await;
    let (mut agent, instance) = with_instance(&cluster).await;

    let asked = cluster.stream(Method::POST, "/v1/relay", body(&instance, &["hello"]));
    let (mut answer, open) = tokio::join!(asked, opened(&mut agent));
    let (outputs, mut inputs) = begin(&agent, &open).await.expect("asked for");
    let seen = [input(&mut inputs).await, input(&mut inputs).await];
    let end = RelayEnd { code: 3, reason: String::new() };
    for output in [RelayOutput::Stdout(b"out".to_vec()), RelayOutput::Stderr(vec![7; 30_000]), RelayOutput::Ended(end)]
    {
        outputs.send(RelayFromAgent::Output(output).into()).await.expect("open");
    }

    assert_eq!(open.wanted.purpose.word(), "exec");
    assert_eq!(seen, [Some(RelayInput::Data(b"hello".to_vec())), Some(RelayInput::End)]);
    let mut frames = Frames::default();
    assert_eq!(next(&mut answer, &mut frames).await, Some((Kind::Stdout, b"out".to_vec())));
    assert_eq!(next(&mut answer, &mut frames).await, Some((Kind::Stderr, vec![7; 30_000])));
    let (kind, end) = next(&mut answer, &mut frames).await.expect("the end");
    assert_eq!((kind, String::from_utf8_lossy(&end).as_ref()), (Kind::Ended, r#"{"code":3,"reason":""}"#));
    assert_eq!(next(&mut answer, &mut frames).await, None);
    assert_eq!(input(&mut inputs).await, None, "the call is over");
}

#[tokio::test]
async fn an_agent_that_goes_is_told_to_the_person_and_a_person_who_goes_to_the_agent() {
    let cluster = Cluster::start("gone").await;
    let (mut agent, instance) = with_instance(&cluster).await;

    let asked = cluster.stream(Method::POST, "/v1/relay", body(&instance, &[]));
    let (answer, open) = tokio::join!(asked, opened(&mut agent));
    let (_outputs, mut inputs) = begin(&agent, &open).await.expect("asked for");
    drop(answer);
    let closed = agent.find(|message| if let FromScheduler::CloseRelay(id) = message { Some(id) } else { None }).await;
    while input(&mut inputs).await.is_some() {}

    let asked = cluster.stream(Method::POST, "/v1/relay", body(&instance, &[]));
    let (mut answer, second) = tokio::join!(asked, opened(&mut agent));
    let (outputs, _inputs) = begin(&agent, &second).await.expect("asked for");
    agent.cut();
    let (kind, problem) = next(&mut answer, &mut Frames::default()).await.expect("the problem");
    drop(outputs);

    assert_eq!(closed, open.request);
    let problem = String::from_utf8_lossy(&problem);
    assert!(kind == Kind::Problem && problem.contains("`edge-1` broke"), "{kind:?} {problem}");
}

#[tokio::test]
async fn nobody_may_answer_what_was_not_asked_for() {
    let cluster = Cluster::start("stranger").await;
    let (mut agent, instance) = with_instance(&cluster).await;
    let asked = cluster.stream(Method::POST, "/v1/relay", body(&instance, &[]));
    let (_answer, open) = tokio::join!(asked, opened(&mut agent));

    let unknown = OpenRelay { request: RequestId(open.request.0 + 1), ..open.clone() };
    let wanted = RelayRequest { target: named("other-1"), ..open.wanted.clone() };
    let other = OpenRelay { wanted, ..open.clone() };
    for wrong in [unknown, other] {
        let refused = begin(&agent, &wrong).await.map(drop);
        assert_eq!(refused, Err(Code::NotFound));
    }
    let first = begin(&agent, &open).await;
    let again = begin(&agent, &open).await.map(drop);

    assert!(first.is_ok());
    assert_eq!(again, Err(Code::NotFound), "it is served already");
}

#[tokio::test]
async fn who_may_not_and_what_cannot_be_is_refused_before_a_node_hears_of_it() {
    let cluster = Cluster::start("refused").await;
    let (_agent, instance) = with_instance(&cluster).await;
    let frame = |purpose| {
        let request = RelayRequest { target: RelayTarget::Instance(instance.clone()), purpose };
        text(&Frame::encoded(Kind::Request, &serde_json::to_vec(&request).expect("JSON")))
    };

    let relative = frame(RelayPurpose::CopyFrom { path: "relative".to_owned() });
    for (body, status) in [(relative, 422), ("{}".to_owned(), 400), (String::new(), 400)] {
        assert_eq!(cluster.ask(Method::POST, "/v1/relay", body).await.status, status);
    }
    let nobody =
        RelayRequest { target: named("nobody"), purpose: RelayPurpose::Attach { stdin: false, terminal: None } };
    let nobody = text(&Frame::encoded(Kind::Request, &serde_json::to_vec(&nobody).expect("JSON")));
    assert_eq!(cluster.ask(Method::POST, "/v1/relay", nobody).await.status, 404);
}

#[tokio::test]
async fn a_node_that_is_away_is_a_problem_at_once() {
    let cluster = Cluster::start("absent").await;
    let (mut agent, instance) = with_instance(&cluster).await;

    agent.cut();
    agent.ended().await;

    wait_until_async(LIMIT, async || cluster.ask(Method::POST, "/v1/relay", body(&instance, &[])).await.status == 503)
        .await;
}

fn named(instance: &str) -> RelayTarget {
    RelayTarget::Instance(InstanceId::new(instance).expect("a name"))
}

/// The body of somebody who sends everything at once: a command, its input, the end of it.
fn body(instance: &InstanceId, data: &[&str]) -> String {
    let purpose = RelayPurpose::Exec { container: None, command: vec!["cat".to_owned()], stdin: true, terminal: None };
    let request = RelayRequest { target: RelayTarget::Instance(instance.clone()), purpose };
    let mut body = Frame::encoded(Kind::Request, &serde_json::to_vec(&request).expect("JSON"));
    for data in data {
        body.extend(Frame::encoded(Kind::Data, data.as_bytes()));
    }
    text(&body)
}

/// Lengths below 128 are characters.
fn text(body: &[u8]) -> String {
    String::from_utf8(body.to_vec()).expect("short frames")
}

async fn opened(agent: &mut Agent) -> OpenRelay {
    agent.find(|message| if let FromScheduler::OpenRelay(open) = message { Some(open) } else { None }).await
}

type Ends = (mpsc::Sender<v1::RelayFromAgent>, Streaming<v1::RelayToAgent>);

/// Answers a wish as its agent.
async fn begin(agent: &Agent, open: &OpenRelay) -> Result<Ends, Code> {
    let (outputs, messages) = mpsc::channel(4);
    let begun = RelayFromAgent::Begun { request: open.request, target: open.wanted.target.clone() };
    outputs.send(begun.into()).await.expect("open");
    let called = agent.dispatcher.clone().relay(ReceiverStream::new(messages)).await;
    called.map(|inputs| (outputs, inputs.into_inner())).map_err(|status| status.code())
}

/// The next thing that a person sent; `None` when the call is over, however it ended.
async fn input(inputs: &mut Streaming<v1::RelayToAgent>) -> Option<RelayInput> {
    let message = timeout(LIMIT, inputs.message()).await.expect("in time").ok()??;
    Some(RelayInput::try_from(message).expect("readable"))
}

async fn next(answer: &mut Incoming, frames: &mut Frames) -> Option<(Kind, Vec<u8>)> {
    loop {
        if let Some(Frame { kind, bytes }) = frames.take().expect("frames") {
            return Some((kind, bytes));
        }
        frames.push(&next_part(answer).await?);
    }
}

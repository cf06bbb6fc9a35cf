//! One request: chooses who answers, passes both heads and bodies on, tries another where that can do no harm.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Version, header, request::Parts};
use http_body_util::{Either, Empty, Full};
use hyper::{
    body::{Body, Incoming},
    upgrade::OnUpgrade,
};
use hyper_util::rt::TokioIo;
use tokio::{io::copy_bidirectional, time::timeout};

use crate::{
    endpoint::{Connection, OpenRequest, Sent},
    front::Live,
    headers,
};

/// How many are asked in turn for one request.
const ATTEMPTS_MAX: usize = 3;
/// How long an answer may take to begin.
const ANSWER_LIMIT: Duration = Duration::from_secs(300);

/// What a client gets: what the endpoint sends, or a line of ours.
pub(crate) type Answer = Response<Either<Incoming, Full<Bytes>>>;

/// What came of asking one endpoint.
enum Outcome {
    /// It began to answer.
    Answered(Answer),
    /// It certainly did nothing; the request is whole, so that another may be asked.
    Untouched(Request<Sent>),
    /// It may have begun to do something.
    Broken,
    /// It did not begin to answer in time.
    Late,
}

/// Answers one request of a client.
pub(crate) async fn answer(front: &Live, client: SocketAddr, request: Request<Incoming>) -> Answer {
    let (request, spare) = prepare(client, request);
    let mut request = Some(request);
    let mut tried = Vec::new();
    while tried.len() < ATTEMPTS_MAX {
        let Some(endpoint) = front.choose(&tried) else { break };
        tried.push(endpoint.upstream().address);
        let Some(next) = request.take().or_else(|| spare.as_ref().map(again)) else { break };
        match ask(endpoint.open(), next).await {
            Outcome::Answered(answer) => return answer,
            Outcome::Untouched(whole) => request = Some(whole),
            // What changes nothing may be asked twice; the rest is the client's to decide.
            Outcome::Broken if spare.is_some() => {}
            Outcome::Broken => break,
            Outcome::Late => {
                return line(StatusCode::GATEWAY_TIMEOUT, &format!("{} did not answer in time", front.service()));
            }
        }
    }
    if tried.is_empty() {
        return line(StatusCode::SERVICE_UNAVAILABLE, &format!("no instance of {} is ready", front.service()));
    }
    line(StatusCode::BAD_GATEWAY, &format!("no instance of {} answered, of {} asked", front.service(), tried.len()))
}

/// The request as endpoints get it; beside it its head, if it may be sent more than once (RFC 9110 §9.2.2: idempotent, and
/// here without a body).
fn prepare(client: SocketAddr, mut request: Request<Incoming>) -> (Request<Sent>, Option<Parts>) {
    let upgrade = headers::upgrade(request.headers());
    let is_upgrade = upgrade.is_some();
    headers::strip(request.headers_mut(), upgrade);
    headers::vouch(request.headers_mut(), client.ip());
    *request.version_mut() = Version::HTTP_11;
    // A client that names the whole address speaks to a proxy; an endpoint is none.
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).parse();
    *request.uri_mut() = path.unwrap_or_default();
    let idempotent =
        matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE);
    if request.body().is_end_stream() && !is_upgrade {
        let (parts, _) = request.into_parts();
        let spare = idempotent.then(|| parts.clone());
        return (Request::from_parts(parts, Either::Right(Empty::new())), spare);
    }
    (request.map(Either::Left), None)
}

fn again(parts: &Parts) -> Request<Sent> {
    Request::from_parts(parts.clone(), Either::Right(Empty::new()))
}

/// Asks one endpoint: over connections that wait, which it may just have closed, and then over a new one.
async fn ask(open: OpenRequest, mut request: Request<Sent>) -> Outcome {
    while let Some(connection) = open.endpoint().waiting() {
        match send(connection, request).await {
            Ok((connection, answer)) => return finish(open, connection, answer),
            Err(Outcome::Untouched(whole)) => request = whole,
            Err(outcome) => return outcome,
        }
    }
    let Ok(connection) = open.endpoint().connect().await else { return Outcome::Untouched(request) };
    match send(connection, request).await {
        Ok((connection, answer)) => finish(open, connection, answer),
        Err(outcome) => outcome,
    }
}

async fn send(
    mut connection: Connection,
    mut request: Request<Sent>,
) -> Result<(Connection, Response<Incoming>), Outcome> {
    let client = request.headers().contains_key(header::UPGRADE).then(|| hyper::upgrade::on(&mut request));
    match timeout(ANSWER_LIMIT, connection.try_send_request(request)).await {
        Ok(Ok(mut answer)) => {
            if let Some(client) = client.filter(|_| answer.status() == StatusCode::SWITCHING_PROTOCOLS) {
                join(client, hyper::upgrade::on(&mut answer));
            }
            Ok((connection, answer))
        }
        Ok(Err(mut error)) => Err(error.take_message().map_or(Outcome::Broken, Outcome::Untouched)),
        Err(_) => Err(Outcome::Late),
    }
}

fn finish(open: OpenRequest, connection: Connection, mut answer: Response<Incoming>) -> Outcome {
    let changes = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
    let upgrade = headers::upgrade(answer.headers()).filter(|_| changes);
    headers::strip(answer.headers_mut(), upgrade);
    open.finish(connection);
    Outcome::Answered(answer.map(Either::Left))
}

/// Carries bytes both ways between two connections that changed their protocol, until one ends.
fn join(client: OnUpgrade, endpoint: OnUpgrade) {
    drop(tokio::spawn(async move {
        let (Ok(client), Ok(endpoint)) = tokio::join!(client, endpoint) else { return };
        // Either end closes when it likes.
        copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(endpoint)).await.ok();
    }));
}

fn line(status: StatusCode, text: &str) -> Answer {
    let mut answer = Response::new(Either::Right(Full::new(Bytes::from(format!("{text}\n")))));
    *answer.status_mut() = status;
    answer
}

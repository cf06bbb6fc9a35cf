//! Routes whose body or answer is a stream: logs and images. An answer is a JSON value a line (NDJSON).

use api_types::{
    id::{InstanceId, Name, WorkloadId},
    view::StreamLine,
};
use axum::{
    body::{Body, BodyDataStream},
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::header;
use serde::{Deserialize, Serialize};

use crate::{
    body::{Asked, Named},
    control_plane::{BoxStream, ControlPlane, LogQuery, Target},
    problem::{Refused, bad_request},
};

/// The last lines of each instance that are given at once.
const TAIL: u32 = 100;
const TAIL_MAX: u32 = 10_000;

/// The query of logs.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogsAsked {
    container: Option<Name>,
    tail: Option<u32>,
    #[serde(default)]
    follow: bool,
}

pub(crate) async fn workload_logs<C: ControlPlane>(
    State(plane): State<C>,
    Named(workload): Named<WorkloadId>,
    Asked(asked): Asked<LogsAsked>,
) -> Result<Response, Refused> {
    logs(plane, Target::Workload(workload), &asked).await
}

pub(crate) async fn instance_logs<C: ControlPlane>(
    State(plane): State<C>,
    Named(instance): Named<InstanceId>,
    Asked(asked): Asked<LogsAsked>,
) -> Result<Response, Refused> {
    logs(plane, Target::Instance(instance), &asked).await
}

async fn logs<C: ControlPlane>(plane: C, target: Target, asked: &LogsAsked) -> Result<Response, Refused> {
    let tail = asked.tail.unwrap_or(TAIL).min(TAIL_MAX);
    Ok(lines(plane.logs(LogQuery { target, container: asked.container.clone(), tail, follow: asked.follow }).await?))
}

pub(crate) async fn load_image<C: ControlPlane>(State(plane): State<C>, request: Request) -> Result<Response, Refused> {
    let archive: BodyDataStream = request.into_body().into_data_stream();
    let archive =
        archive.map(|chunk| chunk.map_err(|error| bad_request(format!("the archive did not arrive whole: {error}"))));
    let archive: BoxStream<Bytes> = Box::pin(archive);
    Ok(lines(plane.load_image(archive).await?))
}

/// One line for each item; a problem ends the stream as its last line, since the status was sent long ago.
fn lines<T: Serialize + Send + 'static>(items: BoxStream<T>) -> Response {
    let items = items.map(|item| match item {
        Ok(item) => StreamLine::Item(item),
        Err(problem) => StreamLine::Problem(problem),
    });
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(encoded(items))).into_response()
}

fn encoded<T: Serialize>(
    items: impl Stream<Item = StreamLine<T>>,
) -> impl Stream<Item = Result<Bytes, serde_json::Error>> {
    items.map(|item| {
        let mut line = serde_json::to_vec(&item)?;
        line.push(b'\n');
        Ok(Bytes::from(line))
    })
}

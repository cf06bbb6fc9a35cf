//! The route that connects a person with an instance or a volume: frames both ways, each direction a stream of its own.

use std::time::Duration;

use api_types::{
    relay::{
        RelayInput, RelayOutput, RelayRequest,
        frame::{Frame, FrameError, Frames, Kind},
    },
    view::Problem,
};
use axum::{
    Extension,
    body::{Body, BodyDataStream},
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{StatusCode, header};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    control_plane::{BoxStream, ControlPlane, Subject},
    problem::{Refused, bad_request, invalid, problem},
};

/// What both bodies are made of.
const FRAMES: &str = "application/vnd.wherry.relay";
/// How long the first frame may take to arrive.
const FIRST_FRAME_LIMIT: Duration = Duration::from_secs(10);

/// What a person sends, frame by frame.
struct Sent {
    body: BodyDataStream,
    frames: Frames,
    is_over: bool,
}

pub(crate) async fn relay<C: ControlPlane>(
    State(plane): State<C>,
    Extension(subject): Extension<Subject>,
    request: Request,
) -> Result<Response, Refused> {
    let mut sent = Sent { body: request.into_body().into_data_stream(), frames: Frames::default(), is_over: false };
    let late = |_| problem(StatusCode::REQUEST_TIMEOUT, "timeout", "the request did not arrive within 10 s", "");
    let first = tokio::time::timeout(FIRST_FRAME_LIMIT, sent.next()).await.map_err(late)??;
    let Some(Frame { kind: Kind::Request, bytes }) = first else {
        return Err(Refused(bad_request("the first frame must say what is wanted")));
    };
    let wanted: RelayRequest = parsed(&bytes)?;
    wanted.check().map_err(|error| invalid(error.to_string(), ""))?;
    let output = plane.relay(subject, wanted, sent.into_inputs()).await?;
    let frames = output.map(|output| Ok::<_, std::convert::Infallible>(encoded(output)));
    Ok(([(header::CONTENT_TYPE, FRAMES)], Body::from_stream(frames)).into_response())
}

impl Sent {
    async fn next(&mut self) -> Result<Option<Frame>, Problem> {
        let garbled = |error: FrameError| bad_request(format!("the body makes no sense: {error}"));
        loop {
            if let Some(frame) = self.frames.take().map_err(garbled)? {
                return Ok(Some(frame));
            }
            match self.body.next().await {
                Some(Ok(piece)) => self.frames.push(&piece),
                Some(Err(error)) => return Err(bad_request(format!("the connection broke: {error}"))),
                None if self.frames.is_partial() => return Err(bad_request("the last frame is cut")),
                None => return Ok(None),
            }
        }
    }

    /// What comes after the first frame; the end of the body is the end of the data. An error is the last item.
    fn into_inputs(self) -> BoxStream<RelayInput> {
        Box::pin(stream::unfold(self, |mut sent| async move {
            if sent.is_over {
                return None;
            }
            let input = match sent.next().await {
                Ok(Some(frame)) => input(&frame.kind, frame.bytes),
                Ok(None) => Ok(RelayInput::End),
                Err(problem) => Err(problem),
            };
            sent.is_over = !matches!(input, Ok(RelayInput::Data(_) | RelayInput::Resize(_)));
            Some((input, sent))
        }))
    }
}

fn input(kind: &Kind, bytes: Vec<u8>) -> Result<RelayInput, Problem> {
    match kind {
        Kind::Data => Ok(RelayInput::Data(bytes)),
        Kind::End => Ok(RelayInput::End),
        Kind::Resize => parsed(&bytes).map(RelayInput::Resize),
        Kind::Request | Kind::Stdout | Kind::Stderr | Kind::Ended | Kind::Problem => {
            Err(bad_request("a frame of this kind is not yours to send now"))
        }
    }
}

fn parsed<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes).map_err(|error| invalid(format!("a frame is not what is expected: {error}"), ""))
}

fn encoded(output: Result<RelayOutput, Problem>) -> Bytes {
    fn json(value: &impl Serialize) -> Vec<u8> {
        serde_json::to_vec(value).expect("plain data")
    }
    Bytes::from(match output {
        Ok(RelayOutput::Stdout(bytes)) => Frame::encoded(Kind::Stdout, &bytes),
        Ok(RelayOutput::Stderr(bytes)) => Frame::encoded(Kind::Stderr, &bytes),
        Ok(RelayOutput::Ended(end)) => Frame::encoded(Kind::Ended, &json(&end)),
        Err(problem) => Frame::encoded(Kind::Problem, &json(&problem)),
    })
}

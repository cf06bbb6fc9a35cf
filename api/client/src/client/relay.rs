//! Relays: both directions of a stream to an instance. HTTP/2, since its requests and answers can be under way together.

use std::task::Poll;

use api_types::{
    relay::{
        RelayEnd, RelayInput, RelayOutput, RelayRequest,
        frame::{FRAME_BYTES_MAX, Frame, Frames, Kind},
    },
    view::Problem,
};
use bytes::Bytes;
use futures_util::stream;
use http::Method;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame as BodyFrame, Incoming};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::mpsc;

use crate::{
    client::Client,
    error::ClientError,
    transport::{Transport, describe},
};

/// What frames travel as.
const FRAMES: &str = "application/vnd.wherry.relay";
/// Frames that wait for the wire.
const FRAMES_WAITING_MAX: usize = 2;

/// The way to an instance. Dropped together with its [`RelayReader`], it ends what runs there.
#[derive(Clone, Debug)]
pub struct RelayWriter(mpsc::Sender<Bytes>);

/// What comes from an instance.
#[derive(Debug)]
pub struct RelayReader {
    body: Incoming,
    frames: Frames,
    transport: Transport,
}

impl Client {
    /// Opens a relay to an instance.
    ///
    /// # Errors
    /// See [`Client::cluster`]; also when the instance's node is away. What goes wrong there comes as [`RelayEnd`].
    pub async fn relay(&self, request: &RelayRequest) -> Result<(RelayWriter, RelayReader), ClientError> {
        let (sender, mut waiting) = mpsc::channel::<Bytes>(FRAMES_WAITING_MAX);
        let writer = RelayWriter(sender);
        // There is room for the first: nothing was sent yet.
        writer.0.try_send(Frame::encoded(Kind::Request, &json(request)).into()).ok();
        let frames = stream::poll_fn(move |context| match waiting.poll_recv(context) {
            Poll::Ready(frame) => Poll::Ready(frame.map(|frame| Ok(BodyFrame::data(frame)))),
            Poll::Pending => Poll::Pending,
        });
        let request = self.request(Method::POST, "/v1/relay", FRAMES, BodyExt::boxed(StreamBody::new(frames)))?;
        let response = self.transport.exchange_both_ways(request).await?;
        let body = self.accepted(response).await?.into_body();
        Ok((writer, RelayReader { body, frames: Frames::default(), transport: self.transport.clone() }))
    }
}

impl RelayWriter {
    /// Sends something; waits while the other end does not read. `false` when the relay is over.
    pub async fn send(&self, input: RelayInput) -> bool {
        match input {
            RelayInput::Data(bytes) => {
                for piece in bytes.chunks(FRAME_BYTES_MAX) {
                    if !self.send_frame(Kind::Data, piece).await {
                        return false;
                    }
                }
                true
            }
            RelayInput::End => self.send_frame(Kind::End, &[]).await,
            RelayInput::Resize(size) => self.send_frame(Kind::Resize, &json(&size)).await,
        }
    }

    async fn send_frame(&self, kind: Kind, bytes: &[u8]) -> bool {
        self.0.send(Frame::encoded(kind, bytes).into()).await.is_ok()
    }
}

impl RelayReader {
    /// Waits for what comes next; [`RelayOutput::Ended`] is the last.
    ///
    /// # Errors
    /// When the connection breaks, here or between scheduler and node.
    pub async fn next(&mut self) -> Result<RelayOutput, ClientError> {
        loop {
            let frame = self.frames.take().map_err(|error| self.transport.garbled(error.to_string()))?;
            if let Some(Frame { kind, bytes }) = frame {
                return match kind {
                    Kind::Stdout => Ok(RelayOutput::Stdout(bytes)),
                    Kind::Stderr => Ok(RelayOutput::Stderr(bytes)),
                    Kind::Ended => self.parsed::<RelayEnd>(&bytes).map(RelayOutput::Ended),
                    Kind::Problem => Err(ClientError::Refused(self.parsed::<Problem>(&bytes)?)),
                    Kind::Request | Kind::Data | Kind::End | Kind::Resize => {
                        Err(self.transport.garbled("a frame that only people send".to_owned()))
                    }
                };
            }
            match self.body.frame().await {
                Some(Ok(piece)) => self.frames.push(&piece.into_data().unwrap_or_default()),
                Some(Err(error)) => return Err(self.transport.garbled(describe(&error))),
                None => return Err(self.transport.garbled("it ended before it said how".to_owned())),
            }
        }
    }

    fn parsed<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, ClientError> {
        serde_json::from_slice(bytes).map_err(|error| self.transport.garbled(error.to_string()))
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain data")
}

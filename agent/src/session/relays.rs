//! Relays that people asked for: each is one `Relay` rpc over this agent's own connection, and one task here.
//!
//! A task holds two pieces of each direction at most. Whoever asks is gone when the rpc, the session or this agent ends; then
//! the task is dropped, and with it whatever ran for that person.

mod attach;
mod copy;
mod exec;
mod feed;
mod forward;

use std::{collections::BTreeMap, sync::Arc};

use agent_containerd::{Containerd, ExecError};
use api_types::{
    counter::RequestId,
    relay::{NOT_EXECUTABLE, NOT_FOUND, RelayEnd, RelayInput, RelayOutput, RelayPurpose, RelayRequest, RelayTarget},
};
use proto::{
    limits::{RELAY_CHUNK_BYTES, RELAYS_PER_NODE_MAX},
    relay::{OpenRelay, RelayFromAgent},
    v1,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    sync::{Semaphore, mpsc},
    task::AbortHandle,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::connector::Dispatcher;

/// Pieces between what runs here and the wire.
const PIECES_MAX: usize = 2;

/// The open relays of one session.
#[derive(Debug)]
pub(crate) struct Relays {
    open: BTreeMap<RequestId, AbortHandle>,
    permits: Arc<Semaphore>,
}

/// What a person sends, as it arrives.
struct Inputs(Streaming<v1::RelayToAgent>);

/// Where a person's output goes.
#[derive(Clone)]
struct Outputs(mpsc::Sender<v1::RelayFromAgent>);

/// The person is gone: nobody needs an answer any more.
#[derive(Debug)]
struct Gone;

impl Relays {
    pub(crate) fn new() -> Self {
        Self { open: BTreeMap::new(), permits: Arc::new(Semaphore::new(RELAYS_PER_NODE_MAX)) }
    }

    /// Begins to serve a person.
    pub(crate) fn open(&mut self, dispatcher: Dispatcher, containerd: Containerd, wanted: OpenRelay) {
        self.open.retain(|_, relay| !relay.is_finished());
        // One that just ended may still hold its permit; the scheduler counts as well, and tells who is refused.
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            tracing::warn!(target = %wanted.wanted.target, "too many open relays: one is refused");
            return;
        };
        let request = wanted.request;
        let relay = tokio::spawn(async move {
            let _permit = permit;
            // A person who is gone needs no answer.
            serve(dispatcher, &containerd, wanted).await.ok();
        });
        self.open.insert(request, relay.abort_handle());
    }

    /// That person is gone.
    pub(crate) fn close(&mut self, request: RequestId) {
        if let Some(relay) = self.open.remove(&request) {
            relay.abort();
        }
    }
}

impl Drop for Relays {
    fn drop(&mut self) {
        for relay in self.open.values() {
            relay.abort();
        }
    }
}

async fn serve(mut dispatcher: Dispatcher, containerd: &Containerd, open: OpenRelay) -> Result<(), Gone> {
    let OpenRelay { request, wanted: RelayRequest { target, purpose } } = open;
    let (sender, messages) = mpsc::channel(PIECES_MAX);
    let begun = RelayFromAgent::Begun { request, target: target.clone() };
    sender.send(begun.into()).await.map_err(|_| Gone)?;
    let called = dispatcher.relay(ReceiverStream::new(messages)).await;
    let called = called.inspect_err(|status| tracing::debug!(%status, "a relay was not taken"));
    let (mut inputs, outputs) = (Inputs(called.map_err(|_| Gone)?.into_inner()), Outputs(sender));
    let end = serve_purpose(containerd, &target, purpose, (&mut inputs, &outputs)).await?;
    outputs.send(RelayOutput::Ended(end)).await?;
    drop(outputs);
    // Whoever lets go of the call before the scheduler does takes back what is still on its way.
    while inputs.next().await.is_ok() {}
    Ok(())
}

async fn serve_purpose(
    containerd: &Containerd,
    target: &RelayTarget,
    purpose: RelayPurpose,
    (inputs, outputs): (&mut Inputs, &Outputs),
) -> Result<RelayEnd, Gone> {
    match (target, purpose) {
        (RelayTarget::Instance(instance), RelayPurpose::Exec { container, command, stdin, terminal }) => {
            let container = container.as_ref();
            let request = agent_containerd::ExecRequest { instance, container, command: &command, stdin, terminal };
            exec::serve(containerd, &request, inputs, outputs).await
        }
        (RelayTarget::Instance(instance), RelayPurpose::Attach { stdin: false, terminal: None }) => {
            attach::follow(containerd, instance, inputs, outputs).await
        }
        (RelayTarget::Instance(instance), RelayPurpose::Attach { stdin, terminal }) => {
            attach::join(containerd, instance, (stdin, terminal), (inputs, outputs)).await
        }
        (RelayTarget::Instance(instance), RelayPurpose::PortForward { port }) => {
            forward::serve(containerd, instance, port, inputs, outputs).await
        }
        (RelayTarget::Instance(instance), RelayPurpose::CopyFrom { path }) => {
            copy::out(|pieces| containerd.copy_from(instance, &path, pieces), inputs, outputs).await
        }
        (RelayTarget::Instance(instance), RelayPurpose::CopyTo { path }) => {
            copy::into(|pieces| containerd.copy_to(instance, &path, pieces), inputs).await
        }
        (RelayTarget::Volume(volume), RelayPurpose::Backup {}) => {
            copy::out(|pieces| containerd.back_up(volume, pieces), inputs, outputs).await
        }
        (RelayTarget::Volume(volume), RelayPurpose::Restore {}) => {
            copy::into(|pieces| containerd.restore(volume, pieces), inputs).await
        }
        (target, _) => Ok(failed(format!("{target} cannot be asked for that"))),
    }
}

impl Inputs {
    /// Waits for what comes next. Cancel-safe: what was not taken stays in the stream.
    async fn next(&mut self) -> Result<RelayInput, Gone> {
        let message = self.0.message().await.map_err(|_| Gone)?.ok_or(Gone)?;
        RelayInput::try_from(message).map_err(|error| {
            tracing::warn!(%error, "a relay brings what cannot be read");
            Gone
        })
    }

    /// Waits until the person is gone; what still comes is of no use to anybody.
    async fn gone(&mut self) -> Gone {
        while self.next().await.is_ok() {}
        Gone
    }
}

impl Outputs {
    async fn send(&self, output: RelayOutput) -> Result<(), Gone> {
        self.0.send(RelayFromAgent::Output(output).into()).await.map_err(|_| Gone)
    }

    /// Sends bytes of any number.
    async fn send_all(&self, bytes: &[u8], wrap: fn(Vec<u8>) -> RelayOutput) -> Result<(), Gone> {
        for piece in bytes.chunks(RELAY_CHUNK_BYTES) {
            self.send(wrap(piece.to_vec())).await?;
        }
        Ok(())
    }

    /// Sends all that can be read, piece by piece: the next is read when the last one is on its way.
    async fn pump(&self, mut from: impl AsyncRead + Unpin, wrap: fn(Vec<u8>) -> RelayOutput) -> Result<(), Gone> {
        let mut piece = vec![0; RELAY_CHUNK_BYTES];
        loop {
            match from.read(&mut piece).await {
                Ok(0) => return Ok(()),
                Ok(length) => self.send(wrap(piece[..length].to_vec())).await?,
                Err(error) => {
                    tracing::debug!(%error, "an output ends");
                    return Ok(());
                }
            }
        }
    }
}

/// An end that is not a command's own.
fn failed(reason: impl ToString) -> RelayEnd {
    RelayEnd { code: 1, reason: reason.to_string() }
}

/// An end of a command that did not begin.
fn not_begun(error: &ExecError) -> RelayEnd {
    let code = match error {
        ExecError::NotFound(_) => NOT_FOUND,
        ExecError::NotExecutable(_) => NOT_EXECUTABLE,
        ExecError::NotRunning(_)
        | ExecError::NoInput(_)
        | ExecError::NoTerminal(_)
        | ExecError::Crowded
        | ExecError::Spec(_)
        | ExecError::Process(_)
        | ExecError::Containerd(_) => 1,
    };
    RelayEnd { code, reason: error.to_string() }
}

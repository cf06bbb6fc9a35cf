//! The channel to containerd: dialled when needed, our namespace on every request, its answers as [`Error`].

use std::{path::PathBuf, time::Duration};

use containerd_client::services::v1::{
    containers_client::ContainersClient, content_client::ContentClient, diff_client::DiffClient,
    events_client::EventsClient, images_client::ImagesClient, leases_client::LeasesClient,
    snapshots::snapshots_client::SnapshotsClient, tasks_client::TasksClient, version_client::VersionClient,
};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::{
    Code, Request, Status,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};

use crate::error::Error;

/// How long a call may take that asks for no work to be done.
pub(crate) const SHORT: Duration = Duration::from_secs(30);
/// How long a call may take that starts processes or unpacks, on a slow and busy node.
pub(crate) const LONG: Duration = Duration::from_secs(600);
/// containerd's own limit for one message.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// Said by us of a stream that ended without an answer.
pub(crate) const STREAM_ENDED: &str = "the stream ended";

/// The channel, the namespace, and where it leads.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    channel: Channel,
    namespace: MetadataValue<Ascii>,
    socket: PathBuf,
}

impl Connection {
    /// Makes the channel without dialling; it dials at the first call and again after each loss.
    pub(crate) fn new(socket: PathBuf, namespace: &str) -> Result<Self, Error> {
        let refused = |problem: String| Error::Setting { setting: "namespace", problem };
        let namespace =
            namespace.parse().map_err(|_| refused(format!("`{namespace}` is not a containerd namespace")))?;
        let path = socket.clone();
        // The address is a placeholder: the connector knows where to go.
        let channel = Endpoint::from_static("http://containerd.local").connect_with_connector_lazy(tower::service_fn(
            move |_| {
                let path = path.clone();
                async move { UnixStream::connect(path).await.map(TokioIo::new) }
            },
        ));
        Ok(Self { channel, namespace, socket })
    }

    /// Wraps a message; it fails after `limit`.
    pub(crate) fn request<T>(&self, message: T, limit: Duration) -> Request<T> {
        let mut request = self.unlimited(message);
        request.set_timeout(limit);
        request
    }

    /// Wraps a message whose answer may take for ever.
    pub(crate) fn unlimited<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("containerd-namespace", self.namespace.clone());
        request
    }

    /// Wraps a message: what it makes is kept from garbage collection by this lease.
    pub(crate) fn leased<T>(&self, message: T, lease: &Lease) -> Request<T> {
        let mut request = self.unlimited(message);
        request.metadata_mut().insert("containerd-lease", lease.0.clone());
        request
    }

    /// Turns an answer into ours; `call` is what people read.
    pub(crate) fn failed(&self, call: &'static str) -> impl Fn(Status) -> Error {
        move |status| {
            // Only what the channel itself made has a source: containerd's own answers, Unavailable among them, have none.
            let is_lost = std::error::Error::source(&status).is_some() || status.message() == STREAM_ENDED;
            if is_lost {
                return Error::Away { socket: self.socket.clone(), reason: root_cause(&status) };
            }
            Error::Refused { call, status: Box::new(status) }
        }
    }

    pub(crate) fn version(&self) -> VersionClient<Channel> {
        VersionClient::new(self.channel.clone())
    }

    pub(crate) fn containers(&self) -> ContainersClient<Channel> {
        ContainersClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(crate) fn tasks(&self) -> TasksClient<Channel> {
        TasksClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(crate) fn snapshots(&self) -> SnapshotsClient<Channel> {
        SnapshotsClient::new(self.channel.clone())
    }

    pub(crate) fn images(&self) -> ImagesClient<Channel> {
        ImagesClient::new(self.channel.clone())
    }

    pub(crate) fn content(&self) -> ContentClient<Channel> {
        ContentClient::new(self.channel.clone())
    }

    pub(crate) fn diffs(&self) -> DiffClient<Channel> {
        DiffClient::new(self.channel.clone())
    }

    pub(crate) fn leases(&self) -> LeasesClient<Channel> {
        LeasesClient::new(self.channel.clone())
    }

    pub(crate) fn events(&self) -> EventsClient<Channel> {
        EventsClient::new(self.channel.clone())
    }
}

/// The name of a lease, as it goes with a request.
#[derive(Clone, Debug)]
pub(crate) struct Lease(pub(crate) MetadataValue<Ascii>);

/// Whether containerd said that the thing is there already.
pub(crate) fn is_present(status: &Status) -> bool {
    status.code() == Code::AlreadyExists
}

/// Whether containerd said that the thing is not there.
pub(crate) fn is_absent(status: &Status) -> bool {
    status.code() == Code::NotFound
}

/// The innermost of a chain of causes: "transport error" alone helps nobody.
fn root_cause(status: &Status) -> String {
    let mut cause: &dyn std::error::Error = status;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let text = cause.to_string();
    if text.is_empty() { status.message().to_owned() } else { text }
}

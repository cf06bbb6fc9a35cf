//! The rpcs that agents call, and who is connected.

pub(crate) mod images;
pub(crate) mod logs;
pub(crate) mod network;
pub(crate) mod registry;
pub(crate) mod relays;
mod session;

use std::{pin::Pin, sync::Arc};

use api_daemon::identity::pin::Pin as KeyPin;
use api_types::{counter::Epoch, id::NodeId};
use futures_util::{Stream, StreamExt};
use proto::{
    limits::{FROM_AGENT_BYTES_MAX, FROM_SCHEDULER_BYTES_MAX},
    session::ImageLoaded,
    v1::{
        self,
        dispatcher_server::{Dispatcher as Rpcs, DispatcherServer},
    },
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    clock,
    control_loop::LoopHandle,
    identity::{authority::Authority, node_keys::NodeKeys},
    vault::Vault,
};

/// Messages on their way to one agent. Few: changes are made when there is room, so that they are of that moment.
const OUTGOING_MAX: usize = 2;

/// Who is at the other end of a connection, by its certificate. Put into each request by the listener.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// The node.
    pub(crate) node: NodeId,
    /// The key it proved to have.
    pub(crate) pin: KeyPin,
}

/// All that the rpcs need.
pub(crate) struct Dispatcher {
    pub(crate) epoch: Epoch,
    pub(crate) heartbeat_interval_ms: u64,
    pub(crate) control: LoopHandle,
    pub(crate) registry: Arc<registry::Registry>,
    pub(crate) logs: Arc<logs::LogRequests>,
    pub(crate) relays: Arc<relays::Relays>,
    pub(crate) images: Arc<images::Images>,
    pub(crate) inspections: Arc<network::Inspections>,
    pub(crate) authority: Arc<Authority>,
    pub(crate) keys: Arc<NodeKeys>,
    pub(crate) vault: Arc<Vault>,
    pub(crate) stop: CancellationToken,
}

/// The rpcs, as tonic calls them.
#[derive(Clone)]
pub(crate) struct RpcService(Arc<Dispatcher>);

impl Dispatcher {
    /// Makes the service that serves the rpcs.
    pub(crate) fn service(self: Arc<Self>) -> DispatcherServer<RpcService> {
        DispatcherServer::new(RpcService(self))
            .max_decoding_message_size(FROM_AGENT_BYTES_MAX)
            .max_encoding_message_size(FROM_SCHEDULER_BYTES_MAX)
    }

    async fn image_loaded(&self, node: &NodeId, loaded: ImageLoaded) -> Result<(), Status> {
        let writes = self.images.loaded(node, loaded);
        if writes.is_empty() {
            return Ok(());
        }
        self.control.keep(writes).await.map_err(session::stopping)?;
        self.images.prune();
        Ok(())
    }

    /// Gives the peer of a request. A node may have been removed while its connection was open.
    fn peer<T>(&self, request: &Request<T>) -> Result<Peer, Status> {
        let peer = request.extensions().get::<Peer>().cloned();
        let peer = peer.ok_or_else(|| Status::unauthenticated("this connection has no certificate"))?;
        if self.keys.allow(&peer.node, peer.pin) { Ok(peer) } else { Err(session::not_registered(&peer.node)) }
    }
}

#[tonic::async_trait]
impl Rpcs for RpcService {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<v1::FromScheduler, Status>> + Send>>;
    type ImageArchiveStream = ReceiverStream<Result<v1::Chunk, Status>>;
    type RelayStream = relays::ToAgent;

    async fn session(
        &self,
        request: Request<Streaming<v1::FromAgent>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let peer = self.0.peer(&request)?;
        let (outgoing, receiver) = mpsc::channel(OUTGOING_MAX);
        let stop = self.0.stop.clone();
        tokio::spawn(session::serve(Arc::clone(&self.0), peer.node, request.into_inner(), outgoing, stop));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver).map(|message| *message))))
    }

    async fn logs(&self, request: Request<Streaming<v1::LogChunk>>) -> Result<Response<v1::LogsDone>, Status> {
        let peer = self.0.peer(&request)?;
        self.0.logs.receive(&peer.node, request.into_inner()).await?;
        Ok(Response::new(v1::LogsDone {}))
    }

    async fn relay(
        &self,
        request: Request<Streaming<v1::RelayFromAgent>>,
    ) -> Result<Response<Self::RelayStream>, Status> {
        let peer = self.0.peer(&request)?;
        Ok(Response::new(self.0.relays.serve(&peer.node, request.into_inner()).await?))
    }

    async fn image_archive(
        &self,
        request: Request<v1::ImageArchiveRequest>,
    ) -> Result<Response<Self::ImageArchiveStream>, Status> {
        let peer = self.0.peer(&request)?;
        let (node, image) = (peer.node.clone(), request.into_inner().image);
        // A node gets the images it shall run, and those that it is asked to load.
        let runs = self.0.control.runs_image(node, image.clone()).await.map_err(session::stopping)?;
        let receiver = self.0.images.open(&peer.node, &image, runs).await?;
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn renew(&self, request: Request<v1::RenewRequest>) -> Result<Response<v1::RenewReply>, Status> {
        let peer = self.0.peer(&request)?;
        let issued = self
            .0
            .authority
            .issue_node(&peer.node, &request.into_inner().csr, clock::wall_now())
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let known = self.0.control.renew(peer.node.clone(), issued.pin).await.map_err(session::stopping)?;
        if !known {
            return Err(session::not_registered(&peer.node));
        }
        tracing::info!(node = %peer.node, "certificate renewed");
        let ca = self.0.authority.certificate().to_owned();
        Ok(Response::new(v1::RenewReply { certificate: issued.certificate, ca }))
    }
}

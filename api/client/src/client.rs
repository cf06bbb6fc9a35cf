//! The HTTP API as functions.

mod explain;
mod logs;
mod moves;
mod relay;
mod rollouts;
mod secrets;

pub use logs::LogQuery;
pub use relay::{RelayReader, RelayWriter};

use std::{fmt, marker::PhantomData};

use api_types::{
    counter::Revision,
    id::{InstanceId, NodeId, WorkloadId},
    join::NodeTokenRequest,
    node::Availability,
    view::{
        ClusterView, Description, Event, ImageOutcome, InstanceView, JoinTokenView, List, NodeView, Problem,
        StreamLine, WorkloadChange, WorkloadView,
    },
};
use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use serde::de::DeserializeOwned;

use crate::{
    error::ClientError,
    transport::{Sent, Transport, describe},
};

/// A line of a streamed answer is never longer; a longer one ends the stream.
const LINE_BYTES_MAX: usize = 4 << 20;
const JSON: &str = "application/json";
const TOML: &str = "application/toml";

/// One scheduler and the right to ask it.
#[derive(Clone)]
pub struct Client {
    transport: Transport,
    token: String,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the token.
        f.debug_struct("Client").field("transport", &self.transport).finish_non_exhaustive()
    }
}

/// The answer to a streamed question, item by item.
#[derive(Debug)]
pub struct Lines<T> {
    body: Incoming,
    transport: Transport,
    held: Vec<u8>,
    item: PhantomData<T>,
}

impl Client {
    /// Makes a client for `server` (`host:port`) whose certificate comes from `ca` (PEM). Connects to nothing yet.
    ///
    /// # Errors
    /// When the CA is not a certificate.
    pub fn new(server: &str, token: &str, ca: &str) -> Result<Self, ClientError> {
        Ok(Self { transport: Transport::new(server, ca)?, token: token.trim().to_owned() })
    }

    /// The cluster in a few numbers.
    ///
    /// # Errors
    /// As every call here: when the scheduler cannot be reached, is not trusted, or says no.
    pub async fn cluster(&self) -> Result<ClusterView, ClientError> {
        self.get("/v1/cluster").await
    }

    /// All nodes; with `after`, once they are newer than that version, or after 30 s.
    ///
    /// # Errors
    /// See [`Self::cluster`].
    pub async fn nodes(&self, after: Option<u64>) -> Result<List<NodeView>, ClientError> {
        self.list("nodes", after).await
    }

    /// All workloads; see [`Self::nodes`] for `after`.
    ///
    /// # Errors
    /// See [`Self::cluster`].
    pub async fn workloads(&self, after: Option<u64>) -> Result<List<WorkloadView>, ClientError> {
        self.list("workloads", after).await
    }

    /// All services; see [`Self::nodes`] for `after`.
    ///
    /// # Errors
    /// See [`Self::cluster`].
    pub async fn services(&self, after: Option<u64>) -> Result<List<WorkloadView>, ClientError> {
        self.list("services", after).await
    }

    /// All jobs; see [`Self::nodes`] for `after`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn jobs(&self, after: Option<u64>) -> Result<List<WorkloadView>, ClientError> {
        self.list("jobs", after).await
    }

    /// All daemons; see [`Self::nodes`] for `after`.
    ///
    /// # Errors
    /// See [`Self::cluster`].
    pub async fn daemons(&self, after: Option<u64>) -> Result<List<WorkloadView>, ClientError> {
        self.list("daemons", after).await
    }

    /// All instances; see [`Self::nodes`] for `after`.
    ///
    /// # Errors
    /// See [`Self::cluster`].
    pub async fn instances(&self, after: Option<u64>) -> Result<List<InstanceView>, ClientError> {
        self.list("instances", after).await
    }

    /// What happened, the oldest first; see [`Self::nodes`] for `after`.
    ///
    /// # Errors
    /// See [`Self::cluster`].
    pub async fn events(&self, after: Option<u64>) -> Result<List<Event>, ClientError> {
        self.list("events", after).await
    }

    /// A node with its instances and history.
    ///
    /// # Errors
    /// See [`Self::cluster`].
    pub async fn describe_node(&self, node: &NodeId) -> Result<Description, ClientError> {
        self.get(&format!("/v1/describe/node/{node}")).await
    }

    /// A workload with its instances and history.
    ///
    /// # Errors
    /// See [`Self::cluster`].
    pub async fn describe_workload(&self, workload: &WorkloadId) -> Result<Description, ClientError> {
        self.get(&format!("/v1/describe/workload/{workload}")).await
    }

    /// An instance with its history.
    ///
    /// # Errors
    /// See [`Self::cluster`].
    pub async fn describe_instance(&self, instance: &InstanceId) -> Result<Description, ClientError> {
        self.get(&format!("/v1/describe/instance/{instance}")).await
    }

    /// Creates or updates the workloads of a manifest, all or none; with `expect`, only if each that exists is at that
    /// revision.
    ///
    /// # Errors
    /// See [`Self::cluster`].
    pub async fn apply(&self, manifest: &str, expect: Option<Revision>) -> Result<Vec<WorkloadChange>, ClientError> {
        let path = expect.map_or_else(|| "/v1/apply".to_owned(), |expect| format!("/v1/apply?expect={expect}"));
        self.ask(Method::POST, &path, TOML, manifest.as_bytes().to_vec()).await
    }

    /// Sets the number of replicas.
    ///
    /// # Errors
    /// See [`Self::cluster`].
    pub async fn scale(&self, workload: &WorkloadId, replicas: u32) -> Result<Vec<WorkloadChange>, ClientError> {
        let body = serde_json::json!({ "workload": workload, "replicas": replicas });
        self.ask(Method::POST, "/v1/scale", JSON, body.to_string().into_bytes()).await
    }

    /// Removes a workload.
    ///
    /// # Errors
    /// See [`Self::cluster`].
    pub async fn delete(&self, workload: &WorkloadId) -> Result<Vec<WorkloadChange>, ClientError> {
        self.ask(Method::DELETE, &format!("/v1/workloads/{workload}"), JSON, Vec::new()).await
    }

    /// Says what is wanted of a node.
    ///
    /// # Errors
    /// See [`Self::cluster`].
    pub async fn set_availability(&self, node: &NodeId, availability: Availability) -> Result<(), ClientError> {
        let body = serde_json::json!({ "availability": availability }).to_string().into_bytes();
        let path = format!("/v1/nodes/{node}/availability");
        self.answer(Method::POST, &path, JSON, body).await.map(drop)
    }

    /// Makes a join token.
    ///
    /// # Errors
    /// See [`Self::cluster`].
    pub async fn node_token(&self, request: &NodeTokenRequest) -> Result<JoinTokenView, ClientError> {
        let body = serde_json::to_vec(request).expect("the request is plain data");
        self.ask(Method::POST, "/v1/nodes", JSON, body).await
    }

    /// Forgets a node; with `force`, even one that is ready.
    ///
    /// # Errors
    /// See [`Self::cluster`].
    pub async fn remove_node(&self, node: &NodeId, force: bool) -> Result<(), ClientError> {
        let path = format!("/v1/nodes/{node}?force={force}");
        self.answer(Method::DELETE, &path, JSON, Vec::new()).await.map(drop)
    }

    /// Sends an OCI archive to every ready node; one outcome for each, as they come.
    ///
    /// # Errors
    /// See [`Self::cluster`]; also when the archive cannot be read.
    pub async fn load_image(
        &self,
        archive: impl Stream<Item = std::io::Result<Bytes>> + Send + Sync + 'static,
    ) -> Result<Lines<ImageOutcome>, ClientError> {
        let body = BodyExt::boxed(StreamBody::new(archive.map_ok(Frame::data)));
        let request = self.request(Method::POST, "/v1/images", "application/x-tar", body)?;
        let response = self.transport.exchange(request, false).await?;
        Ok(self.lines_of(self.accepted(response).await?))
    }

    async fn list<T: DeserializeOwned>(&self, kind: &str, after: Option<u64>) -> Result<List<T>, ClientError> {
        let query = after.map(|after| format!("?after={after}")).unwrap_or_default();
        self.get(&format!("/v1/{kind}{query}")).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.ask(Method::GET, path, JSON, Vec::new()).await
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        kind: &str,
        body: Vec<u8>,
    ) -> Result<T, ClientError> {
        let response = self.answer(method, path, kind, body).await?;
        let bytes = self.collect(response).await?;
        serde_json::from_slice(&bytes).map_err(|error| self.transport.garbled(error.to_string()))
    }

    async fn answer(
        &self,
        method: Method,
        path: &str,
        kind: &str,
        body: Vec<u8>,
    ) -> Result<Response<Incoming>, ClientError> {
        let body = Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed();
        let response = self.transport.exchange(self.request(method, path, kind, body)?, true).await?;
        self.accepted(response).await
    }

    fn request(&self, method: Method, path: &str, kind: &str, body: Sent) -> Result<Request<Sent>, ClientError> {
        Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &self.transport.server)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
            .header(header::CONTENT_TYPE, kind)
            .header(header::USER_AGENT, concat!("wherry/", env!("CARGO_PKG_VERSION")))
            .body(body)
            // Paths are made of checked names, so only the token or the address can be at fault.
            .map_err(|error| {
                ClientError::Upload(format!("the token or the address holds a character it must not: {error}"))
            })
    }

    /// Passes a good answer on and turns any other into the problem it carries.
    async fn accepted(&self, response: Response<Incoming>) -> Result<Response<Incoming>, ClientError> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let bytes = self.collect(response).await?;
        let problem = serde_json::from_slice::<Problem>(&bytes);
        Err(problem.map_or_else(|_| self.transport.garbled(format!("status {status}")), ClientError::Refused))
    }

    async fn collect(&self, response: Response<Incoming>) -> Result<Bytes, ClientError> {
        let body = response.into_body().collect().await;
        Ok(body.map_err(|error| self.transport.garbled(describe(&error)))?.to_bytes())
    }

    async fn lines<T>(&self, path: &str) -> Result<Lines<T>, ClientError> {
        Ok(self.lines_of(self.answer(Method::GET, path, JSON, Vec::new()).await?))
    }

    fn lines_of<T>(&self, response: Response<Incoming>) -> Lines<T> {
        let (transport, held) = (self.transport.clone(), Vec::new());
        Lines { body: response.into_body(), transport, held, item: PhantomData }
    }
}

impl<T: DeserializeOwned> Lines<T> {
    /// The next item; `None` at the end.
    ///
    /// # Errors
    /// When the connection breaks, or the scheduler ended the stream with a problem.
    pub async fn next(&mut self) -> Result<Option<T>, ClientError> {
        loop {
            if let Some(end) = self.held.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.held.drain(..=end).collect();
                let line = serde_json::from_slice(&line).map_err(|error| self.transport.garbled(error.to_string()))?;
                return match line {
                    StreamLine::Item(item) => Ok(Some(item)),
                    StreamLine::Problem(problem) => Err(ClientError::Refused(problem)),
                };
            }
            if self.held.len() > LINE_BYTES_MAX {
                return Err(self.transport.garbled("a line without an end".to_owned()));
            }
            match self.body.frame().await {
                None if self.held.is_empty() => return Ok(None),
                None => return Err(self.transport.garbled("the last line is cut".to_owned())),
                Some(Err(error)) => return Err(self.transport.garbled(describe(&error))),
                Some(Ok(frame)) => self.held.extend_from_slice(&frame.into_data().unwrap_or_default()),
            }
        }
    }
}

//! A scheduler on loopback with a state directory of its own, and a person who asks it things.

use std::{
    env, fs, future,
    net::SocketAddr,
    path::{Path, PathBuf},
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use api_daemon::identity::{
    pin::Pin as KeyPin,
    tls::{certificates, install_provider, join_client, server_name},
};
use bytes::Bytes;
use hyper::{Method, Request, body::Body, body::Incoming, header};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use scheduler::{
    config::Config,
    init::init,
    serve::{Listeners, ServeError, serve},
};
use serde_json::{Value, json};
use tokio::{net::TcpStream, task::JoinHandle, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::sync::CancellationToken;

/// How long anything that must happen may take on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// A service of one replica with a port.
pub(crate) const MANIFEST: &str = "
name = \"shop\"
[service.web]
image = \"registry.lan/web:1\"
replicas = 1
ports = { http = { container = 8080 } }
";

/// A running scheduler.
pub(crate) struct Cluster {
    pub(crate) config: Config,
    pub(crate) admin: String,
    pub(crate) authority: String,
    directory: PathBuf,
    stop: CancellationToken,
    served: Option<JoinHandle<Result<(), ServeError>>>,
}

/// An answer of the API.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl Cluster {
    /// Makes a cluster and runs it.
    pub(crate) async fn start(purpose: &str) -> Self {
        Self::start_with(purpose, |_| {}).await
    }

    /// Makes a cluster with another configuration and runs it.
    pub(crate) async fn start_with(purpose: &str, change: fn(&mut Config)) -> Self {
        install_provider();
        let directory = env::temp_dir().join(format!("wherry-shell-{purpose}-{}", std::process::id()));
        fs::remove_dir_all(&directory).ok();
        let mut config = Config::default();
        config.state.dir = directory.join("state");
        config.api.listen = SocketAddr::from(([127, 0, 0, 1], 0));
        config.session.listen = SocketAddr::from(([127, 0, 0, 1], 0));
        change(&mut config);
        let context = directory.join("context.toml");
        init(&config, Some(context.clone())).expect("an empty directory");
        let context = fs::read_to_string(context).expect("init wrote it");
        let quoted = |key: &str| {
            let line = context.lines().find(|line| line.starts_with(key)).expect("the key is there");
            line.split('"').nth(1).expect("a text").to_owned()
        };
        let authority = context.split("\"\"\"").nth(1).expect("the CA").to_owned();
        let (admin, stop) = (quoted("token"), CancellationToken::new());
        let mut this = Self { config, admin, authority, directory, stop, served: None };
        this.run().await;
        this
    }

    /// Ends the scheduler as SIGTERM does, and starts it again on the same state, and on the same ports where they are
    /// still free: each test gets some of those that nobody has, and so may have got these.
    pub(crate) async fn restart(&mut self) {
        self.end().await;
        self.run().await;
    }

    /// The state directory.
    pub(crate) fn state(&self) -> &Path {
        &self.config.state.dir
    }

    /// A copy of the state directory as a power cut would leave it.
    pub(crate) fn copy_state(&self) -> PathBuf {
        let copy = self.directory.join("copy");
        fs::create_dir_all(&copy).expect("writable");
        for file in ["scheduler.db", "scheduler.db-wal"] {
            fs::copy(self.state().join(file), copy.join(file)).expect("there");
        }
        copy
    }

    /// Asks as the administrator.
    pub(crate) async fn ask(&self, method: Method, path: &str, body: impl Into<String>) -> Answer {
        self.ask_as(Some(&self.admin), method, path, body).await
    }

    /// Asks with another token, or none.
    pub(crate) async fn ask_as(
        &self,
        token: Option<&str>,
        method: Method,
        path: &str,
        body: impl Into<String>,
    ) -> Answer {
        let response = self.request(token, method, path, body.into()).await;
        let status = response.status().as_u16();
        let mut text = Vec::new();
        let mut body = response.into_body();
        while let Some(part) = next_part(&mut body).await {
            text.extend_from_slice(&part);
        }
        let body = serde_json::from_slice(&text).unwrap_or(Value::Null);
        Answer { status, body }
    }

    /// Asks for a stream of lines; gives its body, to be read by [`next_line`].
    pub(crate) async fn stream(&self, method: Method, path: &str, body: impl Into<String>) -> Incoming {
        let response = self.request(Some(&self.admin), method, path, body.into()).await;
        assert_eq!(response.status(), 200, "{path}");
        response.into_body()
    }

    /// Applies a manifest.
    pub(crate) async fn apply(&self, manifest: &str) -> Answer {
        self.ask(Method::POST, "/v1/apply", manifest).await
    }

    /// Makes a join token.
    pub(crate) async fn token(&self, request: Value) -> String {
        let answer = self.ask(Method::POST, "/v1/nodes", request.to_string()).await;
        answer.body["token"].as_str().unwrap_or_else(|| panic!("no token: {}", answer.body)).to_owned()
    }

    /// Sends a join request, without any token of the API.
    pub(crate) async fn join(&self, token: &str, name: &str, csr: &str) -> Answer {
        let body = json!({ "token": token, "name": name, "csr": csr }).to_string();
        self.ask_as(None, Method::POST, "/v1/join", body).await
    }

    /// Connects to the API as a joining node does, by the pin of the CA.
    pub(crate) async fn dial_api(&self) -> TlsStream<TcpStream> {
        let authority = certificates(&self.authority).expect("PEM");
        let pin = KeyPin::of(&authority[0]).expect("a certificate");
        self.dial(self.config.api.listen, join_client(pin).expect("a client")).await.expect("the API answers")
    }

    /// Connects to `address` with a TLS set-up.
    pub(crate) async fn dial(
        &self,
        address: SocketAddr,
        tls: Arc<ClientConfig>,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        Ok(self.dial_wire(address, tls).await?.0)
    }

    /// Connects, and gives the bare connection besides, to cut it.
    pub(crate) async fn dial_wire(
        &self,
        address: SocketAddr,
        tls: Arc<ClientConfig>,
    ) -> std::io::Result<(TlsStream<TcpStream>, std::net::TcpStream)> {
        let wire = TcpStream::connect(address).await?.into_std()?;
        let stream = TcpStream::from_std(wire.try_clone()?)?;
        Ok((TlsConnector::from(tls).connect(server_name(), stream).await?, wire))
    }

    async fn run(&mut self) {
        let mut listeners = Listeners::bind(&self.config).await;
        if listeners.is_err() {
            self.config.api.listen.set_port(0);
            self.config.session.listen.set_port(0);
            listeners = Listeners::bind(&self.config).await;
        }
        let listeners = listeners.expect("some port is free");
        self.config.api.listen = listeners.api.local_addr().expect("bound");
        self.config.session.listen = listeners.session.local_addr().expect("bound");
        self.stop = CancellationToken::new();
        self.served = Some(tokio::spawn(serve(self.config.clone(), listeners, self.stop.clone())));
    }

    async fn end(&mut self) {
        self.stop.cancel();
        let served = self.served.take().expect("it runs");
        timeout(LIMIT, served).await.expect("in time").expect("no panic").expect("an orderly end");
    }

    async fn request(
        &self,
        token: Option<&str>,
        method: Method,
        path: &str,
        body: String,
    ) -> hyper::Response<Incoming> {
        let io = TokioIo::new(self.dial_api().await);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.expect("HTTP");
        tokio::spawn(connection);
        let kind = if body.starts_with('{') { "application/json" } else { "application/toml" };
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "scheduler")
            .header(header::CONTENT_TYPE, kind);
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let response = sender.send_request(request.body(body).expect("a request"));
        timeout(LIMIT, response).await.expect("in time").expect("an answer")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop.cancel();
        fs::remove_dir_all(&self.directory).ok();
    }
}

/// Reads the next line of a stream; `None` at its end.
pub(crate) async fn next_line(body: &mut Incoming, rest: &mut Vec<u8>) -> Option<Value> {
    loop {
        if let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            return Some(serde_json::from_slice(&line).expect("a line of JSON"));
        }
        rest.extend_from_slice(&next_part(body).await?);
    }
}

/// Reads the next piece of an answer; `None` at its end.
pub(crate) async fn next_part(body: &mut Incoming) -> Option<Bytes> {
    loop {
        let mut body: Pin<&mut Incoming> = pin!(&mut *body);
        let frame = future::poll_fn(|context| body.as_mut().poll_frame(context));
        let frame = timeout(LIMIT, frame).await.expect("in time")?.expect("a whole answer");
        if let Ok(part) = frame.into_data() {
            return Some(part);
        }
    }
}

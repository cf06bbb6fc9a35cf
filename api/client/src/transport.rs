//! One HTTP exchange over TLS, trusted by the pinned CA only.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::error::ClientError;

/// The name in the scheduler's certificate, whatever its address is.
const SERVER_NAME: &str = "scheduler.wherry.internal";
/// For the name, the connection and the TLS handshake together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// For the head of the answer; a look with `?after=` is held for up to 30 s.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// A body to send: whole, or a stream.
pub(crate) type Sent = BoxBody<Bytes, std::io::Error>;

/// Where the scheduler is and how it proves itself.
#[derive(Clone)]
pub(crate) struct Transport {
    pub(crate) server: String,
    tls: TlsConnector,
    /// The same, for HTTP/2.
    tls_both_ways: TlsConnector,
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transport").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Transport {
    /// Trusts `ca` (PEM) and nothing else.
    pub(crate) fn new(server: &str, ca: &str) -> Result<Self, ClientError> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
            let certificate = certificate.map_err(|error| ClientError::Ca(error.to_string()))?;
            roots.add(certificate).map_err(|error| ClientError::Ca(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(ClientError::Ca("there is no certificate in it".to_owned()));
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| ClientError::Ca(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut both_ways = config.clone();
        both_ways.alpn_protocols = vec![b"h2".to_vec()];
        let connector = |config| TlsConnector::from(Arc::new(config));
        Ok(Self { server: server.to_owned(), tls: connector(config), tls_both_ways: connector(both_ways) })
    }

    /// Sends one request on a connection of its own. `whole_in_time` bounds the time until the head of the answer;
    /// an upload takes as long as it takes.
    pub(crate) async fn exchange(
        &self,
        request: Request<Sent>,
        whole_in_time: bool,
    ) -> Result<Response<Incoming>, ClientError> {
        let mut sender = self.connect().await?;
        let answer = sender.send_request(request);
        let answer = if whole_in_time {
            timeout(ANSWER_TIMEOUT, answer).await.map_err(|_| self.timed_out(ANSWER_TIMEOUT))?
        } else {
            answer.await
        };
        answer.map_err(|error| match describe(&error) {
            // The door of the agents asks for a certificate, which people have not.
            reason if reason.contains("CertificateRequired") => {
                self.unreachable("this port is for agents; people ask at 7443, unless configured otherwise".to_owned())
            }
            reason => self.garbled(reason),
        })
    }

    /// Sends a request whose body goes on while its answer comes, over HTTP/2 on a connection of its own. The connection ends
    /// with the answer's body.
    pub(crate) async fn exchange_both_ways(&self, request: Request<Sent>) -> Result<Response<Incoming>, ClientError> {
        let stream = self.dial(&self.tls_both_ways).await?;
        let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| self.garbled(describe(&error)))?;
        // The exchange itself reports how the connection ended.
        tokio::spawn(connection);
        let (mut parts, body) = request.into_parts();
        // What HTTP/1 says in a header and a path stands in the address here.
        let address = format!("https://{}{}", self.server, parts.uri);
        parts.uri = address.parse().map_err(|_| self.unreachable("its address is none".to_owned()))?;
        parts.headers.remove(http::header::HOST);
        let answer = timeout(ANSWER_TIMEOUT, sender.send_request(Request::from_parts(parts, body))).await;
        answer.map_err(|_| self.timed_out(ANSWER_TIMEOUT))?.map_err(|error| self.garbled(describe(&error)))
    }

    async fn connect(&self) -> Result<http1::SendRequest<Sent>, ClientError> {
        let stream = self.dial(&self.tls).await?;
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(|error| self.garbled(describe(&error)))?;
        // The exchange itself reports how the connection ended.
        tokio::spawn(connection);
        Ok(sender)
    }

    async fn dial(&self, tls: &TlsConnector) -> Result<TlsStream<TcpStream>, ClientError> {
        let deadline = Instant::now() + CONNECT_TIMEOUT;
        let stream = timeout_at(deadline, TcpStream::connect(&self.server))
            .await
            .map_err(|_| self.timed_out(CONNECT_TIMEOUT))?
            .map_err(|error| {
                let is_incomplete = error.kind() == std::io::ErrorKind::InvalidInput;
                let wanted = || "write HOST:PORT, such as 192.0.2.10:7443".to_owned();
                self.unreachable(if is_incomplete { wanted() } else { error.to_string() })
            })?;
        // Requests are small and waited for; a failure here costs milliseconds only.
        let _ = stream.set_nodelay(true);
        let name = ServerName::try_from(SERVER_NAME).expect("the fixed name is a DNS name");
        timeout_at(deadline, tls.connect(name, stream))
            .await
            .map_err(|_| self.timed_out(CONNECT_TIMEOUT))?
            .map_err(|error| ClientError::Untrusted { server: self.server.clone(), reason: error.to_string() })
    }

    pub(crate) fn garbled(&self, reason: String) -> ClientError {
        ClientError::Garbled { server: self.server.clone(), reason }
    }

    fn unreachable(&self, reason: String) -> ClientError {
        ClientError::Unreachable { server: self.server.clone(), reason }
    }

    fn timed_out(&self, waited: Duration) -> ClientError {
        ClientError::Timeout { server: self.server.clone(), seconds: waited.as_secs() }
    }
}

/// An error with its causes, which hyper keeps apart.
pub(crate) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

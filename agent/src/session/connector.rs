//! The way to the scheduler: TCP that notices a dead peer, mutual TLS, HTTP/2 with small windows.

use std::{error::Error as StdError, io, net::SocketAddr, sync::Arc, time::Duration};

use api_daemon::identity::{
    SERVER_NAME,
    clock::ClockFloor,
    tls::{Credentials, TlsError, certificates, server_name, session_client},
};
use hyper_util::rt::TokioIo;
use proto::{limits, v1::dispatcher_client::DispatcherClient};
use rustls::ClientConfig;
use socket2::SockRef;
use thiserror::Error;
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use crate::membership::Membership;

/// How long dialling one address may take.
const DIAL_LIMIT: Duration = Duration::from_secs(5);
/// How long sent bytes may stay unacknowledged before the kernel gives the connection up.
const UNACKNOWLEDGED_LIMIT: Duration = Duration::from_secs(10);

/// The dispatcher at the other end.
pub(crate) type Dispatcher = DispatcherClient<Channel>;

/// Why there is no connection.
#[derive(Debug, Error)]
pub(crate) enum DialError {
    /// The address means nothing.
    #[error("cannot find {address}: {source}")]
    Lookup {
        /// Which.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// Nobody answers.
    #[error("cannot reach {address}: {source}")]
    Reach {
        /// Which.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// The kept identity is of no use.
    #[error(transparent)]
    Identity(#[from] TlsError),
    /// The handshake failed, or HTTP/2 after it.
    #[error("{address}: {reason}")]
    Refused {
        /// Where.
        address: String,
        /// Why.
        reason: String,
        /// Whether a certificate was refused, so that soon trying again is no use.
        certificate: bool,
    },
}

/// Dials the scheduler and shows this node's certificate.
pub(crate) async fn dial(membership: &Membership, floor: Arc<ClockFloor>) -> Result<Dispatcher, DialError> {
    let credentials = Credentials::from_pem(&membership.certificate, &membership.key)?;
    let config = session_client(credentials, certificates(&membership.authority)?, floor)?;
    let address = membership.session_address.clone();
    let stream = reach(&address).await?;
    // The stream exists before the channel asks for it; a second connection is never made by the channel itself.
    let mut stream = Some(stream);
    let connector = service_fn(move |_: Uri| {
        let (stream, config) = (stream.take(), config.clone());
        async move {
            let stream = stream.ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionAborted))?;
            handshake(stream, config).await
        }
    });
    let uri = Uri::builder().scheme("https").authority(SERVER_NAME).path_and_query("/").build();
    let endpoint = Endpoint::from(uri.expect("the parts are constants"))
        .initial_stream_window_size(limits::WINDOW_BYTES)
        .initial_connection_window_size(limits::CONNECTION_WINDOW_BYTES)
        .http2_max_header_list_size(limits::HEADER_LIST_BYTES_MAX)
        .http2_keep_alive_interval(limits::KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(limits::KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true);
    let channel = endpoint.connect_with_connector(connector).await.map_err(|error| {
        let refusal = certificate_refusal(&error);
        let certificate = refusal.is_some();
        DialError::Refused { address, reason: refusal.unwrap_or_else(|| chain(&error)), certificate }
    })?;
    Ok(DispatcherClient::new(channel)
        .max_decoding_message_size(limits::FROM_SCHEDULER_BYTES_MAX)
        .max_encoding_message_size(limits::FROM_AGENT_BYTES_MAX))
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// What a refused certificate means, for people; `None` where none was refused.
///
/// Between TLS and here HTTP/2 keeps an error's text but not its type, so the text is what there is to read.
pub(crate) fn certificate_refusal(error: &dyn StdError) -> Option<String> {
    let text = chain(error);
    let has = |alert: &str| text.contains(&format!("received fatal alert: {alert}"));
    if has("CertificateRevoked") {
        return Some("this node was removed from the cluster: join again with a new token".to_owned());
    }
    if has("CertificateExpired") {
        return Some("this node's certificate has expired: join again with a new token".to_owned());
    }
    let others = ["CertificateUnknown", "BadCertificate", "UnknownCA", "DecryptError", "AccessDenied"];
    if others.into_iter().any(has) {
        return Some(format!("the scheduler refuses this node's certificate: {text}"));
    }
    text.contains("invalid peer certificate").then(|| format!("this is not the scheduler of this cluster: {text}"))
}

async fn reach(address: &str) -> Result<TcpStream, DialError> {
    let lookup = |source| DialError::Lookup { address: address.to_owned(), source };
    let late = || io::Error::from(io::ErrorKind::TimedOut);
    let found = timeout(DIAL_LIMIT, lookup_host(address)).await.map_err(|_| lookup(late()))?.map_err(lookup)?;
    let targets: Vec<SocketAddr> = found.collect();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for target in targets {
        match timeout(DIAL_LIMIT, TcpStream::connect(target)).await.map_err(|_| late()).flatten() {
            Ok(stream) => {
                tune(&stream).map_err(|source| DialError::Reach { address: address.to_owned(), source })?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(DialError::Reach { address: address.to_owned(), source: last })
}

fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_user_timeout(Some(UNACKNOWLEDGED_LIMIT))
}

async fn handshake(
    stream: TcpStream,
    config: Arc<ClientConfig>,
) -> io::Result<TokioIo<tokio_rustls::client::TlsStream<TcpStream>>> {
    let connecting = TlsConnector::from(config).connect(server_name(), stream);
    let stream = timeout(limits::HANDSHAKE_TIMEOUT, connecting).await;
    Ok(TokioIo::new(stream.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??))
}

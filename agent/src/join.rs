//! Lets this node into a cluster: a pinned handshake, then the token, then a certificate for a key that stays here.

use std::{io, io::Read, path::PathBuf, time::Duration};

use api_daemon::identity::{
    SERVER_NAME,
    pin::Pin,
    tls::{NodeIdentity, TlsError, certificates, join_client, server_name},
    token::{JoinToken, TokenError},
};
use api_types::{
    id::NodeId,
    join::{JoinReply, JoinRequest},
    view::Problem,
};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rcgen::KeyPair;
use rustls::AlertDescription;
use thiserror::Error;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use crate::{
    args::JoinArguments,
    config::Config,
    last_assignments::LastAssignments,
    membership::{self, Membership, MembershipError},
};

/// How long each step of the way may take.
const STEP_LIMIT: Duration = Duration::from_secs(15);
/// The largest answer, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Why this node did not join.
#[derive(Debug, Error)]
pub(crate) enum JoinError {
    /// The token is none.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The token's file cannot be read.
    #[error("cannot read the token from {}: {source}", path.display())]
    TokenFile {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is a member already.
    #[error("this node has joined as `{0}` already; use --force to give that up and join anew")]
    Joined(NodeId),
    /// The host's name is no node's name.
    #[error("the host name `{0}` cannot be a node's name: say one with --name (a-z, 0-9 and inner hyphens)")]
    HostName(String),
    /// The address is incomplete.
    #[error("`{0}` is not an address to dial: use HOST:PORT")]
    Address(String),
    /// Nobody answers.
    #[error("cannot reach the scheduler at {address}: {reason}; check address, port and firewall")]
    Unreachable {
        /// Where.
        address: String,
        /// Why.
        reason: String,
    },
    /// Who answers is not the token's cluster.
    #[error("{address} is not the scheduler of this token: {reason}; nothing was sent to it")]
    Stranger {
        /// Where.
        address: String,
        /// Why.
        reason: String,
    },
    /// The exchange broke off.
    #[error("the scheduler at {address} broke off: {reason}")]
    Broken {
        /// Where.
        address: String,
        /// Why.
        reason: String,
    },
    /// The scheduler said no.
    #[error("the scheduler refused: {title}{hint}")]
    Refused {
        /// What is wrong.
        title: String,
        /// What to do next; may be empty.
        hint: String,
    },
    /// The answer does not fit the question.
    #[error("the scheduler's answer is of no use: {0}")]
    Answer(String),
    /// What came could not be kept.
    #[error(transparent)]
    Membership(#[from] MembershipError),
    /// The set-up of TLS failed.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The last assignments of an earlier cluster could not be forgotten.
    #[error("cannot forget the earlier cluster's assignments: {0}")]
    Forget(io::Error),
}

/// Joins, and gives the node's name.
pub(crate) async fn join(config: &Config, arguments: &JoinArguments) -> Result<NodeId, JoinError> {
    let token: JoinToken = read_token(arguments)?.parse()?;
    let name = match &arguments.name {
        Some(name) => name.clone(),
        None => host_name()?,
    };
    let _lock = membership::lock(&config.agent.state_dir)?;
    if !arguments.force
        && let Some(member) = Membership::load(&config.agent.state_dir)?
    {
        return Err(JoinError::Joined(member.node));
    }
    let key = KeyPair::generate().map_err(MembershipError::from)?;
    let csr = membership::signing_request(&key)?;
    let request = JoinRequest { token: token.to_string(), name: name.to_string(), csr };
    let reply = ask(&arguments.scheduler, token.pin, &request).await?;
    check(&reply, token.pin)?;
    let last = LastAssignments::open(&config.agent.state_dir, &config.agent.run_dir).map_err(JoinError::Forget)?;
    last.clear().map_err(JoinError::Forget)?;
    Membership::create(&config.agent.state_dir, &key, &reply)?;
    Ok(reply.node)
}

fn read_token(arguments: &JoinArguments) -> Result<String, JoinError> {
    let Some(path) = &arguments.token_file else {
        return Ok(arguments.token.clone().unwrap_or_default());
    };
    let mut text = String::new();
    let read = if path.as_os_str() == "-" {
        io::stdin().read_to_string(&mut text).map(drop)
    } else {
        std::fs::read_to_string(path).map(|read| text = read)
    };
    read.map_err(|source| JoinError::TokenFile { path: path.clone(), source })?;
    Ok(text)
}

/// The host's name without its domain.
fn host_name() -> Result<NodeId, JoinError> {
    let text = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let label = text.trim().split('.').next().unwrap_or_default().to_ascii_lowercase();
    NodeId::new(&label).map_err(|_| JoinError::HostName(text.trim().to_owned()))
}

async fn ask(address: &str, pin: Pin, request: &JoinRequest) -> Result<JoinReply, JoinError> {
    let port = address.rsplit_once(':').and_then(|(host, port)| port.parse::<u16>().ok().filter(|_| !host.is_empty()));
    if port.is_none() {
        return Err(JoinError::Address(address.to_owned()));
    }
    let unreachable = |reason: String| JoinError::Unreachable { address: address.to_owned(), reason };
    let broken = |reason: String| JoinError::Broken { address: address.to_owned(), reason };
    let late = |_| unreachable(format!("no answer within {} s", STEP_LIMIT.as_secs()));
    let stream = timeout(STEP_LIMIT, TcpStream::connect(address)).await.map_err(late)?;
    let stream = stream.map_err(|error| unreachable(error.to_string()))?;
    let connector = TlsConnector::from(join_client(pin)?);
    let stream = timeout(STEP_LIMIT, connector.connect(server_name(), stream)).await.map_err(late)?;
    let stream = stream
        .map_err(|error| JoinError::Stranger { address: address.to_owned(), reason: handshake_reason(&error) })?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(error.to_string()))?;
    let carrying = tokio::spawn(connection);
    let body = serde_json::to_vec(request).expect("texts always become JSON");
    let request = Request::post("/v1/join")
        .header(header::HOST, SERVER_NAME)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .expect("the parts are constants");
    let response = timeout(STEP_LIMIT, sender.send_request(request)).await.map_err(late)?;
    let response = response.map_err(|error| broken(error.to_string()))?;
    let status = response.status();
    let body = timeout(STEP_LIMIT, Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect()).await;
    let body = body.map_err(late)?.map_err(|error| broken(error.to_string()))?.to_bytes();
    carrying.abort();
    if !status.is_success() {
        return Err(refusal(status, &body));
    }
    serde_json::from_slice(&body).map_err(|error| JoinError::Answer(error.to_string()))
}

fn refusal(status: StatusCode, body: &[u8]) -> JoinError {
    let problem: Problem = serde_json::from_slice(body).unwrap_or_default();
    let title = if problem.title.is_empty() { status.to_string() } else { problem.title };
    let hint = if problem.hint.is_empty() { String::new() } else { format!("; {}", problem.hint) };
    JoinError::Refused { title, hint }
}

fn handshake_reason(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::General(reason)) => reason.clone(),
        Some(rustls::Error::InvalidMessage(_)) => "it does not speak TLS".to_owned(),
        Some(rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)) => {
            "this is another port of it; `wherry node add` prints the right one".to_owned()
        }
        Some(other) => other.to_string(),
        None => error.to_string(),
    }
}

/// Whether the answer is what was asked for: a certificate for this very node, and the CA that was pinned.
fn check(reply: &JoinReply, pin: Pin) -> Result<(), JoinError> {
    let node = NodeIdentity::of(&certificates(&reply.certificate)?[0])?.node;
    if node != reply.node.as_str() {
        return Err(JoinError::Answer(format!("the certificate is for `{node}`, the name is `{}`", reply.node)));
    }
    let pinned = certificates(&reply.ca)?.iter().any(|ca| Pin::of(ca).is_ok_and(|found| found == pin));
    if pinned { Ok(()) } else { Err(JoinError::Answer("its CA is not the token's".to_owned())) }
}

//! The TLS set-ups of the system: the API, sessions at the scheduler, a node's first contact, a node's session, and both ends
//! of a tunnel between two nodes.

use std::{fmt, sync::Arc};

use rustls::{
    ClientConfig, Error as RustlsError, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier},
};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer, ServerName,
    pem::{self, PemObject},
};
use thiserror::Error;
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};

use super::{
    clock::ClockFloor,
    peer_verifier::PeerVerifier,
    pin::{Pin, PinError},
    verifier::{NodeVerifier, SchedulerVerifier, Trust, scheduler_name},
};

/// Says whether a node was removed from the cluster; asked at each handshake.
pub type DenyCheck = Arc<dyn Fn(&NodeIdentity) -> bool + Send + Sync>;

/// A certificate chain, leaf first, and the key of the leaf.
pub struct Credentials {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

/// Who a node's certificate says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeIdentity {
    /// Its key.
    pub pin: Pin,
    /// The cluster's id.
    pub cluster: String,
    /// The node's name.
    pub node: String,
}

/// Why a TLS set-up or an identity could not be made.
#[derive(Debug, Error)]
pub enum TlsError {
    /// The PEM text holds no certificate, or a broken one.
    #[error("no certificate in the PEM text: {0}")]
    Certificate(pem::Error),
    /// The PEM text holds no private key, or a broken one.
    #[error("no private key in the PEM text: {0}")]
    Key(pem::Error),
    /// Certificate and key do not belong together, or are of no use here.
    #[error("the certificate and its key are refused: {0}")]
    Refused(#[from] RustlsError),
    /// The CA is of no use.
    #[error("the CA is refused: {0}")]
    Authority(#[from] VerifierBuilderError),
    /// The certificate cannot be read.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// The certificate names no node.
    #[error("the certificate names no node: it must carry one `spiffe://CLUSTER/node/NAME`")]
    NoNode,
}

impl Credentials {
    /// Reads a chain (leaf first) and a key from PEM.
    ///
    /// # Errors
    /// When either is missing or broken.
    pub fn from_pem(chain: &str, key: &str) -> Result<Self, TlsError> {
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(TlsError::Key)?;
        Ok(Self { chain: certificates(chain)?, key })
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("certificates", &self.chain.len()).finish_non_exhaustive()
    }
}

impl NodeIdentity {
    /// Reads who a node's certificate says it is. The chain must have been verified before.
    ///
    /// # Errors
    /// When it carries no such name, or more than one.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, TlsError> {
        let pin = Pin::of(certificate)?;
        let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| TlsError::NoNode)?;
        let names = parsed.subject_alternative_name().ok().flatten().ok_or(TlsError::NoNode)?;
        let [GeneralName::URI(uri)] = names.value.general_names.as_slice() else {
            return Err(TlsError::NoNode);
        };
        let path = uri.strip_prefix("spiffe://").ok_or(TlsError::NoNode)?;
        let (cluster, node) = path.split_once("/node/").ok_or(TlsError::NoNode)?;
        if cluster.is_empty() || node.is_empty() || node.contains('/') {
            return Err(TlsError::NoNode);
        }
        Ok(Self { pin, cluster: cluster.to_owned(), node: node.to_owned() })
    }
}

/// The scheduler's fixed name, for a connector that asks for one.
#[must_use]
pub fn server_name() -> ServerName<'static> {
    scheduler_name()
}

/// Makes *ring* the process's cryptography; called first in `main`.
pub fn install_provider() {
    // An error means that it is installed already.
    ring::default_provider().install_default().ok();
}

/// Reads all certificates of a PEM text.
///
/// # Errors
/// When there is none, or a broken one.
pub fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Vec<_> =
        CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().map_err(TlsError::Certificate)?;
    if found.is_empty() { Err(TlsError::Certificate(pem::Error::NoItemsFound)) } else { Ok(found) }
}

/// Reads when a certificate's validity begins and ends, in seconds since 1970.
///
/// # Errors
/// When the bytes are not a certificate.
pub fn validity(certificate: &CertificateDer<'_>) -> Result<(u64, u64), TlsError> {
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|error| PinError::Certificate(error.to_string()))?;
    let seconds = |time: i64| u64::try_from(time).unwrap_or(0);
    Ok((seconds(parsed.validity().not_before.timestamp()), seconds(parsed.validity().not_after.timestamp())))
}

/// The API's side: no certificate is asked for; whoever asks shows a token. The chain must hold the CA besides the
/// leaf, or a joining node cannot find the pinned key.
///
/// # Errors
/// When certificate and key do not fit.
pub fn api_server(credentials: Credentials) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(credentials.chain, credentials.key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The sessions' side: only nodes with a certificate of the cluster's CA that were not removed. No session is resumed,
/// so that each handshake asks `denied`.
///
/// # Errors
/// When certificate, key or CA are of no use.
pub fn session_server(
    credentials: Credentials,
    authorities: Vec<CertificateDer<'static>>,
    denied: DenyCheck,
) -> Result<Arc<ServerConfig>, TlsError> {
    let mut roots = RootCertStore::empty();
    for ca in authorities {
        roots.add(ca)?;
    }
    let chain = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build()?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(Arc::new(NodeVerifier { chain, denied }))
        .with_single_cert(credentials.chain, credentials.key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// A node's first contact: the server's chain must hold the pinned key, and its leaf must be signed by it under the
/// fixed name. Nothing secret may be sent before the handshake is done.
///
/// # Errors
/// When the provider lacks safe versions.
pub fn join_client(pin: Pin) -> Result<Arc<ClientConfig>, TlsError> {
    let verifier = scheduler_verifier(Trust::Pin(pin), Arc::default());
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

/// A node's session: both sides show a certificate of the bundle.
///
/// # Errors
/// When certificate and key do not fit.
pub fn session_client(
    credentials: Credentials,
    authorities: Vec<CertificateDer<'static>>,
    floor: Arc<ClockFloor>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let verifier = scheduler_verifier(Trust::Bundle(authorities), floor);
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(credentials.chain, credentials.key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

/// The protocol that is spoken in a tunnel between two nodes.
const TUNNEL_PROTOCOL: &[u8] = b"wherry-tunnel/1";

/// The end of a tunnel that is dialled: only nodes of the cluster. Which node it is, [`NodeIdentity::of`] says afterwards. No
/// session is resumed, so that each handshake shows the certificate.
///
/// # Errors
/// When certificate, key or CA are of no use.
pub fn tunnel_server(
    credentials: Credentials,
    authorities: Vec<CertificateDer<'static>>,
    floor: Arc<ClockFloor>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(PeerVerifier::new(authorities, floor)?))
        .with_single_cert(credentials.chain, credentials.key)?;
    config.alpn_protocols = vec![TUNNEL_PROTOCOL.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// The end of a tunnel that dials. It believes any node of the cluster: whether it is the one that was meant,
/// [`NodeIdentity::of`] says afterwards, before anything is sent.
///
/// # Errors
/// When certificate, key or CA are of no use.
pub fn tunnel_client(
    credentials: Credentials,
    authorities: Vec<CertificateDer<'static>>,
    floor: Arc<ClockFloor>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PeerVerifier::new(authorities, floor)?))
        .with_client_auth_cert(credentials.chain, credentials.key)?;
    config.alpn_protocols = vec![TUNNEL_PROTOCOL.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

fn scheduler_verifier(trust: Trust, floor: Arc<ClockFloor>) -> Arc<SchedulerVerifier> {
    Arc::new(SchedulerVerifier { trust, floor, algorithms: provider().signature_verification_algorithms })
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

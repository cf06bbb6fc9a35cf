//! Who this node is in handshakes, and who the other end is.

use std::sync::Arc;

use api_daemon::identity::{
    clock::ClockFloor,
    tls::{Credentials, NodeIdentity, TlsError, certificates, tunnel_client, tunnel_server},
};
use api_types::id::NodeId;
use rustls::{ClientConfig, CommonState, ServerConfig};

/// This node's certificate and whom it believes.
#[derive(Clone, Debug)]
pub struct Identity {
    pub(crate) client: Arc<ClientConfig>,
    pub(crate) server: Arc<ServerConfig>,
    cluster: String,
}

impl Identity {
    /// Reads certificate, key and the cluster's CAs from PEM.
    ///
    /// # Errors
    /// When one of them is of no use.
    pub fn new(certificate: &str, key: &str, authority: &str, floor: &Arc<ClockFloor>) -> Result<Self, TlsError> {
        let credentials = || Credentials::from_pem(certificate, key);
        let authorities = || certificates(authority);
        let own = certificates(certificate)?;
        Ok(Self {
            client: tunnel_client(credentials()?, authorities()?, Arc::clone(floor))?,
            server: tunnel_server(credentials()?, authorities()?, Arc::clone(floor))?,
            cluster: NodeIdentity::of(own.first().ok_or(TlsError::NoNode)?)?.cluster,
        })
    }

    /// The node at the other end of a handshake that succeeded; `None` = it is of another cluster.
    pub(crate) fn other(&self, connection: &CommonState) -> Option<NodeId> {
        let identity = NodeIdentity::of(connection.peer_certificates()?.first()?).ok()?;
        (identity.cluster == self.cluster).then(|| NodeId::new(&identity.node).ok())?
    }
}

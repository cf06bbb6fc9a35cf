//! The durable records beside the core's: who is who, and which archives are here.

use std::collections::BTreeMap;

use api_types::{id::NodeId, net::Cidr, time::Timestamp};
use serde::{Deserialize, Serialize};

/// Key of the [`ClusterRecord`].
pub(crate) const CLUSTER_KEY: &str = "cluster";
/// Key of the authority's [`CertificateRecord`].
pub(crate) const AUTHORITY_KEY: &str = "authority";
/// Key of the scheduler's own [`CertificateRecord`].
pub(crate) const SERVER_KEY: &str = "server";
/// Keys of [`ApiTokenRecord`]s, before the id.
pub(crate) const API_TOKEN_PREFIX: &str = "api-token/";
/// Keys of [`JoinTokenRecord`]s, before the id.
pub(crate) const JOIN_TOKEN_PREFIX: &str = "join-token/";
/// Keys of [`NodeKeysRecord`]s, before the node's name.
pub(crate) const NODE_KEYS_PREFIX: &str = "node-keys/";
/// Keys of loaded archives' digests, before an image's reference.
pub(crate) const IMAGE_PREFIX: &str = "image/";

/// What the cluster is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClusterRecord {
    /// Its id: 16 characters, made at random.
    pub(crate) id: String,
    /// When it was made.
    pub(crate) created_at: Timestamp,
    /// The range of all instances' addresses; never changes.
    pub(crate) cluster_range: Cidr,
    /// The range of all virtual addresses; never changes.
    pub(crate) service_range: Cidr,
}

/// A certificate and its key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CertificateRecord {
    /// PEM.
    pub(crate) certificate: String,
    /// PEM of the PKCS#8 key.
    pub(crate) key: String,
    /// When it begins to be valid.
    pub(crate) begins_at: Timestamp,
    /// When it stops being valid.
    pub(crate) ends_at: Timestamp,
}

impl std::fmt::Debug for CertificateRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The key stays out of every log.
        f.debug_struct("CertificateRecord").field("begins_at", &self.begins_at).field("ends_at", &self.ends_at).finish()
    }
}

/// A token of the API, as kept: its hash, never itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ApiTokenRecord {
    /// SHA-256 of the secret, hexadecimal.
    pub(crate) secret_sha256: String,
    /// `viewer`, `deployer`, `operator` or `admin`.
    pub(crate) role: String,
    /// Until when it is good; `None` = as long as the cluster exists.
    pub(crate) expires_at: Option<Timestamp>,
}

/// A join token, as kept: its hash, never itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JoinTokenRecord {
    /// SHA-256 of the secret, hexadecimal.
    pub(crate) secret_sha256: String,
    /// Until when it is good.
    pub(crate) expires_at: Timestamp,
    /// How many nodes may still join by it.
    pub(crate) uses_left: u32,
    /// The only name it is good for; `None` = any name that is free.
    pub(crate) name: Option<NodeId>,
    /// The site of nodes that join by it.
    pub(crate) site: String,
    /// The labels of nodes that join by it.
    pub(crate) labels: BTreeMap<String, String>,
}

/// The keys with which a node may prove who it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeKeysRecord {
    /// Pins of the keys, the newest last.
    pub(crate) pins: Vec<String>,
    /// The join token by which it joined.
    pub(crate) joined_by: String,
}

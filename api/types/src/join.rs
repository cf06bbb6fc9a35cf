//! How a node is let in: what is asked for, sent and given.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::NodeId;

/// What a joining node sends: its token and a certificate signing request for its own key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinRequest {
    /// `WJ1-...`
    pub token: String,
    /// The name it wants, where the token leaves that open.
    pub name: String,
    /// PEM of a PKCS#10 request; every name in it is ignored.
    pub csr: String,
}

/// What a joined node gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinReply {
    /// Its name in the cluster.
    pub node: NodeId,
    /// PEM of its certificate.
    pub certificate: String,
    /// PEM of the cluster's CA.
    pub ca: String,
    /// Where sessions are opened (`host:port`).
    pub session_address: String,
}

/// What a person wants to know of a new node's token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeTokenRequest {
    /// Binds the token to this name; `None` = the node brings its own.
    #[serde(default)]
    pub name: Option<NodeId>,
    /// The site it will be in.
    #[serde(default)]
    pub site: Option<String>,
    /// The labels it will have.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// How long the token is good, in milliseconds; `None` = one hour; at most 30 days.
    #[serde(default)]
    pub lifetime_ms: Option<u64>,
    /// How many nodes may join by it; `None` = one.
    #[serde(default)]
    pub uses: Option<u32>,
}

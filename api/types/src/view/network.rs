//! What `wherry net verify` and `wherry net trace` show: what nodes found when they tried their network.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{
    container::Protocol,
    id::{NodeId, WorkloadId},
};

/// What shall be tried.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifyRequest {
    /// The ways to these services alone; empty: every way, to the nodes, too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<WorkloadId>,
}

/// What all nodes found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkVerdict {
    /// The version of the service table that every node should have.
    pub generation: u64,
    /// The nodes, sorted by name.
    pub nodes: Vec<NetworkReport>,
}

/// What one node found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkReport {
    /// Which node.
    pub node: NodeId,
    /// What it tried, in the order of the kinds.
    pub checks: Vec<NetworkCheck>,
    /// How many checks it left out because there are more than it makes for one question.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub untried: u64,
}

/// One thing that was tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkCheck {
    /// What kind of thing.
    pub kind: CheckKind,
    /// Which one: a node, `shop/web tcp/80`, an instance, a name.
    pub subject: String,
    /// How long it took, in microseconds.
    pub took_us: u64,
    /// What went wrong; `None`: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<NetworkFailure>,
    /// What came of the datagram, where one was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datagram: Option<Datagram>,
}

/// What was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckKind {
    /// Whether the node answers at all, and has the scheduler's service table.
    Table,
    /// Whether the kernel holds what the node programmed.
    Kernel,
    /// Another node's address, with packets as large as the link takes.
    Node,
    /// Another node's range of instances, from this node's range, with packets as large as instances send.
    Range,
    /// A port of a virtual address.
    Service,
    /// One endpoint, asked directly.
    Endpoint,
    /// A name.
    Names,
    /// Another site's node, by a tunnel.
    Tunnel,
}

/// What came of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Datagram {
    /// An answer.
    Answers,
    /// Nothing, and nothing is known to be in its way. That is no failure and proves nothing: many programs answer only what
    /// they understand.
    Silent,
    /// A refusal: nobody listens there.
    Refused,
    /// Nothing, and it is known why: see the failure.
    Stopped,
}

/// Why something failed and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkFailure {
    /// What went wrong, in one line.
    pub reason: String,
    /// What to do about it, in one line.
    pub remedy: String,
}

/// A question of the way from one place to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceRequest {
    /// An instance, a node or an address.
    pub from: String,
    /// A service, an instance, a node or an address.
    pub to: String,
    /// The port.
    pub port: u16,
    /// The transport.
    pub protocol: Protocol,
}

/// The way from one place to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkTrace {
    /// Where the packet begins: the node that looked.
    pub node: NodeId,
    /// Its source.
    pub source: IpAddr,
    /// Its destination.
    pub destination: IpAddr,
    /// What happens to it, in order.
    pub steps: Vec<TraceStep>,
}

/// One thing that happens to a packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceStep {
    /// Where: `rule`, `endpoint`, `route`, `access`, `connection` or `datagram`.
    pub at: String,
    /// What happens, in one line.
    pub what: String,
    /// Whether it goes no further.
    pub stops: bool,
}

impl NetworkVerdict {
    /// How much failed.
    #[must_use]
    pub fn failures(&self) -> usize {
        self.nodes.iter().flat_map(|node| &node.checks).filter(|check| check.failure.is_some()).count()
    }

    /// How many datagrams nobody answered, without a known reason.
    #[must_use]
    pub fn silences(&self) -> usize {
        let silent = |check: &&NetworkCheck| check.datagram == Some(Datagram::Silent);
        self.nodes.iter().flat_map(|node| &node.checks).filter(silent).count()
    }
}

impl NetworkCheck {
    /// One that went well.
    #[must_use]
    pub fn passed(kind: CheckKind, subject: impl Into<String>, took_us: u64) -> Self {
        Self { kind, subject: subject.into(), took_us, failure: None, datagram: None }
    }

    /// One that failed.
    #[must_use]
    pub fn failed(
        kind: CheckKind,
        subject: impl Into<String>,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let failure = NetworkFailure { reason: reason.into(), remedy: remedy.into() };
        Self { kind, subject: subject.into(), took_us: 0, failure: Some(failure), datagram: None }
    }

    /// The same of a datagram.
    #[must_use]
    pub fn by_datagram(self, outcome: Datagram) -> Self {
        Self { datagram: Some(outcome), ..self }
    }
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

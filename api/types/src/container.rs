//! What one container runs, and with which rights.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    balance::Bind,
    content::ContentSpec,
    id::Name,
    net::{IpRange, IpVersion},
};

/// What to run in an instance. `None` means: as the image says.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerSpec {
    /// The image, as a full reference (`registry.lan/shop/web:1.4.2`).
    pub image: String,
    /// Replaces the image's entrypoint.
    #[serde(default)]
    pub command: Option<Vec<String>>,
    /// Replaces the image's arguments.
    #[serde(default)]
    pub args: Option<Vec<String>>,
    /// Added to the image's environment; equal names win over it.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// `user`, `user:group`, by name or number.
    #[serde(default)]
    pub user: Option<String>,
    /// Absolute path to start in.
    #[serde(default)]
    pub workdir: Option<String>,
    /// What is mounted, by its absolute path inside.
    #[serde(default)]
    pub mounts: BTreeMap<String, Mount>,
    /// Whether the root file system is read-only.
    #[serde(default)]
    pub read_only: bool,
    /// Capabilities beyond the default nine, without the `CAP_` prefix.
    #[serde(default)]
    pub capabilities_add: Vec<String>,
    /// Capabilities taken from the default nine, without the `CAP_` prefix; `ALL` takes every one.
    #[serde(default)]
    pub capabilities_drop: Vec<String>,
    /// The signal that asks the process to end (`SIGTERM`), by name.
    #[serde(default)]
    pub stop_signal: Option<String>,
    /// Milliseconds between that signal and SIGKILL.
    pub stop_grace_ms: u64,
    /// How long its open connections may last before that signal, in milliseconds; new ones go elsewhere meanwhile.
    #[serde(default = "usual_drain", skip_serializing_if = "is_usual_drain")]
    pub drain_ms: u64,
    /// Whose network it is in.
    #[serde(default, skip_serializing_if = "NetworkMode::is_own")]
    pub network: NetworkMode,
    /// Whether its process has an input that people can write to while they are attached; else it finds the end of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stdin: bool,
    /// Whether its process has a terminal: one output for all that it writes, a size, keys that are signals.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tty: bool,
    /// The files and secrets it is shown.
    #[serde(default, skip_serializing_if = "ContentSpec::is_default")]
    pub content: ContentSpec,
}

/// Whose network a container is in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkMode {
    /// One of its own, with an address of its own.
    #[default]
    Own,
    /// One of its own, that nobody is led into but by ports of the nodes: it has an address that others are not told of, and
    /// that lets nobody else in.
    Published,
    /// The node's: it is reached at the node's address, and each of its ports is the node's port of the same number.
    Host,
}

impl NetworkMode {
    /// The word people write.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Published => "published",
            Self::Host => "host",
        }
    }

    /// Whether it is what is meant where nobody said anything.
    #[must_use]
    pub fn is_own(&self) -> bool {
        *self == Self::Own
    }
}

/// Milliseconds between the signal that asks a process to end and SIGKILL, unless a spec says otherwise.
pub const STOP_GRACE_MS: u64 = 10_000;

/// Milliseconds that open connections may last before that signal, unless a spec says otherwise.
pub const DRAIN_MS: u64 = 10_000;

fn usual_drain() -> u64 {
    DRAIN_MS
}

fn is_usual_drain(drain_ms: &u64) -> bool {
    *drain_ms == DRAIN_MS
}

impl ContainerSpec {
    /// Whether a container of this spec can go on as one of `other`: nothing differs, or only what may change under it.
    #[must_use]
    pub fn runs_the_same_as(&self, other: &Self) -> bool {
        let bare = |spec: &Self| Self { content: ContentSpec::default(), ..spec.clone() };
        self.content.can_become(&other.content) && bare(self) == bare(other)
    }

    /// Every image that must be here to start it: its own, then those whose files it is shown.
    pub fn images(&self) -> impl Iterator<Item = &str> {
        let mounted = self.mounts.values().filter_map(|mount| match mount {
            Mount::Image { image } => Some(image.as_str()),
            Mount::Host { .. } | Mount::Volume { .. } | Mount::Tmpfs { .. } => None,
        });
        std::iter::once(self.image.as_str()).chain(mounted)
    }

    /// An image as it is: its own command, arguments, user and directory; nothing mounted or added, a root file system
    /// that can be written to, the default capabilities, [`DRAIN_MS`] for its connections and [`STOP_GRACE_MS`] to end.
    #[must_use]
    pub fn of_image(image: impl Into<String>) -> Self {
        Self {
            image: image.into(),
            command: None,
            args: None,
            env: BTreeMap::new(),
            user: None,
            workdir: None,
            mounts: BTreeMap::new(),
            read_only: false,
            capabilities_add: Vec::new(),
            capabilities_drop: Vec::new(),
            stop_signal: None,
            stop_grace_ms: STOP_GRACE_MS,
            drain_ms: DRAIN_MS,
            network: NetworkMode::Own,
            stdin: false,
            tty: false,
            content: ContentSpec::default(),
        }
    }
}

/// One thing mounted into a container.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Mount {
    /// A path of the node; allowed only below the prefixes in the node's own configuration.
    Host {
        /// Absolute path on the node.
        path: String,
        /// Whether the container may not write to it.
        read_only: bool,
    },
    /// Data that stays on its node and keeps the slot's instances there: one directory for each slot.
    Volume {
        /// Its name, unique in the workload.
        name: Name,
        /// Whether the container may not write to it.
        read_only: bool,
    },
    /// The files of an image, which nobody can change.
    Image {
        /// Its full reference.
        image: String,
    },
    /// Memory that goes with the container.
    Tmpfs {
        /// Size in bytes.
        bytes_max: u64,
    },
}

/// The transport of a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// `tcp` or `udp`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// The most ranges that one port of the nodes can be kept for.
pub const ALLOW_MAX: usize = 64;

/// One port of a workload.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortSpec {
    /// Its name in the manifest.
    pub name: String,
    /// The port that the process listens on.
    pub container: u16,
    /// The transport.
    #[serde(default)]
    pub protocol: Protocol,
    /// The port of the service's virtual address; the container's unless said otherwise. Services only.
    pub service: u16,
    /// The port on every node that leads to the service. Services only.
    #[serde(default)]
    pub publish: Option<u16>,
    /// Whether the process speaks HTTP/1.1 there, so that `publish` is a listener of the agent. Services only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub http: bool,
    /// The port on the instance's own node that leads to this very instance.
    #[serde(default)]
    pub host: Option<u16>,
    /// Where on the nodes `publish` and `host` answer; `None` = at every address of the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bind: Option<Bind>,
    /// Who may connect to `publish` and `host` from beyond the node; empty = everybody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<IpRange>,
}

impl PortSpec {
    /// Whether clients find its ports of the nodes by this version of the protocol, where its workload answers by IPv6 or does
    /// not. A listener that shares out HTTP has both versions in any case.
    #[must_use]
    pub fn answers_by(&self, version: IpVersion, workload_has_ipv6: bool) -> bool {
        let has = version == IpVersion::Four || workload_has_ipv6 || (self.http && self.publish.is_some());
        has && self.bind.as_ref().is_none_or(|bind| bind.has(version))
    }
}

//! The agent's configuration: `packaging/config/agent.toml` shows every key with its default.

mod registry;

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    path::PathBuf,
};

use agent_network::{Firewall, TableGuard};
use api_daemon::config_file::{Key, Kind};
use api_types::{container::Protocol, id::NodeId, resources::Resources};
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use registry::RegistrySection;

use crate::devices::{self, DeviceProblem, DeviceSection, OwnDevice};

/// Where the configuration is unless somebody says otherwise.
pub const DEFAULT_PATH: &str = "/etc/wherry/agent.toml";

/// Keys that environment variables may set, as `WHERRY_<SECTION>_<KEY>`.
pub const KEYS: &[Key] = &[
    Key { path: "agent.state_dir", kind: Kind::Text },
    Key { path: "agent.run_dir", kind: Kind::Text },
    Key { path: "agent.log_dir", kind: Kind::Text },
    Key { path: "agent.log", kind: Kind::Text },
    Key { path: "agent.host_path_prefixes", kind: Kind::List },
    Key { path: "agent.capabilities_ceiling", kind: Kind::List },
    Key { path: "containerd.socket", kind: Kind::Text },
    Key { path: "containerd.namespace", kind: Kind::Text },
    Key { path: "containerd.snapshotter", kind: Kind::Text },
    Key { path: "containerd.cgroup_parent", kind: Kind::Text },
    Key { path: "containerd.logger", kind: Kind::Text },
    Key { path: "network.address", kind: Kind::Text },
    Key { path: "network.interface_prefix", kind: Kind::Text },
    Key { path: "network.table", kind: Kind::Text },
    Key { path: "network.table_owned", kind: Kind::Switch },
    Key { path: "network.firewall", kind: Kind::Text },
    Key { path: "network.node_ports", kind: Kind::List },
    Key { path: "network.allow_host_network", kind: Kind::Switch },
    Key { path: "network.tunnel_port", kind: Kind::Number },
    Key { path: "network.tunnel_address", kind: Kind::Text },
    Key { path: "logs.bytes_max", kind: Kind::Number },
    Key { path: "logs.files_max", kind: Kind::Number },
    Key { path: "capacity.cpu_millis", kind: Kind::Number },
    Key { path: "capacity.memory_bytes", kind: Kind::Number },
];

/// The folder in the state directory that holds volumes.
const VOLUMES: &str = "volumes";

/// All that a person can say of one agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The program itself.
    pub agent: AgentSection,
    /// The container runtime.
    pub containerd: ContainerdSection,
    /// The kernel's networking.
    pub network: NetworkSection,
    /// The instances' output.
    pub logs: LogsSection,
    /// What the node may give away.
    pub capacity: CapacitySection,
    /// Registries that are not plain public HTTPS.
    pub registry: Vec<RegistrySection>,
    /// What the node has few of and gives to instances.
    pub device: Vec<DeviceSection>,
}

/// The program itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AgentSection {
    /// What outlives a reboot: identity, last assignments.
    pub state_dir: PathBuf,
    /// What does not: network namespaces, files made for instances.
    pub run_dir: PathBuf,
    /// The instances' output, a directory each.
    pub log_dir: PathBuf,
    /// Which log lines to write (`info`, or `info,agent=debug`).
    pub log: String,
    /// A mount of the node's own paths is allowed below these only.
    pub host_path_prefixes: Vec<PathBuf>,
    /// Capabilities beyond the default nine that a container may have here, without `CAP_`.
    pub capabilities_ceiling: Vec<String>,
}

/// The container runtime.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ContainerdSection {
    /// containerd's socket.
    pub socket: PathBuf,
    /// The containerd namespace that is ours alone. Several agents on one machine need different ones.
    pub namespace: String,
    /// The snapshotter.
    pub snapshotter: String,
    /// The cgroup above all containers, from each hierarchy's root. Several agents on one machine need different ones.
    pub cgroup_parent: String,
    /// The program that writes the instances' output; empty = `wherry-logger` beside the agent's own program.
    pub logger: PathBuf,
}

/// The kernel's networking.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkSection {
    /// The address at which other nodes reach this one; empty = the one from which the scheduler is reached.
    pub address: String,
    /// How the names of the instances' links begin, at most 5 bytes.
    pub interface_prefix: String,
    /// The name of our one nftables table.
    pub table: String,
    /// Whether the kernel shall refuse changes of the table by others (Linux 6.9; older kernels: watched).
    pub table_owned: bool,
    /// What is done about other programs' tables that drop what is forwarded.
    pub firewall: FirewallChoice,
    /// Ports of nodes that instances here may ask besides names and published ports (`tcp/5432`).
    pub node_ports: Vec<NodePort>,
    /// Whether workloads may run in the node's own network, if they ask for it.
    pub allow_host_network: bool,
    /// The TCP port at which agents of other sites dial this one; 0 = this one alone dials.
    pub tunnel_port: u16,
    /// Where they dial it, as `address:port`; empty = the node's address and `tunnel_port`.
    pub tunnel_address: String,
}

/// What is done about other programs' tables that drop what is forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FirewallChoice {
    /// Rules of ours let it pass where `iptables` or `ip6tables` drops it.
    Open,
    /// It is reported, and other tables' rules for INPUT say who comes in at ports of the node.
    Respect,
}

/// A port of nodes, written `tcp/5432`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodePort(pub Protocol, pub u16);

impl TryFrom<String> for NodePort {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let port = text.split_once('/').and_then(|(protocol, port)| {
            let protocol = [Protocol::Tcp, Protocol::Udp].into_iter().find(|known| known.as_str() == protocol)?;
            Some(Self(protocol, port.parse().ok().filter(|port| *port > 0)?))
        });
        port.ok_or_else(|| format!("`{text}` is not a port: write \"tcp/5432\" or \"udp/514\""))
    }
}

impl From<NodePort> for String {
    fn from(NodePort(protocol, port): NodePort) -> Self {
        format!("{}/{port}", protocol.as_str())
    }
}

/// The instances' output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogsSection {
    /// Size in bytes at which a log file is followed by the next.
    pub bytes_max: u64,
    /// How many log files an instance keeps.
    pub files_max: u32,
}

/// What the node may give away; 0 = all that the machine has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CapacitySection {
    /// Thousandths of one CPU.
    pub cpu_millis: u64,
    /// Bytes of memory.
    pub memory_bytes: u64,
}

/// A setting that makes no sense.
#[derive(Debug, Error)]
pub enum ConfigProblem {
    /// The address is not one.
    #[error("network.address: `{0}` is not an IPv4 address")]
    Address(String),
    /// Where tunnels are dialled is no address and port.
    #[error("network.tunnel_address: `{0}` is not an IPv4 address and port such as 203.0.113.7:7449")]
    TunnelAddress(String),
    /// A path would depend on where the program is started.
    #[error("{key}: `{}` must be an absolute path", path.display())]
    RelativePath {
        /// Which key.
        key: &'static str,
        /// Its value.
        path: PathBuf,
    },
    /// A registry without a name.
    #[error("registry: each entry needs its `host`")]
    RegistryHost,
    /// A device that makes no sense.
    #[error(transparent)]
    Device(#[from] DeviceProblem),
    /// A password that cannot be read.
    #[error("registry {host}: cannot read password_file {}: {source}", path.display())]
    Password {
        /// Which registry.
        host: String,
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The agent's own program is nowhere, so the logger beside it is not either.
    #[error("containerd.logger: the agent cannot find its own program ({0}): set the key")]
    Program(std::io::Error),
}

impl Default for AgentSection {
    fn default() -> Self {
        Self {
            state_dir: "/var/lib/wherry".into(),
            run_dir: "/run/wherry".into(),
            log_dir: "/var/log/wherry".into(),
            log: "info".to_owned(),
            host_path_prefixes: Vec::new(),
            capabilities_ceiling: Vec::new(),
        }
    }
}

impl Default for ContainerdSection {
    fn default() -> Self {
        Self {
            socket: "/run/containerd/containerd.sock".into(),
            namespace: "wherry".to_owned(),
            snapshotter: "overlayfs".to_owned(),
            cgroup_parent: "/wherry".to_owned(),
            logger: PathBuf::new(),
        }
    }
}

impl Default for NetworkSection {
    fn default() -> Self {
        Self {
            address: String::new(),
            interface_prefix: "wh-".to_owned(),
            table: "wherry".to_owned(),
            table_owned: true,
            firewall: FirewallChoice::Open,
            node_ports: Vec::new(),
            allow_host_network: false,
            tunnel_port: 7449,
            tunnel_address: String::new(),
        }
    }
}

impl Default for LogsSection {
    fn default() -> Self {
        Self { bytes_max: 10 << 20, files_max: 3 }
    }
}

impl Config {
    /// Finds what serde cannot.
    ///
    /// # Errors
    /// The first setting that makes no sense.
    pub fn validate(&self) -> Result<(), ConfigProblem> {
        let paths = [
            ("agent.state_dir", &self.agent.state_dir),
            ("agent.run_dir", &self.agent.run_dir),
            ("agent.log_dir", &self.agent.log_dir),
            ("containerd.socket", &self.containerd.socket),
        ];
        let prefixes = self.agent.host_path_prefixes.iter().map(|path| ("agent.host_path_prefixes", path));
        if let Some((key, path)) = paths.into_iter().chain(prefixes).find(|(_, path)| !path.is_absolute()) {
            return Err(ConfigProblem::RelativePath { key, path: path.clone() });
        }
        if self.registry.iter().any(|registry| registry.host.is_empty()) {
            return Err(ConfigProblem::RegistryHost);
        }
        devices::read(&self.device)?;
        self.tunnel(Ipv4Addr::LOCALHOST)?;
        self.address().map(drop)
    }

    /// Where other nodes dial this one, which is at this address, for tunnels; `None` = nowhere.
    ///
    /// # Errors
    /// When what was set is no address and port.
    pub fn tunnel(&self, node_address: Ipv4Addr) -> Result<Option<SocketAddrV4>, ConfigProblem> {
        let (text, port) = (&self.network.tunnel_address, self.network.tunnel_port);
        let place = if text.is_empty() {
            SocketAddrV4::new(node_address, port)
        } else {
            let place: Option<SocketAddrV4> = text.parse().ok();
            let usable = place.filter(|place| place.port() > 0 && !place.ip().is_unspecified());
            usable.ok_or_else(|| ConfigProblem::TunnelAddress(text.clone()))?
        };
        Ok((port > 0).then_some(place))
    }

    /// The address that was set.
    ///
    /// # Errors
    /// When it is not one.
    pub fn address(&self) -> Result<Option<Ipv4Addr>, ConfigProblem> {
        let text = &self.network.address;
        if text.is_empty() {
            return Ok(None);
        }
        text.parse().map(Some).map_err(|_| ConfigProblem::Address(text.clone()))
    }

    /// What the containerd adapter must know.
    ///
    /// # Errors
    /// When a password cannot be read, a device makes no sense, or the logger's place cannot be found.
    pub fn containerd_settings(&self, node: NodeId) -> Result<agent_containerd::Settings, ConfigProblem> {
        let logger = if self.containerd.logger.as_os_str().is_empty() {
            std::env::current_exe().map_err(ConfigProblem::Program)?.with_file_name("wherry-logger")
        } else {
            self.containerd.logger.clone()
        };
        Ok(agent_containerd::Settings {
            socket: self.containerd.socket.clone(),
            namespace: self.containerd.namespace.clone(),
            node,
            snapshotter: self.containerd.snapshotter.clone(),
            cgroup_parent: self.containerd.cgroup_parent.clone(),
            log_dir: self.agent.log_dir.clone(),
            log_bytes_max: self.logs.bytes_max,
            log_files_max: self.logs.files_max,
            logger,
            run_dir: self.agent.run_dir.join("instances"),
            registries: self.registry.iter().map(RegistrySection::registry).collect::<Result<_, _>>()?,
            host_path_prefixes: self.agent.host_path_prefixes.clone(),
            capabilities_ceiling: self.agent.capabilities_ceiling.clone(),
            volumes_dir: self.volumes_dir(),
            devices: self.devices()?.into_iter().map(|device| (device.offer.name, device.paths)).collect(),
        })
    }

    /// Below here is a directory for each volume.
    #[must_use]
    pub fn volumes_dir(&self) -> PathBuf {
        self.agent.state_dir.join(VOLUMES)
    }

    /// The node's devices, sorted by name.
    ///
    /// # Errors
    /// The first that makes no sense.
    pub fn devices(&self) -> Result<Vec<OwnDevice>, DeviceProblem> {
        devices::read(&self.device)
    }

    /// What the network adapter must know.
    #[must_use]
    pub fn network_settings(&self, node_address: Ipv4Addr) -> agent_network::Settings {
        agent_network::Settings {
            interface_prefix: self.network.interface_prefix.clone(),
            netns_dir: self.agent.run_dir.join("netns"),
            table: self.network.table.clone(),
            node_address,
            table_guard: if self.network.table_owned { TableGuard::Owned } else { TableGuard::Watched },
            firewall: match self.network.firewall {
                FirewallChoice::Open => Firewall::Open,
                FirewallChoice::Respect => Firewall::Respect,
            },
            allow_in_node: self.network.allow_host_network,
            node_ports: self.network.node_ports.iter().map(|NodePort(protocol, port)| (*protocol, *port)).collect(),
        }
    }

    /// What the node may give away, of what the machine has.
    #[must_use]
    pub fn capacity(&self, machine: Resources) -> Resources {
        let or_all = |set: u64, all: u64| if set == 0 { all } else { set };
        Resources {
            cpu_millis: or_all(self.capacity.cpu_millis, machine.cpu_millis),
            memory_bytes: or_all(self.capacity.memory_bytes, machine.memory_bytes),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;

//! The scheduler's configuration: every key, its default and how it is checked.

mod moves;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
};

use api_daemon::config_file::{self, ConfigError, Key, Kind, Layers, Loaded};
use api_types::net::Cidr;
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use moves::{MassLossConfig, RebalanceConfig};

/// Where the file is unless said otherwise.
pub const DEFAULT_FILE: &str = "/etc/wherry/scheduler.toml";

/// Every key that a variable or a flag may set.
pub const KEYS: &[Key] = &[
    Key { path: "state.dir", kind: Kind::Text },
    Key { path: "api.listen", kind: Kind::Text },
    Key { path: "api.advertise", kind: Kind::Text },
    Key { path: "session.listen", kind: Kind::Text },
    Key { path: "session.advertise", kind: Kind::Text },
    Key { path: "heartbeat.interval_ms", kind: Kind::Number },
    Key { path: "mass_loss.at_once", kind: Kind::Number },
    Key { path: "mass_loss.interval_ms", kind: Kind::Number },
    Key { path: "mass_loss.slow_interval_ms", kind: Kind::Number },
    Key { path: "rebalance.automatic", kind: Kind::Switch },
    Key { path: "rebalance.pause_s", kind: Kind::Number },
    Key { path: "rebalance.moves_max", kind: Kind::Number },
    Key { path: "rebalance.use_max_percent", kind: Kind::Number },
    Key { path: "network.cluster_range", kind: Kind::Text },
    Key { path: "network.service_range", kind: Kind::Text },
    Key { path: "network.isolate_namespaces", kind: Kind::Switch },
    Key { path: "images.archive_bytes_max", kind: Kind::Number },
    Key { path: "log.level", kind: Kind::Text },
];

/// The whole configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the cluster's state is.
    pub state: StateConfig,
    /// Where people and programs ask.
    pub api: ApiConfig,
    /// Where agents connect.
    pub session: SessionConfig,
    /// How agents show that they are alive.
    pub heartbeat: HeartbeatConfig,
    /// How fast lost nodes are given up.
    pub mass_loss: MassLossConfig,
    /// Moves to better nodes.
    pub rebalance: RebalanceConfig,
    /// Which addresses the cluster gives away. Only the first start decides.
    pub network: NetworkConfig,
    /// Archives that are loaded by hand.
    pub images: ImagesConfig,
    /// What is logged.
    pub log: LogConfig,
}

/// `[state]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StateConfig {
    /// The directory, made by `init`.
    pub dir: PathBuf,
}

/// `[api]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApiConfig {
    /// Where it listens.
    pub listen: SocketAddr,
    /// `host:port` or host that people and joining nodes dial; empty = found out.
    pub advertise: String,
}

/// `[session]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SessionConfig {
    /// Where it listens.
    pub listen: SocketAddr,
    /// `host:port` or host that agents dial; empty = as the API's host.
    pub advertise: String,
}

/// `[heartbeat]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HeartbeatConfig {
    /// Milliseconds between two heartbeats, 100 to 60,000; a node silent for three of them is unreachable.
    pub interval_ms: u64,
}

/// `[network]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkConfig {
    /// The range of all instances' addresses.
    pub cluster_range: Cidr,
    /// The range of all virtual addresses.
    pub service_range: Cidr,
    /// Whether workloads admit only those of their own namespace, unless they say otherwise.
    pub isolate_namespaces: bool,
}

/// `[images]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImagesConfig {
    /// The largest archive that is taken, in bytes.
    pub archive_bytes_max: u64,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// A level, or levels by module (`info,scheduler=debug`).
    pub level: String,
}

impl Default for StateConfig {
    fn default() -> Self {
        Self { dir: PathBuf::from("/var/lib/wherry-scheduler") }
    }
}

impl Default for ApiConfig {
    fn default() -> Self {
        Self { listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 7443)), advertise: String::new() }
    }
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self { listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 7444)), advertise: String::new() }
    }
}

impl Default for HeartbeatConfig {
    fn default() -> Self {
        Self { interval_ms: 1000 }
    }
}

impl Default for NetworkConfig {
    fn default() -> Self {
        let range = |second| Cidr::new(Ipv4Addr::new(10, second, 0, 0), 16).expect("16 is a prefix");
        Self { cluster_range: range(42), service_range: range(43), isolate_namespaces: false }
    }
}

impl Default for ImagesConfig {
    fn default() -> Self {
        Self { archive_bytes_max: 4 << 30 }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: "info".to_owned() }
    }
}

/// Why a configuration that can be read cannot be used.
#[derive(Debug, Error)]
pub enum UnfitConfig {
    /// It cannot be read.
    #[error(transparent)]
    Unreadable(#[from] ConfigError),
    /// Out of range.
    #[error("heartbeat.interval_ms = {0}: must be 100 to 60000")]
    Heartbeat(u64),
    /// Out of range.
    #[error("{key} = {value}: must be {range}")]
    OutOfRange {
        /// The key.
        key: &'static str,
        /// What it is.
        value: u64,
        /// What it must be.
        range: String,
    },
    /// The two ranges share addresses.
    #[error(
        "network.service_range {service} and network.cluster_range {cluster} share addresses: choose two that do not"
    )]
    Overlap {
        /// The range of services.
        service: Cidr,
        /// The range of instances.
        cluster: Cidr,
    },
    /// Both listen on one port.
    #[error("api.listen and session.listen are both {0}: choose two ports")]
    SameAddress(SocketAddr),
}

impl Config {
    /// Reads and checks the configuration.
    ///
    /// # Errors
    /// When a layer cannot be read or a value is unfit.
    pub fn load(file: Option<&Path>, flags: Vec<(&'static str, String)>) -> Result<Loaded<Self>, UnfitConfig> {
        let layers = Layers {
            file: Some(file.unwrap_or(Path::new(DEFAULT_FILE)).to_owned()),
            file_required: file.is_some(),
            environment: std::env::vars().collect(),
            flags,
        };
        let loaded: Loaded<Self> = config_file::load(&layers, KEYS)?;
        loaded.config.check()?;
        Ok(loaded)
    }

    /// `host:port` that people and joining nodes dial.
    #[must_use]
    pub fn api_address(&self) -> String {
        address(&self.api.advertise, self.api.listen, None)
    }

    /// `host:port` that agents dial.
    #[must_use]
    pub fn session_address(&self) -> String {
        address(&self.session.advertise, self.session.listen, Some(&self.api.advertise))
    }

    /// A warning for people when what others are told to dial is reached from this machine alone.
    #[must_use]
    pub fn loopback_warning(&self) -> Option<String> {
        let found = [("api", self.api_address()), ("session", self.session_address())];
        let (section, address) = found.into_iter().find(|(_, address)| is_loopback(host_of(address)))?;
        Some(format!(
            "others are told to dial {address}, which only this machine reaches: nodes on other machines cannot join, and \
             one on this machine cannot balance; set {section}.advertise to this machine's address among the nodes"
        ))
    }

    fn check(&self) -> Result<(), UnfitConfig> {
        if !(100..=60_000).contains(&self.heartbeat.interval_ms) {
            return Err(UnfitConfig::Heartbeat(self.heartbeat.interval_ms));
        }
        if let Some((key, value, range)) = self.mass_loss.fault().or_else(|| self.rebalance.fault()) {
            return Err(UnfitConfig::OutOfRange { key, value, range });
        }
        let NetworkConfig { cluster_range, service_range, .. } = self.network;
        if cluster_range.overlaps(service_range) {
            return Err(UnfitConfig::Overlap { service: service_range, cluster: cluster_range });
        }
        if self.api.listen == self.session.listen && self.api.listen.port() != 0 {
            return Err(UnfitConfig::SameAddress(self.api.listen));
        }
        Ok(())
    }
}

fn address(advertise: &str, listen: SocketAddr, other: Option<&str>) -> String {
    if advertise.is_empty() {
        let host = other.map(host_of).filter(|host| !host.is_empty());
        let host = host.map_or_else(|| own_address(listen).to_string(), str::to_owned);
        return with_port(&host, listen.port());
    }
    if host_of(advertise) == advertise { with_port(advertise, listen.port()) } else { advertise.to_owned() }
}

/// The part before the port, if there is a port.
fn host_of(address: &str) -> &str {
    match address.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() && (!host.contains(':') || host.ends_with(']')) => host,
        _ => address,
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost" || bare.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

fn with_port(host: &str, port: u16) -> String {
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// The address that other machines reach: the one listened on, or else that of the default route.
fn own_address(listen: SocketAddr) -> IpAddr {
    if !listen.ip().is_unspecified() {
        return listen.ip();
    }
    // Connecting a datagram socket sends nothing; it only asks the kernel for a route to a documentation address.
    let routed = || -> std::io::Result<IpAddr> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        Ok(socket.local_addr()?.ip())
    };
    routed().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_file_shows_every_key_with_its_default() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/config/scheduler.toml");

        let loaded = Config::load(Some(&file), Vec::new()).expect("it is fit");

        assert_eq!(loaded.config, Config::default());
        for key in KEYS {
            assert!(!loaded.is_default(key.path), "{} is not in the file", key.path);
        }
        assert_eq!(loaded.to_string().lines().count(), KEYS.len(), "every setting has a variable and a flag");
    }

    #[test]
    fn an_advertised_address_gets_the_port_it_lacks() {
        let mut config = Config::default();
        config.api.advertise = "192.0.2.7".to_owned();
        assert_eq!((config.api_address(), config.session_address()), pair("192.0.2.7:7443", "192.0.2.7:7444"));

        config.api.advertise = "edge.example:443".to_owned();
        assert_eq!((config.api_address(), config.session_address()), pair("edge.example:443", "edge.example:7444"));

        config.session.advertise = "[2001:db8::1]:9000".to_owned();
        assert_eq!(config.session_address(), "[2001:db8::1]:9000");

        config.session.advertise = "2001:db8::1".to_owned();
        assert_eq!(config.session_address(), "[2001:db8::1]:7444");
    }

    #[test]
    fn an_address_that_only_this_machine_reaches_is_warned_of() {
        let warning = |advertise: &str| {
            let api = ApiConfig { advertise: advertise.to_owned(), ..ApiConfig::default() };
            Config { api, ..Config::default() }.loopback_warning()
        };

        for own in ["127.0.0.1", "127.0.0.1:443", "localhost", "[::1]:443"] {
            assert!(warning(own).is_some_and(|text| text.contains("set api.advertise")), "{own}");
        }
        for reached in ["192.0.2.7", "scheduler.lan:443", "[2001:db8::1]:443"] {
            assert_eq!(warning(reached), None, "{reached}");
        }
        let mut config = Config::default();
        config.api.advertise = "192.0.2.7".to_owned();
        config.session.advertise = "127.0.0.1".to_owned();
        assert!(config.loopback_warning().is_some_and(|text| text.contains("set session.advertise")));
    }

    #[test]
    fn unfit_values_are_refused() {
        let unfit = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            config.check().expect_err("it is unfit").to_string()
        };

        assert!(Config::default().check().is_ok());
        assert!(unfit(|config| config.heartbeat.interval_ms = 5).contains("heartbeat.interval_ms"));
        assert!(unfit(|config| config.mass_loss.at_once = 0).contains("mass_loss.at_once = 0: must be at least 1"));
        assert!(unfit(|config| config.mass_loss.slow_interval_ms = 1).contains("5000 (mass_loss.interval_ms) to"));
        assert!(unfit(|config| config.rebalance.use_max_percent = 101).contains("must be 1 to 100"));
        assert!(unfit(|config| config.network.service_range = config.network.cluster_range).contains("share"));
        assert!(unfit(|config| config.session.listen = config.api.listen).contains("two ports"));
    }

    fn pair(first: &str, second: &str) -> (String, String) {
        (first.to_owned(), second.to_owned())
    }
}

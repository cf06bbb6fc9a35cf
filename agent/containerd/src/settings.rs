//! What the adapter is told about its node.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use api_types::id::NodeId;

use crate::error::Error;

/// Everything that the adapter must know of its node; fixed while it runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// containerd's socket (`/run/containerd/containerd.sock`).
    pub socket: PathBuf,
    /// The containerd namespace that is ours alone; `wherry` unless several nodes share one machine, as runc keeps its
    /// state by this name for the whole machine.
    pub namespace: String,
    /// This node; only containers that carry its name are ever touched.
    pub node: NodeId,
    /// The snapshotter (`overlayfs`).
    pub snapshotter: String,
    /// The cgroup above all containers, absolute from each hierarchy's root (`/wherry`).
    pub cgroup_parent: String,
    /// Below here each instance has a directory for its output.
    pub log_dir: PathBuf,
    /// Size in bytes at which a log file is followed by the next.
    pub log_bytes_max: u64,
    /// How many log files an instance keeps.
    pub log_files_max: u32,
    /// The program `wherry-logger`, absolute.
    pub logger: PathBuf,
    /// Below here each instance has a directory for its `hosts`, `hostname` and `resolv.conf`.
    pub run_dir: PathBuf,
    /// Registries that are not plain public HTTPS.
    pub registries: Vec<Registry>,
    /// A mount of the node's own paths is allowed below these only.
    pub host_path_prefixes: Vec<PathBuf>,
    /// Capabilities beyond the default nine that this node lets a container have, without `CAP_`.
    pub capabilities_ceiling: Vec<String>,
    /// Below here is a directory for each volume; it outlives all instances.
    pub volumes_dir: PathBuf,
    /// The node's devices by their names, each with its files; a thing that is only counted has none.
    pub devices: BTreeMap<String, Vec<PathBuf>>,
}

impl Settings {
    pub(crate) fn check(&self) -> Result<(), Error> {
        let absolute = [
            ("socket", &self.socket),
            ("log_dir", &self.log_dir),
            ("run_dir", &self.run_dir),
            ("logger", &self.logger),
            ("volumes_dir", &self.volumes_dir),
        ];
        let fault = |setting, problem: &str| Err(Error::Setting { setting, problem: problem.to_owned() });
        if let Some((setting, path)) = absolute.iter().find(|(_, path)| !path.is_absolute()) {
            return fault(setting, &format!("`{}` is not an absolute path", path.display()));
        }
        let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte));
        if !self.cgroup_parent.starts_with('/') || self.cgroup_parent.contains("..") || !is_plain(&self.cgroup_parent) {
            return fault("cgroup_parent", "it must be an absolute path of letters, digits, `.`, `_`, `-` and `/`");
        }
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if self.namespace.is_empty() || !self.namespace.bytes().all(is_name) {
            return fault("namespace", "it must be made of letters, digits, `.`, `_` and `-`");
        }
        if self.log_files_max == 0 || self.log_bytes_max < 4096 {
            return fault("log_bytes_max", "at least one file of at least 4096 bytes is needed");
        }
        Ok(())
    }
}

/// How to reach one registry.
#[derive(Clone)]
pub struct Registry {
    /// `host` or `host:port`, as it stands in image names.
    pub host: String,
    /// Whether it speaks HTTP without TLS; never guessed.
    pub plain_http: bool,
    /// A PEM file with the only authorities trusted for it; `None` = the system's.
    pub ca_file: Option<PathBuf>,
    /// User name, where it asks for one.
    pub username: Option<String>,
    /// The password to it.
    pub password: Option<String>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("host", &self.host)
            .field("plain_http", &self.plain_http)
            .field("ca_file", &self.ca_file)
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "***"))
            .finish()
    }
}

//! Registries that are not plain public HTTPS.

use std::path::PathBuf;

use agent_containerd::Registry;
use serde::{Deserialize, Serialize};

use super::ConfigProblem;

/// How to reach one registry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegistrySection {
    /// `host` or `host:port`, as it stands in image names.
    pub host: String,
    /// Whether it speaks HTTP without TLS.
    pub plain_http: bool,
    /// A PEM file with the only authorities trusted for it; empty = the system's.
    pub ca_file: PathBuf,
    /// User name; empty = it asks for none.
    pub username: String,
    /// A file with the password, in its first line.
    pub password_file: PathBuf,
}

impl RegistrySection {
    pub(super) fn registry(&self) -> Result<Registry, ConfigProblem> {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let password = if self.password_file.as_os_str().is_empty() {
            None
        } else {
            let read = std::fs::read_to_string(&self.password_file).map_err(|source| ConfigProblem::Password {
                host: self.host.clone(),
                path: self.password_file.clone(),
                source,
            })?;
            Some(read.lines().next().unwrap_or_default().to_owned())
        };
        Ok(Registry {
            host: self.host.clone(),
            plain_http: self.plain_http,
            ca_file: (!self.ca_file.as_os_str().is_empty()).then(|| self.ca_file.clone()),
            username: text(&self.username),
            password,
        })
    }
}

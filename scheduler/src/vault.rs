//! The contents of secrets: sealed before the control loop sees them, opened for the nodes that use them and for nobody else.

use std::path::Path;

use api_daemon::sealing::{SealingError, SealingKey};
use api_types::{
    id::SecretId,
    secret::{Secret, SecretValue},
};
use data_encoding::BASE64;
use scheduler_core::effect::SecretRecord;

/// The key's file in the state directory. A copy of the store alone opens nothing.
const FILE: &str = "secrets.key";

/// Seals and opens.
#[derive(Debug)]
pub(crate) struct Vault {
    cluster: String,
    key: SealingKey,
}

impl Vault {
    /// Reads the cluster's key; makes one where there is none.
    pub(crate) fn open(state_dir: &Path, cluster: &str) -> Result<Self, SealingError> {
        Ok(Self { cluster: cluster.to_owned(), key: SealingKey::open_or_make(&state_dir.join(FILE))? })
    }

    /// Seals a version of a secret.
    pub(crate) fn seal(&self, secret: &SecretId, version: u64, value: &Secret) -> Result<String, SealingError> {
        Ok(BASE64.encode(&self.key.seal(&self.context(secret, version), value.reveal())?))
    }

    /// Opens secrets for a node. One that does not open is left out, loudly: the node says that it misses it.
    pub(crate) fn reveal(&self, records: Vec<SecretRecord>) -> impl Iterator<Item = (SecretId, SecretValue)> {
        records.into_iter().filter_map(|SecretRecord { secret, version, sealed, .. }| {
            let sealed = BASE64.decode(sealed.as_bytes()).ok();
            let Some(opened) = sealed.and_then(|sealed| self.key.open(&self.context(&secret, version), &sealed)) else {
                tracing::error!(%secret, version, "a secret does not open with the key in {FILE}: set it again");
                return None;
            };
            Some((secret, SecretValue { version, value: Secret::new(opened) }))
        })
    }

    /// What a sealed version is bound to: it opens as no other, and in no other cluster.
    fn context(&self, secret: &SecretId, version: u64) -> String {
        format!("{}|{}|{}|{version}", self.cluster, secret.namespace, secret.name)
    }
}

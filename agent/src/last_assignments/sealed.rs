//! A set in a file: all of it as it is, but for its secrets.

use std::io;

use api_daemon::sealing::SealingKey;
use api_types::{
    assignment::AssignmentSet,
    id::SecretId,
    secret::{Secret, SecretValue},
};
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};

use super::Kept;

/// A set as a file holds it: its secrets are sealed with the node's own key.
#[derive(Serialize, Deserialize)]
struct KeptSet<S> {
    #[serde(flatten)]
    set: S,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    sealed: Vec<SealedSecret>,
}

#[derive(Serialize, Deserialize)]
struct SealedSecret {
    secret: SecretId,
    version: u64,
    /// Base64.
    sealed: String,
}

impl SealedSecret {
    fn context(secret: &SecretId, version: u64) -> String {
        format!("{}|{}|{version}", secret.namespace, secret.name)
    }

    /// One that does not open is left out: the set then counts as one that the scheduler must send again.
    fn opened(self, key: &SealingKey) -> Option<(SecretId, SecretValue)> {
        let sealed = BASE64.decode(self.sealed.as_bytes()).ok()?;
        let value = Secret::new(key.open(&Self::context(&self.secret, self.version), &sealed)?);
        Some((self.secret, SecretValue { version: self.version, value }))
    }
}

impl Kept for AssignmentSet {
    const NAME: &'static str = "assignments";

    fn written(&self, key: &SealingKey) -> io::Result<Vec<u8>> {
        let seal = |(secret, held): (&SecretId, &SecretValue)| {
            let context = SealedSecret::context(secret, held.version);
            let sealed = key.seal(&context, held.value.reveal()).map_err(io::Error::other)?;
            Ok(SealedSecret { secret: secret.clone(), version: held.version, sealed: BASE64.encode(&sealed) })
        };
        let sealed = self.secrets.iter().map(seal).collect::<io::Result<_>>()?;
        Ok(serde_json::to_vec(&KeptSet { set: self, sealed })?)
    }

    fn read(body: &[u8], key: &SealingKey) -> serde_json::Result<Self> {
        let KeptSet { set, sealed } = serde_json::from_slice::<KeptSet<Self>>(body)?;
        let secrets = sealed.into_iter().filter_map(|secret| secret.opened(key)).collect();
        Ok(Self { secrets, ..set })
    }
}

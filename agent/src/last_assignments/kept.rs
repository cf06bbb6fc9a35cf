//! What is kept, each under a name of its own.

use std::{collections::BTreeMap, io, net::Ipv4Addr};

use agent_core::Followed;
use api_daemon::sealing::SealingKey;
use api_types::{id::InstanceId, job::Tries, service::ServiceTable};
use serde::{Serialize, de::DeserializeOwned};

/// What is kept under a name.
pub(crate) trait Kept: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The file's name, without its generation.
    const NAME: &'static str;

    /// What a file holds of it.
    fn written(&self, _: &SealingKey) -> io::Result<Vec<u8>> {
        Ok(serde_json::to_vec(self)?)
    }

    /// Reads what [`Kept::written`] gave.
    fn read(body: &[u8], _: &SealingKey) -> serde_json::Result<Self> {
        serde_json::from_slice(body)
    }
}

impl Kept for ServiceTable {
    const NAME: &'static str = "services";
}

impl Kept for BTreeMap<InstanceId, Ipv4Addr> {
    const NAME: &'static str = "addresses";
}

impl Kept for BTreeMap<InstanceId, Tries> {
    const NAME: &'static str = "tries";
}

impl Kept for Followed {
    const NAME: &'static str = "schedules";
}

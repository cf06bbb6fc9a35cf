//! Leases: what keeps a half-made image from containerd's garbage collection.

use std::time::{Duration, SystemTime};

use containerd_client::services::v1::{CreateRequest, DeleteRequest, ListRequest};

use crate::{
    connection::{Connection, Lease, SHORT, is_absent, is_present},
    error::Error,
    identity,
};

/// How long the parts of a broken pull are kept.
const KEPT: Duration = Duration::from_secs(72 * 3600);
/// The age up to which a lease of an earlier try is used again; the rest of its time must suffice for the pull.
const REUSED: Duration = Duration::from_secs(36 * 3600);
const EXPIRY: &str = "containerd.io/gc.expire";

impl Connection {
    /// Takes the lease of this name, or that of an earlier try with all that it holds.
    pub(crate) async fn lease(&self, name: &str, node: &str) -> Result<Lease, Error> {
        let failed = self.failed("to make a lease");
        let request = || {
            let labels =
                [(EXPIRY.to_owned(), rfc3339(SystemTime::now() + KEPT)), (identity::NODE.to_owned(), node.to_owned())];
            self.request(CreateRequest { id: name.to_owned(), labels: labels.into() }, SHORT)
        };
        let held = || Lease(name.parse().expect("a lease's name is ASCII"));
        match self.leases().create(request()).await {
            Ok(_) => return Ok(held()),
            Err(status) if is_present(&status) => {}
            Err(status) => return Err(failed(status)),
        }
        if self.lease_age(name).await?.is_some_and(|age| age < REUSED) {
            return Ok(held());
        }
        self.release(&held()).await?;
        self.leases().create(request()).await.map_err(failed)?;
        Ok(held())
    }

    /// Gives a lease back; what nothing else refers to is then collected.
    pub(crate) async fn release(&self, lease: &Lease) -> Result<(), Error> {
        let id = lease.0.to_str().expect("a lease's name is ASCII").to_owned();
        match self.leases().delete(self.request(DeleteRequest { id, sync: false }, SHORT)).await {
            Ok(_) => Ok(()),
            Err(status) if is_absent(&status) => Ok(()),
            Err(status) => Err(self.failed("to delete a lease")(status)),
        }
    }

    async fn lease_age(&self, name: &str) -> Result<Option<Duration>, Error> {
        let filters = vec![format!("id=={name}")];
        let answer = self.leases().list(self.request(ListRequest { filters }, SHORT)).await;
        let leases = answer.map_err(self.failed("to list leases"))?.into_inner().leases;
        let created = leases.into_iter().find(|lease| lease.id == name).and_then(|lease| lease.created_at);
        Ok(created.and_then(|at| SystemTime::try_from(at).ok()).and_then(|at| at.elapsed().ok()))
    }
}

/// Writes a time as RFC 3339 in UTC.
fn rfc3339(time: SystemTime) -> String {
    prost_types::Timestamp::from(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_as_containerd_reads_it() {
        assert_eq!(rfc3339(SystemTime::UNIX_EPOCH + Duration::from_secs(86_400)), "1970-01-02T00:00:00Z");
    }
}

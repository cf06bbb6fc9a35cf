//! What the kernel has otherwise than the last plan wants, and what of others stands in its way.

use api_types::service::Peer;

use super::Kernel;
use crate::{Error, Firewall};

impl Kernel {
    /// What of the table and the routes is otherwise than the last plan wants, for people. Repairs nothing.
    pub(crate) fn differences(&self) -> Result<Vec<String>, Error> {
        let Some(current) = &self.current else { return Err(Error::Unprogrammed) };
        let table = self.balancer.differences()?;
        let mut all: Vec<String> =
            table.iter().map(|part| format!("{part} of table {}", self.settings.table)).collect();
        let routes = self.routing.routes()?;
        let missing = |peer: &&Peer| !routes.iter().any(|route| route.destination == peer.subnet);
        let peers = current.peers.iter().filter(|peer| peer.subnet != current.subnet);
        all.extend(peers.filter(missing).map(|peer| format!("no route to {} of node {}", peer.subnet, peer.node)));
        Ok(all)
    }

    /// Who else drops what is forwarded, in lines for people; looks only if somebody changed a table.
    pub(super) fn look_around(&mut self) -> Result<Vec<String>, Error> {
        let (prefix, open) = (&self.settings.interface_prefix, self.settings.firewall == Firewall::Open);
        let at = self.foreign.as_ref().map(|(generation, _)| *generation);
        if let Some(seen) = self.balancer.look_around(prefix, open, at)? {
            self.foreign = Some(seen);
        }
        let dropping = self.foreign.iter().flat_map(|(_, dropping)| dropping);
        Ok(dropping.map(|found| found.describe(prefix)).collect())
    }
}

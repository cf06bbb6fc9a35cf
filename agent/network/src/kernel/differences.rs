//! What the kernel has otherwise than the last plan wants, and what of others stands in its way.

use api_types::service::Peer;

use super::Kernel;
use crate::{Error, Firewall, table::Forwarding};

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

    /// Links for which another program forwards: what comes from or goes to them is its business.
    pub(super) fn others_links(&self) -> Vec<String> {
        self.foreign.iter().flat_map(|(_, seen)| &seen.links).cloned().collect()
    }

    /// For whom this node forwards. Where another program that needs forwarding, too, drops what its own rules do not let pass
    /// (Docker), the node is no open router, and what that program forwards is left to it.
    pub(super) fn forwarding(&self, switched: Forwarding) -> Forwarding {
        let is_guarded = self.foreign.as_ref().is_some_and(|(_, seen)| seen.guarded);
        if is_guarded { Forwarding::AsBefore } else { switched }
    }

    /// Who else drops what is forwarded, in lines for people; looks only if somebody changed a table.
    pub(super) fn look_around(&mut self) -> Result<Vec<String>, Error> {
        let (prefix, open) = (&self.settings.interface_prefix, self.settings.firewall == Firewall::Open);
        let Some(range) = self.current.as_ref().map(|current| current.cluster_range) else {
            return Err(Error::Unprogrammed);
        };
        let at = self.foreign.as_ref().map(|(generation, _)| *generation);
        if let Some(seen) = self.balancer.look_around(prefix, (range, open), at)? {
            self.foreign = Some(seen);
        }
        let dropping = self.foreign.iter().flat_map(|(_, seen)| &seen.dropping);
        Ok(dropping.map(|found| found.describe(prefix, range)).collect())
    }
}

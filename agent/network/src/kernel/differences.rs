//! What the kernel has otherwise than the last plan wants, and what of others stands in its way.

use api_types::service::Peer;

use super::Kernel;
use crate::{Error, Firewall, family::Family, foreign::Surroundings};

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
        all.extend(self.mirrors_differences()?);
        Ok(all)
    }

    /// What other programs do with what is forwarded, and who of them drops what is ours, in lines for people.
    pub(super) fn look_around(&mut self) -> Result<(Surroundings, Vec<String>), Error> {
        let (prefix, open) = (&self.settings.interface_prefix, self.settings.firewall == Firewall::Open);
        let Some(current) = &self.current else { return Err(Error::Unprogrammed) };
        let range = current.cluster_range;
        let mirrored = current.mirrored.as_ref().map(|half| Family::V6(half.prefix));
        let families: Vec<Family> = [Some(Family::V4), mirrored].into_iter().flatten().collect();
        let seen = self.balancer.look_around(prefix, range, open)?;
        let lines = seen.describe(prefix, range, &families);
        Ok((seen, lines))
    }
}

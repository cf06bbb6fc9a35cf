//! What the kernel has of the IPv6 half otherwise than the last plan wants.

use api_types::net::Cidr;

use crate::{Error, family::Family, kernel::Kernel};

impl Kernel {
    /// What of the second table and its routes is otherwise than the last plan wants, for people.
    pub(crate) fn mirrors_differences(&self) -> Result<Vec<String>, Error> {
        let Some(mirror) = &self.mirror else { return Ok(Vec::new()) };
        let table = mirror.balancer.differences()?;
        let mut all: Vec<String> =
            table.iter().map(|part| format!("{part} of table ip6 {}", self.settings.table)).collect();
        let (family, routes) = (Family::V6(mirror.prefix), self.routing.routes_v6()?);
        let destination = |range: Cidr| (mirror.prefix.embed(range.address), family.prefix(range.prefix));
        let is_missing = |range: &Cidr| !routes.iter().any(|route| route.destination == destination(*range));
        let peers = mirror.applied.iter().flat_map(|applied| &applied.half.peers).map(|(range, _)| *range);
        all.extend(peers.filter(is_missing).map(|range| format!("no route to {}", family.range(range))));
        Ok(all)
    }
}

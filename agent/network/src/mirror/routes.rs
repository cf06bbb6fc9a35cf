//! The IPv6 half's routes: to services, to the other nodes, and to nobody.

use std::net::{Ipv4Addr, Ipv6Addr};

use api_types::net::Cidr;

use super::{Mirror, Mirrored, Reached};
use crate::{
    Error, Settings,
    family::Family,
    route::{
        Routing, found,
        v6::{RouteV6, WayV6},
    },
    vxlan,
};

impl Mirror {
    /// Sets the routes that are missing and removes those that are too many; gives whether there were any.
    pub(super) fn set_routes(
        &mut self,
        settings: &Settings,
        routing: &Routing,
        half: &Mirrored,
    ) -> Result<bool, Error> {
        // Asked for each node at every look, the kernel would be busy with nothing else where nodes are many.
        if self.changes.any() {
            self.links.clear();
        }
        let family = Family::V6(self.prefix);
        let prefix = self.prefix;
        let range = |range: Cidr| (prefix.embed(range.address), family.prefix(range.prefix));
        let loopback = found(routing, "lo")?;
        let own = half.subnet.nth(1).map(|own| self.prefix.embed(own));
        let existing = routing.routes_v6()?;
        let is_instance = |route: &RouteV6| route.destination.1 == 128 && matches!(route.way, WayV6::Link(_));
        let mut wanted = vec![
            RouteV6 { destination: range(half.service_range), way: WayV6::Link(loopback), source: own },
            RouteV6 { destination: range(half.subnet), way: WayV6::Unreachable, source: None },
        ];
        if !existing.contains(&wanted[0]) {
            // In a namespace just made it is still down.
            routing.raise(loopback)?;
        }
        if let Some(own) = own
            && !routing.addresses_v6(loopback)?.contains(&own)
        {
            routing.add_address_v6(loopback, own)?;
        }
        let device = vxlan::name(&settings.interface_prefix);
        let wrapping = if half.peers.iter().any(|(_, reached)| *reached == Reached::Wrapped) {
            routing.link(&device)?
        } else {
            None
        };
        for (subnet, reached) in &half.peers {
            // Who is on none of our links, or behind a device that could not be made, is reported by the other half.
            let route = match reached {
                Reached::By(gateway) => self.link_towards(routing, *gateway)?.map(|link| RouteV6 {
                    destination: range(*subnet),
                    way: WayV6::Gateway(*gateway, link),
                    source: own,
                }),
                Reached::Wrapped => wrapping.map(|link| {
                    let gateway = prefix.embed(vxlan::gateway(*subnet));
                    let source = prefix.embed(vxlan::gateway(half.subnet));
                    RouteV6 { destination: range(*subnet), way: WayV6::Beyond(gateway, link), source: Some(source) }
                }),
            };
            wanted.extend(route);
        }
        let mut changed = false;
        for route in wanted.iter().filter(|route| !existing.contains(route)) {
            if let (WayV6::Beyond(gateway, link), Some(source)) = (route.way, route.source) {
                routing.add_address_v6(link, source)?;
                let beyond = self.prefix.extract(gateway).unwrap_or(Ipv4Addr::UNSPECIFIED);
                routing.set_neighbour(link, gateway, vxlan::mac(beyond))?;
            }
            routing.set_route_v6(route, &existing)?;
            changed = true;
        }
        let stale = existing
            .iter()
            .filter(|route| !is_instance(route) && !wanted.iter().any(|other| other.destination == route.destination));
        for route in stale {
            routing.remove_route_v6(route)?;
            if let WayV6::Beyond(gateway, link) = route.way {
                routing.remove_neighbour(link, gateway)?;
            }
            changed = true;
        }
        Ok(changed)
    }

    /// The link on which a neighbour is; `None` = none of ours leads straight there.
    fn link_towards(&mut self, routing: &Routing, neighbour: Ipv6Addr) -> Result<Option<u32>, Error> {
        let link = match self.links.get(&neighbour) {
            Some(link) => *link,
            None => routing.link_towards_v6(neighbour)?,
        };
        self.links.insert(neighbour, link);
        Ok(link)
    }
}

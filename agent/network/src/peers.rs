//! Ways to the other nodes: a route to each, straight or through the device that wraps.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::atomic::Ordering,
};

use api_types::{net::Cidr, service::Peer, site::Reach};

use crate::{
    Error, UnreachablePeer, instance,
    kernel::Kernel,
    route::{Route, Way},
    vxlan::{self, MTU_DEFAULT, Overlay},
};

/// How far the device is that wraps.
pub(crate) struct Wrapping {
    /// Its index; or why there is none, for people. Nobody asks for it where no peer is behind it.
    device: Result<u32, String>,
    /// Whether something of it had to be changed.
    pub(crate) changed: bool,
}

impl Kernel {
    /// Makes the device that wraps, if a peer is to be reached by it, before routes lead there. What hinders it hinders
    /// only the way to these peers.
    pub(crate) fn set_overlay(&mut self) -> Result<Wrapping, Error> {
        let Some(overlay) = self.overlay()? else {
            return Ok(Wrapping { device: Err("there is no device that wraps".to_owned()), changed: false });
        };
        // Instances send smaller packets before these are wrapped.
        let fitted = self.fit_instances(overlay.mtu.min(MTU_DEFAULT))?;
        Ok(match vxlan::ensure(&self.routing, &overlay) {
            Ok((index, changed)) => Wrapping { device: Ok(index), changed: changed || fitted },
            Err(error) => Wrapping { device: Err(error.to_string()), changed: fitted },
        })
    }

    /// Removes the device when no route needs it any more; gives whether something was removed.
    pub(crate) fn drop_overlay(&mut self) -> Result<bool, Error> {
        if self.overlay()?.is_some() {
            return Ok(false);
        }
        let name = self.overlay_name();
        let exists = self.routing.link(&name)?.is_some();
        if exists {
            self.routing.remove_link(&name)?;
        }
        Ok(self.fit_instances(MTU_DEFAULT)? || exists)
    }

    /// The device as it shall be; `None` if no peer is to be reached by it.
    fn overlay(&self) -> Result<Option<Overlay>, Error> {
        let Some(current) = &self.current else { return Err(Error::Unprogrammed) };
        let wrapped = current.peers.iter().filter(|peer| peer.reach == Reach::Vxlan && peer.subnet != current.subnet);
        let far: BTreeMap<Cidr, Ipv4Addr> = wrapped.map(|peer| (peer.subnet, peer.address)).collect();
        if far.is_empty() {
            return Ok(None);
        }
        let local = self.settings.node_address;
        let mtu = vxlan::mtu_within(self.routing.mtu_at(local)?);
        Ok(Some(Overlay { name: self.overlay_name(), local, subnet: current.subnet, mtu, far }))
    }

    fn overlay_name(&self) -> String {
        vxlan::name(&self.settings.interface_prefix)
    }

    /// Makes the links of instances take packets of at most this size; what comes to be from now on does as well.
    fn fit_instances(&mut self, mtu: u32) -> Result<bool, Error> {
        self.mtu.store(mtu, Ordering::Relaxed);
        if self.fitted == Some(mtu) {
            return Ok(false);
        }
        let changed = instance::fit_all(&self.settings, &self.routing, mtu)?;
        self.fitted = Some(mtu);
        Ok(changed)
    }

    /// Sets the routes that are missing; gives those that are too many, whether one was set, and whom none reaches.
    pub(crate) fn set_routes(
        &self,
        source: Option<Ipv4Addr>,
        wrapping: &Wrapping,
    ) -> Result<(Vec<Route>, bool, Vec<UnreachablePeer>), Error> {
        let Some(current) = &self.current else { return Err(Error::Unprogrammed) };
        let existing: Vec<Route> = self.routing.routes()?;
        let existing: Vec<Route> =
            existing.into_iter().filter(|route| !instance::leads_to_instance(route, current.subnet)).collect();
        let mut unreachable = Vec::new();
        let mut changed = false;
        let loopback = self.routing.link("lo")?.unwrap_or(1);
        let mut wanted = vec![
            // Without a route, what the node itself asks of a service would fail before the table sees it.
            Route { destination: current.service_range, way: Way::Link(loopback), source },
            // What is asked of an instance that is gone fails at once, and does not wander off to the default route.
            Route { destination: current.subnet, way: Way::Unreachable, source: None },
        ];
        if !existing.contains(&wanted[0]) {
            // In a namespace just made it is still down.
            self.routing.raise(loopback)?;
        }
        for route in &wanted {
            changed |= self.set_route(route, &existing)?;
        }
        for peer in current.peers.iter().filter(|peer| peer.subnet != current.subnet) {
            let (way, source) = match (peer.reach, &wrapping.device) {
                (Reach::Routes, _) => (Way::Gateway(peer.address), source),
                (Reach::Vxlan, Ok(link)) => {
                    let beyond = Way::Beyond { gateway: vxlan::gateway(peer.subnet), link: *link };
                    (beyond, Some(vxlan::gateway(current.subnet)))
                }
                (Reach::Vxlan, Err(reason)) => {
                    unreachable.push(UnreachablePeer { node: peer.node.clone(), reason: reason.clone() });
                    continue;
                }
            };
            let route = Route { destination: peer.subnet, way, source };
            match self.set_route(&route, &existing) {
                // One that was set before may lead to a router by now, which knows nothing of instances.
                Ok(set) if matches!(way, Way::Gateway(_)) && self.routing.is_behind_router(peer.address)? => {
                    changed |= set;
                    unreachable.push(UnreachablePeer { node: peer.node.clone(), reason: not_on_link(peer) });
                }
                Ok(set) => changed |= set,
                Err(error) => {
                    unreachable.push(UnreachablePeer { node: peer.node.clone(), reason: reason(peer, &error) })
                }
            }
            wanted.push(route);
        }
        let destinations: BTreeSet<_> = wanted.iter().map(|route| route.destination).collect();
        let stale = existing.into_iter().filter(|route| !destinations.contains(&route.destination)).collect();
        Ok((stale, changed, unreachable))
    }

    fn set_route(&self, route: &Route, existing: &[Route]) -> Result<bool, Error> {
        if existing.contains(route) {
            return Ok(false);
        }
        self.routing.set_route(route, existing).map(|()| true)
    }
}

fn not_on_link(peer: &Peer) -> String {
    format!(
        "{} is not on a directly connected network: `wherry site set SITE --reach vxlan` wraps what the nodes of one site \
         send each other; for a node of another site, `--across tunnel` or `--across apart`",
        peer.address
    )
}

fn reason(peer: &Peer, error: &Error) -> String {
    match error.errno() {
        Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EINVAL | libc::ENETDOWN) => not_on_link(peer),
        Some(libc::EEXIST) => format!("somebody else's route to {} is in the way; remove it", peer.subnet),
        _ => error.to_string(),
    }
}

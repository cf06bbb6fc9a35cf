//! Instances in the node's own network: nothing is made for them but what keeps their name and address in the books. The
//! address is nobody's; it only shows that the network is there, as the routes of the others do.

use std::{net::Ipv4Addr, path::PathBuf};

use api_types::net::Cidr;

use crate::{
    Error, Settings, instance, namespace,
    route::{Pair, Route, Routing, Way, found},
};

/// Makes what is missing: the node's namespace under the instance's name, and a link that leads nowhere with a route to it.
pub(crate) fn ensure(
    settings: &Settings,
    routing: &Routing,
    (instance, address): (&str, Ipv4Addr),
) -> Result<PathBuf, Error> {
    if !settings.allow_in_node {
        return Err(Error::NotGiven);
    }
    let path = instance::netns_path(settings, instance);
    if !namespace::exists(&path) {
        namespace::pin_own(&path)?;
    }
    let name = instance::link_name(settings, instance);
    if routing.link(&name)?.is_none() {
        let [mac, peer_mac] = instance::macs(instance);
        // Its other end stays down, so that nothing ever passes. Every node has this kind of link, others need a module.
        routing.add_pair(&Pair {
            name: &name,
            mac,
            peer_name: &format!("{name}x"),
            peer_mac,
            peer_namespace: &namespace::open(&path)?,
        })?;
    }
    let index = found(routing, &name)?;
    routing.raise(index)?;
    let destination = Cidr { address, prefix: 32 };
    let booked = Route { destination, way: Way::Link(index), source: None };
    routing.set_route(&booked, &routing.routes()?)?;
    Ok(path)
}

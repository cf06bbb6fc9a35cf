//! An instance's network: a namespace, a point-to-point link and a /32. No bridge: a service then reaches an instance
//! beside it without `br_netfilter`, and no instance can speak to another's link.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use api_types::{fnv, id::InstanceId, net::Cidr};

use crate::{
    Error, Settings, namespace,
    route::{Mac, Pair, Route, Routing, Way, found},
    sysctl,
};

/// The gateway that every instance sees. It exists nowhere: a fixed neighbour entry leads to the link's other end.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// The link's name inside.
pub(crate) const INSIDE: &str = "eth0";
const LOOPBACK: &str = "lo";
/// Bit 1 of the first byte: administered locally (IEEE 802).
const MAC_LOCAL: u8 = 0x02;
const MAC_INSIDE: u8 = 0x04;

/// Where the instance's namespace is pinned.
pub(crate) fn netns_path(settings: &Settings, instance: &str) -> PathBuf {
    settings.netns_dir.join(instance)
}

/// Makes what is missing of the instance's network.
pub(crate) fn ensure(
    settings: &Settings,
    routing: &Routing,
    (instance, address): (&str, Ipv4Addr),
    (source, mtu): (Option<Ipv4Addr>, u32),
) -> Result<PathBuf, Error> {
    let path = netns_path(settings, instance);
    let name = link_name(settings, instance);
    let [outside_mac, inside_mac] = macs(instance);
    if !namespace::exists(&path) {
        // A link that lost its namespace leads nowhere.
        routing.remove_link(&name)?;
        namespace::create(&path)?;
    }
    let namespace = namespace::open(&path)?;
    let inside = namespace::inside(&namespace, Routing::open)?;
    let routes = routing.routes()?;
    let mut outside_index = routing.link(&name)?;
    let elsewhere =
        |index| routes.iter().any(|route| route.way == Way::Link(index) && route.destination != host(address));
    if inside.link(INSIDE)?.is_none() || outside_index.is_some_and(elsewhere) {
        routing.remove_link(&name)?;
        outside_index = None;
    }
    let outside_index = match outside_index {
        Some(index) => index,
        None => {
            inside.remove_link(INSIDE)?;
            routing.add_pair(&Pair {
                name: &name,
                mac: outside_mac,
                peer_name: INSIDE,
                peer_mac: inside_mac,
                peer_namespace: &namespace,
            })?;
            sysctl::without_ipv6(&name)?;
            found(routing, &name)?
        }
    };
    let inside_index = furnish(&inside, address, outside_mac)?;
    routing.raise_without_arp(outside_index)?;
    inside.await_link(inside_index)?;
    routing.await_link(outside_index)?;
    fit(&inside, inside_index, mtu)?;
    fit(routing, outside_index, mtu)?;
    routing.set_neighbour(outside_index, address, inside_mac)?;
    routing.set_route(&Route { destination: host(address), way: Way::Link(outside_index), source }, &routes)?;
    Ok(path)
}

/// Makes the links of all instances take packets of at most this size, as they run; gives whether one had to be changed.
pub(crate) fn fit_all(settings: &Settings, routing: &Routing, mtu: u32) -> Result<bool, Error> {
    let links = routing.mtus()?;
    let mut changed = false;
    for instance in pinned(&settings.netns_dir)? {
        let link = links.get(&link_name(settings, instance.as_str()));
        let in_node = || namespace::is_own(&netns_path(settings, instance.as_str()));
        let Some((index, _)) = link.filter(|(_, own)| *own != mtu && !in_node()) else { continue };
        let namespace = namespace::open(&netns_path(settings, instance.as_str()))?;
        let inside = namespace::inside(&namespace, Routing::open)?;
        // The outer end last: it is by that that one sees whether both are done.
        if let Some(inner) = inside.link(INSIDE)? {
            fit(&inside, inner, mtu)?;
        }
        fit(routing, *index, mtu)?;
        changed = true;
    }
    Ok(changed)
}

/// Makes a link take packets of at most this size.
fn fit(routing: &Routing, index: u32, mtu: u32) -> Result<(), Error> {
    if routing.mtu(index)? == Some(mtu) {
        return Ok(());
    }
    routing.set_mtu(index, mtu)
}

/// Removes whatever is there of the instance's network.
pub(crate) fn remove(settings: &Settings, routing: &Routing, instance: &str) -> Result<(), Error> {
    routing.remove_link(&link_name(settings, instance))?;
    namespace::remove(&netns_path(settings, instance))
}

/// Lists the instances whose namespaces are pinned, sorted, with the address to which a route leads.
pub(crate) fn list(settings: &Settings, routing: &Routing) -> Result<Vec<(InstanceId, Option<Ipv4Addr>)>, Error> {
    let links = routing.links()?;
    let routes = routing.routes()?;
    let mut instances = Vec::new();
    for instance in pinned(&settings.netns_dir)? {
        let index = links.get(&link_name(settings, instance.as_str()));
        let route = routes.iter().find(|route| index.is_some_and(|index| route.way == Way::Link(*index)));
        instances.push((instance, route.map(|route| route.destination.address)));
    }
    instances.sort();
    Ok(instances)
}

/// Whether the route is one that leads to an instance here.
pub(crate) fn leads_to_instance(route: &Route, subnet: Cidr) -> bool {
    route.destination.prefix == 32 && subnet.contains(route.destination.address) && matches!(route.way, Way::Link(_))
}

/// The name of the instance's link on the node's side: short enough for the kernel, always the same.
pub(crate) fn link_name(settings: &Settings, instance: &str) -> String {
    format!("{}{:010x}", settings.interface_prefix, fnv::sum(instance.bytes()) >> 24)
}

/// Everything inside: loopback, address, the way out. Gives the link's index.
fn furnish(inside: &Routing, address: Ipv4Addr, outside_mac: Mac) -> Result<u32, Error> {
    let (loopback, index) = (found(inside, LOOPBACK)?, found(inside, INSIDE)?);
    let gateway = Route { destination: host(GATEWAY), way: Way::Link(index), source: None };
    let everything = Cidr { address: Ipv4Addr::UNSPECIFIED, prefix: 0 };
    let default = Route { destination: everything, way: Way::Gateway(GATEWAY), source: None };
    inside.raise(loopback)?;
    inside.raise(index)?;
    inside.add_address(index, address)?;
    inside.set_neighbour(index, GATEWAY, outside_mac)?;
    // Replacing in order: the default route needs the gateway's.
    inside.set_route(&gateway, &[gateway])?;
    inside.set_route(&default, &[default])?;
    Ok(index)
}

/// Removes files to which no namespace is pinned: from before a reboot, or of an agent that ended between making the file and
/// pinning the namespace to it.
pub(crate) fn clear_files(settings: &Settings) -> Result<(), Error> {
    let stale = named(&settings.netns_dir)?.into_iter().map(|instance| netns_path(settings, instance.as_str()));
    stale.filter(|path| !namespace::exists(path)).try_for_each(|path| namespace::remove(&path))
}

fn pinned(directory: &Path) -> Result<Vec<InstanceId>, Error> {
    let mut instances = named(directory)?;
    instances.retain(|instance| namespace::exists(&directory.join(instance.as_str())));
    Ok(instances)
}

/// The instances after whom files are named, whatever these are.
fn named(directory: &Path) -> Result<Vec<InstanceId>, Error> {
    let failed = |source| Error::File { what: "list the namespaces in", path: directory.to_owned(), source };
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut instances = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        instances.extend(entry.file_name().to_str().and_then(|name| InstanceId::new(name).ok()));
    }
    Ok(instances)
}

fn host(address: Ipv4Addr) -> Cidr {
    Cidr { address, prefix: 32 }
}

/// Fixed hardware addresses, outside and inside: with addresses that the kernel drew, udev would set others.
pub(crate) fn macs(instance: &str) -> [Mac; 2] {
    let [_, _, _, a, b, c, d, e] = fnv::sum(instance.bytes()).to_be_bytes();
    [[MAC_LOCAL, a, b, c, d, e], [MAC_LOCAL | MAC_INSIDE, a, b, c, d, e]]
}

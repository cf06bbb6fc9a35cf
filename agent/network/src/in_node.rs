//! Instances in the node's own network: nothing is made for them but what keeps their name and address in the books. The
//! address is nobody's; it only shows that the network is there, as the routes of the others do.

use std::{net::Ipv4Addr, path::PathBuf};

use api_types::net::Cidr;

use crate::{
    Error, Settings, instance,
    message::{Requests, flag},
    namespace,
    route::{Route, Routing, Way, found, link_header},
};

const NEW_LINK: u16 = 16;
const LINK_NAME: u16 = 3;
const LINK_DETAILS: u16 = 18;
const DETAILS_KIND: u16 = 1;

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
        add_link(routing, &name)?;
    }
    let index = found(routing, &name)?;
    routing.raise(index)?;
    let destination = Cidr { address, prefix: 32 };
    let booked = Route { destination, way: Way::Link(index), source: None };
    routing.set_route(&booked, &routing.routes()?)?;
    Ok(path)
}

fn add_link(routing: &Routing, name: &str) -> Result<(), Error> {
    let mut requests = Requests::default();
    let flags = flag::ACK | flag::CREATE | flag::EXCLUSIVE;
    requests.push("make a link that leads nowhere", (NEW_LINK, flags), &link_header(0, 0), |link| {
        link.text(LINK_NAME, name);
        link.nest(LINK_DETAILS, |details| details.text(DETAILS_KIND, "dummy"));
    });
    routing.socket.demand(&requests).map_err(|error| match error.errno() {
        Some(libc::EOPNOTSUPP) => Error::KernelLacks { what: "dummy links".to_owned(), module: "dummy".to_owned() },
        _ => error,
    })
}

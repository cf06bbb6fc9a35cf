//! `ports`: what an instance listens on and where it is reached.

use api_types::{
    balance::Bind,
    container::{ALLOW_MAX, NetworkMode, PortSpec, Protocol},
    error::ValidationError,
    net::Cidr,
};

use crate::{
    fault::Place,
    section::{Entry, Section},
    workload::Kind,
};

/// Reads the ports in the order of their names, each with the place of its name.
/// In the node's network each is also the node's port of the same number.
pub(crate) fn read(section: &Section<'_>, kind: Kind, network: NetworkMode) -> Vec<(PortSpec, Place)> {
    let mut ports: Vec<(PortSpec, Place)> = Vec::new();
    for entry in section.entries() {
        let Some(mut port) = port(&entry, kind) else { continue };
        match network {
            NetworkMode::Own => {}
            NetworkMode::Published => have_no_address(&entry),
            NetworkMode::Host => be_of_the_node(&entry, &mut port),
        }
        let twice = |number: fn(&PortSpec) -> Option<u16>, what: &str| {
            let same = |other: &&(PortSpec, Place)| {
                other.0.protocol == port.protocol && number(&other.0).is_some() && number(&other.0) == number(&port)
            };
            if let (Some(number), Some((first, _))) = (number(&port), ports.iter().find(same)) {
                let message = format!("{what} port {number}/{} is also `{}`'s", port.protocol.as_str(), first.name);
                entry.faults.report("duplicate_port", &entry.path, entry.key_place.clone(), message);
            }
        };
        twice(|port| Some(port.container), "container");
        twice(|port| port.host, "host");
        if kind == Kind::Service {
            twice(|port| Some(port.service), "service");
        }
        ports.push((port, entry.key_place.clone()));
    }
    ports
}

fn be_of_the_node(entry: &Entry<'_>, port: &mut PortSpec) {
    let own = port.container;
    if port.host.is_some_and(|host| host != own) {
        let message = format!("in the node's network port {own} is the node's port {own}, not another");
        entry.invalid("not_in_host_network", message, "remove `host`");
    }
    if port.publish == Some(own) {
        let message = format!("port {own} of the node is the process's own, so it cannot be published as {own}");
        entry.invalid("not_in_host_network", message, "publish it under another number, or not at all");
    }
    port.host = Some(own);
}

fn have_no_address(entry: &Entry<'_>) {
    if let Some(service) = entry.section().and_then(|section| section.get("service")) {
        let message =
            "`service` is the port of the service's address, and with `network = \"published\"` there is none";
        service.invalid("conflict", message, "remove it");
    }
}

fn port(entry: &Entry<'_>, kind: Kind) -> Option<PortSpec> {
    let name = entry.key_name();
    let section = entry.section()?;
    let container = section.get("container").map(|entry| entry.port());
    if container.is_none() {
        section.missing("container", "say which port the process listens on: { container = 8080 }");
    }
    let service = section.get("service").map(|entry| only_for_services(&entry, kind));
    let publish = section.get("publish").map(|entry| only_for_services(&entry, kind));
    let host = section.get("host").map(|entry| entry.port());
    let is_open = publish.is_some() || host.is_some();
    let protocol =
        section.get("protocol").map_or(Some((Protocol::Tcp, false)), |entry| protocol(&entry, kind, publish.is_some()));
    let bind = section.get("bind").map(|entry| bind(&entry, is_open));
    let allow = section.get("allow").map(|entry| allow(&entry, is_open));
    section.refuse_unknown();
    // Each of these said by itself what is wrong with it.
    let container = container??;
    Some(PortSpec {
        name: name?.to_string(),
        container,
        protocol: protocol?.0,
        service: service.map_or(Some(container), |service| service)?,
        publish: publish.flatten(),
        http: protocol?.1,
        host: host.flatten(),
        bind: bind.flatten(),
        allow: allow.unwrap_or_default(),
    })
}

/// Reads `"192.0.2.7"` or `"eth1"`.
fn bind(entry: &Entry<'_>, is_open: bool) -> Option<Bind> {
    refuse_closed(entry, is_open);
    entry.text()?.parse().map_err(|error: ValidationError| entry.invalid("invalid_bind", error.problem, "")).ok()
}

/// Reads `["10.0.0.0/8", "192.0.2.7"]`; an address is a range of one.
fn allow(entry: &Entry<'_>, is_open: bool) -> Vec<Cidr> {
    refuse_closed(entry, is_open);
    let items = entry.items().unwrap_or_default();
    if items.is_empty() && entry.is_array() {
        entry.invalid("out_of_range", "an empty list would allow nobody", "remove `allow` to let everybody connect");
    }
    if items.len() > ALLOW_MAX {
        entry.invalid("out_of_range", format!("at most {ALLOW_MAX} ranges"), "");
    }
    let mut ranges: Vec<Cidr> = items.iter().filter_map(range).collect();
    ranges.sort_unstable();
    ranges.dedup();
    ranges
}

fn range(entry: &Entry<'_>) -> Option<Cidr> {
    let text = entry.text()?;
    if let Ok(address) = text.parse() {
        return Cidr::new(address, 32).ok();
    }
    let refuse = |error: ValidationError| {
        // Most often host bits are set: say which range that is in.
        let meant = text.split_once('/').and_then(|(address, prefix)| {
            Some(Cidr::new(address.parse().ok()?, prefix.parse().ok()?).ok()?.to_string())
        });
        entry.invalid(
            "invalid_range",
            error.problem,
            meant.map_or(String::new(), |range| format!("did you mean `{range}`?")),
        );
    };
    text.parse().map_err(refuse).ok()
}

/// `bind` and `allow` are about a port of the nodes.
fn refuse_closed(entry: &Entry<'_>, is_open: bool) {
    if !is_open {
        let message = format!("`{}` is about a port of the nodes, and this port has none", entry.key);
        entry.invalid("no_node_port", message, "add `publish` (on every node) or `host` (on the instance's node)");
    }
}

/// The transport, and whether HTTP is spoken over it.
fn protocol(entry: &Entry<'_>, kind: Kind, is_published: bool) -> Option<(Protocol, bool)> {
    match entry.text()? {
        "tcp" => Some((Protocol::Tcp, false)),
        "udp" => Some((Protocol::Udp, false)),
        "http" if kind == Kind::Daemon => {
            entry.invalid("not_for_daemons", "`http` is for published ports of services", "use `tcp`");
            None
        }
        "http" => {
            if !is_published {
                let message = "`http` says how a published port shares out requests, and this port is not published";
                entry.invalid("no_node_port", message, "add `publish`, or use `tcp`");
            }
            Some((Protocol::Tcp, true))
        }
        other => {
            let message = format!("`{}` is not a transport", other.escape_debug());
            entry.invalid("unknown_value", message, "known are: tcp, udp, http");
            None
        }
    }
}

fn only_for_services(entry: &Entry<'_>, kind: Kind) -> Option<u16> {
    if kind == Kind::Daemon {
        let message = format!("`{}` is for services: a daemon has no address of its own", entry.key);
        entry.invalid("not_for_daemons", message, "use `host`, the port on the instance's own node");
        return None;
    }
    entry.port()
}

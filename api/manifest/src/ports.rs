//! `ports`: what an instance listens on and where it is reached.

use std::net::IpAddr;

use api_types::{
    balance::Bind,
    container::{ALLOW_MAX, NetworkMode, PortSpec, Protocol},
    error::ValidationError,
    net::{IpRange, IpVersion},
};

use crate::{
    fault::Place,
    section::{Entry, Section},
    workload::Kind,
};

/// What of a workload its ports depend on.
#[derive(Clone, Copy)]
pub(crate) struct Owner {
    pub(crate) kind: Kind,
    pub(crate) network: NetworkMode,
    /// Whether it answers by IPv6, too.
    pub(crate) has_ipv6: bool,
}

/// Reads the ports in the order of their names, each with the place of its name.
/// In the node's network each is also the node's port of the same number.
pub(crate) fn read(section: &Section<'_>, owner: Owner) -> Vec<(PortSpec, Place)> {
    let mut ports: Vec<(PortSpec, Place)> = Vec::new();
    for entry in section.entries() {
        let Some(mut port) = port(&entry, owner) else { continue };
        match owner.network {
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
        if owner.kind == Kind::Service {
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

fn port(entry: &Entry<'_>, owner: Owner) -> Option<PortSpec> {
    let kind = owner.kind;
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
    let bound = section.get("bind");
    let bind = bound.as_ref().and_then(|entry| bind(entry, is_open));
    let allowed = section.get("allow").map(|entry| allow(&entry, is_open)).unwrap_or_default();
    section.refuse_unknown();
    // Each of these said by itself what is wrong with it.
    let container = container??;
    let mut allow: Vec<IpRange> = allowed.iter().map(|(_, range)| *range).collect();
    allow.sort_unstable();
    allow.dedup();
    let port = PortSpec {
        name: name?.to_string(),
        container,
        protocol: protocol?.0,
        service: service.map_or(Some(container), |service| service)?,
        publish: publish.flatten(),
        http: protocol?.1,
        host: host.flatten(),
        bind,
        allow,
    };
    refuse_unheard(bound.as_ref(), &allowed, &port, owner);
    Some(port)
}

/// Refuses an address at which the port does not answer, and clients whom it cannot hear: whoever names them expects them.
fn refuse_unheard(bind: Option<&Entry<'_>>, allowed: &[(Entry<'_>, IpRange)], port: &PortSpec, owner: Owner) {
    let answers = |version| port.answers_by(version, owner.has_ipv6);
    let help = match owner.network {
        NetworkMode::Host => "remove it: in the node's network ports are led to by IPv4 alone",
        NetworkMode::Own | NetworkMode::Published => {
            "add `ipv6 = true` beside `ports`; the process must listen on `::` then"
        }
    };
    let bound = port.bind.as_ref().and_then(|bind| match bind {
        Bind::Address(address) => Some(IpVersion::of(*address)),
        Bind::Link(_) => None,
    });
    if let (Some(entry), Some(version)) = (bind, bound.filter(|version| !answers(*version))) {
        entry.invalid("wrong_version", format!("nothing answers by {version} at this port"), help);
        return;
    }
    for (entry, range) in allowed.iter().filter(|(_, range)| !answers(range.version())) {
        let (reason, help) = match bound {
            Some(version) => (format!("is bound to an {version} address"), "remove it, or bind the port to a link"),
            None => (format!("does not answer by {}", range.version()), help),
        };
        entry.invalid("wrong_version", format!("nobody of {range} can connect: the port {reason}"), help);
    }
}

/// Reads `"192.0.2.7"`, `"2001:db8::7"` or `"eth1"`.
fn bind(entry: &Entry<'_>, is_open: bool) -> Option<Bind> {
    refuse_closed(entry, is_open);
    entry.text()?.parse().map_err(|error: ValidationError| entry.invalid("invalid_bind", error.problem, "")).ok()
}

/// Reads `["10.0.0.0/8", "2001:db8::7"]`; an address is a range of one.
fn allow<'a>(entry: &Entry<'a>, is_open: bool) -> Vec<(Entry<'a>, IpRange)> {
    refuse_closed(entry, is_open);
    let items = entry.items().unwrap_or_default();
    if items.is_empty() && entry.is_array() {
        entry.invalid("out_of_range", "an empty list would allow nobody", "remove `allow` to let everybody connect");
    }
    if items.len() > ALLOW_MAX {
        entry.invalid("out_of_range", format!("at most {ALLOW_MAX} ranges"), "");
    }
    let read = |entry: Entry<'a>| range(&entry).map(|range| (entry, range));
    items.into_iter().filter_map(read).collect()
}

fn range(entry: &Entry<'_>) -> Option<IpRange> {
    let text = entry.text()?;
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.into());
    }
    let refuse = |error: ValidationError| {
        // Most often host bits are set: say which range that is in.
        let meant = text.split_once('/').and_then(|(address, prefix)| {
            let range = IpRange::new(address.parse().ok()?, prefix.parse().ok()?);
            Some(range.ok()?.to_string())
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

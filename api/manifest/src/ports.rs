//! `ports`: what an instance listens on and where it is reached.

use api_types::container::{PortSpec, Protocol};

use crate::{
    fault::{Place, suggestion},
    section::{Entry, Section},
    workload::Kind,
};

/// Reads the ports in the order of their names, each with the place of its name.
pub(crate) fn read(section: &Section<'_>, kind: Kind) -> Vec<(PortSpec, Place)> {
    let mut ports: Vec<(PortSpec, Place)> = Vec::new();
    for entry in section.entries() {
        let Some(port) = port(&entry, kind) else { continue };
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

fn port(entry: &Entry<'_>, kind: Kind) -> Option<PortSpec> {
    let name = entry.key_name();
    let section = entry.section()?;
    let container = section.get("container").map(|entry| entry.port());
    if container.is_none() {
        section.missing("container", "say which port the process listens on: { container = 8080 }");
    }
    let protocol = section.get("protocol").map_or(Some(Protocol::Tcp), |entry| protocol(&entry));
    let service = section.get("service").map(|entry| only_for_services(&entry, kind));
    let publish = section.get("publish").map(|entry| only_for_services(&entry, kind));
    let host = section.get("host").map(|entry| entry.port());
    section.refuse_unknown();
    // Each of these said by itself what is wrong with it.
    let container = container??;
    Some(PortSpec {
        name: name?.to_string(),
        container,
        protocol: protocol?,
        service: service.map_or(Some(container), |service| service)?,
        publish: publish.flatten(),
        host: host.flatten(),
    })
}

fn protocol(entry: &Entry<'_>) -> Option<Protocol> {
    match entry.text()? {
        "tcp" => Some(Protocol::Tcp),
        "udp" => Some(Protocol::Udp),
        other => {
            let message = format!("`{}` is not a transport", other.escape_debug());
            entry.invalid("unknown_value", message, suggestion(other, &["tcp", "udp"]));
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

//! `[service.x]`, `[daemon.x]` and `[job.x]`.

use api_types::{
    access::Source,
    companion::CompanionSpec,
    container::{ContainerSpec, Mount, NetworkMode, PortSpec, Protocol},
    device::DeviceRequest,
    disconnect::DisconnectPolicy,
    id::{Name, WorkloadId},
    placement::PlacementSpec,
    probe::ProbeKind,
    resources::{ResourceSpec, Resources},
    workload::{REPLICAS_MAX, WorkloadKind, WorkloadSpec},
};

use crate::{
    balance, companion,
    config::Configs,
    container, dependency, device, disconnect,
    fault::Place,
    job, placement, ports, probe, scale, schedule,
    section::{Entry, Section},
    update, volume,
};

/// Below this the runtime itself cannot start a process in its cgroup.
const MEMORY_BYTES_MIN: u64 = 4 << 20;
const MEMORY_BYTES_MAX: u64 = 64 << 40;
/// The kernel's own limit of process ids (`PID_MAX_LIMIT`).
const PIDS_MAX: u64 = 4 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Service,
    Daemon,
    Job,
}

/// A workload and where in the text it was read.
pub(crate) struct Reading {
    pub(crate) spec: WorkloadSpec,
    pub(crate) path: String,
    pub(crate) place: Place,
    /// The places of the ports' names, in the order of the spec.
    pub(crate) port_places: Vec<Place>,
    /// The places of the services it waits for, in the order of the spec.
    pub(crate) after_places: Vec<Place>,
}

pub(crate) fn read(entry: &Entry<'_>, kind: Kind, namespace: &Name, configs: &Configs) -> Option<Reading> {
    let name = entry.key_name();
    let section = entry.section()?;
    let (replicas, scale) = (section.get("replicas"), section.get("scale"));
    refuse_both(replicas.as_ref(), scale.as_ref());
    let replicas = replicas.map_or(Some(1), |entry| self::replicas(&entry, kind));
    let (container, companions) = containers(&section, configs);
    let job = (kind == Kind::Job).then(|| job::read(&section, container.as_ref()));
    let schedule = (kind == Kind::Job).then(|| schedule::read(&section)).flatten();
    let ports = section.get("ports").and_then(|entry| entry.section());
    let ports_wanted = ports.as_ref().map_or(0, |section| section.entries().count());
    let network = container.as_ref().map_or(NetworkMode::Own, |container| container.network);
    let dual = section.get("ipv6");
    let ipv6 = dual.as_ref().and_then(|entry| entry.boolean());
    // One with a fault of its own is not also missed by ports.
    let owner = ports::Owner { kind, network, has_ipv6: ipv6.unwrap_or(dual.is_some()) };
    let ports = ports.map(|section| ports::read(&section, owner)).unwrap_or_default();
    let (ports, port_places): (Vec<PortSpec>, Vec<Place>) = ports.into_iter().unzip();
    let resources = section.get("resources").and_then(|entry| Some(self::resources(&entry.section()?)));
    let (resources, devices) = resources.unwrap_or_default();
    // A port with a fault of its own is not also reported as missing.
    let sound_ports = (ports.len() == ports_wanted).then_some(ports.as_slice());
    if kind == Kind::Daemon && ipv6 == Some(true) {
        lead_somewhere(dual.as_ref(), sound_ports);
    }
    let health = section.get("health").and_then(|entry| entry.section());
    let probe = health.and_then(|section| probe::read(&section, sound_ports, ProbeKind::Health));
    let restart = probe::read_restart(&section, sound_ports, kind);
    let place = section.get("place").and_then(|entry| entry.section());
    let placement = place.map_or_else(PlacementSpec::default, |section| placement::read(&section, kind, namespace));
    let balance = section.get("balance").and_then(|entry| Some(balance::read(&entry.section()?, &entry, kind)));
    let has_volume = has_volume(container.as_ref(), &companions);
    let volume_sizes = volume::read(&section, container.as_ref(), &companions);
    let update = section.get("update").and_then(|entry| entry.section());
    let update = update.map(|section| update::read(&section, kind, &ports, has_volume));
    let scale = scale.and_then(|entry| scale::read(&entry, kind, sound_ports));
    let silence = section.get("disconnect").and_then(|entry| entry.section());
    let disconnect = silence.map_or_else(DisconnectPolicy::default, |section| disconnect::read(&section, kind));
    let across = section.get("across_sites");
    let across_sites = across.and_then(|entry| across_sites(&entry, kind, network, &ports)).unwrap_or_default();
    let allow_from = section.get("allow_from").map(|entry| allow_from(&entry, network, namespace));
    let (after, after_places) = dependency::read(&section, namespace).into_iter().unzip();
    section.refuse_unknown();
    let kind = match kind {
        Kind::Service => WorkloadKind::Service { replicas: scale.as_ref().map_or(replicas?, |scale| scale.min) },
        Kind::Daemon => WorkloadKind::Daemon,
        Kind::Job => WorkloadKind::Job(job?),
    };
    let id = WorkloadId { namespace: namespace.clone(), name: name? };
    let spec = WorkloadSpec {
        resources,
        companions,
        after,
        volume_sizes,
        devices,
        placement,
        ports,
        balance: balance.unwrap_or_default(),
        probe,
        restart,
        update,
        scale,
        schedule,
        disconnect,
        ipv6: ipv6.unwrap_or_default(),
        across_sites,
        allow_from,
        ..WorkloadSpec::of_kind(id, kind, container?)
    };
    disconnect::refuse_overlaps(&section, &spec);
    Some(Reading { spec, path: entry.path.clone(), place: entry.key_place.clone(), port_places, after_places })
}

/// Reads who may ask its instances.
fn allow_from(entry: &Entry<'_>, network: NetworkMode, namespace: &Name) -> Vec<Source> {
    refuse_published(entry, network, "say who may by `allow` of a port");
    sources(entry, namespace)
}

/// A daemon has no address of its own, so by IPv6 only ports of its nodes can lead to it.
fn lead_somewhere(ipv6: Option<&Entry<'_>>, ports: Option<&[PortSpec]>) {
    let (Some(ipv6), Some(ports)) = (ipv6, ports) else { return };
    if ports.iter().all(|port| port.host.is_none()) {
        let message = "`ipv6` of a daemon is about its `host` ports, and it has none";
        ipv6.invalid("no_node_port", message, "remove it, or give a port a `host` port");
    }
}

/// The main container and those beside it.
fn containers(section: &Section<'_>, configs: &Configs) -> (Option<ContainerSpec>, Vec<CompanionSpec>) {
    let container = container::read(section, configs, None);
    // Where the workload's own image has a fault, that is all that is said of images.
    let image = container.as_ref().map_or("", |container| &container.image);
    let companions = companion::read(section, configs, image);
    (container, companions)
}

/// Whether an instance holds data that stays on its node.
fn has_volume(container: Option<&ContainerSpec>, companions: &[CompanionSpec]) -> bool {
    let all = container.into_iter().chain(companions.iter().map(|companion| &companion.container));
    all.flat_map(|container| container.mounts.values()).any(|mount| matches!(mount, Mount::Volume { .. }))
}

/// A tunnel carries TCP to an instance's own address.
fn across_sites(entry: &Entry<'_>, kind: Kind, network: NetworkMode, ports: &[PortSpec]) -> Option<bool> {
    if kind == Kind::Daemon {
        let message = "`across_sites` is for services: a daemon has no address of its own";
        entry.invalid("not_for_daemons", message, "remove it, or make it a [service.x]");
        return None;
    }
    let wanted = entry.boolean()?;
    if wanted && network == NetworkMode::Host {
        let message = "`across_sites` leads to instances' own addresses; in the node's network they have none";
        entry.invalid("conflict", message, "remove one of the two");
        return None;
    }
    if wanted && refuse_published(entry, network, "remove one of the two") {
        return None;
    }
    if let Some(port) = ports.iter().find(|port| wanted && port.protocol != Protocol::Tcp) {
        let message = format!("a tunnel between sites carries TCP alone, and port `{}` is UDP", port.name);
        entry.invalid("conflict", message, "remove it, or make two services of it");
        return None;
    }
    Some(wanted)
}

/// Refuses what is about the instances' own addresses where only ports of the nodes lead in; whether it did.
fn refuse_published(entry: &Entry<'_>, network: NetworkMode, help: &str) -> bool {
    let refused = network == NetworkMode::Published;
    if refused {
        let message = format!(
            "with `network = \"published\"` only ports of the nodes lead in, so `{}` has no meaning",
            entry.key
        );
        entry.invalid("conflict", message, help);
    }
    refused
}

fn replicas(entry: &Entry<'_>, kind: Kind) -> Option<u32> {
    if kind == Kind::Daemon {
        let message = "`replicas` has no meaning for a daemon: it runs once on each matching node";
        entry.invalid("not_for_daemons", message, "remove it, or make it a [service.x]");
        return None;
    }
    entry.integer(0, REPLICAS_MAX.into()).and_then(|replicas| u32::try_from(replicas).ok())
}

/// One of the two says how many replicas there are.
fn refuse_both(replicas: Option<&Entry<'_>>, scale: Option<&Entry<'_>>) {
    if let (Some(entry), Some(_)) = (replicas, scale) {
        let message = "`scale` says how many replicas there are, so `replicas` has no meaning";
        entry.invalid("conflict", message, "remove it: `scale.min` is how many there are at first");
    }
}

/// Reads `["web", "shop/web", "namespace:shop", "*"]`; a name alone is one of the workload's own namespace.
fn sources(entry: &Entry<'_>, namespace: &Name) -> Vec<Source> {
    let mut sources = Vec::new();
    for item in entry.items().unwrap_or_default() {
        let Some(text) = item.text() else { continue };
        let own = Name::new(text).map(|name| Source::Workload(WorkloadId { namespace: namespace.clone(), name }));
        match own.or_else(|_| text.parse()) {
            Ok(source) if sources.contains(&source) => {
                item.invalid("duplicate", format!("`{source}` is there twice"), "keep one of the two");
            }
            Ok(source) => sources.push(source),
            Err(error) => {
                let help = "write \"web\", \"shop/web\", \"namespace:shop\" or \"*\" for everybody";
                item.invalid("invalid_source", format!("`{text}`: {error}"), help);
            }
        }
    }
    sources
}

pub(crate) fn resources(section: &Section<'_>) -> (ResourceSpec, Vec<DeviceRequest>) {
    let mut resources = ResourceSpec::default();
    if let Some(cpu) = section.get("cpu").and_then(|entry| entry.cpu_bounds()) {
        resources.reserve.cpu_millis = cpu.reserve;
        resources.cpu_millis_max = cpu.limit;
    }
    if let Some(entry) = section.get("memory")
        && let Some(memory) = entry.memory_bounds(MEMORY_BYTES_MIN, MEMORY_BYTES_MAX)
    {
        match memory.limit {
            Some(limit) => {
                resources.reserve = Resources { memory_bytes: memory.reserve, ..resources.reserve };
                resources.memory_bytes_max = limit;
            }
            None => entry.invalid("out_of_range", "memory needs a limit", "write \"128MiB .. 256MiB\""),
        }
    }
    if let Some(pids) = section.get("pids").and_then(|entry| entry.integer(1, PIDS_MAX)) {
        resources.pids_max = pids;
    }
    let devices = section.get("devices").and_then(|entry| entry.section());
    let devices = devices.map(|section| device::read(&section)).unwrap_or_default();
    section.refuse_unknown();
    (resources, devices)
}

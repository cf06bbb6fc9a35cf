//! What agents observe. Everything here comes from a node and may be hostile: texts are bounded, names are parsed.

use api_types::{
    device::{DEVICE_COUNT_MAX, DEVICES_PER_NODE_MAX, Device, is_device_word},
    instance::{Exit, Findings, Health, InstanceState, InstanceStatus, InstanceUsage},
    node::{Condition, NodeFacts, NodeUsage, TakenPort},
    probe::{ProbeFinding, ProbeKind},
    time::Timestamp,
};

use super::{
    bounded, ipv6_address, known, list, optional, parsed, parsed_list, port,
    service::{tunnel, wire_tunnel},
    shortened, unknown, wire_ipv6_address,
    workload::{protocol, wire_protocol},
};
use crate::{
    error::ConvertError,
    session::{NodeReport, Report},
    v1,
};

fn wire_state(state: InstanceState) -> v1::InstanceState {
    match state {
        InstanceState::Pending => v1::InstanceState::Pending,
        InstanceState::Assigned => v1::InstanceState::Assigned,
        InstanceState::Preparing => v1::InstanceState::Preparing,
        InstanceState::Starting => v1::InstanceState::Starting,
        InstanceState::Running => v1::InstanceState::Running,
        InstanceState::Stopping => v1::InstanceState::Stopping,
        InstanceState::Completed => v1::InstanceState::Completed,
        InstanceState::Failed => v1::InstanceState::Failed,
        InstanceState::Stopped => v1::InstanceState::Stopped,
        InstanceState::Lost => v1::InstanceState::Lost,
    }
}

fn state(number: i32) -> Result<InstanceState, ConvertError> {
    match known("state", number)? {
        v1::InstanceState::Unspecified => Err(unknown("state", number)),
        v1::InstanceState::Pending => Ok(InstanceState::Pending),
        v1::InstanceState::Assigned => Ok(InstanceState::Assigned),
        v1::InstanceState::Preparing => Ok(InstanceState::Preparing),
        v1::InstanceState::Starting => Ok(InstanceState::Starting),
        v1::InstanceState::Running => Ok(InstanceState::Running),
        v1::InstanceState::Stopping => Ok(InstanceState::Stopping),
        v1::InstanceState::Completed => Ok(InstanceState::Completed),
        v1::InstanceState::Failed => Ok(InstanceState::Failed),
        v1::InstanceState::Stopped => Ok(InstanceState::Stopped),
        v1::InstanceState::Lost => Ok(InstanceState::Lost),
    }
}

fn health(number: i32) -> Result<Health, ConvertError> {
    match known("health", number)? {
        v1::Health::Unspecified => Err(unknown("health", number)),
        v1::Health::Unknown => Ok(Health::Unknown),
        v1::Health::Healthy => Ok(Health::Healthy),
        v1::Health::Unhealthy => Ok(Health::Unhealthy),
    }
}

fn wire_health(health: Health) -> v1::Health {
    match health {
        Health::Unknown => v1::Health::Unknown,
        Health::Healthy => v1::Health::Healthy,
        Health::Unhealthy => v1::Health::Unhealthy,
    }
}

fn wire_probe_kind(kind: ProbeKind) -> v1::ProbeKind {
    match kind {
        ProbeKind::Startup => v1::ProbeKind::Startup,
        ProbeKind::Health => v1::ProbeKind::Health,
        ProbeKind::Liveness => v1::ProbeKind::Liveness,
    }
}

fn probe_kind(number: i32) -> Result<ProbeKind, ConvertError> {
    match known("probe", number)? {
        v1::ProbeKind::Unspecified => Err(unknown("probe", number)),
        v1::ProbeKind::Startup => Ok(ProbeKind::Startup),
        v1::ProbeKind::Health => Ok(ProbeKind::Health),
        v1::ProbeKind::Liveness => Ok(ProbeKind::Liveness),
    }
}

impl From<Exit> for v1::Exit {
    fn from(exit: Exit) -> Self {
        let how = match exit {
            Exit::Code(code) => v1::exit::How::Code(code),
            Exit::OutOfMemory => v1::exit::How::OutOfMemory(v1::Nothing {}),
            Exit::Probe(kind) => v1::exit::How::Probe(wire_probe_kind(kind).into()),
            Exit::Unknown => v1::exit::How::Unknown(v1::Nothing {}),
        };
        Self { how: Some(how) }
    }
}

impl TryFrom<v1::Exit> for Exit {
    type Error = ConvertError;

    fn try_from(wire: v1::Exit) -> Result<Self, Self::Error> {
        match wire.how.ok_or_else(|| ConvertError::missing("how"))? {
            v1::exit::How::Code(code) => Ok(Self::Code(code)),
            v1::exit::How::OutOfMemory(_) => Ok(Self::OutOfMemory),
            v1::exit::How::Probe(kind) => Ok(Self::Probe(probe_kind(kind)?)),
            v1::exit::How::Unknown(_) => Ok(Self::Unknown),
        }
    }
}

impl From<InstanceStatus> for v1::InstanceStatus {
    fn from(status: InstanceStatus) -> Self {
        let Findings { probes, last_lines, crash_loop, used_up, no_image } = status.findings;
        Self {
            instance: status.instance.to_string(),
            state: wire_state(status.state).into(),
            health: wire_health(status.health).into(),
            address: status.address.map(Into::into),
            pid: status.pid,
            restarts: status.restarts,
            last_exit: status.last_exit.map(Into::into),
            reason: shortened(status.reason),
            since_ms: status.since.0,
            probes: probes.into_iter().map(Into::into).collect(),
            last_lines: shortened(last_lines),
            crash_loop,
            used_up,
            no_image,
        }
    }
}

impl TryFrom<v1::InstanceStatus> for InstanceStatus {
    type Error = ConvertError;

    fn try_from(wire: v1::InstanceStatus) -> Result<Self, Self::Error> {
        Ok(Self {
            instance: parsed("instance", &wire.instance)?,
            state: state(wire.state)?,
            health: health(wire.health)?,
            address: wire.address.map(Into::into),
            pid: wire.pid,
            restarts: wire.restarts,
            last_exit: optional("last_exit", wire.last_exit)?,
            reason: bounded("reason", wire.reason)?,
            since: Timestamp(wire.since_ms),
            findings: Findings {
                probes: probes(wire.probes)?,
                last_lines: bounded("last_lines", wire.last_lines)?,
                crash_loop: wire.crash_loop,
                used_up: wire.used_up,
                no_image: wire.no_image,
            },
        })
    }
}

/// Reads what probes found out: each kind once, in order.
fn probes(wire: Vec<v1::ProbeFinding>) -> Result<Vec<ProbeFinding>, ConvertError> {
    let probes: Vec<ProbeFinding> = list("probes", wire)?;
    if !probes.is_sorted_by(|first, second| first.kind < second.kind) {
        return Err(ConvertError::new("probes", "they are not in the order of their kinds, each there once"));
    }
    Ok(probes)
}

impl From<ProbeFinding> for v1::ProbeFinding {
    fn from(finding: ProbeFinding) -> Self {
        Self {
            kind: wire_probe_kind(finding.kind).into(),
            health: wire_health(finding.health).into(),
            output: shortened(finding.output),
        }
    }
}

impl TryFrom<v1::ProbeFinding> for ProbeFinding {
    type Error = ConvertError;

    fn try_from(wire: v1::ProbeFinding) -> Result<Self, Self::Error> {
        Ok(Self { kind: probe_kind(wire.kind)?, health: health(wire.health)?, output: bounded("output", wire.output)? })
    }
}

impl From<Report> for v1::Report {
    fn from(report: Report) -> Self {
        Self {
            statuses: report.statuses.into_iter().map(Into::into).collect(),
            gone: report.gone.iter().map(ToString::to_string).collect(),
            complete: report.complete,
        }
    }
}

impl TryFrom<v1::Report> for Report {
    type Error = ConvertError;

    fn try_from(wire: v1::Report) -> Result<Self, Self::Error> {
        Ok(Self {
            statuses: list("statuses", wire.statuses)?,
            gone: parsed_list("gone", &wire.gone)?,
            complete: wire.complete,
        })
    }
}

impl From<NodeFacts> for v1::NodeFacts {
    fn from(facts: NodeFacts) -> Self {
        Self {
            arch: shortened(facts.arch),
            os: shortened(facts.os),
            kernel: shortened(facts.kernel),
            capacity: Some(facts.capacity.into()),
            address: facts.address.map(Into::into),
            ipv6_address: wire_ipv6_address(facts.ipv6_address),
            tunnel: facts.tunnel.map(wire_tunnel),
            agent_version: shortened(facts.agent_version),
            runtime_version: shortened(facts.runtime_version),
            boot_id: shortened(facts.boot_id),
            cgroup_version: facts.cgroup_version.into(),
            devices: facts.devices.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<v1::NodeFacts> for NodeFacts {
    type Error = ConvertError;

    fn try_from(wire: v1::NodeFacts) -> Result<Self, Self::Error> {
        let cgroup_version = u8::try_from(wire.cgroup_version)
            .map_err(|_| ConvertError::new("cgroup_version", format_args!("{} is not 1 or 2", wire.cgroup_version)))?;
        Ok(Self {
            arch: bounded("arch", wire.arch)?,
            os: bounded("os", wire.os)?,
            kernel: bounded("kernel", wire.kernel)?,
            capacity: wire.capacity.ok_or_else(|| ConvertError::missing("capacity"))?.into(),
            ipv6_address: ipv6_address("ipv6_address", &wire.ipv6_address)?,
            tunnel: wire.tunnel.map(tunnel).transpose()?,
            address: wire.address.map(Into::into),
            agent_version: bounded("agent_version", wire.agent_version)?,
            runtime_version: bounded("runtime_version", wire.runtime_version)?,
            boot_id: bounded("boot_id", wire.boot_id)?,
            cgroup_version,
            devices: devices(wire.devices)?,
        })
    }
}

/// Reads a node's devices: each under a name of its own, sorted.
fn devices(wire: Vec<v1::Device>) -> Result<Vec<Device>, ConvertError> {
    if wire.len() > DEVICES_PER_NODE_MAX {
        return Err(ConvertError::new("devices", format_args!("more than {DEVICES_PER_NODE_MAX}")));
    }
    let devices: Vec<Device> = list("devices", wire)?;
    if !devices.is_sorted_by(|first, second| first.name < second.name) {
        return Err(ConvertError::new("devices", "they are not in the order of their names, each there once"));
    }
    Ok(devices)
}

impl From<Device> for v1::Device {
    fn from(device: Device) -> Self {
        Self { name: device.name, kind: device.kind, model: device.model, shares: device.shares }
    }
}

impl TryFrom<v1::Device> for Device {
    type Error = ConvertError;

    fn try_from(wire: v1::Device) -> Result<Self, Self::Error> {
        let word = |path: &str, text: String| {
            let problem = "not 1 to 63 letters, digits, - _ and .";
            if is_device_word(&text) { Ok(text) } else { Err(ConvertError::new(path, problem)) }
        };
        if !(1..=DEVICE_COUNT_MAX).contains(&wire.shares) {
            return Err(ConvertError::new("shares", format_args!("{} is not 1 to {DEVICE_COUNT_MAX}", wire.shares)));
        }
        Ok(Self {
            name: word("name", wire.name)?,
            kind: word("kind", wire.kind)?,
            model: if wire.model.is_empty() { wire.model } else { word("model", wire.model)? },
            shares: wire.shares,
        })
    }
}

impl From<Condition> for v1::Condition {
    fn from(condition: Condition) -> Self {
        Self {
            name: shortened(condition.name),
            ok: condition.ok,
            reason: shortened(condition.reason),
            taken: condition.taken.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<v1::Condition> for Condition {
    type Error = ConvertError;

    fn try_from(wire: v1::Condition) -> Result<Self, Self::Error> {
        Ok(Self {
            name: bounded("name", wire.name)?,
            ok: wire.ok,
            reason: bounded("reason", wire.reason)?,
            taken: list("taken", wire.taken)?,
        })
    }
}

impl From<TakenPort> for v1::TakenPort {
    fn from(taken: TakenPort) -> Self {
        Self { port: taken.port.into(), protocol: wire_protocol(taken.protocol), owner: shortened(taken.owner) }
    }
}

impl TryFrom<v1::TakenPort> for TakenPort {
    type Error = ConvertError;

    fn try_from(wire: v1::TakenPort) -> Result<Self, Self::Error> {
        Ok(Self {
            port: port("port", wire.port)?,
            protocol: protocol("protocol", wire.protocol)?,
            owner: bounded("owner", wire.owner)?,
        })
    }
}

impl From<NodeUsage> for v1::NodeUsage {
    fn from(usage: NodeUsage) -> Self {
        Self { cpu_millis: usage.cpu_millis, memory_bytes: usage.memory_bytes, disk_free_bytes: usage.disk_free_bytes }
    }
}

impl From<v1::NodeUsage> for NodeUsage {
    fn from(wire: v1::NodeUsage) -> Self {
        Self { cpu_millis: wire.cpu_millis, memory_bytes: wire.memory_bytes, disk_free_bytes: wire.disk_free_bytes }
    }
}

impl From<InstanceUsage> for v1::InstanceUsage {
    fn from(usage: InstanceUsage) -> Self {
        Self {
            cpu_millis: usage.cpu_millis,
            memory_bytes: usage.memory_bytes,
            pids: usage.pids,
            new_connections_millis: usage.new_connections_millis,
        }
    }
}

impl From<v1::InstanceUsage> for InstanceUsage {
    fn from(wire: v1::InstanceUsage) -> Self {
        Self {
            cpu_millis: wire.cpu_millis,
            memory_bytes: wire.memory_bytes,
            pids: wire.pids,
            new_connections_millis: wire.new_connections_millis,
        }
    }
}

impl From<NodeReport> for v1::NodeReport {
    fn from(report: NodeReport) -> Self {
        let conditions = |items: Vec<Condition>| v1::Conditions { items: items.into_iter().map(Into::into).collect() };
        Self {
            conditions: report.conditions.map(conditions),
            facts: report.facts.map(Into::into),
            usage: Some(report.usage.into()),
            instances: report.instances.into_iter().map(|(id, usage)| (id.to_string(), usage.into())).collect(),
            requests: report.requests.into_iter().map(|(id, rate)| (id.to_string(), rate)).collect(),
        }
    }
}

impl TryFrom<v1::NodeReport> for NodeReport {
    type Error = ConvertError;

    fn try_from(wire: v1::NodeReport) -> Result<Self, Self::Error> {
        let usage = |(id, usage): (String, v1::InstanceUsage)| Ok((parsed("instances", &id)?, usage.into()));
        let rate = |(id, rate): (String, u64)| Ok((parsed("requests", &id)?, rate));
        Ok(Self {
            conditions: wire.conditions.map(|conditions| list("conditions", conditions.items)).transpose()?,
            facts: optional("facts", wire.facts)?,
            usage: wire.usage.ok_or_else(|| ConvertError::missing("usage"))?.into(),
            instances: wire.instances.into_iter().map(usage).collect::<Result<_, ConvertError>>()?,
            requests: wire.requests.into_iter().map(rate).collect::<Result<_, ConvertError>>()?,
        })
    }
}

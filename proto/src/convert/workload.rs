//! Containers, resources, ports and probes.

use api_types::{
    container::{ContainerSpec, DRAIN_MS, Mount, NetworkMode, PortSpec, Protocol},
    probe::{ProbeCheck, ProbeSpec},
    resources::{ResourceSpec, Resources},
    restart::RestartSpec,
};

use super::{known, optional, parsed, parsed_list, port, required, unknown};
use crate::{error::ConvertError, v1};

impl From<ContainerSpec> for v1::Container {
    fn from(spec: ContainerSpec) -> Self {
        let texts = |items: Option<Vec<String>>| items.map(|items| v1::Texts { items });
        Self {
            image: spec.image,
            command: texts(spec.command),
            args: texts(spec.args),
            env: spec.env,
            user: spec.user,
            workdir: spec.workdir,
            mounts: spec.mounts.into_iter().map(|(path, mount)| (path, mount.into())).collect(),
            read_only: spec.read_only,
            capabilities_add: spec.capabilities_add,
            capabilities_drop: spec.capabilities_drop,
            stop_signal: spec.stop_signal,
            stop_grace_ms: spec.stop_grace_ms,
            drain_ms: Some(spec.drain_ms),
            network: match spec.network {
                NetworkMode::Own => v1::NetworkMode::Own,
                NetworkMode::Published => v1::NetworkMode::Published,
                NetworkMode::Host => v1::NetworkMode::Host,
            }
            .into(),
            stdin: spec.stdin,
            tty: spec.tty,
            content: (!spec.content.is_default()).then(|| spec.content.into()),
        }
    }
}

impl TryFrom<v1::Container> for ContainerSpec {
    type Error = ConvertError;

    fn try_from(wire: v1::Container) -> Result<Self, Self::Error> {
        let texts = |texts: Option<v1::Texts>| texts.map(|texts| texts.items);
        let mount = |(path, mount): (String, v1::Mount)| match Mount::try_from(mount) {
            Ok(mount) => Ok((path, mount)),
            Err(error) => Err(error.within(format_args!("mounts[{path}]"))),
        };
        Ok(Self {
            image: wire.image,
            command: texts(wire.command),
            args: texts(wire.args),
            env: wire.env,
            user: wire.user,
            workdir: wire.workdir,
            mounts: wire.mounts.into_iter().map(mount).collect::<Result<_, _>>()?,
            read_only: wire.read_only,
            capabilities_add: wire.capabilities_add,
            capabilities_drop: wire.capabilities_drop,
            stop_signal: wire.stop_signal,
            stop_grace_ms: wire.stop_grace_ms,
            drain_ms: wire.drain_ms.unwrap_or(DRAIN_MS),
            network: match known("network", wire.network)? {
                v1::NetworkMode::Unspecified | v1::NetworkMode::Own => NetworkMode::Own,
                v1::NetworkMode::Published => NetworkMode::Published,
                v1::NetworkMode::Host => NetworkMode::Host,
            },
            stdin: wire.stdin,
            tty: wire.tty,
            content: optional("content", wire.content)?.unwrap_or_default(),
        })
    }
}

impl From<Mount> for v1::Mount {
    fn from(mount: Mount) -> Self {
        let kind = match mount {
            Mount::Host { path, read_only } => v1::mount::Kind::Host(v1::HostMount { path, read_only }),
            Mount::Tmpfs { bytes_max } => v1::mount::Kind::Tmpfs(v1::TmpfsMount { bytes_max }),
            Mount::Image { image } => v1::mount::Kind::Image(v1::ImageMount { image }),
            Mount::Volume { name, read_only } => {
                v1::mount::Kind::Volume(v1::VolumeMount { name: name.to_string(), read_only })
            }
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<v1::Mount> for Mount {
    type Error = ConvertError;

    fn try_from(wire: v1::Mount) -> Result<Self, Self::Error> {
        match wire.kind.ok_or_else(|| ConvertError::missing("kind"))? {
            v1::mount::Kind::Host(host) => Ok(Self::Host { path: host.path, read_only: host.read_only }),
            v1::mount::Kind::Tmpfs(tmpfs) => Ok(Self::Tmpfs { bytes_max: tmpfs.bytes_max }),
            v1::mount::Kind::Image(mount) => Ok(Self::Image { image: mount.image }),
            v1::mount::Kind::Volume(volume) => {
                Ok(Self::Volume { name: parsed("name", &volume.name)?, read_only: volume.read_only })
            }
        }
    }
}

impl From<Resources> for v1::Resources {
    fn from(resources: Resources) -> Self {
        Self { cpu_millis: resources.cpu_millis, memory_bytes: resources.memory_bytes }
    }
}

impl From<v1::Resources> for Resources {
    fn from(wire: v1::Resources) -> Self {
        Self { cpu_millis: wire.cpu_millis, memory_bytes: wire.memory_bytes }
    }
}

impl From<ResourceSpec> for v1::ResourceSpec {
    fn from(spec: ResourceSpec) -> Self {
        Self {
            reserve: Some(spec.reserve.into()),
            cpu_millis_max: spec.cpu_millis_max,
            memory_bytes_max: spec.memory_bytes_max,
            pids_max: spec.pids_max,
        }
    }
}

impl TryFrom<v1::ResourceSpec> for ResourceSpec {
    type Error = ConvertError;

    fn try_from(wire: v1::ResourceSpec) -> Result<Self, Self::Error> {
        Ok(Self {
            reserve: wire.reserve.ok_or_else(|| ConvertError::missing("reserve"))?.into(),
            cpu_millis_max: wire.cpu_millis_max,
            memory_bytes_max: wire.memory_bytes_max,
            pids_max: wire.pids_max,
        })
    }
}

/// Writes a transport.
pub(super) fn wire_protocol(protocol: Protocol) -> i32 {
    match protocol {
        Protocol::Tcp => v1::Protocol::Tcp.into(),
        Protocol::Udp => v1::Protocol::Udp.into(),
    }
}

/// Reads a transport.
pub(super) fn protocol(path: &str, number: i32) -> Result<Protocol, ConvertError> {
    match known(path, number)? {
        v1::Protocol::Unspecified => Err(unknown(path, number)),
        v1::Protocol::Tcp => Ok(Protocol::Tcp),
        v1::Protocol::Udp => Ok(Protocol::Udp),
    }
}

impl From<PortSpec> for v1::Port {
    fn from(spec: PortSpec) -> Self {
        Self {
            name: spec.name,
            container: spec.container.into(),
            protocol: wire_protocol(spec.protocol),
            service: spec.service.into(),
            publish: spec.publish.map(Into::into),
            http: spec.http,
            host: spec.host.map(Into::into),
            bind: spec.bind.map(Into::into),
            allow: spec.allow.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<v1::Port> for PortSpec {
    type Error = ConvertError;

    fn try_from(wire: v1::Port) -> Result<Self, Self::Error> {
        Ok(Self {
            name: wire.name,
            container: port("container", wire.container)?,
            protocol: protocol("protocol", wire.protocol)?,
            service: port("service", wire.service)?,
            publish: wire.publish.map(|number| port("publish", number)).transpose()?,
            http: wire.http,
            host: wire.host.map(|number| port("host", number)).transpose()?,
            bind: wire.bind.map(|bind| parsed("bind", &bind)).transpose()?,
            allow: parsed_list("allow", &wire.allow)?,
        })
    }
}

impl From<ProbeSpec> for v1::Probe {
    fn from(spec: ProbeSpec) -> Self {
        let check = match spec.check {
            ProbeCheck::Tcp { port } => v1::probe::Check::Tcp(v1::TcpCheck { port: port.into() }),
            ProbeCheck::Http { port, path } => v1::probe::Check::Http(v1::HttpCheck { port: port.into(), path }),
            ProbeCheck::Grpc { port, service } => v1::probe::Check::Grpc(v1::GrpcCheck { port: port.into(), service }),
            ProbeCheck::Exec { command } => v1::probe::Check::Exec(v1::ExecCheck { command }),
        };
        Self {
            check: Some(check),
            interval_ms: spec.interval_ms,
            timeout_ms: spec.timeout_ms,
            failures: spec.failures,
            successes: (spec.successes != 1).then_some(spec.successes),
            grace_ms: spec.grace_ms,
        }
    }
}

impl TryFrom<v1::Probe> for ProbeSpec {
    type Error = ConvertError;

    fn try_from(wire: v1::Probe) -> Result<Self, Self::Error> {
        Ok(Self {
            check: required("check", wire.check)?,
            interval_ms: wire.interval_ms,
            timeout_ms: wire.timeout_ms,
            failures: wire.failures,
            successes: wire.successes.unwrap_or(1),
            grace_ms: wire.grace_ms,
        })
    }
}

impl TryFrom<v1::probe::Check> for ProbeCheck {
    type Error = ConvertError;

    fn try_from(wire: v1::probe::Check) -> Result<Self, Self::Error> {
        match wire {
            v1::probe::Check::Tcp(check) => Ok(Self::Tcp { port: port("port", check.port)? }),
            v1::probe::Check::Http(check) => Ok(Self::Http { port: port("port", check.port)?, path: check.path }),
            v1::probe::Check::Grpc(check) => Ok(Self::Grpc { port: port("port", check.port)?, service: check.service }),
            v1::probe::Check::Exec(check) => Ok(Self::Exec { command: check.command }),
        }
    }
}

impl From<RestartSpec> for v1::Restart {
    fn from(spec: RestartSpec) -> Self {
        Self {
            startup: spec.startup.map(Into::into),
            liveness: spec.liveness.map(Into::into),
            max_restarts: spec.max_restarts,
        }
    }
}

impl TryFrom<v1::Restart> for RestartSpec {
    type Error = ConvertError;

    fn try_from(wire: v1::Restart) -> Result<Self, Self::Error> {
        Ok(Self {
            startup: optional("startup", wire.startup)?,
            liveness: optional("liveness", wire.liveness)?,
            max_restarts: wire.max_restarts,
        })
    }
}

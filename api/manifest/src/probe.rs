//! `[service.x.health]`, `[service.x.startup]`, `[service.x.liveness]`: how an instance is asked whether it is well.

use api_types::{
    container::{PortSpec, Protocol},
    probe::{ProbeCheck, ProbeKind, ProbeSpec},
    restart::{RESTARTS_MAX, RestartSpec},
};

use crate::{
    fault::suggestion,
    section::{Entry, Section},
    workload::Kind,
};

const INTERVAL_MS: u64 = 5_000;
const TIMEOUT_MS: u64 = 2_000;
const FAILURES: u32 = 3;
const GRACE_MS: u64 = 20_000;
const WITHIN_MS: u64 = 60_000;
const HOUR_MS: u64 = 3_600_000;
const PATH_BYTES_MAX: usize = 1024;
const COMMAND_BYTES_MAX: usize = 4096;
/// What can be asked; one of them in each probe.
const CHECKS: [&str; 4] = ["http", "tcp", "grpc", "exec"];

/// Reads `startup`, `liveness` and `max_restarts` of a workload.
pub(crate) fn read_restart(section: &Section<'_>, ports: Option<&[PortSpec]>, kind: Kind) -> RestartSpec {
    let probe = |key, probe| {
        let section = section.get(key).and_then(|entry| entry.section());
        section.and_then(|section| read(&section, ports, probe))
    };
    RestartSpec {
        startup: probe("startup", ProbeKind::Startup),
        liveness: probe("liveness", ProbeKind::Liveness),
        max_restarts: section.get("max_restarts").and_then(|entry| max_restarts(&entry, kind)),
    }
}

/// Reads a probe; its port is one of `ports`, unless those have faults themselves (`None`).
pub(crate) fn read(section: &Section<'_>, ports: Option<&[PortSpec]>, kind: ProbeKind) -> Option<ProbeSpec> {
    let check = check(section, ports);
    let interval = section.get("interval").map_or(Some(INTERVAL_MS), |entry| entry.duration_ms(100, HOUR_MS));
    let timeout = section.get("timeout").map(|entry| (entry.duration_ms(10, HOUR_MS), entry));
    let (failures, grace) = match kind {
        ProbeKind::Startup => {
            (Some(1), section.get("within").map_or(Some(WITHIN_MS), |entry| entry.duration_ms(1_000, HOUR_MS)))
        }
        ProbeKind::Health | ProbeKind::Liveness => {
            let retries = section.get("retries").map_or(Some(u64::from(FAILURES)), |entry| entry.integer(1, 1000));
            (retries, section.get("grace").map_or(Some(GRACE_MS), |entry| entry.duration_ms(0, HOUR_MS)))
        }
    };
    let successes = match kind {
        // Known by one: whoever has started has, and a process that answers once is not ended for what it did before.
        ProbeKind::Startup | ProbeKind::Liveness => Some(1),
        ProbeKind::Health => section.get("successes").map_or(Some(1), |entry| entry.integer(1, 1000)),
    };
    section.refuse_unknown();
    let interval_ms = interval?;
    let timeout_ms = match timeout {
        None => TIMEOUT_MS.min(interval_ms),
        Some((timeout, entry)) => {
            if timeout? > interval_ms {
                entry.invalid("out_of_range", "the timeout is longer than the interval", "");
            }
            timeout?
        }
    };
    Some(ProbeSpec {
        check: check?,
        interval_ms,
        timeout_ms,
        failures: u32::try_from(failures?).ok()?,
        successes: u32::try_from(successes?).ok()?,
        grace_ms: grace?,
    })
}

/// Reads what is asked.
fn check(section: &Section<'_>, ports: Option<&[PortSpec]>) -> Option<ProbeCheck> {
    let mut entries = CHECKS.iter().filter_map(|key| section.get(key));
    let Some(entry) = entries.next() else {
        let help = "say what is asked: http = \"PORT/path\", tcp = \"PORT\", grpc = \"PORT\" or exec = [\"command\"]";
        section.missing("http", help);
        return None;
    };
    let others: Vec<Entry<'_>> = entries.collect();
    for other in &others {
        let message = format!("`{}` and `{}` exclude each other", entry.key, other.key);
        other.invalid("conflict", message, "keep one of the two");
    }
    if !others.is_empty() {
        return None;
    }
    match entry.key {
        "http" => http_check(&entry, ports),
        "tcp" => port(&entry, entry.text()?, ports).map(|port| ProbeCheck::Tcp { port }),
        "grpc" => grpc_check(&entry, ports),
        _ => exec_check(&entry),
    }
}

fn http_check(entry: &Entry<'_>, ports: Option<&[PortSpec]>) -> Option<ProbeCheck> {
    let text = entry.text()?;
    let (name, path) = text.split_at(text.find('/').unwrap_or(text.len()));
    let path = if path.is_empty() { "/" } else { path };
    let visible = path.bytes().all(|byte| byte.is_ascii_graphic());
    if !visible || path.len() > PATH_BYTES_MAX {
        let message = "the path must be printable ASCII without blanks, at most 1024 characters";
        entry.invalid("invalid_path", message, "write other characters as %XX");
        return None;
    }
    port(entry, name, ports).map(|port| ProbeCheck::Http { port, path: path.to_owned() })
}

fn grpc_check(entry: &Entry<'_>, ports: Option<&[PortSpec]>) -> Option<ProbeCheck> {
    let (name, service) = entry.text()?.split_once('/').unwrap_or((entry.text()?, ""));
    if !service.bytes().all(|byte| byte.is_ascii_graphic()) || service.len() > PATH_BYTES_MAX {
        let message = "the service must be printable ASCII without blanks, at most 1024 characters";
        entry.invalid("invalid_service", message, "write it as in the .proto file: grpc = \"PORT/package.Service\"");
        return None;
    }
    port(entry, name, ports).map(|port| ProbeCheck::Grpc { port, service: service.to_owned() })
}

fn exec_check(entry: &Entry<'_>) -> Option<ProbeCheck> {
    let command = entry.texts()?;
    let bytes: usize = command.iter().map(String::len).sum();
    if command.first().is_none_or(String::is_empty) || bytes > COMMAND_BYTES_MAX {
        let message = "a probe's command has a first word, and at most 4096 characters";
        entry.invalid("invalid_command", message, "for example exec = [\"/bin/sh\", \"-c\", \"test -e /tmp/ready\"]");
        return None;
    }
    Some(ProbeCheck::Exec { command })
}

fn max_restarts(entry: &Entry<'_>, kind: Kind) -> Option<u32> {
    if kind == Kind::Daemon {
        let message =
            "`max_restarts` is for services: a daemon's instance belongs to its node, no other can replace it";
        entry.invalid("not_for_daemons", message, "remove it");
        return None;
    }
    entry.integer(1, RESTARTS_MAX.into()).and_then(|number| u32::try_from(number).ok())
}

fn port(entry: &Entry<'_>, name: &str, ports: Option<&[PortSpec]>) -> Option<u16> {
    let ports = ports?;
    let Some(port) = ports.iter().find(|port| port.name == name) else {
        let names: Vec<&str> = ports.iter().map(|port| port.name.as_str()).collect();
        let help = if names.is_empty() {
            "name it in `ports`: ports = { http = { container = 8080 } }".to_owned()
        } else {
            suggestion(name, &names)
        };
        entry.invalid("unknown_port", format!("there is no port `{}`", name.escape_debug()), help);
        return None;
    };
    if port.protocol == Protocol::Udp {
        entry.invalid("unknown_port", format!("port `{name}` is UDP; a probe needs TCP"), "");
        return None;
    }
    Some(port.container)
}

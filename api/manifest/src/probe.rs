//! `[service.x.health]`: how health is asked for.

use api_types::{
    container::{PortSpec, Protocol},
    probe::{ProbeCheck, ProbeSpec},
};

use crate::{
    fault::suggestion,
    section::{Entry, Section},
};

const INTERVAL_MS: u64 = 5_000;
const TIMEOUT_MS: u64 = 2_000;
const FAILURES: u32 = 3;
const GRACE_MS: u64 = 20_000;
const HOUR_MS: u64 = 3_600_000;
const PATH_BYTES_MAX: usize = 1024;

/// Reads the probe; its port is one of `ports`, unless those have faults themselves (`None`).
pub(crate) fn read(section: &Section<'_>, ports: Option<&[PortSpec]>) -> Option<ProbeSpec> {
    section.refuse_later(&["exec"]);
    let (http, tcp) = (section.get("http"), section.get("tcp"));
    let check = match (&http, &tcp) {
        (Some(entry), None) => http_check(entry, ports),
        (None, Some(entry)) => {
            entry.text().and_then(|name| port(entry, name, ports)).map(|port| ProbeCheck::Tcp { port })
        }
        (Some(_), Some(entry)) => {
            entry.invalid("conflict", "`http` and `tcp` exclude each other", "keep one of the two");
            None
        }
        (None, None) => {
            section.missing("http", "say what is asked: http = \"PORT/path\" or tcp = \"PORT\"");
            None
        }
    };
    let interval = section.get("interval").map_or(Some(INTERVAL_MS), |entry| entry.duration_ms(100, HOUR_MS));
    let timeout = section.get("timeout").map(|entry| (entry.duration_ms(10, HOUR_MS), entry));
    let retries = section.get("retries").map_or(Some(u64::from(FAILURES)), |entry| entry.integer(1, 1000));
    let grace = section.get("grace").map_or(Some(GRACE_MS), |entry| entry.duration_ms(0, HOUR_MS));
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
        failures: u32::try_from(retries?).ok()?,
        grace_ms: grace?,
    })
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

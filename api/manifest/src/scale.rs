//! `[service.x.scale]`: how many replicas there are, by what they use and serve.

use api_types::{
    container::{PortSpec, Protocol},
    rollout::Share,
    scale::ScaleSpec,
    workload::REPLICAS_MAX,
};

use crate::{
    section::{Entry, Section},
    update,
    workload::Kind,
};

const SECOND_MS: u64 = 1_000;
const HOUR_MS: u64 = 3_600_000;
/// A promise may be small beside what a replica uses at its limit.
const PERCENT_MAX: u32 = 1_000;
const TOLERANCE_PERCENT_MAX: u32 = 50;
const REQUESTS_MAX: u64 = 1_000_000;

/// `ports` are those of the service, unless one has a fault of its own.
pub(crate) fn read(entry: &Entry<'_>, kind: Kind, ports: Option<&[PortSpec]>) -> Option<ScaleSpec> {
    if kind == Kind::Daemon {
        let message = "`scale` is for services: a daemon runs once on each matching node";
        entry.invalid("not_for_daemons", message, "remove it, or make it a [service.x]");
        return None;
    }
    let section = entry.section()?;
    let (min, max) = bounds(&section);
    let targets = ["cpu", "memory", "requests", "new_connections"].map(|key| section.get(key));
    if targets.iter().all(Option::is_none) {
        let help = "say by what it is scaled: cpu = \"70%\", memory = \"80%\", requests = 50 or new_connections = 50";
        section.missing("cpu", help);
    }
    let [cpu, memory, requests, new_connections] = targets;
    let spec = ScaleSpec {
        cpu_percent: cpu.and_then(|entry| percent(&entry, PERCENT_MAX)),
        memory_percent: memory.and_then(|entry| percent(&entry, PERCENT_MAX)),
        requests: requests.and_then(|entry| self::requests(&entry, ports)),
        new_connections: new_connections.and_then(|entry| self::new_connections(&entry, ports)),
        ..ScaleSpec::between(min.unwrap_or(1), max.unwrap_or(REPLICAS_MAX))
    };
    let share = |key| section.get(key).and_then(|entry| update::share(&entry));
    let (step_up, step_down): (Option<Share>, Option<Share>) = (share("step_up"), share("step_down"));
    let duration = |key| section.get(key).and_then(|entry| entry.duration_ms(0, HOUR_MS));
    let tolerance = section.get("tolerance").and_then(|entry| percent(&entry, TOLERANCE_PERCENT_MAX));
    let window = section.get("window").and_then(|entry| entry.duration_ms(SECOND_MS, HOUR_MS));
    let (cooldown, per_site) = (duration("cooldown"), section.get("per_site").and_then(|entry| entry.boolean()));
    section.refuse_unknown();
    Some(ScaleSpec {
        tolerance_percent: tolerance.unwrap_or(spec.tolerance_percent),
        window_ms: window.unwrap_or(spec.window_ms),
        cooldown_ms: cooldown.unwrap_or(spec.cooldown_ms),
        step_up: step_up.unwrap_or(spec.step_up),
        step_down: step_down.unwrap_or(spec.step_down),
        per_site: per_site.unwrap_or_default(),
        ..spec
    })
}

fn bounds(section: &Section<'_>) -> (Option<u32>, Option<u32>) {
    let number = |entry: &Entry<'_>| entry.integer(1, REPLICAS_MAX.into()).and_then(|value| u32::try_from(value).ok());
    let min = section.get("min").map_or(Some(1), |entry| number(&entry));
    let Some(entry) = section.get("max") else {
        section.missing("max", "say how many replicas it has at most: max = 10");
        return (min, None);
    };
    let max = number(&entry);
    if let (Some(min), Some(max)) = (min, max)
        && min > max
    {
        entry.invalid("out_of_range", format!("`max` is {max}, and `min` is {min}"), "write the smaller one as `min`");
        return (min.into(), None);
    }
    (min, max)
}

/// Reads `"70%"`.
fn percent(entry: &Entry<'_>, most: u32) -> Option<u32> {
    let text = entry.text()?;
    let number = text.strip_suffix('%').and_then(|number| number.trim_end().parse::<u32>().ok());
    let percent = number.filter(|percent| (1..=most).contains(percent));
    if percent.is_none() {
        let message = format!("`{}` is not a percentage from 1% to {most}%", text.escape_debug());
        entry.invalid("out_of_range", message, "write such as \"70%\"");
    }
    percent
}

/// Only the listener of an HTTP port knows one request from the next.
fn requests(entry: &Entry<'_>, ports: Option<&[PortSpec]>) -> Option<u32> {
    let requests = entry.integer(1, REQUESTS_MAX).and_then(|requests| u32::try_from(requests).ok());
    if ports.is_some_and(|ports| !ports.iter().any(|port| port.http && port.publish.is_some())) {
        let message = "`requests` counts what comes in by a published HTTP port, and there is none";
        let help = "publish one with protocol = \"http\", or scale by `cpu`";
        entry.invalid("conflict", message, help);
        return None;
    }
    requests
}

/// The kernel counts them for each instance's own network.
fn new_connections(entry: &Entry<'_>, ports: Option<&[PortSpec]>) -> Option<u32> {
    let connections = entry.integer(1, REQUESTS_MAX).and_then(|connections| u32::try_from(connections).ok());
    if ports.is_some_and(|ports| !ports.iter().any(|port| port.protocol == Protocol::Tcp)) {
        let message = "`new_connections` counts TCP connections, and there is no TCP port";
        entry.invalid("conflict", message, "give it a port, or scale by `cpu`");
        return None;
    }
    connections
}

//! What a spec must be so that it hurts nobody. The manifest says much of it earlier and with line numbers; here it is
//! said for everyone who asks.

use std::collections::{BTreeMap, BTreeSet};

use api_types::{
    error::ValidationError,
    placement::{Constraint, Operator},
    workload::{WorkloadKind, WorkloadSpec},
};

use crate::effect::Refusal;

const REPLICAS_MAX: u32 = 10_000;
const PORTS_MAX: usize = 64;
const CONSTRAINTS_MAX: usize = 64;
/// Bounds sums of reserves: a million instances of it still fit into 64 bits.
const CPU_MILLIS_MAX: u64 = 1_000_000_000;
/// As above: 1 TiB times a million.
const MEMORY_BYTES_MAX: u64 = 1 << 40;
const TEXT_BYTES_MAX: usize = 4_096;
const STOP_GRACE_MS_MAX: u64 = 3_600_000;
const LABELS_MAX: usize = 64;
const LABEL_BYTES_MAX: usize = 256;

/// Checks one spec.
pub(super) fn check(spec: &WorkloadSpec) -> Result<(), ValidationError> {
    check_count(spec)?;
    check_container(spec)?;
    check_resources(spec)?;
    check_ports(spec)?;
    check_probe(spec)?;
    if spec.placement.constraints.len() > CONSTRAINTS_MAX {
        return fault("placement.constraints", format!("at most {CONSTRAINTS_MAX} constraints"));
    }
    spec.placement.constraints.iter().try_for_each(check_constraint)
}

/// Checks what is to be registered of a node.
pub(crate) fn check_node(site: &str, labels: &BTreeMap<String, String>) -> Result<(), Refusal> {
    if site.is_empty() || site.len() > LABEL_BYTES_MAX || site.chars().any(char::is_control) {
        return Err(Refusal::Invalid(format!("a site is a text of 1 to {LABEL_BYTES_MAX} bytes")));
    }
    let is_long = |(name, value): (&String, &String)| name.is_empty() || name.len().max(value.len()) > LABEL_BYTES_MAX;
    if labels.len() > LABELS_MAX || labels.iter().any(is_long) {
        return Err(Refusal::Invalid(format!(
            "a node has at most {LABELS_MAX} labels, each name and value at most {LABEL_BYTES_MAX} bytes"
        )));
    }
    Ok(())
}

fn check_count(spec: &WorkloadSpec) -> Result<(), ValidationError> {
    if let WorkloadKind::Service { replicas } = spec.kind
        && replicas > REPLICAS_MAX
    {
        return fault("replicas", format!("{replicas} is more than {REPLICAS_MAX}"));
    }
    if spec.placement.per_node_max == Some(0) {
        return fault("placement.per_node_max", "0 leaves no node: leave it out or set replicas to 0");
    }
    Ok(())
}

fn check_container(spec: &WorkloadSpec) -> Result<(), ValidationError> {
    let image = &spec.container.image;
    if image.is_empty() || image.len() > TEXT_BYTES_MAX || image.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return fault("container.image", "not an image reference such as registry.lan/shop/web:1.4.2");
    }
    if spec.container.stop_grace_ms > STOP_GRACE_MS_MAX {
        return fault("container.stop_grace_ms", "longer than an hour");
    }
    Ok(())
}

fn check_resources(spec: &WorkloadSpec) -> Result<(), ValidationError> {
    let resources = &spec.resources;
    if resources.reserve.cpu_millis > CPU_MILLIS_MAX || resources.reserve.memory_bytes > MEMORY_BYTES_MAX {
        return fault("resources.reserve", "more than any node has: at most 1,000,000 CPUs and 1 TiB");
    }
    if resources.memory_bytes_max < resources.reserve.memory_bytes {
        return fault(
            "resources.memory_bytes_max",
            "below what is reserved: the process would be killed within its promise",
        );
    }
    if resources.cpu_millis_max.is_some_and(|most| most < resources.reserve.cpu_millis) {
        return fault("resources.cpu_millis_max", "below what is reserved");
    }
    if resources.memory_bytes_max == 0 || resources.pids_max == 0 || resources.cpu_millis_max == Some(0) {
        return fault("resources", "a limit of 0 lets nothing run");
    }
    Ok(())
}

fn check_ports(spec: &WorkloadSpec) -> Result<(), ValidationError> {
    if spec.ports.len() > PORTS_MAX {
        return fault("ports", format!("at most {PORTS_MAX} ports"));
    }
    let is_service = matches!(spec.kind, WorkloadKind::Service { .. });
    let mut names = BTreeSet::new();
    let mut numbers = BTreeSet::new();
    for port in &spec.ports {
        let path = |field: &str| format!("ports.{}.{field}", port.name);
        if !names.insert(&port.name) {
            return fault(path("name"), "the name is there twice");
        }
        if port.container == 0 || port.service == 0 || port.publish == Some(0) || port.host == Some(0) {
            return fault(path("container"), "0 is not a port: use 1 to 65535");
        }
        if port.publish.is_some() && !is_service {
            return fault(path("publish"), "only services are published: use `host` for a daemon");
        }
        let service = is_service.then_some(port.service);
        for (what, number) in [("service", service), ("publish", port.publish), ("host", port.host)] {
            if let Some(number) = number
                && !numbers.insert((what, number, port.protocol))
            {
                return fault(path(what), format!("{number}/{} is there twice", port.protocol.as_str()));
            }
        }
    }
    Ok(())
}

fn check_probe(spec: &WorkloadSpec) -> Result<(), ValidationError> {
    match &spec.probe {
        Some(probe) if probe.interval_ms == 0 || probe.timeout_ms == 0 || probe.failures == 0 => {
            fault("probe", "interval, timeout and failures must be above 0")
        }
        Some(_) | None => Ok(()),
    }
}

fn check_constraint(constraint: &Constraint) -> Result<(), ValidationError> {
    let count = constraint.values.len();
    let fits = match constraint.operator {
        Operator::Has | Operator::HasNot => count == 0,
        Operator::In | Operator::NotIn => count > 0,
        Operator::Equal | Operator::NotEqual => count == 1,
        Operator::Greater | Operator::Less | Operator::AtLeast | Operator::AtMost => {
            return match constraint.values.as_slice() {
                [value] if value.parse::<i64>().is_ok() => Ok(()),
                _ => fault(
                    "placement.constraints",
                    format!("`{constraint}` compares with something other than one integer"),
                ),
            };
        }
    };
    if fits { Ok(()) } else { fault("placement.constraints", format!("`{constraint}` has a wrong number of values")) }
}

fn fault(path: impl Into<String>, problem: impl Into<String>) -> Result<(), ValidationError> {
    Err(ValidationError::new(path, problem))
}

//! What a spec must be so that it hurts nobody. The manifest says much of it earlier and with line numbers; here it is
//! said for everyone who asks.

use std::collections::{BTreeMap, BTreeSet};

use api_types::{
    balance::{BalancePolicy, WEIGHT_MAX},
    container::{ALLOW_MAX, ContainerSpec, Mount, Protocol},
    device::{DEVICE_COUNT_MAX, DeviceAmount, WHOLE_DEVICE_MILLIS, is_device_word},
    error::ValidationError,
    placement::{Constraint, ConstraintKey, Domain, Operator, is_label_name},
    probe::ProbeCheck,
    resources::{ResourceSpec, Resources},
    restart::{RESTARTS_MAX, RestartSpec},
    workload::{REPLICAS_MAX, WorkloadKind, WorkloadSpec},
};

use super::{companions, job, network, scale, update};
use crate::effect::Refusal;

const PORTS_MAX: usize = 64;
const CONSTRAINTS_MAX: usize = 64;
const DEVICES_MAX: usize = 16;
/// The most rules of evenness.
pub(crate) const SPREADS_MAX: usize = 8;
const AFFINITIES_MAX: usize = 32;
const MOUNTS_MAX: usize = 64;
/// Bounds sums of reserves: a million instances of it still fit into 64 bits.
const CPU_MILLIS_MAX: u64 = 1_000_000_000;
/// As above: 1 TiB times a million.
const MEMORY_BYTES_MAX: u64 = 1 << 40;
const TEXT_BYTES_MAX: usize = 4_096;
const STOP_GRACE_MS_MAX: u64 = 3_600_000;
/// The longest time for connections that are open, in milliseconds.
const DRAIN_MS_MAX: u64 = 3_600_000;
const SECOND_MS: u64 = 1_000;
const AFFINITY_MS_MAX: u64 = 86_400_000;
const SLOW_START_MS_MAX: u64 = 3_600_000;
const WEIGHT_RULES_MAX: usize = 32;
const LABELS_MAX: usize = 64;
const LABEL_BYTES_MAX: usize = 256;
const CONSTRAINT_VALUES_MAX: usize = 1_024;

/// Checks one spec.
pub(super) fn check(spec: &WorkloadSpec) -> Result<(), ValidationError> {
    check_count(spec)?;
    job::check(spec)?;
    check_container("container", &spec.container)?;
    check_resources("resources", &spec.resources)?;
    companions::check(spec)?;
    check_ports(spec)?;
    network::check(spec)?;
    check_balance(spec)?;
    check_probes(spec)?;
    check_devices(spec)?;
    update::check(spec)?;
    scale::check(spec)?;
    check_placement(spec)
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

/// Checks what one container of an instance runs; `path` is where it stands in the spec.
pub(super) fn check_container(path: &str, container: &ContainerSpec) -> Result<(), ValidationError> {
    let of = |field: &str| format!("{path}.{field}");
    if !is_image(&container.image) {
        return fault(of("image"), "not an image reference such as registry.lan/shop/web:1.4.2");
    }
    if container.stop_grace_ms > STOP_GRACE_MS_MAX {
        return fault(of("stop_grace_ms"), "longer than an hour");
    }
    if container.drain_ms > DRAIN_MS_MAX {
        return fault(of("drain_ms"), "longer than an hour");
    }
    let mounts = &container.mounts;
    if mounts.len() > MOUNTS_MAX {
        return fault(of("mounts"), format!("at most {MOUNTS_MAX} mounts"));
    }
    let is_long = |path: &String| path.is_empty() || path.len() > TEXT_BYTES_MAX;
    let source = |mount: &Mount| match mount {
        Mount::Host { path, .. } => is_long(path),
        Mount::Image { .. } | Mount::Volume { .. } | Mount::Tmpfs { .. } => false,
    };
    if !container.images().all(is_image) {
        return fault(of("mounts"), "not an image reference such as registry.lan/models/doors:3");
    }
    match mounts.iter().find(|(inside, mount)| is_long(inside) || source(mount)) {
        Some(_) => fault(of("mounts"), format!("a path has 1 to {TEXT_BYTES_MAX} bytes")),
        None => Ok(()),
    }
}

fn check_devices(spec: &WorkloadSpec) -> Result<(), ValidationError> {
    if spec.devices.len() > DEVICES_MAX {
        return fault("devices", format!("at most {DEVICES_MAX} kinds of devices"));
    }
    let mut asked = BTreeSet::new();
    for request in &spec.devices {
        let words = [Some(&request.kind), request.model.as_ref()];
        if words.into_iter().flatten().any(|word| !is_device_word(word)) {
            return fault("devices", format!("`{request}`: a kind or model has letters, digits, - _ and ., 1 to 63"));
        }
        let fits = match request.amount {
            DeviceAmount::Whole(count) => (1..=DEVICE_COUNT_MAX).contains(&count),
            DeviceAmount::Millis(millis) => (1..WHOLE_DEVICE_MILLIS).contains(&millis),
            DeviceAmount::Share => true,
        };
        if !fits {
            let problem = format!("`{request}`: 1 to {DEVICE_COUNT_MAX} devices, or 0.001 to 0.999 of one");
            return fault("devices", problem);
        }
        if !asked.insert((&request.kind, &request.model)) {
            return fault("devices", format!("`{request}` is asked for twice"));
        }
    }
    Ok(())
}

fn check_placement(spec: &WorkloadSpec) -> Result<(), ValidationError> {
    let placement = &spec.placement;
    if placement.constraints.len() > CONSTRAINTS_MAX {
        return fault("placement.constraints", format!("at most {CONSTRAINTS_MAX} constraints"));
    }
    placement.constraints.iter().try_for_each(check_constraint)?;
    if placement.spread.len() > SPREADS_MAX {
        return fault("placement.spread", format!("at most {SPREADS_MAX} rules"));
    }
    let mut domains = BTreeSet::new();
    for rule in &placement.spread {
        check_domain("placement.spread", &rule.over)?;
        if rule.skew_max == Some(0) {
            return fault("placement.spread", format!("`{rule}`: a skew of 0 lets no instance be the first; use 1"));
        }
        if !domains.insert(&rule.over) {
            return fault("placement.spread", format!("`{}` is there twice", rule.over));
        }
    }
    check_affinities(spec)
}

fn check_affinities(spec: &WorkloadSpec) -> Result<(), ValidationError> {
    const PATH: &str = "placement.affinities";
    let affinities = &spec.placement.affinities;
    if affinities.len() > AFFINITIES_MAX {
        return fault(PATH, format!("at most {AFFINITIES_MAX} rules"));
    }
    if spec.kind == WorkloadKind::Daemon && !affinities.is_empty() {
        return fault(PATH, "they have no meaning for a daemon: it runs once on each matching node");
    }
    let mut rules = BTreeSet::new();
    for affinity in affinities {
        check_domain(PATH, &affinity.within)?;
        if !rules.insert((&affinity.workload, &affinity.within)) {
            return fault(PATH, format!("`{affinity}`: there is a rule for these already"));
        }
    }
    Ok(())
}

fn check_domain(path: &str, domain: &Domain) -> Result<(), ValidationError> {
    match domain {
        Domain::Label(name) if !is_label_name(name) => fault(path, format!("`{domain}` is not the name of a label")),
        Domain::Site | Domain::Node | Domain::Label(_) => Ok(()),
    }
}

fn is_image(image: &str) -> bool {
    let is_odd = |letter: char| letter.is_whitespace() || letter.is_control();
    !image.is_empty() && image.len() <= TEXT_BYTES_MAX && !image.chars().any(is_odd)
}

/// Checks what one container of an instance gets; `path` is where that stands in the spec.
pub(super) fn check_resources(path: &str, resources: &ResourceSpec) -> Result<(), ValidationError> {
    let of = |field: &str| format!("{path}.{field}");
    if !is_bounded(resources.reserve) {
        return fault(of("reserve"), "more than any node has: at most 1,000,000 CPUs and 1 TiB");
    }
    if resources.memory_bytes_max < resources.reserve.memory_bytes {
        let problem = "below what is reserved: the process would be killed within its promise";
        return fault(of("memory_bytes_max"), problem);
    }
    if resources.cpu_millis_max.is_some_and(|most| most < resources.reserve.cpu_millis) {
        return fault(of("cpu_millis_max"), "below what is reserved");
    }
    if resources.memory_bytes_max == 0 || resources.pids_max == 0 || resources.cpu_millis_max == Some(0) {
        return fault(path, "a limit of 0 lets nothing run");
    }
    Ok(())
}

/// Whether sums of so much fit into 64 bits, however many instances are promised it.
pub(super) fn is_bounded(reserve: Resources) -> bool {
    reserve.cpu_millis <= CPU_MILLIS_MAX && reserve.memory_bytes <= MEMORY_BYTES_MAX
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
        if port.http && (port.publish.is_none() || port.protocol != Protocol::Tcp) {
            return fault(path("http"), "HTTP is shared out on a published TCP port: add `publish`");
        }
        if port.allow.len() > ALLOW_MAX {
            return fault(path("allow"), format!("at most {ALLOW_MAX} ranges"));
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

fn check_balance(spec: &WorkloadSpec) -> Result<(), ValidationError> {
    let BalancePolicy { affinity_ms, slow_start_ms, .. } = spec.balance.policy;
    if !matches!(spec.kind, WorkloadKind::Service { .. }) && !spec.balance.is_default() {
        return fault("balance", "only services are balanced to: a daemon has no address of its own");
    }
    if affinity_ms.is_some_and(|affinity| !(SECOND_MS..=AFFINITY_MS_MAX).contains(&affinity)) {
        return fault("balance.affinity_ms", "not between a second and a day");
    }
    if slow_start_ms.is_some_and(|slow_start| !(SECOND_MS..=SLOW_START_MS_MAX).contains(&slow_start)) {
        return fault("balance.slow_start_ms", "not between a second and an hour");
    }
    if spec.balance.weights.len() > WEIGHT_RULES_MAX {
        return fault("balance.weights", format!("at most {WEIGHT_RULES_MAX} rules"));
    }
    for (index, rule) in spec.balance.weights.iter().enumerate() {
        if !(1..=WEIGHT_MAX).contains(&rule.weight) {
            let path = format!("balance.weights[{index}]");
            return fault(path, format!("{} is not a weight of 1 to {WEIGHT_MAX}", rule.weight));
        }
        check_constraint(&rule.nodes)?;
    }
    Ok(())
}

fn check_probes(spec: &WorkloadSpec) -> Result<(), ValidationError> {
    let RestartSpec { startup, liveness, max_restarts } = &spec.restart;
    for (path, probe) in [("probe", &spec.probe), ("restart.startup", startup), ("restart.liveness", liveness)] {
        let Some(probe) = probe else { continue };
        if probe.interval_ms == 0 || probe.timeout_ms == 0 || probe.failures == 0 || probe.successes == 0 {
            return fault(path, "interval, timeout, failures and successes must be above 0");
        }
        if matches!(&probe.check, ProbeCheck::Exec { command } if command.first().is_none_or(String::is_empty)) {
            return fault(path, "the command has no first word");
        }
    }
    match max_restarts {
        Some(_) if spec.kind == WorkloadKind::Daemon => {
            fault("restart.max_restarts", "is for services: a daemon's instance belongs to its node")
        }
        Some(number) if !(1..=RESTARTS_MAX).contains(number) => {
            fault("restart.max_restarts", format!("{number} is not 1 to {RESTARTS_MAX}"))
        }
        Some(_) | None => Ok(()),
    }
}

fn check_constraint(constraint: &Constraint) -> Result<(), ValidationError> {
    if let ConstraintKey::Label(name) = &constraint.key
        && !is_label_name(name)
    {
        return fault("placement.constraints", format!("`{constraint}`: this is not the name of a label"));
    }
    let is_long = |value: &String| value.len() > LABEL_BYTES_MAX;
    if constraint.values.len() > CONSTRAINT_VALUES_MAX || constraint.values.iter().any(is_long) {
        let problem =
            format!("{}: at most {CONSTRAINT_VALUES_MAX} values of {LABEL_BYTES_MAX} bytes each", constraint.key);
        return fault("placement.constraints", problem);
    }
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

pub(super) fn fault(path: impl Into<String>, problem: impl Into<String>) -> Result<(), ValidationError> {
    Err(ValidationError::new(path, problem))
}

#[cfg(test)]
mod tests {
    use api_types::{
        device::DeviceRequest,
        placement::{Affinity, Relation, Spread},
    };

    use super::*;

    fn web() -> WorkloadSpec {
        WorkloadSpec::service("prod/web".parse().expect("an id"), "registry.lan/web:1", 3)
    }

    fn asks(kind: &str, amount: DeviceAmount) -> DeviceRequest {
        DeviceRequest { kind: kind.to_owned(), model: None, amount }
    }

    fn rule(workload: &str, relation: Relation) -> Affinity {
        Affinity { workload: workload.parse().expect("an id"), within: Domain::Node, relation }
    }

    #[test]
    fn what_a_manifest_can_say_is_admitted() {
        let mut spec = web();
        spec.devices = vec![asks("gpu", DeviceAmount::Millis(500)), asks("camera", DeviceAmount::Share)];
        spec.placement.spread = vec![
            Spread { over: Domain::Label("rack".to_owned()), skew_max: Some(1) },
            Spread::soft(Domain::Label("power/feed".to_owned())),
        ];
        spec.placement.affinities = vec![rule("prod/db", Relation::With), rule("prod/web", Relation::Without)];

        assert_eq!(check(&spec), Ok(()));
    }

    #[test]
    fn what_nothing_could_grant_is_refused_with_its_field() {
        let refused = |change: &dyn Fn(&mut WorkloadSpec)| {
            let mut spec = web();
            change(&mut spec);
            check(&spec).expect_err("refused").path
        };
        let device = |kind: &str, amount| refused(&|spec| spec.devices = vec![asks(kind, amount)]);
        let spread = |rules: &[Spread]| refused(&|spec| spec.placement.spread = rules.to_vec());
        let affinities = |rules: &[Affinity]| refused(&|spec| spec.placement.affinities = rules.to_vec());

        assert_eq!(device("gpu", DeviceAmount::Whole(0)), "devices");
        assert_eq!(device("gpu", DeviceAmount::Millis(1_000)), "devices");
        assert_eq!(device("a gpu", DeviceAmount::Share), "devices");
        assert_eq!(refused(&|spec| spec.devices = vec![asks("gpu", DeviceAmount::Share); 2]), "devices");
        assert_eq!(spread(&[Spread { over: Domain::Site, skew_max: Some(0) }]), "placement.spread");
        assert_eq!(spread(&[Spread::soft(Domain::Label(String::new()))]), "placement.spread");
        assert_eq!(
            spread(&[Spread::soft(Domain::Node), Spread { over: Domain::Node, skew_max: Some(2) }]),
            "placement.spread"
        );
        assert_eq!(affinities(&[rule("db", Relation::With), rule("db", Relation::Without)]), "placement.affinities");
        assert_eq!(
            refused(&|spec| {
                spec.kind = WorkloadKind::Daemon;
                spec.placement.affinities = vec![rule("db", Relation::With)];
            }),
            "placement.affinities"
        );
    }
}

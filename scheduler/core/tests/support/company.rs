//! Words of the stories about whom instances are beside, and what devices they get.

use std::fmt::Write as _;

use api_types::{
    companion::{CompanionRole, CompanionSpec},
    container::ContainerSpec,
    dependency::{Awaited, Dependency},
    device::{Device, DeviceAmount, DeviceRequest},
    id::Name,
    placement::{Affinity, Domain, Relation},
    resources::{ResourceSpec, Resources},
};

use crate::fleet::Fleet;

/// `db,api@site,cache@label.rack`: other workloads, and what counts as one place.
pub(crate) fn affinities(with: Option<&str>, without: Option<&str>) -> Vec<Affinity> {
    let rules = |text: Option<&str>, relation: Relation| -> Vec<Affinity> {
        let rule = |text: &str| {
            let (workload, within) = text.split_once('@').unwrap_or((text, "node"));
            let within = match within {
                "site" => Domain::Site,
                "node" => Domain::Node,
                label => Domain::Label(label.trim_start_matches("label.").to_owned()),
            };
            Affinity { workload: workload.parse().expect("a workload"), within, relation }
        };
        text.into_iter().flat_map(|text| text.split(',')).map(rule).collect()
    };
    [rules(with, Relation::With), rules(without, Relation::Without)].concat()
}

/// `db,migrate:completed`: other workloads and what is awaited of them, if not that they are healthy.
pub(crate) fn after(text: &str) -> Vec<Dependency> {
    let dependency = |text: &str| {
        let (workload, word) = text.split_once(':').unwrap_or((text, "healthy"));
        let awaited = Awaited::ALL.into_iter().find(|awaited| awaited.as_str() == word).expect("what is awaited");
        Dependency { workload: workload.parse().expect("a workload"), awaited }
    };
    text.split(',').map(dependency).collect()
}

/// An init step and a sidecar with what each reserves, where that is said.
pub(crate) fn companions(init: Option<u64>, sidecar: Option<u64>) -> Vec<CompanionSpec> {
    let companion = |role: CompanionRole, memory_bytes| CompanionSpec {
        name: Name::new(role.as_str()).expect("a name"),
        role,
        container: ContainerSpec::of_image("registry.lan/tool:1"),
        resources: ResourceSpec {
            reserve: Resources { cpu_millis: 50, memory_bytes },
            memory_bytes_max: memory_bytes,
            ..ResourceSpec::default()
        },
    };
    let init = init.map(|bytes| companion(CompanionRole::Init, bytes));
    init.into_iter().chain(sidecar.map(|bytes| companion(CompanionRole::Sidecar, bytes))).collect()
}

/// `front:camera,g0:gpu/t4:4`: names with kinds, models and shares of a node's devices.
pub(crate) fn devices(text: &str) -> Vec<Device> {
    let device = |text: &str| {
        let parts: Vec<&str> = text.split(':').collect();
        let (kind, model) = parts[1].split_once('/').unwrap_or((parts[1], ""));
        let shares = parts.get(2).map_or(1, |shares| shares.parse().expect("a number"));
        Device { name: parts[0].to_owned(), kind: kind.to_owned(), model: model.to_owned(), shares }
    };
    text.split(',').map(device).collect()
}

/// `gpu:2`, `gpu/t4:0.250`, `camera:share`: what an instance asks for.
pub(crate) fn requests(text: &str) -> Vec<DeviceRequest> {
    let request = |text: &str| {
        let (kind, amount) = text.split_once(':').expect("kind:amount");
        let (kind, model) = kind.split_once('/').map_or((kind, None), |(kind, model)| (kind, Some(model.to_owned())));
        let amount = match (amount, amount.strip_prefix("0.")) {
            ("share", _) => DeviceAmount::Share,
            (_, Some(millis)) => DeviceAmount::Millis(millis.parse().expect("thousandths")),
            (count, None) => DeviceAmount::Whole(count.parse().expect("a number")),
        };
        DeviceRequest { kind: kind.to_owned(), model, amount }
    };
    text.split(',').map(request).collect()
}

/// What nodes are told is so of that for which their instances wait.
pub(crate) fn show_met(fleet: &Fleet) -> String {
    let mut text = String::new();
    for view in fleet.scheduler.node_views() {
        let met = fleet.scheduler.assignment_set(&view.name).map(|set| set.met.clone()).unwrap_or_default();
        let met: Vec<String> = met.iter().map(ToString::to_string).collect();
        let met = if met.is_empty() { "nothing".to_owned() } else { met.join(", ") };
        writeln!(text, "{}: {met}", view.name).expect("a text takes all");
    }
    text
}

/// What instances were given, as their nodes are told.
pub(crate) fn show_devices(fleet: &Fleet) -> String {
    let mut text = String::new();
    for view in fleet.scheduler.node_views() {
        let set = fleet.scheduler.assignment_set(&view.name);
        for assignment in set.iter().flat_map(|set| &set.assignments) {
            let grants: Vec<String> =
                assignment.devices.iter().map(|grant| format!("{} {}", grant.device, grant.millis)).collect();
            writeln!(text, "{}  {}  {}", assignment.instance, view.name, grants.join(", ")).expect("a text takes all");
        }
    }
    text
}

//! `[[service.x.init]]` and `[service.x.sidecar.y]`: the containers beside the main one.

use std::collections::BTreeMap;

use api_types::{
    companion::{COMPANIONS_MAX, CompanionRole, CompanionSpec},
    id::Name,
};

use crate::{
    config::Configs,
    container,
    section::{Entry, Section},
    workload,
};

/// What all containers of an instance share.
const SHARED: [&str; 3] = ["network", "drain", "ports"];

/// Reads the companions of the workload `section`: init steps in their order, then sidecars by name. One that names no image
/// runs `image`, the workload's own.
pub(crate) fn read(section: &Section<'_>, configs: &Configs, image: &str) -> Vec<CompanionSpec> {
    let mut companions = Vec::new();
    let mut places: BTreeMap<Name, String> = BTreeMap::new();
    let steps = section.get("init").and_then(|entry| entry.tables());
    for entry in steps.into_iter().flatten() {
        let Some(section) = entry.section() else { continue };
        let name = section.get("name");
        if name.is_none() {
            section.missing("name", "add name = \"migrate\"");
        }
        let name = name.and_then(|entry| refuse_second(&entry, entry.name()?, &mut places));
        companions.extend(companion(&section, name, CompanionRole::Init, (configs, image)));
    }
    let sidecars = section.get("sidecar").and_then(|entry| entry.section());
    for entry in sidecars.iter().flat_map(|section| section.entries()) {
        let name = entry.key_name().and_then(|name| refuse_second(&entry, name, &mut places));
        let Some(section) = entry.section() else { continue };
        companions.extend(companion(&section, name, CompanionRole::Sidecar, (configs, image)));
    }
    if companions.len() > COMPANIONS_MAX {
        let message = format!("{} init steps and sidecars are more than {COMPANIONS_MAX}", companions.len());
        section.faults.report("too_many", &section.path, section.place.clone(), message);
    }
    companions
}

/// Gives the name, unless another companion of the workload has it.
fn refuse_second(entry: &Entry<'_>, name: Name, places: &mut BTreeMap<Name, String>) -> Option<Name> {
    if let Some(first) = places.get(&name) {
        let message = format!("`{name}` is used by `{first}` already");
        entry.faults.report("duplicate_name", &entry.path, entry.place.clone(), message);
        return None;
    }
    places.insert(name.clone(), entry.path.clone());
    Some(name)
}

fn companion(
    section: &Section<'_>,
    name: Option<Name>,
    role: CompanionRole,
    (configs, image): (&Configs, &str),
) -> Option<CompanionSpec> {
    section.refuse_later(&["health"]);
    for entry in SHARED.iter().filter_map(|key| section.get(key)) {
        let message = format!("all containers of an instance share its `{}`", entry.key);
        entry.invalid("conflict", message, "say it of the workload");
    }
    for entry in ["stdin", "tty"].iter().filter_map(|key| section.get(key)) {
        entry.invalid("conflict", "people are attached to the main container alone", "say it of the workload");
    }
    if let Some(entry) = section.get("on_change") {
        let message = "files of a companion change with its instance";
        entry.invalid("conflict", message, "remove it");
    }
    let container = container::read(section, configs, Some(image));
    let resources = section.get("resources").and_then(|entry| entry.section());
    let resources = resources.map(|section| {
        if let Some(entry) = section.get("devices") {
            entry.invalid("conflict", "devices are given to the main container", "say it of the workload");
        }
        workload::resources(&section).0
    });
    section.refuse_unknown();
    Some(CompanionSpec { name: name?, role, container: container?, resources: resources.unwrap_or_default() })
}

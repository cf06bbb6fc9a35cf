//! `[service.x.volume.data]`: how much the volumes of a workload are meant to hold.

use std::collections::{BTreeMap, BTreeSet};

use api_types::{
    companion::CompanionSpec,
    container::{ContainerSpec, Mount},
    id::Name,
};

use crate::{
    fault::suggestion,
    section::{Entry, Section},
    units,
};

/// Reads `{ data = { size = "10GiB" } }`. Each must be mounted by a container of the workload.
pub(crate) fn read(
    section: &Section<'_>,
    container: Option<&ContainerSpec>,
    companions: &[CompanionSpec],
) -> BTreeMap<Name, u64> {
    let all = container.into_iter().chain(companions.iter().map(|companion| &companion.container));
    let mounted: BTreeSet<&Name> = all.flat_map(|container| container.mounts.values()).filter_map(named).collect();
    let mut sizes = BTreeMap::new();
    let volumes = section.get("volume").and_then(|entry| entry.section());
    for entry in volumes.iter().flat_map(|section| section.entries()) {
        let (name, section) = (entry.key_name(), entry.section());
        let Some(section) = section else { continue };
        let size = section.get("size");
        if size.is_none() {
            section.missing("size", "add size = \"10GiB\"");
        }
        let size = size.and_then(|entry| bytes(&entry));
        section.refuse_unknown();
        let Some(name) = name else { continue };
        // Where the workload's own image has a fault, nothing is known of its mounts.
        if container.is_some() && !mounted.contains(&name) {
            let known: Vec<&str> = mounted.iter().map(|name| name.as_str()).collect();
            let help = match known.as_slice() {
                [] => format!("mount it: mounts = {{ \"/data\" = \"volume:{name}\" }}"),
                known => suggestion(name.as_str(), known),
            };
            let message = format!("no container of it mounts a volume `{name}`");
            entry.faults.report_with_help("unknown_volume", &entry.path, entry.key_place.clone(), message, help);
        }
        sizes.extend(size.map(|size| (name, size)));
    }
    sizes
}

fn named(mount: &Mount) -> Option<&Name> {
    match mount {
        Mount::Volume { name, .. } => Some(name),
        Mount::Host { .. } | Mount::Image { .. } | Mount::Tmpfs { .. } => None,
    }
}

fn bytes(entry: &Entry<'_>) -> Option<u64> {
    match units::size_bytes(entry.text()?) {
        Ok(0) => {
            entry.invalid("out_of_range", "a size of 0 says nothing", "remove it, or say how much it may hold");
            None
        }
        Ok(bytes) => Some(bytes),
        Err((message, help)) => {
            entry.invalid("invalid_size", message, help);
            None
        }
    }
}

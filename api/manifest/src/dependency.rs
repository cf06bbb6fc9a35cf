//! `after`: the workloads that an instance waits for before its first process is started.

use std::collections::BTreeMap;

use api_types::{
    dependency::{Awaited, DEPENDENCIES_MAX, Dependency, circle},
    id::{Name, WorkloadId},
};

use crate::{
    fault::{Faults, Place, suggestion},
    section::{Entry, Section},
    workload::Reading,
};

/// Reads `{ db = "healthy", "shop/migrate" = "completed" }`, sorted; a name alone is one of the workload's own namespace.
pub(crate) fn read(section: &Section<'_>, namespace: &Name) -> Vec<(Dependency, Place)> {
    let mut after: BTreeMap<WorkloadId, (Dependency, Place)> = BTreeMap::new();
    let entry = section.get("after");
    let entries = entry.as_ref().and_then(|entry| entry.section());
    for entry in entries.iter().flat_map(|section| section.entries()) {
        let own = Name::new(entry.key).map(|name| WorkloadId { namespace: namespace.clone(), name });
        let workload = match own.or_else(|_| entry.key.parse::<WorkloadId>()) {
            Ok(workload) => workload,
            Err(error) => {
                entry.faults.report("invalid_name", &entry.path, entry.key_place.clone(), error.problem);
                continue;
            }
        };
        let Some(awaited) = awaited(&entry) else { continue };
        let dependency = Dependency { workload: workload.clone(), awaited };
        if after.insert(workload, (dependency, entry.key_place.clone())).is_some() {
            let message = format!("`{}` is there twice", entry.key.escape_debug());
            entry.faults.report("duplicate", &entry.path, entry.key_place.clone(), message);
        }
    }
    if let Some(entry) = entry.filter(|_| after.len() > DEPENDENCIES_MAX) {
        entry.invalid("too_many", format!("{} workloads are more than {DEPENDENCIES_MAX}", after.len()), "");
    }
    after.into_values().collect()
}

fn awaited(entry: &Entry<'_>) -> Option<Awaited> {
    let word = entry.text()?;
    let found = Awaited::ALL.into_iter().find(|awaited| awaited.as_str() == word);
    if found.is_none() {
        let message = format!("`{}` is nothing that is awaited", word.escape_debug());
        entry.invalid("unknown_value", message, suggestion(word, &Awaited::ALL.map(Awaited::as_str)));
    }
    found
}

/// Refuses workloads that wait for each other, and waiting for what never comes to pass, as far as this file tells.
pub(crate) fn refuse_endless(readings: &[Reading], faults: &Faults<'_>) {
    let by_id: BTreeMap<&WorkloadId, &Reading> = readings.iter().map(|reading| (&reading.spec.id, reading)).collect();
    for reading in readings {
        for (dependency, place) in reading.spec.after.iter().zip(&reading.after_places) {
            let awaited = by_id.get(&dependency.workload);
            if let Some(why) = awaited.and_then(|awaited| dependency.awaited.misfit(&awaited.spec.kind)) {
                let message = format!("`{}` is never {}", dependency.workload, dependency.awaited.as_str());
                faults.report_with_help("not_awaitable", &reading.path, place.clone(), message, why);
            }
        }
    }
    let waits_for = |id: &WorkloadId| {
        let after = by_id.get(id).into_iter().flat_map(|reading| &reading.spec.after);
        after.map(|dependency| &dependency.workload)
    };
    if let Some(found) = circle(by_id.keys().copied(), waits_for)
        && let Some(reading) = by_id.get(found[0])
    {
        let place = reading.spec.after.iter().position(|dependency| dependency.workload == *found[1]);
        let place = place.map_or_else(|| reading.place.clone(), |index| reading.after_places[index].clone());
        let names: Vec<String> = found.iter().map(|id| format!("`{id}`")).collect();
        let message = format!("workloads wait for each other: {}", names.join(" after "));
        faults.report_with_help("circle", &reading.path, place, message, "let one of them start by itself");
    }
}

//! What workloads may wait for, among all that there are.

use std::collections::BTreeMap;

use api_types::{
    dependency::{DEPENDENCIES_MAX, circle},
    id::WorkloadId,
    workload::WorkloadSpec,
};

use crate::{cluster::Cluster, effect::Refusal};

/// Checks that nobody waits without end: for itself by way of others, or for what never comes to pass. Who is not there yet
/// may come.
pub(super) fn check(cluster: &Cluster, specs: &[WorkloadSpec]) -> Result<(), Refusal> {
    let known = cluster.workloads.values().map(|entry| entry.spec());
    let all: BTreeMap<&WorkloadId, &WorkloadSpec> = known.chain(specs).map(|spec| (&spec.id, spec)).collect();
    for spec in all.values() {
        let id = &spec.id;
        if spec.after.len() > DEPENDENCIES_MAX || !spec.after.is_sorted_by(|a, b| a.workload < b.workload) {
            let problem = format!("`{id}`: after: at most {DEPENDENCIES_MAX} workloads, sorted, each once");
            return Err(Refusal::Invalid(problem));
        }
        for dependency in &spec.after {
            let awaited = all.get(&dependency.workload);
            if let Some(why) = awaited.and_then(|awaited| dependency.awaited.misfit(&awaited.kind)) {
                return Err(Refusal::Invalid(format!("`{id}` waits until {dependency}, and {why}")));
            }
        }
    }
    let waits_for = |id: &WorkloadId| {
        let after = all.get(id).into_iter().flat_map(|spec| &spec.after);
        after.map(|dependency| &dependency.workload)
    };
    match circle(specs.iter().map(|spec| &spec.id), waits_for) {
        None => Ok(()),
        Some(found) => {
            let names: Vec<String> = found.into_iter().map(|id| format!("`{id}`")).collect();
            let names = names.join(" after ");
            Err(Refusal::Invalid(format!("workloads wait for each other: {names}: let one of them start by itself")))
        }
    }
}

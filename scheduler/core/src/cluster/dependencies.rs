//! What workloads wait for: who waits for whom, and what of that is so.
//!
//! What the service table tells by itself, that a balanced service is healthy, is left to it.

use std::collections::{BTreeMap, BTreeSet};

use api_types::{
    dependency::{Awaited, Dependency},
    id::WorkloadId,
};

use crate::cluster::{Cluster, nodes::NodeEntry};

/// Who waits for what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Dependencies {
    /// Index: who waits, by whom and what for.
    waiting: BTreeMap<WorkloadId, BTreeMap<Awaited, BTreeSet<WorkloadId>>>,
    /// What of that is so, as the nodes of those who wait are told.
    met: BTreeSet<Dependency>,
}

impl Dependencies {
    fn add(&mut self, id: &WorkloadId, Dependency { workload, awaited }: &Dependency) {
        let waiting = self.waiting.entry(workload.clone()).or_default();
        waiting.entry(*awaited).or_default().insert(id.clone());
    }

    fn remove(&mut self, id: &WorkloadId, dependency: &Dependency) {
        let Some(waiting) = self.waiting.get_mut(&dependency.workload) else { return };
        waiting.entry(dependency.awaited).or_default().remove(id);
        waiting.retain(|_, waiting| !waiting.is_empty());
        if !waiting.contains_key(&dependency.awaited) {
            self.met.remove(dependency);
        }
        if waiting.is_empty() {
            self.waiting.remove(&dependency.workload);
        }
    }
}

impl Cluster {
    /// Notes what a workload waits for from now on, and that it does not wait for what it did before.
    pub(crate) fn wait_for(&mut self, id: &WorkloadId, before: &[Dependency], now: &[Dependency]) {
        if before == now {
            return;
        }
        before.iter().for_each(|dependency| self.dependencies.remove(id, dependency));
        for dependency in now {
            self.dependencies.add(id, dependency);
            self.touched.awaited.insert(dependency.workload.clone());
        }
        // Instances that are to be replaced may be told less than before.
        self.touch_sets_of(id);
    }

    /// Notes that a workload may be farther, or less far, than before, if somebody waits for it.
    pub(crate) fn touch_awaited(&mut self, id: &WorkloadId) {
        if self.dependencies.waiting.contains_key(id) {
            self.touched.awaited.insert(id.clone());
        }
    }

    /// Looks again at what was touched; the sets of those who wait differ with it.
    pub(crate) fn settle_dependencies(&mut self) {
        for workload in std::mem::take(&mut self.touched.awaited) {
            let waiting = self.dependencies.waiting.get(&workload).cloned().unwrap_or_default();
            for (awaited, waiting) in waiting {
                let dependency = Dependency { workload: workload.clone(), awaited };
                let (is_met, known) = (self.is_met(&dependency), &mut self.dependencies.met);
                let differs = if is_met { known.insert(dependency) } else { known.remove(&dependency) };
                waiting.iter().filter(|_| differs).for_each(|id| self.touch_sets_of(id));
            }
        }
    }

    /// What of that is so for which instances on a node wait, sorted.
    pub(crate) fn met_for(&self, node: &NodeEntry) -> Vec<Dependency> {
        if self.dependencies.met.is_empty() {
            return Vec::new();
        }
        let awaited = self.instances_on(node).flat_map(|held| &held.spec().after);
        let met: BTreeSet<&Dependency> = awaited.filter(|awaited| self.dependencies.met.contains(awaited)).collect();
        met.into_iter().cloned().collect()
    }

    fn is_met(&self, dependency: &Dependency) -> bool {
        let Some(entry) = self.workloads.get(&dependency.workload) else { return false };
        let mut wanted = self.instances_of(&dependency.workload).filter(|held| held.is_wanted());
        match dependency.awaited {
            Awaited::Healthy => !entry.spec().is_balanced() && wanted.any(|held| held.is_serving()),
            Awaited::Started => wanted.any(|held| held.runs()),
            Awaited::Completed => {
                let job = self.jobs.get(&dependency.workload);
                job.is_some_and(|job| job.succeeded == Some(entry.workload.runs_since))
            }
        }
    }

    /// The index is as a rebuild of it, and what is told is so.
    pub(crate) fn check_dependencies(&self) -> Result<(), String> {
        let mut rebuilt = Dependencies::default();
        for (id, entry) in &self.workloads {
            entry.spec().after.iter().for_each(|dependency| rebuilt.add(id, dependency));
        }
        let every = rebuilt.waiting.iter().flat_map(|(workload, waiting)| {
            waiting.keys().map(|awaited| Dependency { workload: workload.clone(), awaited: *awaited })
        });
        rebuilt.met = every.filter(|dependency| self.is_met(dependency)).collect();
        if rebuilt == self.dependencies {
            Ok(())
        } else {
            Err(format!("what is awaited is {rebuilt:?}, known is {:?}", self.dependencies))
        }
    }
}

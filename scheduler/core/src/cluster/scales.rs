//! How many replicas the services have that are scaled by what these use and serve.

use std::collections::BTreeMap;

use api_types::{
    id::WorkloadId,
    workload::{WorkloadKind, WorkloadSpec},
};

use crate::{
    cluster::Cluster,
    effect::{Record, RecordKey},
};

impl Cluster {
    /// How many replicas a spec has at first that is about to be wanted: as many as there were, within its bounds. `None` = the
    /// spec says it.
    pub(super) fn first_scale(&mut self, spec: &WorkloadSpec) -> Option<u32> {
        let before = self.workloads.get(&spec.id);
        let scaled = before.and_then(|entry| entry.scaled);
        let Some(scale) = &spec.scale else {
            if scaled.is_some() {
                self.forget_scale(&spec.id);
            }
            return None;
        };
        let had = before.and_then(|entry| match entry.kind() {
            WorkloadKind::Service { replicas } => Some(replicas),
            WorkloadKind::Daemon | WorkloadKind::Job(_) => None,
        });
        let replicas = had.unwrap_or(scale.min).clamp(scale.min, scale.max);
        if scaled != Some(replicas) {
            self.persist(Record::Scale { workload: spec.id.clone(), replicas });
        }
        self.scaled.insert(spec.id.clone());
        Some(replicas)
    }

    /// Gives a service that is scaled another number of replicas.
    pub(crate) fn set_scale(&mut self, id: &WorkloadId, replicas: u32) {
        let Some(entry) = self.workloads.get_mut(id) else { return };
        entry.scaled = Some(replicas);
        self.persist(Record::Scale { workload: id.clone(), replicas });
        self.enter_workload(id);
        self.touched.workloads.insert(id.clone());
        self.touched.seen = true;
    }

    /// Forgets how many replicas a service had.
    pub(super) fn forget_scale(&mut self, id: &WorkloadId) {
        self.scaled.remove(id);
        self.unpersist(RecordKey::Scale(id.clone()));
    }

    /// Takes over what is durable of how many replicas services have. What belongs to none is forgotten.
    pub(crate) fn restore_scales(&mut self, mut durable: BTreeMap<WorkloadId, u32>) {
        for (id, entry) in &mut self.workloads {
            let Some(scale) = &entry.workload.spec.scale else { continue };
            let replicas = durable.remove(id).unwrap_or(scale.min);
            entry.scaled = Some(replicas.clamp(scale.min, scale.max));
            self.scaled.insert(id.clone());
        }
        for id in durable.into_keys() {
            self.forget_scale(&id);
        }
    }
}

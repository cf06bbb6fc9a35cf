//! Files and secrets that instances are shown: what of them changes while they run, and who uses which secret.

use std::{collections::BTreeSet, sync::Arc};

use api_types::{
    container::ContainerSpec,
    id::{Name, SecretId, WorkloadId},
    workload::WorkloadSpec,
};

use crate::cluster::{Cluster, held::Held, workloads::Run};

/// The secrets that a spec shows to its instances.
pub(crate) fn secrets(spec: &WorkloadSpec) -> impl Iterator<Item = (&Name, SecretId)> {
    let namespace = &spec.id.namespace;
    let names: BTreeSet<&Name> = spec.containers().flat_map(|container| container.content.secrets()).collect();
    names.into_iter().map(|name| {
        let id = SecretId { namespace: namespace.clone(), name: name.clone() };
        (name, id)
    })
}

impl Cluster {
    /// Grows whenever what a running instance is shown changes: a sum of versions, none of which ever falls.
    pub(crate) fn content_version(&self, held: Held<'_>) -> u64 {
        let is_shown_nothing =
            |container: &ContainerSpec| container.content.files.is_empty() && container.content.env.is_empty();
        if held.spec().containers().all(is_shown_nothing) {
            return 0;
        }
        let versions = secrets(held.spec()).filter_map(|(_, id)| self.secrets.get(&id));
        held.texts() + versions.map(|record| record.version).sum::<u64>()
    }

    /// The workloads that show a secret to instances, or did to some that are still there.
    pub(crate) fn users_of(&self, secret: &SecretId) -> BTreeSet<&WorkloadId> {
        let uses = |spec: &WorkloadSpec| {
            let shows = |container: &ContainerSpec| container.content.secrets().contains(&secret.name);
            spec.id.namespace == secret.namespace && spec.containers().any(shows)
        };
        let wanted = self.workloads.values().map(|entry| entry.spec());
        let earlier = self.earlier_runs.values().map(|earlier| &*earlier.run.spec);
        wanted.chain(earlier).filter(|spec| uses(spec)).map(|spec| &spec.id).collect()
    }

    /// Lets the instances of a workload that run what is wanted now be shown the texts of now.
    pub(crate) fn renew_content(&mut self, id: &WorkloadId) {
        let Some(entry) = self.workloads.get_mut(id) else { return };
        if entry.run.spec.container.content == entry.workload.spec.container.content {
            return;
        }
        let container = entry.workload.spec.container.clone();
        let spec = WorkloadSpec { container, ..(*entry.run.spec).clone() };
        entry.run = Run { spec: Arc::new(spec), texts: entry.run.texts + 1, ..entry.run };
        let run = entry.run.clone();
        self.editions.renew(id, &run);
        self.touch_sets_of(id);
    }

    /// Notes that what a workload's instances are shown may have changed.
    pub(crate) fn touch_sets_of(&mut self, id: &WorkloadId) {
        let nodes: BTreeSet<u32> = self.instances_of(id).map(|held| held.node_index()).collect();
        for node in nodes {
            self.touch_set(node);
        }
        self.touch_ahead_of(id);
    }
}

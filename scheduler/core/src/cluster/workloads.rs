//! The table of workloads, and what instances placed before their last change run.

use std::{collections::BTreeSet, sync::Arc};

use api_types::{
    container::NetworkMode,
    counter::Revision,
    id::WorkloadId,
    workload::{Workload, WorkloadKind, WorkloadSpec},
};

use crate::{
    cluster::Cluster,
    effect::{Record, RecordKey},
};

/// What an instance runs: it stays the same as long as the instance lives, but for texts that may change under it.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    /// The revision at which this began.
    pub(crate) since: Revision,
    /// The spec as it was then.
    pub(crate) spec: Arc<WorkloadSpec>,
    /// How often the texts of its files changed since this program started.
    pub(crate) texts: u64,
}

impl Run {
    /// What instances run that are placed now.
    pub(crate) fn of(workload: &Workload) -> Self {
        Self { since: workload.runs_since, spec: Arc::new(workload.spec.clone()), texts: 0 }
    }
}

/// A workload and what is known of it.
#[derive(Clone, Debug)]
pub(crate) struct WorkloadEntry {
    /// As a person applied it; durable.
    pub(crate) workload: Workload,
    /// What instances placed now run.
    pub(crate) run: Run,
    /// Since when earlier runs run that are the same as what is wanted now: their instances stay.
    pub(crate) alike: BTreeSet<Revision>,
    /// Why not all instances have a node: one line for people; `None` = they have.
    pub(crate) parked: Option<String>,
    /// Who displaced one of its instances since they all had a node.
    pub(crate) displaced_by: Option<WorkloadId>,
    /// How many replicas it has if it is scaled by what they use and serve; durable. `None` = its spec says it.
    pub(crate) scaled: Option<u32>,
    /// Whether each slot holds one instance, as wanted: then it makes no difference to the decisions which of them are well.
    pub(crate) is_steady: bool,
}

/// What instances run that were placed before their workload changed or went.
#[derive(Clone, Debug)]
pub(crate) struct EarlierRun {
    /// The workload as it was.
    pub(crate) workload: Workload,
    /// What its instances run.
    pub(crate) run: Run,
    /// How many there are; durable as long as there are some.
    pub(crate) instances: usize,
}

impl WorkloadEntry {
    /// Makes an entry.
    pub(crate) fn new(workload: Workload) -> Self {
        let run = Run::of(&workload);
        let alike = BTreeSet::new();
        Self { workload, run, alike, parked: None, displaced_by: None, scaled: None, is_steady: false }
    }

    /// What was asked for.
    pub(crate) fn spec(&self) -> &WorkloadSpec {
        &self.workload.spec
    }

    /// Its kind, with as many replicas as are wanted now.
    pub(crate) fn kind(&self) -> WorkloadKind {
        match (&self.workload.spec.kind, self.scaled) {
            (WorkloadKind::Service { .. }, Some(replicas)) => WorkloadKind::Service { replicas },
            (kind, _) => kind.clone(),
        }
    }
}

/// Whether a workload has a virtual address.
pub(crate) fn has_address(spec: &WorkloadSpec) -> bool {
    spec.is_balanced() && spec.container.network != NetworkMode::Published
}

/// Whether two instances of it cannot be on one node because of a port.
pub(crate) fn has_host_ports(spec: &WorkloadSpec) -> bool {
    spec.ports.iter().any(|port| port.host.is_some())
}

impl Cluster {
    /// The revision for a workload that is created now: above whatever still runs under its name.
    pub(crate) fn first_revision(&self, id: &WorkloadId) -> Revision {
        let placed = self.instances_of(id).map(|held| held.revision()).max();
        let kept = self.earlier_runs.range((id.clone(), Revision(0))..=(id.clone(), Revision(u64::MAX)));
        let kept = kept.map(|(_, earlier)| earlier.workload.revision).max();
        placed.max(kept).unwrap_or_default().next()
    }

    /// Takes over a workload as applied; what runs now is kept for the instances that run it.
    pub(crate) fn put_workload(&mut self, workload: Workload) {
        let id = workload.spec.id.clone();
        let scaled = self.first_scale(&workload.spec);
        let before = self.workloads.get(&id).map(|entry| entry.spec().after.clone()).unwrap_or_default();
        self.wait_for(&id, &before, &workload.spec.after);
        self.persist(Record::Workload(Box::new(workload.clone())));
        match self.workloads.get_mut(&id) {
            Some(entry) if entry.workload.runs_since == workload.runs_since => {
                entry.workload = workload;
                self.renew_content(&id);
            }
            Some(_) | None => {
                let earlier = self.workloads.insert(id.clone(), WorkloadEntry::new(workload));
                if let Some(earlier) = earlier {
                    self.keep_run(earlier);
                }
                self.note_alike(&id);
            }
        }
        if let Some(entry) = self.workloads.get_mut(&id) {
            entry.scaled = scaled;
        }
        self.enter_workload(&id);
        self.touch_workload(&id);
        self.touch_ahead_of(&id);
    }

    /// Forgets a workload; what its instances run is kept until they are gone.
    pub(crate) fn delete_workload(&mut self, id: &WorkloadId) {
        let Some(entry) = self.workloads.remove(id) else { return };
        self.leave_workload(id);
        self.wait_for(id, &entry.spec().after, &[]);
        if entry.scaled.is_some() {
            self.forget_scale(id);
        }
        self.keep_run(entry);
        self.unpersist(RecordKey::Workload(id.clone()));
        self.delete_rollout(id);
        self.delete_job(id);
        self.touch_workload(id);
    }

    /// Notes that one instance of an earlier run is gone, and forgets the run with its last one.
    pub(crate) fn release_run(&mut self, id: &WorkloadId, since: Revision) {
        let key = (id.clone(), since);
        let Some(earlier) = self.earlier_runs.get_mut(&key) else { return };
        earlier.instances -= 1;
        if earlier.instances == 0 {
            self.earlier_runs.remove(&key);
            self.unpersist(RecordKey::Revision(id.clone(), since));
            if let Some(entry) = self.workloads.get_mut(id) {
                entry.alike.remove(&since);
            }
        }
    }

    /// Notes which earlier runs are the same as what is wanted now.
    pub(crate) fn note_alike(&mut self, id: &WorkloadId) {
        let Some(entry) = self.workloads.get_mut(id) else { return };
        let all = (id.clone(), Revision(0))..=(id.clone(), Revision(u64::MAX));
        let earlier = self.earlier_runs.range(all).map(|((_, since), earlier)| (*since, &earlier.run.spec));
        let wanted = &entry.workload.spec;
        let shown = &wanted.container.content;
        // The same spec may show another version of a secret, which only a replacement is shown; and an earlier run keeps
        // the texts that it had.
        let mut all_shown = wanted.containers().map(|container| &container.content);
        let keeps_secrets = all_shown.any(|shown| shown.on_change.is_restart() && !shown.secrets().is_empty());
        let is_same = |spec: &WorkloadSpec| spec.runs_the_same_as(wanted) && spec.container.content == *shown;
        let alike = earlier.filter(|(_, spec)| !keeps_secrets && is_same(spec));
        entry.alike = alike.map(|(since, _)| since).collect();
    }

    fn keep_run(&mut self, entry: WorkloadEntry) {
        let id = entry.workload.spec.id.clone();
        let since = entry.run.since;
        let instances = self.editions.running(&id, since);
        if instances > 0 {
            self.persist(Record::Revision(Box::new(entry.workload.clone())));
            let earlier = EarlierRun { workload: entry.workload, run: entry.run, instances };
            self.earlier_runs.insert((id, since), earlier);
        }
    }

    fn touch_workload(&mut self, id: &WorkloadId) {
        self.touched.workloads.insert(id.clone());
        self.touched.services.insert(id.clone());
        self.touch_awaited(id);
        self.touched.seen = true;
    }
}

//! Gives the cluster back from all that is durable.

use std::sync::Arc;

use api_types::{
    counter::{Epoch, Revision},
    instance::Instance,
    time::Timestamp,
};

use crate::{
    cluster::{
        Cluster,
        instances::InstanceEntry,
        nodes::NodeEntry,
        workloads::{EarlierRun, Run, WorkloadEntry},
    },
    effect::{Record, RecordKey},
    machine::Scheduler,
    settings::Settings,
};

/// The number of a cluster's first instance: from here on ids do not look like the names of pending slots.
const FIRST_INSTANCE: u64 = 36 * 36;

impl Scheduler {
    /// Gives the cluster back from all that is durable, in any order; no records make a new cluster.
    ///
    /// A record that fits nothing (an instance of an unknown node) is forgotten with the first step.
    #[must_use]
    pub fn recover(settings: Settings, epoch: Epoch, records: Vec<Record>, now: Timestamp) -> Self {
        let mut cluster = Cluster::default();
        let mut instances = Vec::new();
        for record in records {
            match record {
                Record::Counters(counters) => cluster.counters = counters,
                Record::Node(spec) => {
                    cluster.nodes.insert(spec.id.clone(), NodeEntry::new(spec, Some(now)));
                }
                Record::Workload(workload) => {
                    cluster.workloads.insert(workload.spec.id.clone(), WorkloadEntry::new(*workload));
                }
                Record::Revision(workload) => {
                    let run = Run { since: workload.runs_since, spec: Arc::new(workload.spec.clone()) };
                    let key = (workload.spec.id.clone(), workload.runs_since);
                    cluster.earlier_runs.insert(key, EarlierRun { workload: *workload, run, instances: 0 });
                }
                Record::ServiceAddress { workload, address } => {
                    cluster.addresses.insert(workload, address);
                }
                Record::Instance(instance) => instances.push(instance),
            }
        }
        cluster.counters.next_instance = cluster.counters.next_instance.max(FIRST_INSTANCE);
        for instance in instances {
            restore(&mut cluster, instance);
        }
        for (id, since) in cluster.earlier_runs.keys().cloned().collect::<Vec<_>>() {
            if cluster.earlier_runs.get(&(id.clone(), since)).is_some_and(|earlier| earlier.instances == 0) {
                cluster.earlier_runs.remove(&(id.clone(), since));
                cluster.unpersist(RecordKey::Revision(id, since));
            }
        }
        cluster.touched.workloads.extend(cluster.workloads.keys().cloned());
        cluster.touched.workloads.extend(cluster.by_workload.keys().cloned());
        cluster.touched.services.extend(cluster.workloads.keys().cloned());
        cluster.touched.peers = true;

        let mut scheduler = Self::around(settings, epoch, cluster, now);
        scheduler.provide_addresses();
        for node in scheduler.cluster.nodes.keys().cloned().collect::<Vec<_>>() {
            scheduler.assignments.refresh(&scheduler.cluster, epoch, &node);
        }
        if scheduler.cluster.nodes.is_empty() {
            let mut touched = std::mem::take(&mut scheduler.cluster.touched);
            scheduler.balancing.refresh(&scheduler.cluster, &mut touched);
            scheduler.cluster.touched = touched;
        } else {
            scheduler.warm_up_until = Some(now + scheduler.settings.warm_up_ms);
        }
        scheduler
    }
}

/// Puts an instance back, with what it runs.
fn restore(cluster: &mut Cluster, instance: Instance) {
    let run = run_of(cluster, &instance);
    let (Some(run), true) = (run, cluster.nodes.contains_key(&instance.node)) else {
        cluster.unpersist(RecordKey::Instance(instance.id));
        return;
    };
    if let Some(earlier) = cluster.earlier_runs.get_mut(&(instance.workload.clone(), run.since)) {
        earlier.instances += 1;
    }
    cluster.insert(InstanceEntry::new(instance, run));
}

/// The run that an instance belongs to: the newest that began at its revision or before.
fn run_of(cluster: &Cluster, instance: &Instance) -> Option<Run> {
    let id = &instance.workload;
    let newest = cluster.workloads.get(id).map(|entry| &entry.run).filter(|run| run.since <= instance.revision);
    newest.cloned().or_else(|| {
        let range = (id.clone(), Revision(0))..=(id.clone(), instance.revision);
        cluster.earlier_runs.range(range).next_back().map(|(_, earlier)| earlier.run.clone())
    })
}

//! Gives the cluster back from all that is durable.

use std::collections::{BTreeMap, BTreeSet};

use api_types::{
    counter::{Epoch, Generation, Revision},
    id::{NodeId, WorkloadId},
    instance::Instance,
    time::Timestamp,
};

use crate::{
    cluster::{
        Cluster,
        ids::{is_named_after, number_in},
        nodes::NodeEntry,
        rollouts::RolloutEntry,
        workloads::{EarlierRun, Run, WorkloadEntry},
    },
    effect::{InstancePage, PAGE_NUMBERS, PageEntry, Record, RecordKey, Rollout},
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
        let (mut pages, mut singles, mut rollouts, mut jobs) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut scales = BTreeMap::new();
        for record in records {
            match record {
                Record::Counters(counters) => cluster.counters = counters,
                Record::Node(spec) => {
                    cluster.nodes.insert(NodeEntry::new(spec, Some(now)));
                }
                Record::Workload(workload) => {
                    cluster.workloads.insert(workload.spec.id.clone(), WorkloadEntry::new(*workload));
                }
                Record::Revision(workload) => {
                    let run = Run::of(&workload);
                    let key = (workload.spec.id.clone(), workload.runs_since);
                    cluster.earlier_runs.insert(key, EarlierRun { workload: *workload, run, instances: 0 });
                }
                Record::ServiceAddress { workload, address } => {
                    cluster.addresses.insert(workload, address);
                }
                Record::VolumeHome { workload, slot, volume, node, is_given_up } => {
                    if is_given_up {
                        cluster.slots_given_up.insert((workload.clone(), slot));
                    }
                    cluster.homes.entry(workload).or_default().insert((slot, volume), node);
                }
                Record::Site(site) => {
                    cluster.sites.insert(site.name.clone(), site);
                }
                Record::Rollout(rollout) => rollouts.push(*rollout),
                Record::Scale { workload, replicas } => drop(scales.insert(workload, replicas)),
                Record::Job(job) => jobs.push(*job),
                Record::WatchKey(key) => cluster.watch_key = Some(key),
                Record::Secret(secret) => {
                    cluster.secrets.insert(secret.secret.clone(), *secret);
                }
                Record::Instances(page) => pages.push(page),
                Record::Instance(instance) => singles.push(instance),
            }
        }
        cluster.counters.next_instance = cluster.counters.next_instance.max(FIRST_INSTANCE);
        cluster.restore_scales(scales);
        cluster.rebuild_ledger();
        // By number: indexes are then only appended to.
        pages.sort_unstable_by_key(InstancePage::number);
        for page in &pages {
            restore_page(&mut cluster, page);
        }
        for instance in singles {
            restore_single(&mut cluster, instance);
        }
        restore_rollouts(&mut cluster, rollouts);
        cluster.restore_jobs(jobs, now);
        forget_unknown_homes(&mut cluster);
        settle_runs(&mut cluster);
        touch_all(&mut cluster);

        let mut scheduler = Self::around(settings, epoch, cluster, now);
        scheduler.provide_addresses();
        scheduler.resume_trials();
        for node in scheduler.cluster.nodes.values_mut() {
            (node.set_generation, node.set_differs) = (Generation(1), false);
        }
        if scheduler.cluster.nodes.is_empty() {
            let mut touched = std::mem::take(&mut scheduler.cluster.touched);
            scheduler.balancing.refresh(&scheduler.cluster, &mut touched, &scheduler.settings);
            scheduler.cluster.follows_all = scheduler.balancing.has_admission();
            scheduler.cluster.touched = touched;
        } else {
            scheduler.warm_up_until = Some(now + scheduler.settings.warm_up_ms);
        }
        scheduler
    }
}

/// Has everything looked at, what workloads wait for among it.
fn touch_all(cluster: &mut Cluster) {
    cluster.touched.workloads.extend(cluster.workloads.keys().cloned());
    cluster.touched.workloads.extend(cluster.by_workload.keys().cloned());
    cluster.touched.services.extend(cluster.workloads.keys().cloned());
    cluster.touched.peers = true;
    restore_dependencies(cluster);
}

/// Notes what all workloads wait for, and what of that is so.
fn restore_dependencies(cluster: &mut Cluster) {
    let waiting = cluster.workloads.iter().map(|(id, entry)| (id.clone(), entry.spec().after.clone()));
    for (id, after) in waiting.filter(|(_, after)| !after.is_empty()).collect::<Vec<_>>() {
        cluster.wait_for(&id, &[], &after);
    }
    cluster.settle_dependencies();
}

/// Forgets data on nodes that are not there any more.
fn forget_unknown_homes(cluster: &mut Cluster) {
    let homes = cluster.homes.values().flat_map(|homes| homes.values());
    let unknown: BTreeSet<NodeId> = homes.filter(|node| cluster.nodes.get(node).is_none()).cloned().collect();
    cluster.forget_volumes(|_, _, _, node| unknown.contains(node));
}

/// Forgets what nobody runs any more, and notes what is the same as what is wanted.
fn settle_runs(cluster: &mut Cluster) {
    for (id, since) in cluster.earlier_runs.keys().cloned().collect::<Vec<_>>() {
        if cluster.earlier_runs.get(&(id.clone(), since)).is_some_and(|earlier| earlier.instances == 0) {
            cluster.earlier_runs.remove(&(id.clone(), since));
            cluster.unpersist(RecordKey::Revision(id, since));
        }
    }
    for id in cluster.workloads.keys().cloned().collect::<Vec<_>>() {
        cluster.note_alike(&id);
    }
}

/// Puts back how workloads change; what belongs to none is forgotten.
fn restore_rollouts(cluster: &mut Cluster, rollouts: Vec<Rollout>) {
    for rollout in rollouts {
        let id = rollout.workload.clone();
        if !cluster.workloads.contains_key(&id) || rollout.revisions.is_empty() {
            cluster.unpersist(RecordKey::Rollout(id));
            continue;
        }
        cluster.rollouts.insert(id, RolloutEntry::new(rollout));
    }
}

/// Puts the instances of a page back, with what they run. What belongs to nothing is left out, and the page written anew.
fn restore_page(cluster: &mut Cluster, page: &InstancePage) {
    let mut latest: Option<(&WorkloadId, Revision, Option<Run>)> = None;
    for entry in page.entries() {
        if latest.as_ref().is_none_or(|(id, revision, _)| (*id, *revision) != (entry.workload, entry.revision)) {
            latest = Some((entry.workload, entry.revision, run_of(cluster, entry.workload, entry.revision)));
        }
        let run = latest.as_ref().and_then(|(_, _, run)| run.as_ref());
        if !restore(cluster, &entry, run) {
            cluster.pages.insert(page.number());
        }
    }
}

/// Puts an instance of schema 1 back; it becomes a part of its page.
fn restore_single(cluster: &mut Cluster, instance: Instance) {
    if let Some(number) = number_in(&instance.id).filter(|_| is_named_after(&instance.id, &instance.workload)) {
        let entry = PageEntry {
            number,
            workload: &instance.workload,
            revision: instance.revision,
            slot: instance.slot,
            node: &instance.node,
            placed_at: instance.placed_at,
            desired: instance.desired,
            devices: &instance.devices,
        };
        let run = run_of(cluster, &instance.workload, instance.revision);
        restore(cluster, &entry, run.as_ref());
        cluster.pages.insert(number / PAGE_NUMBERS);
    }
    cluster.unpersist(RecordKey::Instance(instance.id));
}

/// Puts an instance back; `false` if its node or what it runs is not there, or its number is taken.
fn restore(cluster: &mut Cluster, entry: &PageEntry<'_>, run: Option<&Run>) -> bool {
    let (Some(run), Some(node)) = (run, cluster.nodes.index_of(entry.node)) else { return false };
    if cluster.rows.get(entry.number).is_some() {
        return false;
    }
    if !cluster.earlier_runs.is_empty()
        && let Some(earlier) = cluster.earlier_runs.get_mut(&(entry.workload.clone(), run.since))
    {
        earlier.instances += 1;
    }
    cluster.counters.next_instance = cluster.counters.next_instance.max(entry.number.saturating_add(1));
    cluster.restore(entry, node, run);
    true
}

/// The run that an instance belongs to: the newest that began at its revision or before.
fn run_of(cluster: &Cluster, id: &WorkloadId, revision: Revision) -> Option<Run> {
    let newest = cluster.workloads.get(id).map(|entry| &entry.run).filter(|run| run.since <= revision);
    newest.cloned().or_else(|| {
        let range = (id.clone(), Revision(0))..=(id.clone(), revision);
        cluster.earlier_runs.range(range).next_back().map(|(_, earlier)| earlier.run.clone())
    })
}

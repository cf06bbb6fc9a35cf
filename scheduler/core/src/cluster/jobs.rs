//! Jobs: their runs, and instances that ended by themselves. Such an instance stays on its node for the sake of what it wrote,
//! and holds nothing else of it.

use std::collections::BTreeMap;

use api_types::{
    id::{NodeId, WorkloadId},
    instance::Desired,
    placement::{ConstraintKey, Operator},
    schedule::UTC,
    time::Timestamp,
    workload::{WorkloadKind, WorkloadSpec},
};

use crate::{
    cluster::{Cluster, nodes::NodeEntry, rows::FINISHED, workloads::WorkloadEntry},
    effect::{ActiveRun, Ahead, Job, Record, RecordKey},
    schedule::{self, Zone},
};

/// The node to which a schedule is pinned whose runs that node can begin by itself: one instance, which needs no device that must
/// be shared out.
pub(crate) fn pinned_to(spec: &WorkloadSpec) -> Option<NodeId> {
    let WorkloadKind::Job(job) = spec.kind else { return None };
    let is_simple = job.completions == 1 && spec.devices.is_empty();
    spec.schedule.as_ref().filter(|schedule| is_simple && !schedule.suspend)?;
    let pins = spec.placement.constraints.iter().filter(|constraint| constraint.key == ConstraintKey::Node);
    let mut names = pins.filter_map(|constraint| match (constraint.operator, constraint.values.as_slice()) {
        (Operator::Equal | Operator::In, [name]) => Some(name),
        _ => None,
    });
    NodeId::new(names.next()?).ok()
}

impl Cluster {
    /// Takes over what is durable of a job.
    pub(crate) fn put_job(&mut self, job: Job) {
        self.persist(Record::Job(Box::new(job.clone())));
        self.touched.workloads.insert(job.workload.clone());
        self.touched.seen = true;
        self.touch_awaited(&job.workload);
        let before = self.jobs.get(&job.workload).and_then(|job| job.ahead.clone());
        if before != job.ahead {
            self.note_ahead(&job.workload, before.map(|ahead| ahead.node), job.ahead.as_ref());
        }
        self.jobs.insert(job.workload.clone(), job);
    }

    /// Notes which node is told of the coming times of a job, and which was before.
    fn note_ahead(&mut self, id: &WorkloadId, before: Option<NodeId>, after: Option<&Ahead>) {
        let after = after.map(|ahead| ahead.node.clone());
        for node in before.iter().chain(&after) {
            let Some(index) = self.nodes.index_of(node) else { continue };
            if let Some(entry) = self.nodes.at_mut(index) {
                if Some(node) == after.as_ref() {
                    entry.ahead.jobs.insert(id.clone());
                } else {
                    entry.ahead.jobs.remove(id);
                }
            }
            self.touch_ahead(index);
        }
    }

    /// Notes that what a node is told of coming times differs.
    fn touch_ahead(&mut self, node: u32) {
        if let Some(entry) = self.nodes.at_mut(node) {
            entry.ahead.version += 1;
        }
        self.touch_set(node);
    }

    /// Notes that what a job is may differ, where its node is told of it.
    pub(crate) fn touch_ahead_of(&mut self, id: &WorkloadId) {
        let ahead = self.jobs.get(id).and_then(|job| job.ahead.as_ref());
        if let Some(node) = ahead.and_then(|ahead| self.nodes.index_of(&ahead.node)) {
            self.touch_ahead(node);
        }
    }

    /// Notes that a node may be told of coming times, or of others: of jobs that are pinned to it.
    pub(crate) fn touch_pinned(&mut self, node: &NodeId) {
        let follows = |id: &WorkloadId| {
            self.workloads.get(id).is_some_and(|entry| pinned_to(entry.spec()).as_ref() == Some(node))
        };
        let jobs = self.jobs.iter().filter(|(id, job)| job.followed.is_some() && follows(id)).map(|(id, _)| id.clone());
        let jobs: Vec<WorkloadId> = jobs.collect();
        self.touched.workloads.extend(jobs);
    }

    /// What a node is told of the coming times of jobs, sorted by job.
    pub(crate) fn ahead_of(&self, node: &NodeEntry) -> Vec<(&Ahead, &WorkloadEntry)> {
        let jobs = node.ahead.jobs.iter();
        jobs.filter_map(|id| Some((self.jobs.get(id)?.ahead.as_ref()?, self.workloads.get(id)?))).collect()
    }

    /// Learns how the clocks of time zones go; jobs that follow one of them are looked at.
    pub(crate) fn learn_zones(&mut self, zones: BTreeMap<String, Zone>) {
        for (name, zone) in zones {
            if self.zones.get(&name) == Some(&zone) {
                continue;
            }
            let follows =
                |spec: &WorkloadSpec| spec.schedule.as_ref().is_some_and(|schedule| schedule.time_zone == name);
            let jobs = self.workloads.iter().filter(|(_, entry)| follows(entry.spec())).map(|(id, _)| id.clone());
            self.touched.workloads.extend(jobs);
            self.zones.insert(name, zone);
        }
    }

    /// The clock of a time zone; `None` = the scheduler's machine does not know it.
    pub(crate) fn zone(&self, name: &str) -> Option<&Zone> {
        if name == UTC { Some(&schedule::UTC) } else { self.zones.get(name) }
    }

    /// Forgets a job's runs.
    pub(crate) fn delete_job(&mut self, id: &WorkloadId) {
        if let Some(job) = self.jobs.remove(id) {
            self.note_ahead(id, job.ahead.map(|ahead| ahead.node), None);
            self.unpersist(RecordKey::Job(id.clone()));
        }
    }

    /// Puts back the runs of jobs, when all instances are back; what belongs to no workload is forgotten. A run that seems to
    /// begin later, by a clock that was ahead, begins now: else its deadline would be as far off as that clock was.
    pub(crate) fn restore_jobs(&mut self, jobs: Vec<Job>, now: Timestamp) {
        for mut job in jobs {
            if !self.workloads.contains_key(&job.workload) {
                self.unpersist(RecordKey::Job(job.workload));
                continue;
            }
            for number in job.finished() {
                self.finish(number);
            }
            let active = job.beside.iter_mut().map(|earlier| &mut earlier.run).chain(&mut job.run);
            let late: Vec<&mut ActiveRun> = active.filter(|run| run.began_at > now).collect();
            if !late.is_empty() {
                late.into_iter().for_each(|run| run.began_at = now);
                self.persist(Record::Job(Box::new(job.clone())));
            }
            self.note_ahead(&job.workload, None, job.ahead.as_ref());
            self.jobs.insert(job.workload.clone(), job);
        }
    }

    /// An instance ended by itself: it gives back what it was promised.
    pub(crate) fn finish(&mut self, number: u64) {
        let Some(held) = self.held(number).filter(|held| !held.is_finished() && held.desired() == Desired::Run) else {
            return;
        };
        let (node, reserve) = (held.node_index(), held.reserve());
        self.set_counted(number, false);
        self.leave_instance(number);
        if let Some(row) = self.rows.get_mut(number) {
            row.flags |= FINISHED;
        }
        if let Some(entry) = self.nodes.at_mut(node) {
            entry.allocated = entry.allocated.saturating_sub(reserve);
        }
        self.touched.room.insert(node);
        self.touched.seen = true;
    }
}

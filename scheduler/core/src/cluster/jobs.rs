//! Jobs: their runs, and instances that ended by themselves. Such an instance stays on its node for the sake of what it wrote,
//! and holds nothing else of it.

use std::collections::BTreeMap;

use api_types::{id::WorkloadId, instance::Desired, schedule::UTC, time::Timestamp, workload::WorkloadSpec};

use crate::{
    cluster::{Cluster, rows::FINISHED},
    effect::{Job, Record, RecordKey},
    schedule::{self, Zone},
};

impl Cluster {
    /// Takes over what is durable of a job.
    pub(crate) fn put_job(&mut self, job: Job) {
        self.persist(Record::Job(Box::new(job.clone())));
        self.touched.workloads.insert(job.workload.clone());
        self.touched.seen = true;
        self.touch_awaited(&job.workload);
        self.jobs.insert(job.workload.clone(), job);
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
        if self.jobs.remove(id).is_some() {
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
            if let Some(run) = job.run.as_mut().filter(|run| run.began_at > now) {
                run.began_at = now;
                self.persist(Record::Job(Box::new(job.clone())));
            }
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

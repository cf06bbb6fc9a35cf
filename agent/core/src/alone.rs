//! Jobs that this node begins by its own clock while it hears no scheduler.
//!
//! The scheduler tells coming times, and the instance that is for each of them. A time is followed once: how far is on disk
//! before its instance starts, so neither a restart nor a clock that is put back repeats one. An instance that began stays
//! until the scheduler assigns it or forgets its time.

use std::{collections::BTreeMap, sync::Arc};

use api_types::{
    assignment::{Assignment, AssignmentSet},
    id::{InstanceId, WorkloadId},
    schedule::{BegunAlone, FollowedAlone, JobAhead, Overlap},
    time::Timestamp,
};

use crate::{
    effect::{Effect, Effects},
    instances::{Claim, Instance},
    machine::Agent,
};

/// How far schedules were followed here, by job.
pub type Followed = BTreeMap<WorkloadId, FollowedAlone>;

/// The jobs that this node may begin, and how far it followed them.
#[derive(Debug, Default)]
pub(crate) struct Alone {
    jobs: Vec<Arc<JobAhead>>,
    followed: Arc<Followed>,
    /// How far the wall clock is ahead of the time that is given with inputs, in milliseconds.
    wall_ahead_ms: i64,
}

impl Alone {
    /// Starts from what the disk gave back.
    pub(crate) fn recovered(followed: Followed) -> Self {
        Self { jobs: Vec::new(), followed: Arc::new(followed), wall_ahead_ms: 0 }
    }

    /// Takes over what a set tells; gives what it assigns, with what began here and is not assigned yet.
    pub(crate) fn follow(&mut self, set: &AssignmentSet) -> Vec<Assignment> {
        self.jobs = set.ahead.iter().cloned().map(Arc::new).collect();
        let mut assignments = set.assignments.clone();
        let followed = Arc::make_mut(&mut self.followed);
        followed.retain(|workload, _| self.jobs.iter().any(|job| job.workload() == workload));
        for job in &self.jobs {
            let Some(followed) = followed.get_mut(job.workload()) else { continue };
            let is_assigned = |id: &InstanceId| set.assignments.iter().any(|assignment| assignment.instance == *id);
            followed.begun.retain(|id, _| job.names(id) && !is_assigned(id));
            followed.ended.retain(|id| job.names(id) || is_assigned(id));
            assignments.extend(followed.begun.keys().map(|id| job.assignment(id.clone())));
        }
        assignments
    }

    /// Whether an instance was ended here because the next run was due.
    pub(crate) fn has_ended(&self, assignment: &Assignment) -> bool {
        self.followed.get(&assignment.workload).is_some_and(|followed| followed.ended.contains(&assignment.instance))
    }

    /// What the scheduler is to be told; `None` = nothing was done here.
    pub(crate) fn told(&self) -> Option<Arc<Followed>> {
        (!self.followed.is_empty()).then(|| self.followed.clone())
    }

    /// The wall clock differs so much from the time that is given with inputs.
    pub(crate) fn set_wall(&mut self, ahead_ms: i64) {
        self.wall_ahead_ms = ahead_ms;
    }

    /// What the wall clock shows.
    fn by_the_wall(&self, now: Timestamp) -> Timestamp {
        Timestamp(now.0.saturating_add_signed(self.wall_ahead_ms))
    }

    /// The next time that is due, by the wall clock.
    fn next(&self) -> Option<Timestamp> {
        let until = |job: &JobAhead| self.followed.get(job.workload()).map(|followed| followed.until);
        let next = |job: &Arc<JobAhead>| job.coming.keys().find(|at| Some(**at) > until(job)).copied();
        self.jobs.iter().filter_map(next).min()
    }
}

impl Agent {
    /// Begins what is due while no scheduler is heard: the latest time of each job, if it is not too late for it.
    pub(crate) fn begin_due(&mut self, now: Timestamp, effects: &mut Effects) {
        let now_by_the_wall = self.alone.by_the_wall(now);
        if self.is_followed_by_others() || self.alone.next().is_none_or(|at| at > now_by_the_wall) {
            return;
        }
        for job in self.alone.jobs.clone() {
            let followed = self.alone.followed.get(job.workload());
            let until = followed.map(|followed| followed.until);
            let due = job.coming.range(..=now_by_the_wall).next_back().filter(|(at, _)| Some(**at) > until);
            let Some((at, instance)) = due else { continue };
            Arc::make_mut(&mut self.alone.followed).entry(job.workload().clone()).or_default().until = *at;
            if now_by_the_wall.since(*at) <= job.late_ms && self.makes_way(&job) {
                self.begin(&job, instance, now);
            }
        }
        effects.push(Effect::KeepFollowed(self.alone.followed.clone()));
    }

    /// When `begin_due` wants to be called again.
    pub(crate) fn due_deadline(&self) -> Option<(Timestamp, &'static str)> {
        let next = self.alone.next().filter(|_| !self.is_followed_by_others());
        let at = |at: Timestamp| Timestamp(at.0.saturating_add_signed(self.alone.wall_ahead_ms.saturating_neg()));
        next.map(|next| (at(next), "a job is due by this node's clock"))
    }

    /// Whether this node follows schedules by its own clock now: the shell then looks at the wall clock each second.
    #[must_use]
    pub fn follows_schedules(&self) -> bool {
        self.due_deadline().is_some()
    }

    /// Whether somebody else begins jobs, or nobody shall any more.
    fn is_followed_by_others(&self) -> bool {
        self.session.is_some() || self.machine_ends
    }

    /// Whether the next run of a job may begin: no other is active, or need not end for it, or ends now.
    fn makes_way(&mut self, job: &JobAhead) -> bool {
        let is_active = |instance: &Instance| match &instance.claim {
            Claim::Run(assignment) => assignment.workload == *job.workload() && instance.outcome().is_none(),
            Claim::Unclaimed | Claim::Leave(_) => false,
        };
        let active: Vec<InstanceId> =
            self.instances.iter().filter(|(_, instance)| is_active(instance)).map(|(id, _)| id.clone()).collect();
        match job.overlap {
            Overlap::Allow => true,
            Overlap::Forbid => active.is_empty(),
            Overlap::Replace => {
                let followed = Arc::make_mut(&mut self.alone.followed).entry(job.workload().clone()).or_default();
                for id in active {
                    if let Some(instance) = self.instances.get_mut(&id) {
                        instance.leave();
                    }
                    followed.ended.insert(id);
                }
                true
            }
        }
    }

    fn begin(&mut self, job: &JobAhead, id: &InstanceId, now: Timestamp) {
        let assignment = Arc::new(job.assignment(id.clone()));
        let begun = BegunAlone { at: self.alone.by_the_wall(now), revision: assignment.revision };
        let followed = Arc::make_mut(&mut self.alone.followed).entry(job.workload().clone()).or_default();
        followed.begun.insert(id.clone(), begun);
        self.listed.insert(id.clone());
        self.instances.entry(id.clone()).or_insert_with(|| Instance::new(id.clone(), Claim::Run(assignment), now));
    }
}

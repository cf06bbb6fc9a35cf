//! Jobs that are pinned to one node: what the node is told of their coming times, so that it begins them by its own clock
//! while it hears no scheduler, and what becomes of those that it began.
//!
//! The number of an instance is promised with the time that it is for. Whoever begins a run begins that instance, so a run
//! that both begin is one. While the node is not heard its times are left to it; once it has told all, what is left of them
//! is due here.

use std::collections::{BTreeMap, BTreeSet};

use api_types::{
    counter::{Revision, SessionId},
    id::{InstanceId, NodeId, WorkloadId},
    job::RunState,
    node::Availability,
    schedule::{AHEAD_MAX, AHEAD_MS, BegunAlone, FollowedAlone, Overlap},
    time::Timestamp,
};

use crate::{
    cluster::{
        ids::{is_named_after, number_in},
        jobs::pinned_to,
        volumes::volumes,
    },
    effect::{ActiveRun, Ahead, Followed},
    history::Subject,
    machine::Scheduler,
    placement::filters::is_meant,
};

/// How long a time that was taken back is remembered once its node is heard, in milliseconds: a day.
const WITHDRAWN_MS: u64 = 86_400_000;

impl Scheduler {
    /// Brings up to date what the node of a job is told of its coming times.
    pub(super) fn look_ahead(&mut self, id: &WorkloadId) {
        if self.is_rehearsal {
            return;
        }
        let wanted = self.times_ahead(id);
        let before = self.cluster.jobs.get(id).and_then(|job| job.ahead.as_ref());
        let Some(node) = wanted.as_ref().map(|(node, ..)| node).or(before.map(|ahead| &ahead.node)).cloned() else {
            return;
        };
        // Another node than before does not know what that one was promised.
        let kept = before.filter(|ahead| ahead.node == node).cloned();
        let fresh = || Ahead { node, revision: Revision(0), coming: BTreeMap::new(), withdrawn: BTreeMap::new() };
        let mut ahead = kept.unwrap_or_else(fresh);
        let (revision, times) = wanted.map(|(_, revision, times)| (revision, times)).unwrap_or_default();
        let mut coming = std::mem::take(&mut ahead.coming);
        for at in times {
            let known = coming.remove(&at).or_else(|| ahead.withdrawn.remove(&at));
            ahead.coming.insert(at, known.unwrap_or_else(|| self.cluster.next_number()));
        }
        ahead.revision = revision.max(ahead.revision);
        ahead.withdrawn.append(&mut coming);
        self.forget_withdrawn(&mut ahead);
        let after = Some(ahead).filter(|ahead| !ahead.coming.is_empty() || !ahead.withdrawn.is_empty());
        let Some(mut job) = self.cluster.jobs.get(id).filter(|job| job.ahead != after).cloned() else { return };
        job.ahead = after;
        self.cluster.put_job(job);
    }

    /// The coming times of a job that a node may begin by itself, and which one.
    fn times_ahead(&self, id: &WorkloadId) -> Option<(NodeId, Revision, BTreeSet<Timestamp>)> {
        let entry = self.cluster.workloads.get(id)?;
        let (spec, node) = (entry.spec(), pinned_to(entry.spec())?);
        let held = self.cluster.nodes.get(&node)?;
        if held.spec.availability != Availability::Active || is_meant(held, spec) == Some(false) {
            return None;
        }
        let schedule = spec.schedule.as_ref()?;
        // It would have to wait for the end of the one before, or does not have the data.
        let shares = schedule.overlap == Overlap::Replace && !volumes(spec).is_empty();
        if shares || self.cluster.homes_of(spec, 0).into_iter().any(|home| *home != node) {
            return None;
        }
        let followed = self.cluster.jobs.get(id)?.followed.as_ref().filter(|followed| followed.is_of(schedule))?;
        let zone = self.cluster.zone(&schedule.time_zone)?;
        let next = |after: &Timestamp| zone.next(&schedule.cron, *after);
        let all = std::iter::successors(next(&followed.until), next).take(AHEAD_MAX).enumerate();
        let times = all.take_while(|(index, at)| *index == 0 || *at <= self.now + AHEAD_MS).map(|(_, at)| at).collect();
        Some((node, entry.workload.revision, times))
    }

    /// Forgets times that were taken back and that the node must have heard of by now, and the oldest of very many.
    fn forget_withdrawn(&self, ahead: &mut Ahead) {
        if self.is_heard_whole(&ahead.node) {
            ahead.withdrawn.retain(|at, _| *at + WITHDRAWN_MS > self.now);
        }
        while ahead.withdrawn.len() > AHEAD_MAX {
            ahead.withdrawn.pop_first();
        }
    }

    /// Whether what is due of a job is its node's business now: that was told of it, and is not heard.
    pub(super) fn is_left_to_its_node(&self, id: &WorkloadId) -> bool {
        let ahead = self.cluster.jobs.get(id).and_then(|job| job.ahead.as_ref());
        ahead.is_some_and(|ahead| !ahead.coming.is_empty() && !self.is_heard_whole(&ahead.node))
    }

    /// Whether a node is heard of and has told all that it did; so is one that is not there.
    pub(super) fn is_heard_whole(&self, node: &NodeId) -> bool {
        self.cluster.nodes.get(node).is_none_or(|node| node.is_ready() && node.synced)
    }

    /// The number that was promised to the instance of the run for this time, which begins now.
    pub(super) fn take_promised(&mut self, id: &WorkloadId, at: Timestamp) -> Option<u64> {
        let mut job = self.cluster.jobs.get(id)?.clone();
        let number = job.ahead.as_mut()?.take(at)?;
        self.cluster.put_job(job);
        Some(number)
    }

    /// Takes over what a node did by its own clock while it heard no scheduler. Its complete report follows.
    pub(crate) fn ran_alone(&mut self, node: &NodeId, session: SessionId, jobs: BTreeMap<WorkloadId, FollowedAlone>) {
        if !self.heard(node, session) {
            return;
        }
        for (id, followed) in jobs {
            let ahead = self.cluster.jobs.get(&id).and_then(|job| job.ahead.as_ref());
            if ahead.is_none_or(|ahead| ahead.node != *node) || !self.cluster.workloads.contains_key(&id) {
                self.ignored += 1;
                continue;
            }
            self.follow_revision(&id);
            let times = |(instance, begun): (&InstanceId, &BegunAlone)| {
                let number = number_in(instance).filter(|_| is_named_after(instance, &id))?;
                Some((self.time_of(&id, number)?, number, *begun))
            };
            let mut begun: Vec<(Timestamp, u64, BegunAlone)> = followed.begun.iter().filter_map(times).collect();
            begun.sort_unstable_by_key(|(at, ..)| *at);
            for (at, number, begun) in begun {
                self.adopt_run(&id, node, (at, number), begun);
            }
            for instance in &followed.ended {
                self.end_replaced(&id, instance);
            }
            self.note_left_out(&id, followed.until);
        }
    }

    /// The time that an instance is for which a node may have begun.
    fn time_of(&self, id: &WorkloadId, number: u64) -> Option<Timestamp> {
        let job = self.cluster.jobs.get(id)?;
        let waits = job.active().find(|(_, _, run)| run.promised == Some(number));
        let waits = waits.and_then(|(_, _, run)| run.scheduled_at);
        waits.or_else(|| job.ahead.as_ref()?.time_of(number)).filter(|_| self.cluster.held(number).is_none())
    }

    /// Books a run that a node began: as the one that waits for room here, or as one of its own.
    fn adopt_run(&mut self, id: &WorkloadId, node: &NodeId, (at, number): (Timestamp, u64), begun: BegunAlone) {
        let Some(index) = self.cluster.nodes.index_of(node) else { return };
        let Some(mut job) = self.cluster.jobs.get(id).cloned() else { return };
        let waits = job.active().find(|(_, _, run)| run.promised == Some(number)).map(|(run, ..)| run);
        let run = match waits {
            Some(run) => {
                job.active_run_mut(run).into_iter().for_each(|run| run.promised = None);
                self.cluster.put_job(job);
                run
            }
            None => {
                job.ahead.as_mut().and_then(|ahead| ahead.take(at));
                self.cluster.put_job(job);
                let began_at = begun.at.min(self.now);
                let alone = ActiveRun { scheduled_at: Some(at), began_at, alone: true, ..ActiveRun::default() };
                self.begin_run(id, alone)
            }
        };
        let since = self.cluster.workloads.get(id).map(|entry| entry.run.since).unwrap_or_default();
        if begun.revision < since {
            let cause =
                format!("{node} ran revision {} by itself, as it had not heard of revision {since}", begun.revision);
            self.end_run(id, run, RunState::Stopped, cause);
            return;
        }
        self.cluster.take_over(id, number, index, self.now);
        self.note_placed(id, run, &[number]);
    }

    /// Ends the run of an instance that its node ended for the next.
    fn end_replaced(&mut self, id: &WorkloadId, instance: &InstanceId) {
        let held = self.cluster.held_by_id(instance).filter(|held| held.workload() == id && held.is_wanted());
        let Some(number) = held.map(|held| held.number) else { return };
        if let Some(run) = self.cluster.jobs.get(id).and_then(|job| job.run_of(number)) {
            self.end_run(id, run, RunState::Stopped, "the next run was due".to_owned());
        }
    }

    /// Notes how far a node followed a schedule: what it did not begin until then is left out for good.
    fn note_left_out(&mut self, id: &WorkloadId, until: Timestamp) {
        let Some(job) = self.cluster.jobs.get(id) else { return };
        let (Some(followed), Some(ahead)) = (job.followed.clone(), job.ahead.as_ref()) else { return };
        let left_out: Vec<Timestamp> = ahead.coming.range(..=until).map(|(at, _)| *at).collect();
        let runs = job.active().filter_map(|(_, _, run)| run.scheduled_at);
        let runs = runs.chain(job.ended.iter().filter_map(|run| run.scheduled_at)).filter(|at| *at <= until);
        let Some(latest) = runs.chain(left_out.last().copied()).max().filter(|at| *at > followed.until) else { return };
        if let Some(first) = left_out.first() {
            let (times, seconds) = (left_out.len(), self.now.since(*first) / 1_000);
            let message = format!(
                "{} left out {times} that were due since {seconds} s ago: too late, or another run was active",
                ahead.node
            );
            self.history.add(self.now, Subject::Workload(id), "run-missed", message);
        }
        self.note_followed(id, Some(Followed { until: latest, ..followed }));
    }
}

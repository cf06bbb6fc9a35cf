//! Jobs: a run fills its slots, as many at once as may be, until each is done or one has failed. Who tries a process again is
//! its node; an instance that its node took away with it is followed by another in its slot.

use std::collections::{BTreeMap, BTreeSet};

use api_types::{
    id::WorkloadId,
    instance::{Desired, Exit, InstanceState},
    job::{JobSpec, RunState},
    node::Availability,
    time::Timestamp,
    workload::WorkloadKind,
};

use crate::{
    cluster::held::Held,
    effect::{ActiveRun, EndedRun, Job},
    history::Subject,
    liveness::Silence,
    machine::Scheduler,
    timers::Timer,
};

impl Scheduler {
    /// Brings a job up to date.
    pub(crate) fn reconcile_job(&mut self, id: &WorkloadId, spec: JobSpec) {
        self.follow_revision(id);
        if self.book_ends(id, spec) {
            // Whoever is more urgent gets the room that is free now.
            self.cluster.touched.workloads.insert(id.clone());
            return;
        }
        self.let_go(id);
        self.judge_run(id, spec);
        self.follow_schedule(id);
        self.forget_runs(id, spec);
        self.count_for_spread(id);
        if let Some(at) = self.next_look(id) {
            self.timers.set(at, Timer::Look(id.clone()));
        }
        let (picks, room) = self.pick(id, &self.open_slots(id));
        for (slot, seat) in picks {
            self.commit_to(id, slot, &seat);
        }
        if room {
            self.unpark(id);
        } else {
            self.park(id);
        }
    }

    /// The slots of the active run that are to be filled now: not done, without an instance, and as many as may run at once.
    pub(crate) fn open_slots(&self, id: &WorkloadId) -> Vec<u32> {
        let run = self.cluster.jobs.get(id).and_then(|job| job.run.as_ref());
        let (Some(run), Some(spec)) = (run, self.job_spec(id)) else { return Vec::new() };
        let held: BTreeSet<u32> = self.unfinished_of(id).map(|held| held.slot()).collect();
        let left = (spec.parallelism as usize).saturating_sub(held.len());
        let open = (0..spec.completions).filter(|slot| !run.done.contains_key(slot) && !held.contains(slot));
        open.take(left).collect()
    }

    /// How many instances the active run of a job shall have now.
    pub(crate) fn wanted_by_run(&self, id: &WorkloadId) -> usize {
        self.unfinished_of(id).count() + self.open_slots(id).len()
    }

    /// What was asked for of a job.
    pub(crate) fn job_spec(&self, id: &WorkloadId) -> Option<JobSpec> {
        match self.cluster.workloads.get(id)?.spec().kind {
            WorkloadKind::Job(spec) => Some(spec),
            WorkloadKind::Service { .. } | WorkloadKind::Daemon => None,
        }
    }

    /// The instances that shall go on until they are done.
    fn unfinished_of(&self, id: &WorkloadId) -> impl Iterator<Item = Held<'_>> {
        self.cluster.instances_of(id).filter(|held| held.is_wanted())
    }

    /// Ends the run of what was applied before, and begins one of what is applied now, unless a schedule says when.
    fn follow_revision(&mut self, id: &WorkloadId) {
        let Some(entry) = self.cluster.workloads.get(id) else { return };
        let (since, waits) = (entry.workload.runs_since, entry.spec().schedule.is_some());
        if self.cluster.jobs.get(id).is_some_and(|job| job.since >= since) {
            return;
        }
        self.end_run(id, RunState::Stopped, format!("revision {since} took its place"));
        if !waits {
            self.begin_run(id, None);
        }
    }

    /// Begins a run of what is applied; none is active. `scheduled_at`: the time of its schedule that it is for.
    pub(super) fn begin_run(&mut self, id: &WorkloadId, scheduled_at: Option<Timestamp>) -> u64 {
        let since = self.cluster.workloads.get(id).map(|entry| entry.workload.runs_since).unwrap_or_default();
        let mut job = self.cluster.jobs.get(id).cloned().unwrap_or_else(|| Job::new(id.clone()));
        (job.begun, job.since) = (job.begun + 1, since);
        job.run = Some(ActiveRun { scheduled_at, began_at: self.now, done: BTreeMap::new() });
        let number = job.begun;
        let message = format!("run {number} of revision {since}");
        self.history.add(self.now, Subject::Workload(id), "run-began", message);
        self.cluster.put_job(job);
        number
    }

    /// Books what instances of the active run came to; whether any ended.
    fn book_ends(&mut self, id: &WorkloadId, spec: JobSpec) -> bool {
        let Some(since) = self.cluster.jobs.get(id).filter(|job| job.run.is_some()).map(|job| job.since) else {
            return false;
        };
        let (mut done, mut failed, mut cause) = (Vec::new(), Vec::new(), None);
        for held in self.unfinished_of(id).filter(|held| held.has_ended() && held.runs_since() == since) {
            if held.observed().is_some_and(|observed| observed.state() == InstanceState::Completed) {
                done.push((held.slot(), held.number));
            } else {
                failed.push(held.number);
                cause.get_or_insert_with(|| failure_of(held, spec));
            }
        }
        if done.is_empty() && failed.is_empty() {
            return false;
        }
        for number in done.iter().map(|(_, number)| *number).chain(failed) {
            self.cluster.finish(number);
        }
        if !done.is_empty()
            && let Some(mut job) = self.cluster.jobs.get(id).cloned()
        {
            job.run.iter_mut().for_each(|run| run.done.extend(done.iter().copied()));
            self.cluster.put_job(job);
        }
        if let Some(cause) = cause {
            self.end_run(id, RunState::Failed, cause);
        }
        true
    }

    /// Ends what does not belong to the active run, and instances whose node is given up or drained: their slots are filled
    /// anew. What ended by itself on a node that is drained is let go of with all that it wrote.
    fn let_go(&mut self, id: &WorkloadId) {
        self.ask_turns(id);
        let job = self.cluster.jobs.get(id);
        let since = job.filter(|job| job.run.is_some()).map(|job| job.since);
        let kept: BTreeSet<u64> = job.into_iter().flat_map(Job::finished).collect();
        let Some(entry) = self.cluster.workloads.get(id) else { return };
        let replace_after_ms = entry.spec().disconnect.replace_after_ms;
        let mut over = Vec::new();
        for held in self.cluster.instances_of(id).filter(|held| held.desired() == Desired::Run) {
            let node = held.node_id();
            let is_strange = if held.is_finished() {
                // Of a job of the same name that was deleted a moment ago.
                !kept.contains(&held.number)
            } else {
                held.is_wanted() && Some(held.runs_since()) != since
            };
            let why = if is_strange {
                Some(String::new())
            } else if held.is_finished() && held.node().is_ready() && held.node().synced && !held.has_ended() {
                // Its node knows nothing of it any more, and would run it once more.
                Some(String::new())
            } else if held.node().spec.availability == Availability::Draining {
                Some(format!("{node} is being drained"))
            } else if held.is_wanted() && self.silence_of(held, replace_after_ms) == Silence::GivenUp {
                Some(format!("{node} is silent"))
            } else {
                None
            };
            over.extend(why.map(|why| (held.number, held.instance(), held.is_wanted(), why)));
        }
        for (number, instance, was_wanted, why) in over {
            if was_wanted && !why.is_empty() {
                let message = format!("{why}: its slot is filled anew");
                self.history.add(self.now, Subject::Instance(&instance), "replaced", message);
            }
            self.cluster.stop(number);
        }
    }

    /// Ends the active run when all is done, or its time is over.
    fn judge_run(&mut self, id: &WorkloadId, spec: JobSpec) {
        let Some(run) = self.cluster.jobs.get(id).and_then(|job| job.run.as_ref()) else { return };
        let (done, began_at) = (run.done.len(), run.began_at);
        if done >= spec.completions as usize {
            self.end_run(id, RunState::Succeeded, String::new());
            return;
        }
        // In a rehearsal nothing is ever done.
        let Some(deadline_ms) = spec.deadline_ms.filter(|_| !self.is_rehearsal) else { return };
        let at = began_at + deadline_ms;
        if self.is_tick && self.now >= at {
            let cause = format!("{done} of {} done within its deadline of {} s", spec.completions, deadline_ms / 1_000);
            self.end_run(id, RunState::Failed, cause);
        } else {
            self.timers.set(at, Timer::Look(id.clone()));
        }
    }

    /// Ends the active run, if there is one: what still runs of it is told to stop, what ended by itself is kept with it.
    pub(super) fn end_run(&mut self, id: &WorkloadId, state: RunState, cause: String) {
        let Some(mut job) = self.cluster.jobs.get(id).cloned() else { return };
        let (Some(run), Some(spec)) = (job.run.take(), self.job_spec(id)) else { return };
        for number in self.unfinished_of(id).map(|held| held.number).collect::<Vec<_>>() {
            self.cluster.stop(number);
        }
        let earlier: BTreeSet<u64> = job.finished().collect();
        let finished =
            self.cluster.instances_of(id).filter(|held| held.is_finished() && held.desired() == Desired::Run);
        let instances = finished.map(|held| held.number).filter(|number| !earlier.contains(number)).collect();
        let message =
            if cause.is_empty() { format!("run {}", job.begun) } else { format!("run {}: {cause}", job.begun) };
        let kind = match state {
            RunState::Succeeded => "run-succeeded",
            RunState::Failed => "run-failed",
            RunState::Stopped | RunState::Active => "run-stopped",
        };
        self.history.add(self.now, Subject::Workload(id), kind, message);
        if state == RunState::Succeeded {
            job.succeeded = Some(job.since);
        }
        job.ended.push(EndedRun {
            number: job.begun,
            since: job.since,
            state,
            cause,
            scheduled_at: run.scheduled_at,
            began_at: run.began_at,
            ended_at: self.now,
            done: u32::try_from(run.done.len()).unwrap_or(u32::MAX),
            completions: spec.completions,
            instances,
        });
        self.cluster.put_job(job);
    }

    /// Forgets runs beyond what is to be kept, with their instances.
    fn forget_runs(&mut self, id: &WorkloadId, spec: JobSpec) {
        let Some(job) = self.cluster.jobs.get(id).filter(|job| job.keeps_more_than(spec.keep)) else { return };
        let mut job = job.clone();
        let forgotten = job.forget_beyond(spec.keep);
        for number in forgotten.iter().flat_map(|run| &run.instances) {
            self.cluster.stop(*number);
        }
        self.cluster.put_job(job);
    }
}

/// Why a run fails with this instance, for people.
fn failure_of(held: Held<'_>, spec: JobSpec) -> String {
    let exit = held.observation().and_then(|observation| observation.last_exit);
    let how = exit.as_ref().map_or_else(|| "ended without success".to_owned(), Exit::describe);
    let tries = match spec.retries {
        0 => String::new(),
        retries => format!(" in the last of {} tries", retries + 1),
    };
    format!("{} on {} {how}{tries}", held.id(), held.node_id())
}

//! Jobs: a run fills its slots, as many at once as may be, until each is done or one has failed. Who tries a process again is
//! its node; an instance that its node took away with it is followed by another in its slot.

use std::collections::BTreeSet;

use api_types::{
    id::WorkloadId,
    instance::{Desired, Exit, InstanceState},
    job::{JobSpec, RunState},
    node::Availability,
    workload::WorkloadKind,
};

use super::volumes::Home;
use crate::{
    cluster::{held::Held, volumes::volumes},
    effect::{ActiveRun, EarlierRun, EndedRun, Job},
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
        self.judge_runs(id, spec);
        self.follow_schedule(id);
        self.look_ahead(id);
        self.forget_runs(id, spec);
        self.count_for_spread(id);
        if let Some(at) = self.next_look(id) {
            self.timers.set(at, Timer::Look(id.clone()));
        }
        let (mut room, mut away) = (true, None);
        for run in self.active_runs(id) {
            room &= self.fill_run(id, run, &mut away);
        }
        match away {
            Some(why) => self.park_because(id, why),
            None if room => self.unpark(id),
            None => self.park(id),
        }
    }

    /// Places instances in the open slots of a run: where their data is, if they have any, or says in `away` what they wait
    /// for. Whether there was room for all others.
    fn fill_run(&mut self, id: &WorkloadId, run: u64, away: &mut Option<String>) -> bool {
        let mut open = self.open_slots_of(id, run);
        let (mut seats, mut fits_at_home) = (Vec::new(), true);
        for slot in self.take_out_those_with_data(id, &mut open) {
            let Some(entry) = self.cluster.workloads.get(id) else { return true };
            match self.home_of(entry.spec(), slot) {
                Home::Ready(node) => {
                    let index = self.cluster.nodes.index_of(&node);
                    let seat = index.and_then(|index| self.cluster.reserve_on(id, index));
                    // Another slot of the run may have taken the room that was there.
                    fits_at_home &= seat.is_some();
                    seats.extend(seat.map(|seat| (slot, seat)));
                }
                Home::Away(why) => drop(away.get_or_insert(why)),
                Home::None => open.push(slot),
            }
        }
        let (picks, enough) = self.pick(id, &open);
        seats.extend(picks);
        let mut promised = if seats.is_empty() { None } else { self.use_promised(id, run) };
        let placed = seats.iter().map(|(slot, seat)| self.commit_as(id, *slot, seat, promised.take()));
        let placed: Vec<u64> = placed.collect();
        self.note_placed(id, run, &placed);
        enough && fits_at_home
    }

    /// The number that was promised to the first instance of a run, which is placed now.
    fn use_promised(&mut self, id: &WorkloadId, run: u64) -> Option<u64> {
        let mut job = self.cluster.jobs.get(id)?.clone();
        let promised = job.active_run_mut(run)?.promised.take()?;
        self.cluster.put_job(job);
        Some(promised)
    }

    /// The slots of active runs that are to be filled now: not done, without an instance, and as many as may run at once.
    pub(crate) fn open_slots(&self, id: &WorkloadId) -> Vec<u32> {
        self.active_runs(id).into_iter().flat_map(|run| self.open_slots_of(id, run)).collect()
    }

    pub(super) fn open_slots_of(&self, id: &WorkloadId, number: u64) -> Vec<u32> {
        let job = self.cluster.jobs.get(id);
        let (Some(run), Some(spec)) = (job.and_then(|job| job.active_run(number)), self.job_spec(id)) else {
            return Vec::new();
        };
        let held: BTreeSet<u32> = self.unfinished_of_run(id, number).map(|held| held.slot()).collect();
        let left = (spec.parallelism as usize).saturating_sub(held.len());
        let busy = self.slots_in_use(id);
        let is_open = |slot: &u32| !run.done.contains_key(slot) && !held.contains(slot) && !busy.contains(slot);
        (0..spec.completions).filter(is_open).take(left).collect()
    }

    /// The slots whose data is still in use by an instance that is to end: no two write to the same.
    fn slots_in_use(&self, id: &WorkloadId) -> BTreeSet<u32> {
        let has_data = self.cluster.workloads.get(id).is_some_and(|entry| !volumes(entry.spec()).is_empty());
        let ending = self.cluster.instances_of(id).filter(|held| has_data && held.desired() == Desired::Stop);
        ending.filter(|held| !held.is_finished()).map(|held| held.slot()).collect()
    }

    /// How many instances the active runs of a job shall have now.
    pub(crate) fn wanted_by_run(&self, id: &WorkloadId) -> usize {
        self.unfinished_of(id).count() + self.open_slots(id).len()
    }

    /// The numbers of the runs that are active, the earliest first.
    pub(super) fn active_runs(&self, id: &WorkloadId) -> Vec<u64> {
        self.cluster.jobs.get(id).into_iter().flat_map(Job::active).map(|(number, ..)| number).collect()
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

    /// The same of one of its active runs.
    fn unfinished_of_run(&self, id: &WorkloadId, number: u64) -> impl Iterator<Item = Held<'_>> {
        let job = self.cluster.jobs.get(id);
        self.unfinished_of(id).filter(move |held| job.and_then(|job| job.run_of(held.number)) == Some(number))
    }

    /// Notes who was placed for a run, if a later one is active or was: else all that is not told of otherwise is its own.
    pub(super) fn note_placed(&mut self, id: &WorkloadId, number: u64, placed: &[u64]) {
        let Some(job) = self.cluster.jobs.get(id).filter(|_| !placed.is_empty()) else { return };
        if job.beside.iter().all(|earlier| earlier.number != number) {
            return;
        }
        let mut job = job.clone();
        for earlier in job.beside.iter_mut().filter(|earlier| earlier.number == number) {
            earlier.instances.extend(placed);
        }
        self.cluster.put_job(job);
    }

    /// Ends the runs of what was applied before, and begins one of what is applied now, unless a schedule says when.
    pub(super) fn follow_revision(&mut self, id: &WorkloadId) {
        let Some(entry) = self.cluster.workloads.get(id) else { return };
        let (since, waits) = (entry.workload.runs_since, entry.spec().schedule.is_some());
        if self.cluster.jobs.get(id).is_some_and(|job| job.since >= since) {
            return;
        }
        for run in self.active_runs(id) {
            self.end_run(id, run, RunState::Stopped, format!("revision {since} took its place"));
        }
        if !waits {
            self.begin_run(id, ActiveRun { began_at: self.now, ..ActiveRun::default() });
        }
    }

    /// Begins a run of what is applied; those that are active go on beside it. Gives its number.
    pub(super) fn begin_run(&mut self, id: &WorkloadId, run: ActiveRun) -> u64 {
        let since = self.cluster.workloads.get(id).map(|entry| entry.workload.runs_since).unwrap_or_default();
        let mut job = self.cluster.jobs.get(id).cloned().unwrap_or_else(|| Job::new(id.clone()));
        if let Some(active) = job.run.take() {
            let instances = self.unfinished_of_run(id, job.begun).map(|held| held.number).collect();
            job.beside.push(EarlierRun { number: job.begun, since: job.since, run: active, instances });
        }
        (job.begun, job.since) = (job.begun + 1, since);
        let number = job.begun;
        let message = match (&job.ahead, run.alone) {
            (Some(ahead), true) => format!("run {number} of revision {since}, on {} by its own clock", ahead.node),
            (Some(_) | None, _) => format!("run {number} of revision {since}"),
        };
        job.run = Some(run);
        self.history.add(self.now, Subject::Workload(id), "run-began", message);
        self.cluster.put_job(job);
        number
    }

    /// Books what instances of active runs came to; whether any ended.
    fn book_ends(&mut self, id: &WorkloadId, spec: JobSpec) -> bool {
        self.active_runs(id).into_iter().fold(false, |any, run| self.book_ends_of(id, run, spec) | any)
    }

    fn book_ends_of(&mut self, id: &WorkloadId, number: u64, spec: JobSpec) -> bool {
        let active = self.cluster.jobs.get(id).and_then(|job| job.active().find(|(active, ..)| *active == number));
        let Some(since) = active.map(|(_, since, _)| since) else { return false };
        let (mut done, mut failed, mut cause) = (Vec::new(), Vec::new(), None);
        for held in self.unfinished_of_run(id, number).filter(|held| held.has_ended() && held.runs_since() == since) {
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
        let ended: BTreeSet<u64> = done.iter().map(|(_, number)| *number).chain(failed.iter().copied()).collect();
        for number in &ended {
            self.cluster.finish(*number);
        }
        if let Some(mut job) = self.cluster.jobs.get(id).cloned() {
            job.active_run_mut(number).into_iter().for_each(|run| run.done.extend(done.iter().copied()));
            for earlier in &mut job.beside {
                earlier.instances.retain(|instance| !ended.contains(instance));
            }
            self.cluster.put_job(job);
        }
        if let Some(cause) = cause {
            self.end_run(id, number, RunState::Failed, cause);
        }
        true
    }

    /// Ends what does not belong to an active run, and instances whose node is given up or drained: their slots are filled
    /// anew. What ended by itself on a node that is drained is let go of with all that it wrote.
    fn let_go(&mut self, id: &WorkloadId) {
        self.ask_turns(id);
        let job = self.cluster.jobs.get(id);
        let run_of = |number: u64| job.and_then(|job| job.run_of(number));
        let since_of = |run: u64| job?.active().find(|(active, ..)| *active == run).map(|(_, since, _)| since);
        let kept: BTreeSet<u64> = job.into_iter().flat_map(Job::finished).collect();
        let Some(entry) = self.cluster.workloads.get(id) else { return };
        let replace_after_ms = entry.spec().disconnect.replace_after_ms;
        let mut over = Vec::new();
        for held in self.cluster.instances_of(id).filter(|held| held.desired() == Desired::Run) {
            let node = held.node_id();
            // What has data here has no other node to go to.
            let stays = held.is_wanted() && self.has_data(id, held.slot());
            let is_strange = if held.is_finished() {
                // Of a job of the same name that was deleted a moment ago.
                !kept.contains(&held.number)
            } else {
                held.is_wanted() && Some(held.runs_since()) != run_of(held.number).and_then(since_of)
            };
            let why = if is_strange {
                Some(String::new())
            } else if held.is_finished() && held.node().is_ready() && held.node().synced && !held.has_ended() {
                // Its node knows nothing of it any more, and would run it once more.
                Some(String::new())
            } else if held.node().spec.availability == Availability::Draining && !stays {
                Some(format!("{node} is being drained"))
            } else if held.is_wanted()
                && !stays
                // A node that goes on by itself has it, and nobody else is meant.
                && job.and_then(|job| job.ahead.as_ref()).is_none_or(|ahead| ahead.node != *node)
                && self.silence_of(held, replace_after_ms) == Silence::GivenUp
            {
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

    /// Ends active runs of which all is done, or whose time is over.
    fn judge_runs(&mut self, id: &WorkloadId, spec: JobSpec) {
        for number in self.active_runs(id) {
            let Some(run) = self.cluster.jobs.get(id).and_then(|job| job.active_run(number)) else { continue };
            let (done, began_at) = (run.done.len(), run.began_at);
            if done >= spec.completions as usize {
                self.end_run(id, number, RunState::Succeeded, String::new());
                continue;
            }
            // In a rehearsal nothing is ever done.
            let Some(deadline_ms) = spec.deadline_ms.filter(|_| !self.is_rehearsal) else { continue };
            // How far its node is with it is not known yet.
            if run.alone && self.is_left_to_its_node(id) {
                continue;
            }
            let at = began_at + deadline_ms;
            if self.is_tick && self.now >= at {
                let seconds = deadline_ms / 1_000;
                let cause = format!("{done} of {} done within its deadline of {seconds} s", spec.completions);
                self.end_run(id, number, RunState::Failed, cause);
            } else {
                self.timers.set(at, Timer::Look(id.clone()));
            }
        }
    }

    /// Ends a run, if it is active: what still runs of it is told to stop, what ended by itself is kept with it.
    pub(super) fn end_run(&mut self, id: &WorkloadId, number: u64, state: RunState, cause: String) {
        let Some(mut job) = self.cluster.jobs.get(id).cloned() else { return };
        let unfinished: Vec<u64> = self.unfinished_of_run(id, number).map(|held| held.number).collect();
        let (Some((since, run)), Some(spec)) = (job.take_active(number), self.job_spec(id)) else { return };
        for instance in unfinished {
            self.cluster.stop(instance);
        }
        let earlier: BTreeSet<u64> = job.finished().collect();
        let finished =
            self.cluster.instances_of(id).filter(|held| held.is_finished() && held.desired() == Desired::Run);
        let instances = finished.map(|held| held.number).filter(|number| !earlier.contains(number)).collect();
        let message = if cause.is_empty() { format!("run {number}") } else { format!("run {number}: {cause}") };
        let kind = match state {
            RunState::Succeeded => "run-succeeded",
            RunState::Failed => "run-failed",
            RunState::Stopped | RunState::Active => "run-stopped",
        };
        self.history.add(self.now, Subject::Workload(id), kind, message);
        if state == RunState::Succeeded {
            job.succeeded = job.succeeded.max(Some(since));
        }
        job.ended.push(EndedRun {
            number,
            since,
            state,
            cause,
            scheduled_at: run.scheduled_at,
            alone: run.alone,
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

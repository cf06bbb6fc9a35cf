//! Jobs: what counts as done was done, once, by a process that ended well; a try that failed counts once; a run ends for a reason, and
//! nothing is tried again that is over.

use std::collections::{BTreeMap, BTreeSet};

use api_types::{
    assignment::Assignment,
    id::{InstanceId, WorkloadId},
    instance::{Desired, Exit, Instance},
    job::{JobSpec, RunState, Tries},
    workload::{WorkloadKind, WorkloadSpec},
};
use scheduler_core::effect::{ActiveRun, Effect, Job, Record};

use crate::{
    checkers::scaling::asked_in,
    disk::{Disk, finished_by, number_of},
    event::NodeIndex,
    node::shift,
    shape::Work,
    world::World,
};

/// How processes of jobs ended, as their containerds have it.
#[derive(Debug, Default)]
pub struct Jobs {
    /// Of each instance, by its number.
    ends: BTreeMap<u64, Ends>,
    /// The instances of which their node forgot how they ended: it tries them again until it is told to let go of them.
    forgotten: BTreeSet<u64>,
}

/// How the processes of one instance ended.
#[derive(Clone, Copy, Debug, Default)]
struct Ends {
    /// Whether one ended well.
    well: bool,
    /// How many failed.
    failed: u32,
}

impl Jobs {
    /// A process ended, and its containerd saw how.
    pub fn note_end(&mut self, instance: &InstanceId, exit: &Exit) {
        let ends = self.ends.entry(number_of(instance)).or_default();
        if *exit == Exit::Code(0) {
            ends.well = true;
        } else {
            ends.failed += 1;
        }
    }

    /// A node loses what it remembered.
    pub fn note_forgotten(&mut self, remembered: &BTreeMap<InstanceId, Tries>) {
        self.forgotten.extend(remembered.keys().map(number_of));
    }

    fn of(&self, number: u64) -> Ends {
        self.ends.get(&number).copied().unwrap_or_default()
    }
}

impl World {
    /// An agent has its disk remember how processes ended: no more failed than did, and nothing of that is taken back.
    pub fn check_tries(&mut self, index: NodeIndex, tries: &BTreeMap<InstanceId, Tries>) {
        let node = &self.nodes[index];
        let wrong = tries.iter().find_map(|(id, tries)| {
            let ends = self.jobs.of(number_of(id));
            let before = node.kept_tries.get(id).filter(|before| *before != tries);
            if tries.failed > ends.failed {
                return Some(format!("{id} failed {} times, and its agent counts {}", ends.failed, tries.failed));
            }
            if tries.has_succeeded() && !ends.well {
                return Some(format!("{id} never ended well, and its agent says so"));
            }
            let is_taken_back = |before: &Tries| before.has_succeeded() || before.failed > tries.failed;
            before.filter(|before| is_taken_back(before)).map(|_| format!("what is remembered of {id} is taken back"))
        });
        if let Some(wrong) = wrong {
            let what = format!("{}: {wrong}", node.id);
            self.fail(what);
        }
    }

    /// A process of a job starts: the instance is not over, as far as its node can know.
    pub fn check_try(&mut self, index: NodeIndex, assignment: &Assignment) {
        let (Some(retries), id) = (assignment.retries, &assignment.instance) else { return };
        let node = &self.nodes[index];
        let remembers = !self.jobs.forgotten.contains(&number_of(id));
        let why = match node.kept_tries.get(id) {
            Some(tries) if tries.has_succeeded() => "its node remembers that it is done",
            Some(tries) if tries.failed > retries => "its node remembers that its tries are used up",
            Some(_) | None if remembers && self.scheduler.disk.is_finished(id) => "the scheduler was told of its end",
            Some(_) | None => return,
        };
        let what = format!("{}: {id} is tried again, and {why}", node.id);
        self.fail(what);
    }

    /// What a step makes of the runs of jobs, before it is written.
    pub fn check_runs(&mut self, effects: &[Effect]) {
        let mut latest: BTreeMap<&WorkloadId, &Job> = BTreeMap::new();
        let mut wrong = None;
        for after in effects.iter().filter_map(job_in) {
            let id = &after.workload;
            let before = latest.get(id).copied().or_else(|| self.scheduler.decided.job(id));
            let checked = match before {
                Some(before) => self.check_run(before, after, effects),
                None if after.begun == 1 && after.run.is_some() => Ok(()),
                None => Err("its first run is not the first".to_owned()),
            };
            wrong = wrong.or(checked.err().map(|wrong| format!("run {} of {id}: {wrong}", after.begun)));
            latest.insert(id, after);
        }
        if let Some(wrong) = wrong {
            self.fail(wrong);
        }
    }

    fn check_run(&self, before: &Job, after: &Job, effects: &[Effect]) -> Result<(), String> {
        let known: BTreeSet<u64> = finished_by(before).collect();
        for number in finished_by(after).filter(|number| !known.contains(number)) {
            let (held, spec) = self.of_job(after, number)?;
            let ends = self.jobs.of(number);
            if !ends.well && ends.failed <= spec.retries {
                return Err(format!("{} counts as ended, after {} failures", held.id, ends.failed));
            }
        }
        match (&before.run, &after.run) {
            (Some(was), Some(is)) if before.begun == after.begun => self.check_done(after, was, is),
            (Some(was), None) if before.begun == after.begun => self.check_end(after, was, &known, effects),
            (None, Some(_)) if before.begun + 1 == after.begun && before.since < after.since => Ok(()),
            (None, None) if before.begun == after.begun => Ok(()),
            (was, is) => Err(format!("from {was:?} of run {} to {is:?}", before.begun)),
        }
    }

    /// More is done than before, each slot by an instance of it whose process ended well.
    fn check_done(&self, job: &Job, was: &ActiveRun, is: &ActiveRun) -> Result<(), String> {
        if let Some((slot, _)) = was.done.iter().find(|(slot, by)| is.done.get(slot) != Some(by)) {
            return Err(format!("slot {slot} was done, and is not any more or by another instance"));
        }
        if is.began_at > was.began_at {
            return Err(format!("it began at {}, and now at {}", was.began_at, is.began_at));
        }
        for (slot, number) in is.done.iter().filter(|(slot, _)| !was.done.contains_key(slot)) {
            let (held, _) = self.of_job(job, *number)?;
            if held.slot != *slot || !self.jobs.of(*number).well {
                return Err(format!("slot {slot} counts as done by {}", held.id));
            }
        }
        Ok(())
    }

    /// A run succeeds when all is done, fails with an instance or its deadline, and is stopped by another revision.
    fn check_end(&self, job: &Job, was: &ActiveRun, known: &BTreeSet<u64>, effects: &[Effect]) -> Result<(), String> {
        let ended = job.ended.last().filter(|ended| ended.number == job.begun).ok_or("it ended, and left nothing")?;
        let wanted = self.scheduler.decided.workload(&job.workload).ok_or("nobody wants it")?;
        let is_caused = match ended.state {
            RunState::Succeeded => ended.done == ended.completions && was.done.len() == ended.completions as usize,
            RunState::Failed => {
                let failed = |number: &u64| {
                    let of_run = self.of_job(job, *number).ok();
                    of_run.is_some_and(|(_, spec)| self.jobs.of(*number).failed > spec.retries)
                };
                let now = shift(self.now, self.scheduler.clock_ms());
                let deadline_ms = job_of(&wanted.spec).and_then(|spec| spec.deadline_ms);
                let is_late = deadline_ms.is_some_and(|deadline_ms| now >= was.began_at + deadline_ms);
                is_late || ended.instances.iter().filter(|number| !known.contains(number)).any(failed)
            }
            RunState::Stopped => {
                wanted.runs_since > job.since || effects.iter().any(|effect| asked_in(effect, &job.workload).is_some())
            }
            RunState::Active => false,
        };
        if is_caused { Ok(()) } else { Err(format!("it ends without a cause: {ended:?}")) }
    }

    /// An instance of a job, and how that runs.
    fn of_job(&self, job: &Job, number: u64) -> Result<(&Instance, JobSpec), String> {
        let decided = &self.scheduler.decided;
        let held = decided.of(&job.workload).find(|held| number_of(&held.id) == number);
        let spec = held.and_then(|held| decided.run_of(held)).and_then(|run| job_of(&run.spec));
        held.zip(spec).ok_or(format!("instance {number} counts as ended, and is none of its own"))
    }

    /// An instance that was just placed has work to do, if it is one of a job.
    pub(super) fn check_work(&self, placed: &Instance, spec: &WorkloadSpec) -> Result<(), String> {
        let Some(spec) = job_of(spec) else { return Ok(()) };
        let decided = &self.scheduler.decided;
        let run = decided.job(&placed.workload).and_then(|job| job.run.as_ref()).ok_or("no run is active")?;
        if run.done.contains_key(&placed.slot) || placed.slot >= spec.completions {
            return Err(format!("slot {} is done, or not asked for", placed.slot));
        }
        let at_work = decided.of(&placed.workload).filter(|held| held.desired == Desired::Run).count();
        if at_work > spec.parallelism as usize {
            return Err(format!("{at_work} at once, {} at most", spec.parallelism));
        }
        Ok(())
    }

    /// Whether an instance of a job is ended for the job's own sake: its end was booked, or its run is over.
    pub(super) fn is_over(&self, held: &Instance, effects: &[Effect]) -> bool {
        let decided: &Disk = &self.scheduler.decided;
        let written = effects.iter().rev().filter_map(job_in).find(|job| job.workload == held.workload);
        let job = written.or_else(|| decided.job(&held.workload));
        let is_over = |job: &Job| job.run.is_none() || finished_by(job).any(|number| number == number_of(&held.id));
        decided.is_finished(&held.id) || job.is_some_and(is_over)
    }

    /// In the end a job is over, and nothing of it runs; or what is left of it has room nowhere.
    pub(super) fn check_job(&self, spec: &WorkloadSpec, work: Work, running: usize) -> Result<(), String> {
        let (id, disk) = (&spec.id, &self.scheduler.disk);
        let job = disk.job(id).ok_or(format!("{id} never ran"))?;
        let since = disk.workload(id).map(|wanted| wanted.runs_since);
        if since != Some(job.since) {
            return Err(format!("{id}: its latest run is of revision {}, not of {since:?}", job.since));
        }
        let at_work = disk.of(id).count();
        if running > 0 || at_work > 0 {
            return Err(format!("{id}: {running} run and {at_work} are placed, run {} of {work}", job.begun));
        }
        let Some(run) = &job.run else { return Ok(()) };
        if work.deadline_ms.is_some() {
            return Err(format!("{id}: run {} has a deadline, and goes on", job.begun));
        }
        let open = (u64::from(work.completions) - run.done.len() as u64).min(work.parallelism.into());
        self.check_missing(spec, 0, open)
    }

    /// Whether a job waits for room.
    pub(crate) fn has_work_left(&self, id: &WorkloadId) -> bool {
        self.scheduler.disk.job(id).is_some_and(|job| job.run.is_some())
    }
}

fn job_in(effect: &Effect) -> Option<&Job> {
    let Effect::Persist(record) = effect else { return None };
    if let Record::Job(job) = &**record { Some(job) } else { None }
}

fn job_of(spec: &WorkloadSpec) -> Option<JobSpec> {
    if let WorkloadKind::Job(job) = spec.kind { Some(job) } else { None }
}

/// Whether a step books something of jobs.
pub(super) fn changes_runs(effects: &[Effect]) -> bool {
    effects.iter().any(|effect| job_in(effect).is_some())
}

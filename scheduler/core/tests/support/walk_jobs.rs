//! A random walk with jobs among the workloads, some of which end, and fail.

use api_types::{
    id::{InstanceId, WorkloadId},
    instance::{Exit, Health, InstanceState, InstanceStatus},
    job::{JobSpec, KeepSpec, RunState},
    resources::Resources,
    schedule::{Overlap, ScheduleSpec},
    time::Timestamp,
    view::JobView,
    workload::WorkloadSpec,
};
use scheduler_core::{Settings, input::Change};

use crate::{
    fleet::Fleet,
    walk::{self, Random},
};

/// How often what runs is let end in turn until nothing is left: more than any run has slots.
const ROUNDS: usize = 12;

/// Walks so many steps from a seed.
pub(crate) fn walk(seed: u64, steps: usize, check: impl Fn(&mut Fleet)) -> Fleet {
    let mut fleet = Fleet::new(Settings { placements_per_step_max: 7, ..Settings::default() });
    let mut random = Random(seed);
    walk::add_nodes(&mut fleet, &mut random);
    for step in 0..steps {
        walk::one_step(&mut fleet, &mut random);
        match random.below(12) {
            0 => apply(&mut fleet, &mut random),
            1..=3 => end_one(&mut fleet, &mut random),
            5 => drop(fleet.request(Change::RunJob { workload: job(&mut random) })),
            6 => fleet.advance(15_000),
            4 if random.below(8) == 0 => drop(fleet.request(Change::Delete { workload: job(&mut random) })),
            _ => {}
        }
        if step % 25 == 0 {
            check(&mut fleet);
        }
    }
    fleet
}

/// Lets all that runs of jobs end with success, again and again, while nothing more begins.
pub(crate) fn finish(fleet: &mut Fleet) {
    suspend(fleet);
    for _ in 0..ROUNDS {
        for instance in running(fleet) {
            fleet.say(&instance, |status| ended(status, 0));
        }
        assert!(fleet.settle(), "the agents never get done");
    }
}

/// Every job is done, or waits for room; each slot that is done was done once.
pub(crate) fn every_job_is_over(fleet: &Fleet, seed: u64) {
    for workload in fleet.scheduler.workload_views() {
        let Some(job) = workload.job else { continue };
        let at = format!("seed {seed}, {}: {}, {:#?}", workload.name, workload.reason, job.runs);
        let active = job.runs.iter().filter(|run| run.state == RunState::Active).count();
        assert!(active == 0 || workload.pending > 0 && !workload.reason.is_empty(), "{at}");
        for run in job.runs.iter().filter(|run| run.state == RunState::Succeeded) {
            assert_eq!(run.done, run.completions, "{at}");
        }
        each_time_is_run_for_once(&job, &at);
        assert!(job.runs.windows(2).all(|pair| pair[0].number > pair[1].number), "{at}");
    }
}

fn job(random: &mut Random) -> WorkloadId {
    format!("j{}", random.below(3)).parse().expect("a name")
}

fn apply(fleet: &mut Fleet, random: &mut Random) {
    let mut number = |limit: u64| u32::try_from(random.below(limit)).expect("small");
    let spec = JobSpec {
        completions: 1 + number(6),
        parallelism: 1 + number(4),
        retries: number(2),
        deadline_ms: [None, None, Some(20_000), Some(120_000)][number(4) as usize],
        keep: KeepSpec { succeeded: number(3), failed: number(3) },
    };
    let mut spec = WorkloadSpec::job(job(random), "registry.lan/job:1", spec);
    spec.resources.reserve = Resources { cpu_millis: 100 * (1 + random.below(5)), memory_bytes: 64 << 20 };
    if random.below(4) == 0 {
        spec.disconnect.replace_after_ms = None;
    }
    spec.schedule = schedule(random);
    drop(fleet.request(Change::Apply { specs: vec![spec], expect: None }));
}

/// Each minute or two, or when it is applied.
fn schedule(random: &mut Random) -> Option<ScheduleSpec> {
    let cron = random.pick(&[None, Some("* * * * *"), Some("*/2 * * * *")]).flatten()?;
    Some(ScheduleSpec {
        overlap: random.pick(&Overlap::ALL)?,
        catch_up_ms: random.pick(&[None, Some(300_000)])?,
        suspend: random.below(4) == 0,
        ..ScheduleSpec::at(cron.parse().expect("a schedule"))
    })
}

/// Lets nothing begin by itself any more.
fn suspend(fleet: &mut Fleet) {
    let views = fleet.scheduler.workload_views();
    for mut spec in views.into_iter().map(|view| view.spec) {
        let Some(schedule) = &mut spec.schedule else { continue };
        schedule.suspend = true;
        drop(fleet.request(Change::Apply { specs: vec![spec], expect: None }));
    }
}

/// No time of a schedule was run for twice, and none before another that it follows.
fn each_time_is_run_for_once(job: &JobView, at: &str) {
    let times: Vec<Timestamp> = job.runs.iter().filter_map(|run| run.scheduled_at).collect();
    assert!(times.windows(2).all(|pair| pair[0] > pair[1]), "{at}");
    assert!(job.runs.iter().all(|run| run.scheduled_at.is_none_or(|at| at <= run.began_at)), "{at}");
}

fn end_one(fleet: &mut Fleet, random: &mut Random) {
    if let Some(instance) = random.pick(&running(fleet)) {
        let code = i32::from(random.below(5) == 0);
        fleet.say(&instance, |status| ended(status, code));
    }
}

/// The instances of jobs whose process runs, as far as their agents say.
fn running(fleet: &Fleet) -> Vec<InstanceId> {
    let runs = |id: &InstanceId, statuses: &std::collections::BTreeMap<InstanceId, InstanceStatus>| {
        statuses.get(id).is_some_and(|status| status.state == InstanceState::Running)
    };
    let agents = fleet.agents.values();
    let jobs = agents.flat_map(|agent| {
        let assignments = agent.set.iter().flat_map(|set| &set.assignments);
        assignments
            .filter(|assignment| assignment.retries.is_some() && runs(&assignment.instance, &agent.statuses))
            .map(|assignment| assignment.instance.clone())
    });
    jobs.collect()
}

fn ended(status: &mut InstanceStatus, code: i32) {
    status.state = if code == 0 { InstanceState::Completed } else { InstanceState::Failed };
    status.health = Health::Unknown;
    status.last_exit = Some(Exit::Code(code));
}

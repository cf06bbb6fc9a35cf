//! Stories of jobs: run until they are done, tried again, done once through deaths of those who lead them.

use std::{error::Error, fs};

use api_types::{
    instance::{Exit, InstanceState},
    job::RunState,
    node::Liveness,
    view::{InstanceView, JobRunView, List, WorkloadView},
};
use tests_system::cluster::until_node;

use crate::stage::{LIMIT, Outcome, Stage};

/// The exit code of `wherry` when a change did not work.
const DID_NOT_WORK: i32 = 5;

/// A job of one shell script.
fn manifest(stage: &Stage, more: &str, script: &str) -> String {
    let command = format!("[\"/bin/sh\", \"-c\", \"{script}\"]");
    format!("name = \"jobs\"\n[job.work]\nimage = \"{}\"\ncommand = {command}\n{more}\n", stage.image)
}

/// The latest run of the job `work`.
fn latest(stage: &Stage) -> Result<JobRunView, Box<dyn Error>> {
    let list: List<WorkloadView> = serde_json::from_value(stage.bed.ask(&["get", "jobs", "work"])?)?;
    let run = list.items.into_iter().next().and_then(|work| work.job?.runs.into_iter().next());
    Ok(run.ok_or("the job never ran")?)
}

/// Completions are counted, each in its slot; a failure is tried again in place; what was written stays until it is deleted.
pub(crate) fn a_job_runs_until_it_is_done(stage: &mut Stage) -> Outcome {
    let script = "echo slot $WHERRY_SLOT of $HOSTNAME; exit 0";
    let file = stage.file("jobs.toml", manifest(stage, "completions = 4\nparallelism = 2", script).as_bytes())?;
    let file = file.to_string_lossy().into_owned();

    stage.wherry(&["apply", "-f", &file])?;

    let run = latest(stage)?;
    stage.must(run.state == RunState::Succeeded && run.instances.len() == 4, || format!("{run:?}"))?;
    let written = stage.wherry(&["logs", "work"])?;
    let all = (0..4).all(|slot| written.contains(&format!("slot {slot} of work-")));
    stage.must(all && written.lines().count() == 4, || format!("it wrote {written}"))?;
    let again = stage.wherry(&["apply", "-f", &file])?;
    stage.must(again.contains("unchanged") && latest(stage)?.number == run.number, || format!("again: {again}"))?;

    // It fails twice, then not again: each try has a fresh container.
    let script = "test ! -e /tmp/was-here || exit 9; touch /tmp/was-here; echo try; exit 3";
    let failing = manifest(stage, "retries = 1", script);
    fs::write(&file, failing)?;
    let answer = stage.bed.wherry(&["apply", "-f", &file])?;
    stage.must(answer.code == Some(DID_NOT_WORK), || format!("{:?}: {}", answer.code, answer.stderr))?;
    let why = "exited with code 3 in the last of 2 tries";
    stage.must(answer.stderr.contains(why), || format!("it is said why: {}", answer.stderr))?;
    let failed = latest(stage)?;
    stage.must(failed.number == run.number + 1 && failed.state == RunState::Failed, || format!("{failed:?}"))?;
    let list: List<InstanceView> = serde_json::from_value(stage.bed.ask(&["get", "instances"])?)?;
    let view = list.items.into_iter().find(|view| view.state == InstanceState::Failed);
    let view = view.ok_or("the instance that failed is shown")?;
    stage.must(view.last_exit == Some(Exit::Code(3)) && view.restarts == 1, || format!("{view:?}"))?;
    let written = stage.wherry(&["logs", &view.name])?;
    stage.must(written == "try\ntry\n", || format!("both tries are kept: {written}"))
}

/// A job that ends while the scheduler is away, and whose agent dies after that, is done once, and known to be.
pub(crate) fn a_job_is_done_once_without_a_scheduler(stage: &mut Stage) -> Outcome {
    let folder = "/tmp";
    let script = format!("echo begun; while ! test -e {folder}/go; do sleep 0.1; done; echo done");
    let place = "place = { require = [\"node == edge-1\"] }";
    stage.apply(&manifest(stage, place, &script))?;
    let runs = || stage.bed.instances("work").ok()?.into_iter().find(|view| view.state == InstanceState::Running);
    stage.until("it runs", || runs().is_some())?;
    let view = runs().ok_or("it runs")?;
    let pid = view.pid.ok_or("what runs has a process")?;

    stage.bed.kill_scheduler();
    fs::write(format!("/proc/{pid}/root{folder}/go"), "")?;
    let is_empty = || stage.containers("edge-1").is_some_and(|containers| containers.is_empty());
    stage.until("nothing of it is left in containerd", is_empty)?;
    stage.bed.node_mut("edge-1").kill_agent();
    stage.bed.node_mut("edge-1").start_agent()?;
    stage.bed.start_scheduler()?;
    until_node(&stage.bed, "edge-1", Liveness::Ready, LIMIT)?;

    stage.until("the run is done", || latest(stage).is_ok_and(|run| run.state == RunState::Succeeded))?;
    let run = latest(stage)?;
    stage.must(run.number == 1 && run.instances.len() == 1, || format!("{run:?}"))?;
    let written = stage.wherry(&["logs", "work"])?;
    let once = written.matches("begun").count() == 1 && written.matches("done").count() == 1;
    stage.must(once, || format!("it ran once: {written}"))
}

/// A job that is pinned to a node begins by that node's clock while the scheduler is away, goes on through its agent's death, and is
/// known as one run of its time afterwards. It waits for the next minute: no schedule is finer.
pub(crate) fn a_pinned_job_is_begun_by_its_node(stage: &mut Stage) -> Outcome {
    let script = "echo begun; while ! test -e /tmp/go; do sleep 0.1; done; echo done";
    let more = "schedule = \"* * * * *\"\nplace = { require = [\"node == edge-1\"] }";
    stage.apply(&manifest(stage, more, script))?;
    let told = stage.bed.node("edge-1").folder().join("run/last/assignments");
    let is_told = || fs::read_to_string(&told).is_ok_and(|set| set.contains("\"ahead\""));
    stage.until("the node is told of its times", is_told)?;
    stage.bed.kill_scheduler();

    let running = || stage.running("edge-1").and_then(|running| running.into_iter().next());
    stage.until("it runs", || running().is_some())?;
    let (container, pid) = running().ok_or("it runs")?;
    stage.bed.node_mut("edge-1").kill_agent();
    stage.bed.node_mut("edge-1").start_agent()?;
    stage.bed.start_scheduler()?;
    until_node(&stage.bed, "edge-1", Liveness::Ready, LIMIT)?;
    let is_known = || latest(stage).is_ok_and(|run| run.state == RunState::Active && run.instances.len() == 1);
    stage.until("the run is known", is_known)?;
    stage.wherry(&["apply", "-f", &suspended(stage, more, script)?])?;
    fs::write(format!("/proc/{pid}/root/tmp/go"), "")?;

    stage.until("the run is done", || latest(stage).is_ok_and(|run| run.state == RunState::Succeeded))?;
    let run = latest(stage)?;
    // Whether the scheduler had decided on it, too, before it was killed makes no difference: it is the same instance.
    let is_one = run.number == 1 && container.starts_with(run.instances[0].as_str());
    stage.must(is_one && run.scheduled_at.is_some(), || format!("{container}: {run:?}"))?;
    let written = stage.wherry(&["logs", "work"])?;
    let once = written.matches("begun").count() == 1 && written.matches("done").count() == 1;
    stage.must(once, || format!("it ran once: {written}"))
}

fn suspended(stage: &Stage, more: &str, script: &str) -> Result<String, Box<dyn Error>> {
    let text = manifest(stage, &format!("suspend = true\n{more}"), script);
    Ok(stage.file("suspended.toml", text.as_bytes())?.to_string_lossy().into_owned())
}

/// One command on some node: its output, its exit code, and nothing of it afterwards.
pub(crate) fn a_command_is_run_and_its_end_is_ours(stage: &mut Stage) -> Outcome {
    let script = "echo on $HOSTNAME says $WORD; echo aside >&2; exit 7";
    let arguments = ["run", "--name", "once", "-e", "WORD=hello", "--entrypoint", "/bin/sh", &stage.image];

    let answer = stage.bed.wherry(&[&arguments[..], &["--", "-c", script]].concat())?;

    stage.must(answer.code == Some(7), || format!("{:?}: {}{}", answer.code, answer.stdout, answer.stderr))?;
    let said = answer.stdout.starts_with("on once-") && answer.stdout.ends_with(" says hello\n");
    stage.must(said && answer.stderr.contains("aside\n"), || format!("{}{}", answer.stdout, answer.stderr))?;
    let left: List<WorkloadView> = serde_json::from_value(stage.bed.ask(&["get", "jobs"])?)?;
    stage.must(left.items.is_empty(), || format!("it is left: {left:?}"))
}

/// A job with a schedule waits for its time, also when the scheduler is started again; a person does not wait.
pub(crate) fn a_job_waits_for_its_schedule_or_for_a_person(stage: &mut Stage) -> Outcome {
    let more = "schedule = \"0 0 29 2 *\"\ntime_zone = \"Europe/Berlin\"";
    stage.apply(&manifest(stage, more, "echo done"))?;
    let list: List<WorkloadView> = serde_json::from_value(stage.bed.ask(&["get", "jobs", "work"])?)?;
    let job = list.items.into_iter().next().and_then(|work| work.job).ok_or("it is a job")?;
    let next = job.next_at.ok_or("it has a next run")?;
    stage.must(job.runs.is_empty(), || format!("it runs: {:?}", job.runs))?;
    // Midnight in Berlin is 23:00 of UTC in winter.
    stage.must(next.0 % 86_400_000 == 23 * 3_600_000, || format!("next at {next}"))?;

    stage.bed.kill_scheduler();
    stage.bed.start_scheduler()?;
    until_node(&stage.bed, "edge-1", Liveness::Ready, LIMIT)?;
    stage.wherry(&["job", "run", "work"])?;

    stage.until("the run is done", || latest(stage).is_ok_and(|run| run.state == RunState::Succeeded))?;
    let list: List<WorkloadView> = serde_json::from_value(stage.bed.ask(&["get", "jobs", "work"])?)?;
    let job = list.items.into_iter().next().and_then(|work| work.job).ok_or("it is a job still")?;
    let run = job.runs.first().ok_or("it ran")?;
    stage.must(job.next_at == Some(next) && run.scheduled_at.is_none(), || format!("{job:?}"))?;
    let refused = stage.bed.wherry(&["apply", "-f", &unknown_zone(stage)?])?;
    stage.must(refused.stderr.contains("no time zone `Europe/Atlantis`"), || refused.stderr.clone())
}

fn unknown_zone(stage: &Stage) -> Result<String, Box<dyn Error>> {
    let text = manifest(stage, "schedule = \"@daily\"\ntime_zone = \"Europe/Atlantis\"", "true");
    Ok(stage.file("zone.toml", text.as_bytes())?.to_string_lossy().into_owned())
}

//! How fast instances come and come back, over what containerd itself needs for the same.

use std::time::{Duration, Instant};

use tests_support::{
    cluster::Bed,
    figures::{Figures, median, number},
    program::signal,
    wait::{pace, wait_until},
};

use crate::{Result, floor::Floor, footprint, process};

/// How many instances are made at once.
const MANY: u32 = 50;
/// How many the bare client makes at the same time.
const IN_FLIGHT: usize = 8;
/// How often each is measured.
const ROUNDS: usize = 5;
/// How often one container is looked at: asking all shims each time would cost more than a restart does.
const LOOK: Duration = Duration::from_millis(2);
/// How long any of it may take.
const LIMIT: Duration = Duration::from_secs(120);

/// `apply` of 50 replicas on one node, and a killed process, each beside the bare client in the same rounds; then what
/// fifty instances cost the agent, and a quiet minute with ten.
pub(crate) fn apply_and_restart(bed: &Bed, image: &str, figures: &mut Figures) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let agent = footprint::agent(bed, "one")?;
    bed.apply(&manifest("template", image, 1), &[])?;
    let template = bed.instances("template")?.first().ok_or("no template")?.name.clone();
    let node = bed.node("one");
    let floor = runtime.block_on(async {
        let socket = node.containerd_socket();
        let namespace = node.full_name();
        let found = Floor::running_in(&socket, namespace).await?;
        let (template, _) = found.into_iter().find(|(id, _)| id.starts_with(&template)).ok_or("no template runs")?;
        Floor::like(&socket, namespace, &template).await
    })?;
    // The template goes on running: the copies mount the same small files of its instance.
    let only_template = || runtime.block_on(floor.running()).is_ok_and(|running| running.len() == 1);

    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    let pss_before = process::pss_kib(agent)?;
    for round in 0..ROUNDS {
        bare.push(runtime.block_on(make_many(&floor, round))?);
        let begin = Instant::now();
        let answer = bed.apply(&manifest("many", image, MANY), &["--wait", "2m"])?;
        ours.push(begin.elapsed().as_secs_f64());
        if answer.code != Some(0) {
            return Err(format!("apply failed: {}", answer.stderr).into());
        }
        if round + 1 == ROUNDS {
            pace(Duration::from_secs(15));
            let pss = process::pss_kib(agent)?.saturating_sub(pss_before);
            figures.note("agent_rss_50_mib", number(process::rss_kib(agent)?) / 1024.0)?;
            figures.note("agent_pss_per_instance_kib", number(pss) / f64::from(MANY))?;
        } else {
            bed.wherry(&["delete", "many", "--yes"])?;
            wait_until(LIMIT, only_template);
        }
    }
    figures.note("apply50_s", median(ours.clone()))?;
    figures.note("apply50_over_floor", median(ours) / median(bare))?;
    restart(bed, &runtime, &floor, figures)?;
    bed.wherry(&["scale", "many", "10"])?;
    wait_until(LIMIT, || runtime.block_on(floor.running()).is_ok_and(|running| running.len() == 11));
    footprint::quiet_minute(bed, figures)?;
    for name in ["many", "template"] {
        bed.wherry(&["delete", name, "--yes"])?;
    }
    wait_until(LIMIT, || runtime.block_on(floor.running()).is_ok_and(|running| running.is_empty()));
    Ok(())
}

/// Kills one process after the other, each only once, and waits for its successor.
fn restart(bed: &Bed, runtime: &tokio::runtime::Runtime, floor: &Floor, figures: &mut Figures) -> Result<()> {
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for (round, instance) in bed.instances("many")?.into_iter().take(3 * ROUNDS).enumerate() {
        let begin = Instant::now();
        let id = format!("one-{round}");
        runtime.block_on(floor.create_and_start(&id))?;
        bare.push(begin.elapsed().as_secs_f64());
        runtime.block_on(floor.remove(&id))?;
        pace(Duration::from_millis(300));

        let pid = instance.pid.ok_or("an instance without a process")?;
        let running = runtime.block_on(floor.running())?;
        let (id, _) = running.into_iter().find(|(_, known)| *known == pid).ok_or("a process without a container")?;
        let next = successor(&id)?;
        let begin = Instant::now();
        signal(pid, nix::sys::signal::Signal::SIGKILL);
        while !runtime.block_on(floor.runs(&next))? {
            if begin.elapsed() > LIMIT {
                return Err(format!("{next} does not run").into());
            }
            pace(LOOK);
        }
        ours.push(begin.elapsed().as_secs_f64());
        pace(Duration::from_millis(300));
    }
    figures.note("restart_ms", median(ours.clone()) * 1000.0)?;
    Ok(figures.note("restart_over_create_start", median(ours) / median(bare))?)
}

/// The container of the attempt after this one: `web-3f9.1` after `web-3f9.0`.
fn successor(id: &str) -> Result<String> {
    let (instance, attempt) = id.rsplit_once('.').ok_or("a container that is not of an attempt")?;
    Ok(format!("{instance}.{}", attempt.parse::<u32>()? + 1))
}

/// Makes as many containers as `apply` will, with the bare client, and gives the seconds until all run.
async fn make_many(floor: &Floor, round: usize) -> Result<f64> {
    let ids: Vec<String> = (0..MANY).map(|index| format!("floor-{round}-{index}")).collect();
    let begin = Instant::now();
    in_flight(&ids, |id| {
        let floor = floor.clone();
        async move { floor.create_and_start(&id).await }
    })
    .await?;
    let seconds = begin.elapsed().as_secs_f64();
    in_flight(&ids, |id| {
        let floor = floor.clone();
        async move { floor.remove(&id).await }
    })
    .await?;
    Ok(seconds)
}

/// Does `work` for each id, [`IN_FLIGHT`] at a time.
async fn in_flight<F>(ids: &[String], work: impl Fn(String) -> F) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let mut running = tokio::task::JoinSet::new();
    for id in ids {
        if running.len() >= IN_FLIGHT {
            running.join_next().await.ok_or("nothing in flight")???;
        }
        running.spawn(work(id.clone()));
    }
    while let Some(done) = running.join_next().await {
        done??;
    }
    Ok(())
}

fn manifest(name: &str, image: &str, replicas: u32) -> String {
    format!(
        "name = \"bench\"\n[service.{name}]\nimage = \"{image}\"\nreplicas = {replicas}\n\
         command = [\"/bin/sleep\", \"100000\"]\n[service.{name}.resources]\ncpu = \"0.01 .. 1\"\n\
         [service.{name}.stop]\nsignal = \"SIGKILL\"\n[service.{name}.place]\nrequire = [\"node == one\"]\n"
    )
}

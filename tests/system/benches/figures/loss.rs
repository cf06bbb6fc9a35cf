//! How long it takes until a dead node is out of the balancers and replaced, and until a node is back without scheduler.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use api_types::{instance::InstanceState, view::InstanceView};
use tests_support::{
    cluster::Bed,
    figures::{Figures, median},
    wait::{pace, wait_for, wait_until},
};

use crate::{Result, floor::Floor};

/// How often a node's power is cut.
const ROUNDS: usize = 3;
/// How long requests are watched after a death that no scheduler sees.
const WATCHED: Duration = Duration::from_secs(6);
/// How long any of it may take.
const LIMIT: Duration = Duration::from_secs(120);

/// Cuts the power of a node with one of three replicas while a client asks through another node's published port.
pub(crate) fn node_loss(bed: &mut Bed, image: &str, figures: &mut Figures) -> Result<()> {
    let manifest = format!(
        "name = \"bench\"\n[service.lost]\nimage = \"{image}\"\nreplicas = 3\n\
         ports = {{ http = {{ container = 8080, publish = 8091 }} }}\n"
    );
    bed.apply(&manifest, &[])?;
    let (mut out, mut replaced) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        wait_until(LIMIT, || bed.service("lost").is_ok_and(|service| service.endpoints == 3));
        let victim =
            bed.instances("lost")?.into_iter().filter_map(|view| view.node).find(|node| node.as_str() != "one");
        let victim = victim.ok_or("all replicas on one node")?.to_string();
        let server = SocketAddr::from((bed.node("one").address(), 8091));
        let is_replaced = AtomicBool::new(false);
        let cut = Instant::now();
        bed.cut_power(&victim)?;
        let shared: &Bed = bed;
        let last_failure = std::thread::scope(|scope| -> Result<Instant> {
            let asking = scope.spawn(|| last_failure_until(&is_replaced, shared, server));
            wait_until(LIMIT, || run_without(shared, &victim) == 3);
            replaced.push(cut.elapsed().as_secs_f64());
            is_replaced.store(true, Ordering::Relaxed);
            Ok(asking.join().map_err(|_| "the client panicked")?.unwrap_or(cut))
        })?;
        out.push(last_failure.saturating_duration_since(cut).as_secs_f64());
        bed.boot(&victim)?;
        pace(Duration::from_secs(10));
    }
    figures.note("node_loss_out_s", median(out))?;
    figures.note("node_loss_replaced_s", median(replaced))?;
    bed.wherry(&["delete", "lost", "--yes"])?;
    Ok(())
}

/// The same while no scheduler runs: only the neighbours' silence tells. How long requests go to the dead node at most.
pub(crate) fn peer_death(bed: &mut Bed, image: &str, figures: &mut Figures) -> Result<()> {
    let manifest = format!(
        "name = \"bench\"\n[service.left]\nimage = \"{image}\"\nreplicas = 3\n\
         ports = {{ http = {{ container = 8080, publish = 8093 }} }}\n\
         [service.left.disconnect]\nreplace_after = \"never\"\n"
    );
    bed.apply(&manifest, &[])?;
    let server = SocketAddr::from((bed.node("one").address(), 8093));
    let mut out = Vec::new();
    for _ in 0..ROUNDS {
        wait_until(LIMIT, || bed.count_answers("visitor", server, 30).is_ok_and(|seen| seen.len() == 3));
        // Nobody is missed who was never heard.
        pace(Duration::from_secs(5));
        bed.kill_scheduler();
        let (cut, is_over) = (Instant::now(), AtomicBool::new(false));
        bed.cut_power("three")?;
        let shared: &Bed = bed;
        let last_failure = std::thread::scope(|scope| {
            let asking = scope.spawn(|| last_failure_until(&is_over, shared, server));
            pace(WATCHED);
            is_over.store(true, Ordering::Relaxed);
            asking.join().map_err(|_| "the client panicked")
        })?;
        let lasted = last_failure.unwrap_or(cut).saturating_duration_since(cut);
        if lasted > WATCHED.mul_f64(0.9) {
            return Err(
                format!("requests still went to the dead node {:.1} s after its end", lasted.as_secs_f64()).into()
            );
        }
        out.push(lasted.as_secs_f64());
        bed.start_scheduler()?;
        bed.boot("three")?;
    }
    figures.note("peer_death_out_s_without_scheduler", median(out))?;
    bed.wherry(&["delete", "left", "--yes"])?;
    Ok(())
}

/// Opens one connection after the other until `end`, and gives the beginning of the last request that failed. None may
/// take long, so that no failure hides behind the wait for an earlier one.
fn last_failure_until(end: &AtomicBool, bed: &Bed, server: SocketAddr) -> Option<Instant> {
    let mut last = None;
    while !end.load(Ordering::Relaxed) {
        let begun = Instant::now();
        if bed.get_from("visitor", server, "/", Duration::from_millis(300)).is_err() {
            last = Some(begun);
        }
        pace(Duration::from_millis(10));
    }
    last
}

/// How many replicas run on other nodes than `victim`.
fn run_without(bed: &Bed, victim: &str) -> usize {
    let elsewhere = |view: &InstanceView| {
        view.state == InstanceState::Running && view.node.as_ref().is_some_and(|node| node.as_str() != victim)
    };
    bed.instances("lost").map_or(0, |views| views.iter().filter(|view| elsewhere(view)).count())
}

/// Boots a node with ten instances while no scheduler runs, from the agent's start to the tenth running process.
pub(crate) fn cold_boot(bed: &mut Bed, image: &str, figures: &mut Figures) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let manifest = format!(
        "name = \"bench\"\n[service.cold]\nimage = \"{image}\"\nreplicas = 10\ncommand = [\"/bin/sleep\", \"100000\"]\n\
         [service.cold.resources]\ncpu = \"0.01 .. 1\"\n[service.cold.place]\nrequire = [\"node == one\"]\n"
    );
    bed.apply(&manifest, &[])?;
    bed.kill_scheduler();
    bed.cut_power("one")?;
    bed.power_on("one")?;
    let (socket, namespace) = (bed.node("one").containerd_socket(), bed.node("one").full_name().to_owned());
    let begin = Instant::now();
    bed.node_mut("one").start_agent()?;
    wait_for(LIMIT, || {
        let running = runtime.block_on(Floor::running_in(&socket, &namespace)).ok()?;
        (running.iter().filter(|(id, _)| id.starts_with("cold-")).count() == 10).then_some(())
    });
    Ok(figures.note("cold_boot_s", begin.elapsed().as_secs_f64())?)
}

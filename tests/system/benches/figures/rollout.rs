//! Requests while a service is updated, a node is drained and replicas come and go: how many were sent, how many failed.
//!
//! Clients ask through the published port of every node, half of them on connections that they keep and half with a connection
//! for each request; each has an address of its own. Beside them a hundred connections are kept all the time. A connection
//! may only end after its instance, asked to end, has announced it with an answer. `wrk` asks at every node at the same time, in
//! both ways as well, and what it says of failures counts like what our own clients say.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use api_types::view::InstanceView;
use tests_support::{
    cluster::Bed,
    figures::{Figures, number},
    load::{Connections, Load, Tally},
    wait::wait_until,
};
use tests_system::cluster::{is_healthy, until, until_healthy};

use crate::{
    Result,
    wrk::{self, Counted},
};

/// The port that is published on every node.
const PUBLISHED: u16 = 8092;
/// At least so many requests are sent by our clients, and as many by `wrk`; what is done to the service is done again until then.
const REQUESTS_MIN: u64 = 200_000;
/// The most that it is done.
const TIMES_MAX: usize = 6;
/// Clients of each kind at each node, and how long one rests between two requests.
const CLIENTS: usize = 6;
const REST: Duration = Duration::from_millis(1);
/// Connections that are kept all the time.
const LASTING: usize = 100;
const LASTING_REST: Duration = Duration::from_millis(100);
/// How long any step may take.
const LIMIT: Duration = Duration::from_secs(120);
/// How many of the failures are shown.
const SHOWN: usize = 10;

/// Updates twice, drains a node and scales, under load, until enough requests were sent.
pub(crate) fn requests(bed: &Bed, image: &str, figures: &mut Figures) -> Result<()> {
    let mut version = 0;
    apply(bed, image, version)?;
    until_healthy(bed, "rolling", 3, LIMIT)?;
    let nodes: Vec<SocketAddr> = bed.nodes().map(|node| (node.address(), PUBLISHED).into()).collect();
    wait_until(LIMIT, || {
        nodes.iter().all(|node| bed.count_answers("visitor", *node, 30).is_ok_and(|seen| seen.len() == 3))
    });
    let mut loads = Vec::new();
    for (index, node) in (0_u8..).zip(&nodes) {
        let netns = client(bed, index)?;
        for connections in [Connections::Each, Connections::Kept] {
            loads.push(Load::with(&netns, *node, (CLIENTS, connections), REST));
        }
    }
    let lasting =
        Load::with(&client(bed, u8::try_from(nodes.len())?)?, nodes[0], (LASTING, Connections::Kept), LASTING_REST);

    let mut servers = Vec::new();
    for (index, node) in (0_u8..).zip(&nodes) {
        let name = format!("wrk-{index}");
        bed.lan().attach(&name, Ipv4Addr::new(10, 77, 0, 120 + index))?;
        servers.push((name, *node));
    }

    let mut by_wrk = Counted::default();
    for _ in 0..TIMES_MAX {
        let running = wrk::start_all(bed, &servers)?;
        for _ in 0..2 {
            version += 1;
            update(bed, image, version)?;
        }
        drain(bed, "two")?;
        for replicas in [9, 3] {
            bed.wherry(&["scale", "rolling", &replicas.to_string()])?;
            until_healthy(bed, "rolling", replicas, LIMIT)?;
        }
        wrk::finish_all(running, &mut by_wrk)?;
        if loads.iter().map(Load::ended).sum::<u64>().min(by_wrk.answered) >= REQUESTS_MIN {
            break;
        }
    }
    let tallies: Vec<Tally> = loads.into_iter().map(Load::finish).collect::<std::io::Result<_>>()?;
    let lasting = lasting.finish()?;
    bed.wherry(&["delete", "rolling", "--yes"])?;

    let failed = u64::try_from(tallies.iter().map(|tally| tally.failures.len()).sum::<usize>())? + by_wrk.failed;
    let answered = tallies.iter().map(|tally| u64::from(tally.answered())).sum::<u64>() + by_wrk.answered;
    figures.note("requests_sent_rollout", number(answered + failed))?;
    figures.note("requests_failed_rollout", number(failed))?;
    figures.note("wrk_requests_rollout", number(by_wrk.answered))?;
    figures.note("wrk_failed_rollout", number(by_wrk.failed))?;
    figures.note("lasting_requests_rollout", f64::from(lasting.answered()))?;
    figures.note("lasting_connections_broken_rollout", number(u64::try_from(lasting.failures.len())?))?;
    show(tallies.iter().chain([&lasting]));
    Ok(())
}

/// A namespace with an address of its own.
fn client(bed: &Bed, index: u8) -> Result<std::path::PathBuf> {
    let name = format!("client-{index}");
    bed.lan().attach(&name, Ipv4Addr::new(10, 77, 0, 110 + index))?;
    Ok(bed.netns(&name))
}

fn apply(bed: &Bed, image: &str, version: u32) -> Result<()> {
    let manifest = format!(
        "name = \"bench\"\n[service.rolling]\nimage = \"{image}\"\nreplicas = 3\ndrain = \"2s\"\n\
         env = {{ LAME_DUCK_MS = \"1500\", VERSION = \"{version}\" }}\n\
         ports = {{ http = {{ container = 8080, publish = {PUBLISHED} }} }}\n\
         health = {{ http = \"http/health\", interval = \"20s\", timeout = \"20s\" }}\n"
    );
    let answer = bed.apply(&manifest, &["--detach"])?;
    if answer.code == Some(0) { Ok(()) } else { Err(format!("apply failed: {}", answer.stderr).into()) }
}

/// Applies another version and waits until none of the earlier one is left.
fn update(bed: &Bed, image: &str, version: u32) -> Result<()> {
    let before = bed.instances("rolling")?;
    apply(bed, image, version)?;
    let is_other = |view: &InstanceView| before.iter().all(|old| old.name != view.name);
    until(bed, "rolling", LIMIT, |views| {
        views.len() == 3 && views.iter().all(|view| is_healthy(view) && is_other(view))
    })?;
    Ok(())
}

/// Drains a node and gives it back.
fn drain(bed: &Bed, node: &str) -> Result<()> {
    bed.wherry(&["drain", node])?;
    let is_elsewhere = |view: &InstanceView| view.node.as_ref().is_some_and(|at| at.as_str() != node);
    until(bed, "rolling", LIMIT, |views| {
        views.len() == 3 && views.iter().all(|view| is_healthy(view) && is_elsewhere(view))
    })?;
    bed.wherry(&["uncordon", node])?;
    Ok(())
}

#[expect(clippy::print_stdout, reason = "what failed is what one runs this for")]
fn show<'t>(tallies: impl Iterator<Item = &'t Tally>) {
    for (begin, error) in tallies.flat_map(|tally| &tally.failures).take(SHOWN) {
        println!("failed: {error}, begun {:.1} s before the end", begin.elapsed().as_secs_f64());
    }
}

//! Looking at a cluster from outside, until it is as wanted.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use api_types::{
    instance::{Health, InstanceState},
    node::Liveness,
    view::InstanceView,
};
use tests_support::{cluster::Bed, wait::try_wait_for};

/// Waits until exactly `count` instances of `workload` run and are healthy, and gives them with the time it took.
///
/// # Errors
/// If that does not happen within `limit`, with what is there instead.
pub fn until_healthy(
    bed: &Bed,
    workload: &str,
    count: usize,
    limit: Duration,
) -> io::Result<(Vec<InstanceView>, Duration)> {
    until(bed, workload, limit, |instances| instances.len() == count && instances.iter().all(is_healthy))
}

/// Waits until the instances of `workload` that are not over are as `wanted`, and gives them with the time it took.
///
/// # Errors
/// If that does not happen within `limit`, with what is there instead.
pub fn until(
    bed: &Bed,
    workload: &str,
    limit: Duration,
    wanted: impl Fn(&[InstanceView]) -> bool,
) -> io::Result<(Vec<InstanceView>, Duration)> {
    let begin = Instant::now();
    let found = try_wait_for(limit, || bed.instances(workload).ok().filter(|instances| wanted(instances)));
    match found {
        Some(instances) => Ok((instances, begin.elapsed())),
        None => Err(io::Error::other(format!("{workload} is not as wanted after {limit:?}:\n{}", state(bed)))),
    }
}

/// Waits until the node `name` is `wanted`, and gives the time it took.
///
/// # Errors
/// If that does not happen within `limit`, with what is there instead.
pub fn until_node(bed: &Bed, name: &str, wanted: Liveness, limit: Duration) -> io::Result<Duration> {
    let begin = Instant::now();
    let is_so = || {
        let views = bed.node_views().ok()?;
        views.iter().any(|view| view.name.as_str() == name && view.liveness == wanted).then_some(())
    };
    match try_wait_for(limit, is_so) {
        Some(()) => Ok(begin.elapsed()),
        None => Err(io::Error::other(format!("{name} is not {wanted:?} after {limit:?}:\n{}", state(bed)))),
    }
}

/// Whether an instance runs and its probes say that it answers.
#[must_use]
pub fn is_healthy(instance: &InstanceView) -> bool {
    instance.state == InstanceState::Running && instance.health == Health::Healthy && instance.pid.is_some()
}

/// The process ids by instance.
#[must_use]
pub fn pids(instances: &[InstanceView]) -> BTreeMap<String, u32> {
    instances.iter().filter_map(|instance| Some((instance.name.clone(), instance.pid?))).collect()
}

/// The nodes that instances are on.
#[must_use]
pub fn nodes(instances: &[InstanceView]) -> BTreeSet<String> {
    instances.iter().filter_map(|instance| Some(instance.node.as_ref()?.to_string())).collect()
}

/// Where the published port `port` of the node `name` answers.
#[must_use]
pub fn published(bed: &Bed, name: &str, port: u16) -> SocketAddr {
    (bed.node(name).address(), port).into()
}

/// The virtual address of the service `name`.
///
/// # Errors
/// If it has none, or the scheduler does not answer.
pub fn virtual_address(bed: &Bed, name: &str) -> io::Result<Ipv4Addr> {
    bed.service(name)?.address.ok_or_else(|| io::Error::other(format!("{name} has no virtual address")))
}

/// What a person would look at when something is not as wanted.
#[must_use]
pub fn state(bed: &Bed) -> String {
    let mut text = String::new();
    for arguments in [["get", "nodes"], ["get", "services"], ["get", "instances"], ["get", "events"]] {
        match bed.wherry(&arguments) {
            Ok(answer) => {
                text.push_str(&format!("$ wherry {}\n{}{}\n", arguments.join(" "), answer.stdout, answer.stderr))
            }
            Err(error) => text.push_str(&format!("$ wherry {}\n{error}\n", arguments.join(" "))),
        }
    }
    let mut tail = |name: &str, log: &str| {
        let lines: Vec<&str> = log.lines().collect();
        text.push_str(&format!(
            "-- the end of what {name} said\n{}\n",
            lines[lines.len().saturating_sub(25)..].join("\n")
        ));
    };
    tail("the scheduler", &bed.scheduler_log());
    for node in bed.nodes() {
        tail(node.name(), &node.agent_log());
        tail(&format!("containerd of {}", node.name()), &node.containerd_log());
    }
    text
}

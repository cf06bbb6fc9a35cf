//! `wherry describe`: one thing with its instances and history.

use api_client::Client;
use api_types::{
    companion::CompanionRole,
    container::NetworkMode,
    disconnect::DisconnectPolicy,
    instance::Findings,
    job::JobSpec,
    probe::ProbeFinding,
    schedule::ScheduleSpec,
    time::Timestamp,
    view::{Description, Event, InstanceView, NodeView, WorkloadView},
    workload::{WorkloadKind, WorkloadSpec},
};
use clap::{Args, ValueEnum};

use crate::{
    commands::{Session, counted, name, rollout},
    failure::Failure,
    output::{
        amounts::{age, bytes, cpus, now, seconds},
        clean,
        columns::{Listed, exit, health, labels, node_state, ports, state},
        jobs, scale,
        table::{facts, indented, table},
    },
};

#[derive(Debug, Args)]
pub(crate) struct Describe {
    /// What kind of thing
    #[arg(value_enum)]
    kind: Kind,
    /// Which
    name: String,
    /// How to show it
    #[arg(short, long, value_parser = ["text", "json"], default_value = "text")]
    output: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    Node,
    #[value(alias = "workload")]
    Service,
    Daemon,
    Job,
    Instance,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Describe) -> Result<(), Failure> {
    let description = fetch(&session.client()?, arguments).await?;
    if arguments.output == "json" {
        session.screen.data(&format!("{:#}\n", serde_json::json!(description)));
    } else {
        session.screen.data(&text(&description, now()));
    }
    Ok(())
}

async fn fetch(client: &Client, arguments: &Describe) -> Result<Description, Failure> {
    let wrong = Failure::Usage;
    Ok(match arguments.kind {
        Kind::Node => client.describe_node(&name(&arguments.name).map_err(wrong)?).await?,
        Kind::Service | Kind::Daemon | Kind::Job => {
            client.describe_workload(&name(&arguments.name).map_err(wrong)?).await?
        }
        Kind::Instance => client.describe_instance(&name(&arguments.name).map_err(wrong)?).await?,
    })
}

fn text(description: &Description, now: Timestamp) -> String {
    let mut text = String::new();
    text += &description.node.as_ref().map(|view| node(view, now)).unwrap_or_default();
    text += &description.workload.as_ref().map(|view| workload(view, now)).unwrap_or_default();
    match description.instances.as_slice() {
        [one] if description.node.is_none() && description.workload.is_none() => text += &instance(one, now),
        [] => {}
        instances => {
            let rows: Vec<Vec<String>> = instances.iter().map(|instance| instance.row(false, now)).collect();
            text += &format!("\nInstances\n{}", indented(&table(&InstanceView::headers(false), &rows)));
        }
    }
    if !description.events.is_empty() {
        let rows: Vec<Vec<String>> = description.events.iter().map(|event| event.row(false, now)).collect();
        text += &format!("\nEvents\n{}", indented(&table(&Event::headers(false), &rows)));
    }
    text
}

fn node(node: &NodeView, now: Timestamp) -> String {
    let facts_of = &node.facts;
    let mut text = facts(&[
        ("node", node.name.to_string()),
        ("site", node.site.clone()),
        ("labels", labels(node)),
        ("state", node_state(node)),
        ("last seen", node.last_seen.map(|seen| format!("{} ago", age(seen, now))).unwrap_or_default()),
        ("joined", format!("{} ago", age(node.joined_at, now))),
        ("address", facts_of.address.map(|address| address.to_string()).unwrap_or_default()),
        ("subnet", node.subnet.to_string()),
        ("system", format!("{}/{}, kernel {}", facts_of.os, facts_of.arch, facts_of.kernel)),
        ("cgroups", format!("version {}", facts_of.cgroup_version)),
        ("containerd", facts_of.runtime_version.clone()),
        ("agent", facts_of.agent_version.clone()),
        ("capacity", amounts(facts_of.capacity.cpu_millis, facts_of.capacity.memory_bytes)),
        ("allocatable", amounts(node.allocatable.cpu_millis, node.allocatable.memory_bytes)),
        ("allocated", amounts(node.allocated.cpu_millis, node.allocated.memory_bytes)),
        ("used", amounts(node.usage.cpu_millis, node.usage.memory_bytes)),
        ("disk free", bytes(node.usage.disk_free_bytes)),
    ]);
    text += "\nConditions\n";
    let row = |condition: &api_types::node::Condition| {
        let verdict = if condition.ok { "ok" } else { "NOT OK" };
        vec![condition.name.clone(), verdict.to_owned(), condition.reason.clone()]
    };
    let rows: Vec<Vec<String>> = node.conditions.iter().map(row).collect();
    text + &indented(&table(&["NAME", "STATE", "REASON"], &rows))
}

fn amounts(cpu_millis: u64, memory_bytes: u64) -> String {
    format!("{} CPU, {}", cpus(cpu_millis), bytes(memory_bytes))
}

/// What is done about the silence of a node.
fn replaced(policy: &DisconnectPolicy) -> String {
    let after = |ms: u64| format!("after {} of silence", seconds(ms / 1000));
    let replaced = policy.replace_after_ms.map_or_else(|| "never".to_owned(), after);
    let stopped = policy.stop_after_ms.map(|ms| format!(", ended by its node after {}", seconds(ms / 1000)));
    let kept = policy.on_return.map(|kept| format!(", {} on return", kept.as_str()));
    [Some(replaced), stopped, kept].into_iter().flatten().collect()
}

fn workload(view: &WorkloadView, now: Timestamp) -> String {
    let spec = &view.spec;
    let (container, resources, reserve) = (&spec.container, &spec.resources, spec.reserve());
    let kind = match spec.kind {
        WorkloadKind::Service { .. } => format!("service, {} wanted", view.wanted),
        WorkloadKind::Daemon => "daemon, one on each matching node".to_owned(),
        WorkloadKind::Job(job) => in_words(job),
    };
    let limit =
        resources.cpu_millis_max.map_or_else(|| "no CPU limit".to_owned(), |limit| format!("{} CPU", cpus(limit)));
    let constraints: Vec<String> = spec.placement.constraints.iter().map(ToString::to_string).collect();
    let [bounds, load, scale_reason] = scale::facts(view, now);
    facts(&[
        ("workload", view.name.to_string()),
        ("kind", kind),
        ("schedule", schedule(spec)),
        ("next run", jobs::next(view, now)),
        ("followed", jobs::follower(view)),
        ("revision", format!("{}, applied {} ago", view.revision, age(view.applied_at, now))),
        ("ready", if view.job.is_some() { String::new() } else { format!("{} of {}", view.ready, view.wanted) }),
        ("running", view.running.to_string()),
        ("pending", if view.pending > 0 { view.pending.to_string() } else { String::new() }),
        ("reason", view.reason.clone()),
        bounds,
        load,
        scale_reason,
        ("rollout", rollout::in_one_line(view.rollout.as_ref())),
        ("image", view.image.clone()),
        ("command", container.command.as_deref().map(words).unwrap_or_default()),
        ("args", container.args.as_deref().map(words).unwrap_or_default()),
        ("env", container.env.keys().cloned().collect::<Vec<_>>().join(", ")),
        ("init steps", companions(spec, CompanionRole::Init)),
        ("sidecars", companions(spec, CompanionRole::Sidecar)),
        ("network", network(container.network).to_owned()),
        ("address", view.address.map(|address| address.to_string()).unwrap_or_default()),
        ("ports", ports(view)),
        ("endpoints", if view.ports.is_empty() { String::new() } else { view.endpoints.to_string() }),
        ("reserve", amounts(reserve.cpu_millis, reserve.memory_bytes)),
        ("limit", format!("{limit}, {}, {} processes", bytes(resources.memory_bytes_max), resources.pids_max)),
        ("require", constraints.join(", ")),
        ("replaced", replaced(&spec.disconnect)),
    ]) + &view.job.as_ref().map(|job| format!("\nRuns\n{}", indented(&jobs::runs(&job.runs, now)))).unwrap_or_default()
}

/// What a job does, in one line.
fn in_words(job: JobSpec) -> String {
    let JobSpec { completions, parallelism, retries, deadline_ms, keep: _ } = job;
    let tries = if retries == 0 { "one try".to_owned() } else { format!("{} tries", retries + 1) };
    let deadline = deadline_ms.map(|ms| format!(", within {}", seconds(ms / 1000))).unwrap_or_default();
    format!(
        "job, {} wanted, {parallelism} at once, {tries} each{deadline}",
        counted(completions as usize, "completion")
    )
}

/// When a job runs by itself, in one line.
fn schedule(spec: &WorkloadSpec) -> String {
    let Some(ScheduleSpec { cron, time_zone, catch_up_ms, overlap, suspend: _ }) = &spec.schedule else {
        return String::new();
    };
    let catch_up = catch_up_ms.map(|ms| format!(", caught up within {}", seconds(ms / 1000))).unwrap_or_default();
    format!("{cron} of {time_zone}, overlap {}{catch_up}", overlap.as_str())
}

/// The containers beside the main one, each with its image.
fn companions(spec: &WorkloadSpec, role: CompanionRole) -> String {
    let of_role = spec.companions.iter().filter(|companion| companion.role == role);
    of_role
        .map(|companion| format!("{} ({})", companion.name, companion.container.image))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Whose network its instances are in, where that is not their own, which all may ask.
fn network(mode: NetworkMode) -> &'static str {
    match mode {
        NetworkMode::Own => "",
        NetworkMode::Published => "published: only ports of the nodes lead in",
        NetworkMode::Host => "host: the node's own",
    }
}

fn words(words: &[String]) -> String {
    serde_json::json!(words).to_string()
}

fn instance(instance: &InstanceView, now: Timestamp) -> String {
    facts(&[
        ("instance", instance.name.clone()),
        ("workload", format!("{}, slot {}, revision {}", instance.workload, instance.slot, instance.revision)),
        ("node", instance.node.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("state", format!("{} for {}", state(instance), age(instance.since, now))),
        ("health", health(instance.health).to_owned()),
        ("reason", instance.reason.clone()),
        ("restarts", instance.restarts.to_string()),
        ("last exit", instance.last_exit.as_ref().map(exit).unwrap_or_default()),
        (
            "restarts used up",
            if instance.findings.used_up { "yes, another node with room shall try" } else { "" }.to_owned(),
        ),
        ("address", instance.address.map(|address| address.to_string()).unwrap_or_default()),
        ("pid", instance.pid.map(|pid| pid.to_string()).unwrap_or_default()),
        ("used", amounts(instance.usage.cpu_millis, instance.usage.memory_bytes)),
        ("reserve", amounts(instance.reserve.cpu_millis, instance.reserve.memory_bytes)),
    ]) + &findings(&instance.findings)
}

/// What its probes heard last, where that was not always well, and what its process wrote before it last ended.
fn findings(findings: &Findings) -> String {
    let mut text = String::new();
    if !findings.probes.is_empty() {
        let row = |probe: &ProbeFinding| {
            vec![probe.kind.as_str().to_owned(), health(probe.health).to_owned(), probe.output.clone()]
        };
        let rows: Vec<Vec<String>> = findings.probes.iter().map(row).collect();
        text += &format!("\nProbes\n{}", indented(&table(&["PROBE", "VERDICT", "HEARD"], &rows)));
    }
    if !findings.last_lines.is_empty() {
        text += &format!("\nLast lines of the process that ended\n{}", indented(&clean(&findings.last_lines)));
    }
    text
}

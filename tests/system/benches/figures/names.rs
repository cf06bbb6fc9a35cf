//! Names answered each second by an agent that has one processor, beside dnsmasq with the same names on the same one.

use std::{fs, net::Ipv4Addr, path::Path, process::Command, time::Duration};

use tests_support::{
    cluster::Bed,
    figures::{Figures, median, number},
    program::{Program, within},
    wait::{try_wait_for, wait_until},
};

use crate::{Result, footprint, process};

/// How often each is asked, in turn, and for how many seconds.
const ROUNDS: usize = 3;
const SECONDS: &str = "3";
/// The port of the peer, beside the agent's.
const PEER_PORT: u16 = 5353;
/// Who answers has the first processor, who asks the second.
const ANSWERING: &str = "0";
const ASKING: &str = "1";
const LIMIT: Duration = Duration::from_secs(60);

/// What one run of questions gave.
struct Run {
    per_second: f64,
    cpu_us_per_query: f64,
}

/// Asks for a service, a node and a name that does not exist, from the node itself.
pub(crate) fn queries(bed: &Bed, image: &str, figures: &mut Figures) -> Result<()> {
    let applied = bed.apply(
        &format!(
            "name = \"bench\"\n[service.named]\nimage = \"{image}\"\nports = {{ http = {{ container = 8080 }} }}\n"
        ),
        &[],
    )?;
    if applied.code != Some(0) {
        return Err(format!("apply failed: {}", applied.stderr).into());
    }
    wait_until(LIMIT, || bed.service("named").is_ok_and(|service| service.endpoints == 1));
    let virtual_address = bed.service("named")?.address.ok_or("no virtual address")?;
    let view = bed.node_views()?.into_iter().find(|view| view.name.as_str() == "one").ok_or("no node")?;
    let server = view.subnet.nth(1).ok_or("a node's range has a first address")?;
    let questions = bed.folder().join("questions");
    fs::write(
        &questions,
        "named.default.wherry.internal A\none.node.wherry.internal A\nnobody.default.wherry.internal A\n",
    )?;
    let (netns, agent) = (bed.netns("one"), footprint::agent(bed, "one")?);
    let mut peer = start_peer(bed, server, virtual_address)?;
    for process in [agent, peer.pid()] {
        let set = Command::new("taskset").args(["-a", "-c", "-p", ANSWERING, &process.to_string()]).output()?;
        if !set.status.success() {
            return Err(format!("taskset: {}", String::from_utf8_lossy(&set.stderr)).into());
        }
    }
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(ask(&netns, (server, 53), &questions, agent)?);
        theirs.push(ask(&netns, (server, PEER_PORT), &questions, peer.pid())?);
    }
    peer.kill();
    // Whoever is measured after this has all processors again.
    let all = format!("0-{}", std::thread::available_parallelism()?.get().saturating_sub(1));
    Command::new("taskset").args(["-a", "-c", "-p", &all, &agent.to_string()]).output()?;
    bed.wherry(&["delete", "named", "--yes"])?;
    let of = |runs: &[Run], value: fn(&Run) -> f64| median(runs.iter().map(value).collect());
    let ratio = ours.iter().zip(&theirs).map(|(our, their)| our.per_second / their.per_second).collect();
    figures.note("dns_qps_one_core", of(&ours, |run| run.per_second))?;
    figures.note("dns_cpu_us_per_query", of(&ours, |run| run.cpu_us_per_query))?;
    figures.note("dnsmasq_qps_one_core", of(&theirs, |run| run.per_second))?;
    figures.note("dnsmasq_cpu_us_per_query", of(&theirs, |run| run.cpu_us_per_query))?;
    Ok(figures.note("dns_qps_over_dnsmasq", median(ratio))?)
}

/// The same names in the peer's own table.
fn start_peer(bed: &Bed, server: Ipv4Addr, service: Ipv4Addr) -> Result<Program> {
    let node = bed.node("one").address();
    let command = [
        "dnsmasq".to_owned(),
        "--keep-in-foreground".to_owned(),
        "--conf-file=/dev/null".to_owned(),
        "--no-resolv".to_owned(),
        "--no-hosts".to_owned(),
        "--bind-interfaces".to_owned(),
        "--user=root".to_owned(),
        format!("--listen-address={server}"),
        format!("--port={PEER_PORT}"),
        "--local=/wherry.internal/".to_owned(),
        format!("--host-record=named.default.wherry.internal,{service}"),
        format!("--host-record=one.node.wherry.internal,{node}"),
    ];
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    let netns = bed.netns("one");
    let mut peer = Program::start(Some(&netns), &command, &bed.folder().join("dnsmasq.log"))?;
    let listens = || {
        within(Some(&netns), &["ss", "-Hlun"])
            .output()
            .is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(&format!("{server}:{PEER_PORT}")))
    };
    if try_wait_for(LIMIT, || (!peer.runs() || listens()).then_some(())).is_none() || !peer.runs() {
        return Err(format!("dnsmasq does not listen: {}", peer.log()).into());
    }
    Ok(peer)
}

/// As many questions as are answered, for some seconds. Every one must be.
fn ask(netns: &Path, (server, port): (Ipv4Addr, u16), questions: &Path, answering: u32) -> Result<Run> {
    let before = process::cpu_nanoseconds(answering)?;
    let output = within(Some(netns), &["taskset", "-c", ASKING, "dnsperf", "-l", SECONDS, "-s", &server.to_string()])
        .args(["-p", &port.to_string(), "-d"])
        .arg(questions)
        .output()?;
    let cpu = process::cpu_nanoseconds(answering)? - before;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let field = |name: &str| {
        let rest = text.lines().find_map(|line| line.trim().strip_prefix(name))?;
        rest.split_whitespace().next()?.parse::<f64>().ok()
    };
    let (Some(per_second), Some(completed), Some(sent)) =
        (field("Queries per second:"), field("Queries completed:"), field("Queries sent:"))
    else {
        return Err(format!("dnsperf: {text}{}", String::from_utf8_lossy(&output.stderr)).into());
    };
    if completed < sent {
        return Err(format!("{completed} of {sent} questions were answered by {server}:{port}").into());
    }
    Ok(Run { per_second, cpu_us_per_query: number(cpu) / 1e3 / completed })
}

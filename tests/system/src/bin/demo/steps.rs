//! What the demo shows, step by step; each step fails when it does not see what it says.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal as _},
    net::SocketAddr,
    time::{Duration, Instant},
};

use api_types::{instance::InstanceState, node::Liveness, view::InstanceView};
use nix::sys::signal::Signal;
use tests_support::{
    cluster::{Answer, Bed},
    load::Load,
    program,
    wait::try_wait_for,
};
use tests_system::{
    cluster::{nodes, pids, published, state, until, until_healthy, until_node, virtual_address},
    shop,
};

use crate::ground;

/// The nodes.
const NODES: [&str; 3] = ["edge-1", "edge-2", "edge-3"];
/// The node whose power is cut.
const VICTIM: &str = "edge-3";
/// How long anything may take on a slow machine.
const LIMIT: Duration = Duration::from_secs(120);
/// Requests sent to each address.
const REQUESTS: u32 = 300;

/// Makes the cluster and shows it at work.
pub(crate) fn up() -> io::Result<()> {
    let begin = Instant::now();
    let folder = ground::folder()?;
    let machine = ground::machine();
    title("A scheduler, a registry and three nodes");
    let mut bed = Bed::new(ground::NAME, &folder)?;
    // From here on the cluster stays, also when a step fails: there is something to look at then.
    bed.keep();
    ground::note_the_machine(&folder, &machine)?;
    let image = bed.registry().push(&shop::image()?, "demo/hello", "1")?;
    println!("pushed {image}");
    for name in NODES {
        bed.add_node(name)?;
        println!("{name} joined: containerd and agent of its own, address {}", bed.node(name).address());
    }
    for name in NODES {
        until_node(&bed, name, Liveness::Ready, LIMIT)?;
    }
    println!("all of it ready after {}", seconds(begin.elapsed()));

    let instances = place(&bed, &image)?;
    balance(&bed, &instances)?;
    let instances = kill_a_process(&bed, &instances)?;
    let instances = cut_the_power(&mut bed, &instances)?;
    return_of_the_node(&mut bed, &instances)?;
    title(&format!("Done in {}", seconds(begin.elapsed())));
    how_to_go_on(&bed)
}

fn place(bed: &Bed, image: &str) -> io::Result<Vec<InstanceView>> {
    title("wherry apply: three replicas with a published port");
    let manifest = shop::manifest(image, 3);
    println!("{}", indented(&manifest));
    let begin = Instant::now();
    let answer = bed.apply(&manifest, &[])?;
    print!("{}{}", answer.stdout, answer.stderr);
    succeeded(bed, &answer)?;
    let (instances, _) = until_healthy(bed, "web", 3, LIMIT)?;
    println!("three healthy replicas, image pulls included, after {}", seconds(begin.elapsed()));
    shown(bed, &["get", "nodes"])?;
    shown(bed, &["get", "instances"])?;
    check(bed, nodes(&instances).len() == 3, "the replicas are not on three distinct nodes")?;
    Ok(instances)
}

fn balance(bed: &Bed, instances: &[InstanceView]) -> io::Result<()> {
    title(&format!("{REQUESTS} requests through each node's published port, and through the virtual address"));
    for name in NODES {
        let server = published(bed, name, shop::PUBLISHED);
        counted(bed, instances, "visitor", server, &format!("{name}, published port"))?;
    }
    let server: SocketAddr = (virtual_address(bed, "web")?, shop::SERVICE).into();
    for name in NODES {
        counted(bed, instances, name, server, &format!("virtual address, from {name}"))?;
    }
    Ok(())
}

fn counted(bed: &Bed, instances: &[InstanceView], from: &str, server: SocketAddr, what: &str) -> io::Result<()> {
    // A new table reaches the nodes a moment after the instances are healthy.
    let all_answer = || bed.count_answers(from, server, 12).ok().filter(|seen| seen.len() == instances.len());
    let _or_the_count_tells = try_wait_for(Duration::from_secs(20), all_answer);
    let answers = bed.count_answers(from, server, REQUESTS)?;
    println!("{what:<30} {server:<18} {}", spread(&answers));
    let whole = answers.len() == instances.len() && !answers.contains_key("");
    check(bed, whole, &format!("{what}: {} replicas, but answers {answers:?}", instances.len()))
}

fn kill_a_process(bed: &Bed, before: &[InstanceView]) -> io::Result<Vec<InstanceView>> {
    title("A process dies: kill -9");
    let victim = before.first().ok_or_else(|| io::Error::other("no instance"))?;
    let pid = victim.pid.ok_or_else(|| io::Error::other("no process id"))?;
    println!("kill -9 {pid}, the process of {} on {}", victim.name, node_of(victim));
    program::signal(pid, Signal::SIGKILL);
    let (after, took) = until(bed, "web", LIMIT, |instances| {
        let again = |view: &InstanceView| view.name == victim.name && view.pid.is_some_and(|other| other != pid);
        instances.len() == 3 && instances.iter().any(|view| again(view) && view.state == InstanceState::Running)
    })?;
    println!("the agent started it again under the same name; seen from outside after {}", seconds(took));
    let (after, _) = (until_healthy(bed, "web", 3, LIMIT)?.0, after);
    shown(bed, &["get", "instances"])?;
    Ok(after)
}

fn cut_the_power(bed: &mut Bed, before: &[InstanceView]) -> io::Result<Vec<InstanceView>> {
    title(&format!("The power of {VICTIM} is cut, with traffic going on"));
    let survivor = published(bed, "edge-1", shop::PUBLISHED);
    let load = Load::start(&bed.netns("visitor"), survivor, 4);
    let lost: Vec<String> =
        before.iter().filter(|view| node_of(view) == VICTIM).map(|view| view.name.clone()).collect();
    let cut = Instant::now();
    bed.cut_power(VICTIM)?;
    println!("every process of {VICTIM} killed at once, its link dead first: it could not say goodbye");
    let out = try_wait_for(LIMIT, || bed.service("web").ok().filter(|web| web.endpoints == 2).map(|_| cut.elapsed()));
    let out = out.ok_or_else(|| io::Error::other(format!("its endpoint stays\n{}", state(bed))))?;
    println!("{:>8}  its endpoint is out of every balancer's table", seconds(out));
    until_node(bed, VICTIM, Liveness::Lost, LIMIT)?;
    println!("{:>8}  it is given up", seconds(cut.elapsed()));
    let replaced = |instances: &[InstanceView]| {
        let elsewhere = instances.iter().all(|view| node_of(view) != VICTIM && !lost.contains(&view.name));
        instances.len() == 3 && elsewhere && instances.iter().all(tests_system::cluster::is_healthy)
    };
    let (after, _) = until(bed, "web", LIMIT, replaced)?;
    println!("{:>8}  its replica runs elsewhere", seconds(cut.elapsed()));
    let tally = load.finish()?;
    let last = tally.failures.last().map_or(Duration::ZERO, |(at, _)| at.saturating_duration_since(cut));
    println!(
        "traffic through edge-1 meanwhile: {} answered, {} failed, the last of these begun {} after the cut",
        tally.answered(),
        tally.failures.len(),
        seconds(last)
    );
    shown(bed, &["get", "nodes"])?;
    shown(bed, &["get", "instances"])?;
    Ok(after)
}

fn return_of_the_node(bed: &mut Bed, before: &[InstanceView]) -> io::Result<()> {
    title(&format!("{VICTIM} has power again"));
    let begin = Instant::now();
    bed.boot(VICTIM)?;
    until_node(bed, VICTIM, Liveness::Ready, LIMIT)?;
    println!("{:>8}  it is ready", seconds(begin.elapsed()));
    let empty = try_wait_for(LIMIT, || {
        let listed = bed.node(VICTIM).ctr(&["containers", "list", "--quiet"]).ok()?;
        (listed.status.success() && listed.stdout.iter().all(u8::is_ascii_whitespace)).then_some(())
    });
    check(bed, empty.is_some(), "the replaced replica is still there")?;
    println!("{:>8}  what had been replaced elsewhere is cleared away on it", seconds(begin.elapsed()));
    let (after, _) = until_healthy(bed, "web", 3, LIMIT)?;
    shown(bed, &["get", "nodes"])?;
    shown(bed, &["get", "instances"])?;
    check(bed, pids(before) == pids(&after), "an instance was moved or restarted by the node's return")?;
    println!("the same three processes as before its return: {:?}", pids(&after).values().collect::<Vec<_>>());
    Ok(())
}

fn how_to_go_on(bed: &Bed) -> io::Result<()> {
    let programs = program::folder()?;
    let enter = format!("nsenter --net={}", bed.netns("visitor").display());
    let context = tests_support::settings::context(bed.folder());
    println!("The cluster goes on running. To use it:\n");
    println!("  alias wherry='{enter} env WHERRY_CONFIG={} {}/wherry'", context.display(), programs.display());
    println!("  wherry get instances");
    println!("  wherry describe service web");
    println!("  wherry scale web 5");
    println!("  wherry logs web");
    println!("  {enter} curl http://{}/", published(bed, "edge-1", shop::PUBLISHED));
    println!(
        "  ctr --address {} --namespace {}.edge-1 tasks list",
        bed.node("edge-1").containerd_socket().display(),
        ground::NAME
    );
    println!("\nIts files and logs are in {}. To take it away:\n\n  make clean-demo", bed.folder().display());
    Ok(())
}

fn shown(bed: &Bed, arguments: &[&str]) -> io::Result<()> {
    let answer = bed.wherry(arguments)?;
    println!("\n$ wherry {}\n{}", arguments.join(" "), answer.stdout);
    succeeded(bed, &answer)
}

fn succeeded(bed: &Bed, answer: &Answer) -> io::Result<()> {
    check(bed, answer.code == Some(0), &format!("wherry ended with {:?}: {}", answer.code, answer.stderr))
}

fn check(bed: &Bed, holds: bool, otherwise: &str) -> io::Result<()> {
    if holds { Ok(()) } else { Err(io::Error::other(format!("{otherwise}\n{}", state(bed)))) }
}

fn node_of(view: &InstanceView) -> &str {
    view.node.as_ref().map_or("", |node| node.as_str())
}

fn spread(answers: &BTreeMap<String, u32>) -> String {
    let counts: Vec<String> = answers
        .iter()
        .map(|(name, count)| format!("{} {count}", if name.is_empty() { "FAILED" } else { name }))
        .collect();
    counts.join("   ")
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

fn title(text: &str) {
    let (bold, plain) = if io::stdout().is_terminal() { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
    println!("\n{bold}== {text}{plain}");
}

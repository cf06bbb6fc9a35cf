//! Reaching into instances through the agents' own connections: commands, connections, files.

use std::{
    error::Error,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::SocketAddr,
    process::{Child, Stdio},
    time::Duration,
};

use api_types::{node::Liveness, view::InstanceView};
use nix::sys::signal::Signal;
use tests_support::{http, netns, program};
use tests_system::{cluster::until_node, shop};

use crate::stage::{LIMIT, Outcome, Stage};

/// What a command writes to somebody who does not read.
const FLOOD_BYTES: u64 = 256 << 20;
/// What an agent may grow by meanwhile, in KiB.
const GROWTH_KIB_MAX: u64 = 64 << 10;

pub(crate) fn commands_run_in_an_instance(stage: &mut Stage) -> Outcome {
    let web = one(stage)?;
    let exec = |command: &[&str]| stage.bed.wherry(&[&["exec", &web.name, "--"], command].concat());

    let plain = exec(&["sh", "-c", "echo out; echo err >&2; exit 3"])?;
    let seen = (plain.code, plain.stdout.as_str(), plain.stderr.as_str());
    stage.must(seen == (Some(3), "out\n", "err\n"), || format!("{seen:?}"))?;
    let mut fed = spawn(stage, &["exec", "-i", &web.name, "--", "dd", "bs=4096"], Stdio::piped())?;
    let (mut stdin, sent) = (fed.stdin.take().ok_or("an input")?, vec![7; 1 << 20]);
    let sending = sent.clone();
    let feeding = std::thread::spawn(move || stdin.write_all(&sending));
    let fed = fed.wait_with_output()?;
    stage.must(fed.stdout == sent, || format!("{} bytes came back, {:?}", fed.stdout.len(), fed.status))?;
    feeding.join().map_err(|_| "feeding panicked")??;
    for (command, code, word) in [("nope", 127, "was not found"), ("/etc/hosts", 126, "may not be executed")] {
        let refused = exec(&[command])?;
        let fits = refused.code == Some(code) && refused.stderr.contains(word);
        stage.must(fits, || format!("{command}: {:?} {}", refused.code, refused.stderr))?;
    }
    let nobody = stage.bed.wherry(&["exec", "nobody", "--", "ls"])?;
    stage.must(nobody.code == Some(1) && nobody.stderr.contains("get instances"), || nobody.stderr.clone())?;
    let log = stage.bed.scheduler_log();
    let told = log.lines().any(|line| line.contains("reached into a node") && line.contains("exit 3"));
    stage.must(told, || "the scheduler's log does not say who ran what".to_owned())
}

pub(crate) fn who_does_not_read_stalls_the_command(stage: &mut Stage) -> Outcome {
    let web = one(stage)?;
    let agent = agent_of(stage, &web)?;
    let before = peak_kib(agent)?;
    let megabytes = (FLOOD_BYTES >> 20).to_string();
    let flood = ["exec", &web.name, "--", "dd", "if=/dev/zero", "bs=1048576", &format!("count={megabytes}")];
    let mut reader = spawn(stage, &flood, Stdio::null())?;
    let mut stdout = reader.stdout.take().ok_or("an output")?;

    let mut first = [0; 4096];
    stdout.read_exact(&mut first)?;
    // Until two looks find the same: it waits for us, or it has written all.
    let mut written = None;
    stage.until("the command stalls", || {
        let now = processes_beside(&web).first().map(|pid| written_bytes(*pid));
        std::mem::replace(&mut written, now) == now
    })?;
    let stalled = written.flatten();
    let grown = peak_kib(agent)?.saturating_sub(before);
    let mut rest = 0;
    let mut piece = vec![0; 1 << 20];
    while let length @ 1.. = stdout.read(&mut piece)? {
        rest += u64::try_from(length)?;
    }
    let ended = reader.wait()?;

    stage.must(stalled.is_some_and(|bytes| bytes < FLOOD_BYTES / 4), || format!("it wrote {stalled:?} to nobody"))?;
    stage.must(grown < GROWTH_KIB_MAX, || format!("the agent grew by {grown} KiB"))?;
    let after = peak_kib(agent)?.saturating_sub(before);
    stage.must(after < GROWTH_KIB_MAX, || format!("the agent grew by {after} KiB while all was read"))?;
    stage.must(rest + 4096 == FLOOD_BYTES && ended.success(), || format!("{rest} bytes came, {ended:?}"))
}

pub(crate) fn what_runs_for_a_person_ends_with_that_person(stage: &mut Stage) -> Outcome {
    let web = one(stage)?;
    let node = web.node.clone().ok_or("a node")?.to_string();

    for who in ["the person", "the scheduler", "the agent"] {
        let mut person = begin(stage, &web)?;
        match who {
            "the person" => person.kill()?,
            "the scheduler" => {
                stage.bed.kill_scheduler();
                stage.bed.start_scheduler()?;
            }
            _ => {
                stage.bed.node_mut(&node).kill_agent();
                stage.bed.node_mut(&node).start_agent()?;
            }
        }
        stage
            .until(&format!("nothing runs beside the instance without {who}"), || processes_beside(&web).is_empty())?;
        let code = person.wait()?.code();
        stage.must(code != Some(0), || format!("without {who} the person is told {code:?}"))?;
        until_node(&stage.bed, &node, Liveness::Ready, LIMIT)?;
    }
    let pipes = stage.bed.node(&node).folder().join("run/instances/.exec");
    stage.until("no pipes are left", || fs::read_dir(&pipes).is_ok_and(|left| left.count() == 0))?;
    let alive = stage.bed.instances("web")?;
    stage.must(alive.iter().any(|view| view.pid == web.pid), || "the instance was disturbed".to_owned())
}

pub(crate) fn connections_and_files_reach_an_instance(stage: &mut Stage) -> Outcome {
    let web = one(stage)?;
    let mut forward = spawn(stage, &["port-forward", &web.name, &format!("0:{}", shop::CONTAINER)], Stdio::null())?;
    let mut said = String::new();
    BufReader::new(forward.stdout.take().ok_or("an output")?).read_line(&mut said)?;
    let address: SocketAddr = said.split_whitespace().next().unwrap_or_default().parse()?;

    for _ in 0..3 {
        let answer = netns::inside(&stage.bed.netns("visitor"), || http::get(address, "/", Duration::from_secs(20)))??;
        stage.must(answer.text().contains(&web.name), || format!("through the forwarded port: {}", answer.text()))?;
    }
    program::signal(forward.id(), Signal::SIGKILL);
    forward.wait()?;

    let folder = stage.bed.folder().join("copied");
    fs::create_dir_all(folder.join("deep"))?;
    fs::write(folder.join("deep/large"), vec![7; 3 << 20])?;
    let (there, back) = (format!("{}:/tmp/there", web.name), stage.bed.folder().join("back"));
    stage.wherry(&["cp", &folder.to_string_lossy(), &there])?;
    stage.wherry(&["cp", &there, &back.to_string_lossy()])?;
    let same = fs::read(back.join("deep/large"))? == vec![7; 3 << 20];
    stage.must(same, || "what came back is not what was sent".to_owned())?;
    let absent = stage.bed.wherry(&["cp", &format!("{}:/no/such", web.name), "."])?;
    stage.must(absent.code == Some(1) && absent.stderr.contains("/no/such"), || absent.stderr.clone())
}

/// One replica of `web`.
fn one(stage: &Stage) -> Result<InstanceView, Box<dyn Error>> {
    stage.run_lasting_web(1)?.into_iter().next().ok_or_else(|| "an instance".into())
}

/// Begins a command that lasts, with a child that hears no hang-up.
fn begin(stage: &Stage, web: &InstanceView) -> Result<Child, Box<dyn Error>> {
    let script = "trap '' HUP; sleep 100000 & echo ready; wait";
    let mut person = spawn(stage, &["exec", "-i", &web.name, "--", "sh", "-c", script], Stdio::piped())?;
    let mut ready = [0; 6];
    person.stdout.as_mut().ok_or("an output")?.read_exact(&mut ready)?;
    stage.until("the command and its child run", || processes_beside(web).len() == 2)?;
    Ok(person)
}

fn spawn(stage: &Stage, arguments: &[&str], stdin: Stdio) -> Result<Child, Box<dyn Error>> {
    let mut command = stage.bed.wherry_command(arguments)?;
    Ok(command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?)
}

fn agent_of(stage: &Stage, web: &InstanceView) -> Result<u32, Box<dyn Error>> {
    let node = web.node.as_ref().ok_or("a node")?;
    stage.bed.node(node.as_str()).agent_pid().ok_or_else(|| "an agent".into())
}

/// The processes of an instance that are neither its first nor its children: they came from outside.
fn processes_beside(web: &InstanceView) -> Vec<u32> {
    let Some(first) = web.pid else { return Vec::new() };
    let namespace = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let wanted = namespace(first);
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let inside = pids.filter(|pid| wanted.is_some() && namespace(*pid) == wanted);
    inside.filter(|pid| session(*pid).is_some_and(|session| session != first)).collect()
}

/// The session of a process that lives: the sixth word of its `stat`. A dead one whose parent is gone waits for the instance's
/// first process to take note, which few do.
fn session(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut words = stat.rsplit_once(')')?.1.split_whitespace();
    if words.next()? == "Z" { None } else { words.nth(2)?.parse().ok() }
}

fn written_bytes(pid: u32) -> Option<u64> {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
    io.lines().find_map(|line| line.strip_prefix("wchar: "))?.parse().ok()
}

/// The most memory that a process ever held.
fn peak_kib(pid: u32) -> Result<u64, Box<dyn Error>> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

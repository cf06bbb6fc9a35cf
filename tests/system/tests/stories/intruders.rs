//! Stories of those who have no business here: wrong tokens, other clusters, too much at once. Each gets a clear no.

use std::{
    fs,
    process::Output,
    time::{Duration, Instant},
};

use api_types::node::Liveness;
use tests_support::{
    cluster::SCHEDULER,
    program::{self, Program},
    settings,
    wait::wait_until,
};
use tests_system::cluster::{pids, until_healthy, until_node};

use crate::stage::{LIMIT, NODES, Outcome, Stage};

/// A machine that has no business here: never becomes a node.
const STRANGER: &str = "stranger";

pub(crate) fn join_tokens(stage: &mut Stage) -> Outcome {
    stage.bed.add_machine(STRANGER)?;
    let good = stage.bed.join_token(STRANGER)?;
    let node = stage.bed.node(STRANGER);
    let refusal = |token: &str| node.join(token).err().map_or_else(|| "let in".to_owned(), |error| error.to_string());

    let mistyped = refusal(&good.replace("WJ1-", "WJ1-A"));
    stage
        .must(!mistyped.contains("let in") && mistyped.contains("token"), || format!("a mistyped token: {mistyped}"))?;

    // The same shape and check sum as a real one, made by a cluster that is not this one.
    let other = other_cluster(stage)?;
    let foreign = refusal(&other.token);
    drop(other);
    stage.must(!foreign.contains("let in"), || format!("another cluster's token: {foreign}"))?;

    let view = stage.bed.ask(&["node", "add", STRANGER, "--expires", "1s"])?;
    let short = view["token"].as_str().ok_or("a token")?.to_owned();
    let made = Instant::now();
    wait_until(LIMIT, || made.elapsed() > Duration::from_millis(1500));
    let expired = refusal(&short);
    stage.must(expired.contains("expired"), || format!("an expired token: {expired}"))?;

    stage.bed.node(STRANGER).join(&good)?;
    let twice = refusal(&good);
    stage.must(twice.contains("joined as `stranger`"), || format!("a second join: {twice}"))?;
    let used = stage.bed.node(STRANGER).join_with(&good, &["--force"]).err().map(|error| error.to_string());
    stage.must(used.is_some_and(|said| said.contains("token")), || "a token is good for one node".to_owned())?;
    let known: Vec<String> = stage.bed.node_views()?.into_iter().map(|view| view.name.to_string()).collect();
    let strangers = known.iter().filter(|name| !NODES.contains(&name.as_str()) && *name != STRANGER).count();
    stage.must(strangers == 0, || format!("{known:?}"))?;
    stage.wherry(&["node", "rm", STRANGER, "--force", "--yes"])?;
    stage.bed.cut_power(STRANGER)?;
    Ok(())
}

pub(crate) fn calls(stage: &mut Stage) -> Outcome {
    let url = format!("https://{SCHEDULER}:7443/v1/nodes");
    let curl = |arguments: &[&str]| -> std::io::Result<Output> {
        let always = ["curl", "--silent", "--insecure", "--max-time", "150", "--write-out", " %{http_code}"];
        program::within(Some(&stage.bed.netns("visitor")), &[&always, arguments].concat()).output()
    };
    let said = |arguments: &[&str]| curl(arguments).map(|output| String::from_utf8_lossy(&output.stdout).into_owned());

    for arguments in [vec![url.as_str()], vec!["--header", "Authorization: Bearer nonsense", url.as_str()]] {
        let answer = said(&arguments)?;
        let clear = answer.ends_with(" 401") && answer.contains("unauthorized") && !answer.contains("edge-1");
        stage.must(clear, || format!("a call without a good token: {answer}"))?;
    }
    let plain = said(&[url.replace("https", "http").as_str()])?;
    stage.must(!plain.contains("edge-1") && !plain.ends_with(" 200"), || format!("a call without TLS: {plain}"))?;

    let huge = stage.file("huge.toml", &vec![b'#'; 32 << 20])?;
    let applied = stage.bed.wherry(&["apply", "--detach", "-f", &huge.to_string_lossy()])?;
    let clear = applied.code == Some(9) && applied.stderr.len() < 4096;
    stage
        .must(clear, || format!("a manifest of 32 MiB: {:?}, {} bytes of words", applied.code, applied.stderr.len()))?;
    let token = token(stage)?;
    let (bearer, body) = (format!("Authorization: Bearer {token}"), format!("@{}", huge.display()));
    let apply = format!("https://{SCHEDULER}:7443/v1/apply");
    // Debian 12's curl takes an HTTP/2 answer that comes before the whole body was sent for a broken one.
    // It asks before it sends; if it then went on without an answer, the end of the connection could overtake the answer.
    let patient = ["--http1.1", "--expect100-timeout", "120", "--header", "Expect: 100-continue"];
    let toml = [&patient[..], &["--header", "Content-Type: application/toml", "--header", &bearer]].concat();
    let answer = said(&[&toml[..], ["--data-binary", &body, &apply].as_slice()].concat())?;
    stage.must(answer.ends_with(" 413") && answer.contains("too_large"), || {
        format!("a body over the limit: {answer}")
    })?;

    let brackets = stage.file("brackets.toml", &vec![b'['; 1 << 20])?;
    let answer = stage.bed.wherry(&["apply", "--detach", "-f", &brackets.to_string_lossy()])?;
    stage.must(answer.code == Some(9), || {
        format!("a megabyte of brackets: {:?} {}", answer.code, answer.stderr.len())
    })?;
    fs::remove_file(huge)?;
    // Nobody was disturbed.
    stage.must(stage.bed.node_views()?.iter().filter(|view| view.liveness == Liveness::Ready).count() >= 3, String::new)
}

pub(crate) fn another_cluster(stage: &mut Stage) -> Outcome {
    let before = stage.run_lasting_web(3)?;

    // The scheduler of another cluster comes up at the address of ours, and our agents meet it.
    stage.bed.kill_scheduler();
    let mut other = other_cluster(stage)?;
    stage.until("our agents say why they do not follow it", || {
        let log = stage.bed.node("edge-1").agent_log().to_lowercase();
        log.lines().rev().take(60).any(|line| line.contains("certificate") || line.contains("another cluster"))
    })?;
    stage.must(other.nodes(stage)?.is_empty(), || "the other scheduler knows none of our nodes".to_owned())?;
    other.scheduler.kill();
    drop(other);
    stage.bed.start_scheduler()?;

    for name in NODES {
        until_node(&stage.bed, name, Liveness::Ready, LIMIT)?;
    }
    stage.prove_command()?;
    let (after, _) = until_healthy(&stage.bed, "web", 3, LIMIT)?;
    stage.must(pids(&before) == pids(&after), || "nothing was restarted by any of this".to_owned())
}

/// The scheduler of another cluster, on the network of ours.
struct OtherCluster {
    scheduler: Program,
    folder: std::path::PathBuf,
    netns: std::path::PathBuf,
    token: String,
}

impl OtherCluster {
    fn wherry(&self, arguments: &[&str]) -> std::io::Result<Output> {
        let wherry = program::folder()?.join("wherry");
        let mut command = program::within(Some(&self.netns), &[&wherry.to_string_lossy()]);
        command.args(arguments).env("WHERRY_CONFIG", settings::context(&self.folder)).output()
    }

    fn nodes(&self, _stage: &Stage) -> Result<Vec<serde_json::Value>, Box<dyn std::error::Error>> {
        let output = self.wherry(&["get", "nodes", "-o", "json"])?;
        let list: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    }
}

impl Drop for OtherCluster {
    fn drop(&mut self) {
        self.scheduler.kill();
    }
}

/// Starts the scheduler of another cluster: at our scheduler's own address while that is away, else beside it.
fn other_cluster(stage: &Stage) -> Result<OtherCluster, Box<dyn std::error::Error>> {
    let folder = stage.bed.folder().join("other");
    let _first_time = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    let config = folder.join("scheduler.toml");
    let beside = stage.bed.scheduler_pid().is_some();
    let member = if beside { "visitor" } else { "scheduler" };
    let address = if beside { tests_support::cluster::VISITOR } else { SCHEDULER };
    fs::write(&config, settings::scheduler(&folder, address))?;
    let netns = stage.bed.netns(member);
    let program = program::folder()?.join("wherry-scheduler");
    let program = program.to_string_lossy();
    let init = program::within(Some(&netns), &[&program]).args(settings::init_arguments(&config, &folder)).output()?;
    if !init.status.success() {
        return Err(String::from_utf8_lossy(&init.stderr).into_owned().into());
    }
    let command = [&*program, "run", "--config", &config.to_string_lossy()].map(str::to_owned);
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    let scheduler = Program::start(Some(&netns), &command, &folder.join("log"))?;
    let mut other = OtherCluster { scheduler, folder, netns, token: String::new() };
    stage.until("the other scheduler answers", || {
        other.wherry(&["get", "nodes", "-o", "json"]).is_ok_and(|output| output.status.success())
    })?;
    let view: serde_json::Value =
        serde_json::from_slice(&other.wherry(&["node", "add", STRANGER, "-o", "json"])?.stdout)?;
    view["token"].as_str().ok_or("a token")?.clone_into(&mut other.token);
    Ok(other)
}

/// The administrator's token, out of the context file.
fn token(stage: &Stage) -> Result<String, Box<dyn std::error::Error>> {
    let text = fs::read_to_string(settings::context(stage.bed.folder()))?;
    let line = text.lines().find_map(|line| line.trim().strip_prefix("token")).ok_or("no token in the context file")?;
    Ok(line.trim_start_matches([' ', '=']).trim_matches('"').to_owned())
}

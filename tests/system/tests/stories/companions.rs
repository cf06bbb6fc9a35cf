//! Stories of instances that are more than one container.

use std::{error::Error, fs};

use tests_system::cluster::{is_healthy, until, until_healthy};

use crate::stage::{LIMIT, Outcome, Stage};

/// A step that fails is named until it succeeds; then the main process starts with a sidecar, which is reached by its name, is
/// started again by itself, and is found by an agent that was killed and is started again.
pub(crate) fn steps_come_first_and_sidecars_live_beside(stage: &mut Stage) -> Outcome {
    stage.apply(&manifest(&stage.image))?;
    let waiting = stage.until_reason("crew", &["init step `prepare` exited with code 3"])?;
    stage.must(waiting.pid.is_none(), || format!("nothing is started before its step: {waiting:?}"))?;
    let told = || stage.wherry(&["describe", "instance", &waiting.name]);
    stage.until("its last words are told", || told().is_ok_and(|text| text.contains("nothing to go by")))?;

    let node = waiting.node.clone().ok_or("an instance that waits has a node")?.to_string();
    fs::write(stage.bed.node(&node).folder().join("state/volumes/default/crew/data/0/go"), "")?;
    let (crew, _) = until_healthy(&stage.bed, "crew", 1, LIMIT)?;
    let crew = crew[0].clone();
    let mate = |command: &str| stage.wherry(&["exec", &crew.name, "-c", "mate", "--", "/bin/sh", "-c", command]);
    stage.must(mate("echo $WHO at $HOSTNAME")? == format!("mate at {}\n", crew.name), || "it is another".to_owned())?;
    // The main process listens on the address that both share.
    let asked = mate("wget -q -O - http://127.0.0.1:8080/")?;
    stage.must(asked.contains(&crew.name), || format!("the sidecar asks the main process: {asked}"))?;
    let logs = |container: &str| stage.wherry(&["logs", &crew.name, "-c", container]);
    stage.until("the sidecar's output is its own", || logs("mate").is_ok_and(|text| text.contains("beside")))?;
    stage.must(logs("prepare")?.contains("nothing to go by"), || "the step's output is kept".to_owned())?;
    stage.must(!stage.wherry(&["logs", &crew.name])?.contains("beside"), || "outputs are mixed".to_owned())?;

    // The sidecar ends: another one has a new root file system, and the main process is the same.
    mate("touch /tmp/end")?;
    stage.until("it is started again", || mate("test ! -e /tmp/end && touch /tmp/mark").is_ok())?;
    let same = |views: &[api_types::view::InstanceView]| {
        views.len() == 1 && is_healthy(&views[0]) && views[0].pid == crew.pid && views[0].restarts == crew.restarts
    };
    until(&stage.bed, "crew", LIMIT, same)?;

    stage.bed.node_mut(&node).kill_agent();
    stage.bed.node_mut(&node).start_agent()?;
    stage.prove_command()?;
    until(&stage.bed, "crew", LIMIT, same)?;
    let kept = stage.wherry(&["exec", &crew.name, "-c", "mate", "--", "cat", "/tmp/mark"])?;
    stage.must(kept.is_empty(), || "the sidecar that an agent started is kept by the next".to_owned())?;

    without_a_scheduler(stage, &node)
}

/// A node that boots alone starts all of it again, the step first.
fn without_a_scheduler(stage: &mut Stage, node: &str) -> Outcome {
    stage.bed.kill_scheduler();
    stage.bed.cut_power(node)?;
    stage.bed.boot(node)?;
    // The disk may still have what proved the agent's command.
    let is_ours = |(container, _): &(String, u32)| container.starts_with("crew-");
    let count = || stage.running(node).map(|running| running.iter().filter(|found| is_ours(found)).count());
    stage.until("main process and sidecar run again", || count() == Some(2))?;
    let steps = fs::read_to_string(stage.bed.node(node).folder().join("state/volumes/default/crew/data/0/steps"))?;
    stage.must(steps == "stepped\nstepped\n", || format!("the step ran before both starts: {steps:?}"))?;
    stage.bed.start_scheduler()?;
    until_healthy(&stage.bed, "crew", 1, LIMIT).map_err(Box::<dyn Error>::from)?;
    Ok(())
}

fn manifest(image: &str) -> String {
    format!(
        r#"
name = "crew"

[service.crew]
image  = "{image}"
ports  = {{ http = {{ container = 8080 }} }}
mounts = {{ "/data" = "volume:data" }}
stop   = {{ grace = "1s" }}

[[service.crew.init]]
name    = "prepare"
command = ["/bin/sh", "-c", "test -e /data/go || {{ echo nothing to go by; exit 3; }}; echo stepped >> /data/steps"]
mounts  = {{ "/data" = "volume:data" }}

[service.crew.sidecar.mate]
command = ["/bin/sh", "-c", "echo beside; until test -e /tmp/end; do sleep 0.1; done"]
env     = {{ WHO = "mate" }}
stop    = {{ grace = "1s" }}

[service.crew.disconnect]
replace_after = "never"
"#
    )
}

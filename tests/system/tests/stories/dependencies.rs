//! Stories of instances that wait for others before they start.

use std::fs;

use tests_system::cluster::until_healthy;

use crate::stage::{LIMIT, Outcome, Stage};

/// An instance waits for a service and a job on another node and for a process on its own, and says for whom; its node keeps
/// the order when it boots alone, and nobody waits for a job that was done before.
pub(crate) fn a_start_waits_for_others_on_this_node_and_another(stage: &mut Stage) -> Outcome {
    stage.apply(&manifest(&stage.image))?;
    until_healthy(&stage.bed, "db", 1, LIMIT)?;
    let waiting = stage.until_reason("web", &["waits until collector is started"])?;
    stage.must(waiting.pid.is_none(), || format!("nothing is started before that: {waiting:?}"))?;
    let collector = stage.until_reason("collector", &["waits until migrate is completed"])?;
    stage.must(collector.pid.is_none(), || format!("nor here: {collector:?}"))?;

    let migrate = || stage.bed.instances("migrate").ok()?.into_iter().find_map(|view| view.pid);
    stage.until("the job runs", || migrate().is_some())?;
    let pid = migrate().ok_or("the job runs")?;
    fs::write(format!("/proc/{pid}/root/tmp/go"), "")?;
    until_healthy(&stage.bed, "web", 1, LIMIT)?;

    stage.bed.kill_scheduler();
    stage.bed.cut_power("edge-1")?;
    stage.bed.boot("edge-1")?;
    let runs = |name: &str| {
        let running = stage.running("edge-1").unwrap_or_default();
        running.into_iter().find(|(container, _)| container.starts_with(name)).map(|(_, pid)| pid)
    };
    stage.until("all that is on this node runs again", || runs("web-").is_some())?;
    let order = (runs("collector-").and_then(started_at), runs("web-").and_then(started_at));
    stage.bed.start_scheduler()?;
    until_healthy(&stage.bed, "web", 1, LIMIT)?;
    stage.must(order.0.is_some() && order.0 <= order.1, || format!("the order is kept at the boot: {order:?}"))
}

/// When a process was started, in ticks since the machine's boot.
fn started_at(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, which may hold anything, ends with the last bracket; the time is the 22nd field of all.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

fn manifest(image: &str) -> String {
    let idle = r#"["/bin/sh", "-c", "while true; do sleep 1; done"]"#;
    format!(
        r#"
name = "order"

[service.db]
image = "{image}"
ports = {{ http = {{ container = 8080 }} }}
place = {{ require = ["node == edge-2"] }}

[job.migrate]
image   = "{image}"
command = ["/bin/sh", "-c", "until test -e /tmp/go; do sleep 0.1; done"]
after   = {{ db = "healthy" }}
place   = {{ require = ["node == edge-2"] }}

[service.collector]
image   = "{image}"
command = {idle}
after   = {{ migrate = "completed" }}
place   = {{ require = ["node == edge-1"] }}
stop    = {{ grace = "1s" }}

[service.collector.disconnect]
replace_after = "never"

[service.web]
image = "{image}"
after = {{ db = "healthy", migrate = "completed", collector = "started" }}
ports = {{ http = {{ container = 8080 }} }}
place = {{ require = ["node == edge-1"] }}

[service.web.disconnect]
replace_after = "never"
"#
    )
}

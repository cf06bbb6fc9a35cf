//! Stories of what binds an instance to a place: another workload, data.

use std::{fs, io, path::PathBuf};

use api_types::{instance::InstanceState, node::Liveness, view::InstanceView};
use tests_system::cluster::{is_healthy, nodes, until, until_healthy, until_node};

use crate::stage::{LIMIT, Outcome, Stage};

pub(crate) fn workloads_that_shun_each_other(stage: &mut Stage) -> Outcome {
    let service = |name: &str, replicas: u32, place: &str| {
        let image = &stage.image;
        format!("[service.{name}]\nimage = \"{image}\"\nreplicas = {replicas}\nplace = {{ {place} }}\n")
    };
    let quiet = service("quiet", 1, r#"without = ["loud"]"#);
    stage.apply(&format!("name = \"quiet\"\n{quiet}"))?;
    let alone = nodes(&until_healthy(&stage.bed, "quiet", 1, LIMIT)?.0);

    // The rule stands in one of the two and holds for both.
    stage.apply(&format!("name = \"loud\"\n{}", service("loud", 3, "per_node = 1")))?;

    let two = |views: &[InstanceView]| views.iter().filter(|view| is_healthy(view)).count() == 2;
    let (views, _) = until(&stage.bed, "loud", LIMIT, two)?;
    let loud: Vec<InstanceView> = views.into_iter().filter(is_healthy).collect();
    stage.must(nodes(&loud).is_disjoint(&alone), || format!("{alone:?} and {:?} share a node", nodes(&loud)))?;
    let third = stage.until_reason("loud", &["quiet"])?;
    stage.must(third.state == InstanceState::Pending, || format!("there is no third node for it: {third:?}"))?;

    stage.wherry(&["delete", "quiet", "--yes"])?;
    let (three, _) = until_healthy(&stage.bed, "loud", 3, LIMIT)?;
    stage.must(nodes(&three).is_superset(&alone), || "the node that became free was not taken".to_owned())
}

pub(crate) fn a_volume_stays(stage: &mut Stage) -> Outcome {
    let script = r#"echo "$TURN" >>/data/turns && exec /bin/hello"#;
    let manifest = |turn: &str| {
        format!(
            "name = \"keeper\"\n[service.keeper]\nimage = \"{}\"\ncommand = [\"/bin/sh\", \"-c\", '{script}']\n\
             env = {{ TURN = \"{turn}\" }}\nmounts = {{ \"/data\" = \"volume:notes\" }}\n\
             disconnect = {{ replace_after = \"1s\" }}\n",
            stage.image
        )
    };
    let node_of = |view: &InstanceView| view.node.as_ref().map(ToString::to_string);
    stage.apply(&manifest("first"))?;
    let (first, _) = until_healthy(&stage.bed, "keeper", 1, LIMIT)?;
    let home = node_of(&first[0]).ok_or("a healthy instance has a node")?;

    stage.apply(&manifest("second"))?;
    let successor = |views: &[InstanceView]| matches!(views, [view] if is_healthy(view) && view.name != first[0].name && node_of(view).as_ref() == Some(&home));
    until(&stage.bed, "keeper", LIMIT, successor)?;
    stage
        .must(turns(stage, &home, "keeper")? == "first\nsecond\n", || format!("{:?}", turns(stage, &home, "keeper")))?;

    stage.bed.cut_power(&home)?;
    until_node(&stage.bed, &home, Liveness::Lost, LIMIT)?;
    // What the scheduler decides of this, it has decided of the other before.
    stage.apply(&format!("name = \"proof\"\n[service.proof]\nimage = \"{}\"\nreplicas = 2\n", stage.image))?;
    until_healthy(&stage.bed, "proof", 2, LIMIT)?;
    let waits = |view: &InstanceView| node_of(view).is_none_or(|node| node == home);
    let waiting = stage.bed.instances("keeper")?;
    stage.must(waiting.iter().all(waits), || format!("the data is on {home}, and nowhere else: {waiting:?}"))?;
    stage.bed.boot(&home)?;
    until_node(&stage.bed, &home, Liveness::Ready, LIMIT)?;

    let back =
        |views: &[InstanceView]| matches!(views, [view] if is_healthy(view) && node_of(view).as_ref() == Some(&home));
    until(&stage.bed, "keeper", LIMIT, back)?;
    // What was known of it before the power cut may still be shown as healthy: what the disk holds is the proof.
    stage.until("the volume holds what the third process added", || {
        turns(stage, &home, "keeper").is_ok_and(|told| told.starts_with("first\nsecond\nsecond\n"))
    })
}

pub(crate) fn a_volume_is_put_back(stage: &mut Stage) -> Outcome {
    let script = r#"echo "$(cat /data/turns 2>/dev/null)x" >/data/turns && exec /bin/hello"#;
    stage.apply(&format!(
        "name = \"ledger\"\n[service.ledger]\nimage = \"{}\"\ncommand = [\"/bin/sh\", \"-c\", '{script}']\n\
         mounts = {{ \"/data\" = \"volume:notes\" }}\n",
        stage.image
    ))?;
    let (views, _) = until_healthy(&stage.bed, "ledger", 1, LIMIT)?;
    let node = views[0].node.as_ref().ok_or("a healthy instance has a node")?.to_string();
    let archive = stage.bed.folder().join("notes.tar");
    let archive = archive.to_str().ok_or("a plain path")?;

    stage.wherry(&["volume", "backup", "ledger", "notes", archive])?;
    let used = stage.bed.wherry(&["volume", "restore", "ledger", "notes", archive, "--yes"])?;
    stage.must(used.code == Some(8) && used.stderr.contains("wherry scale ledger 0"), || format!("{used:?}"))?;
    for count in [0, 1, 0] {
        stage.wherry(&["scale", "ledger", &count.to_string()])?;
        until(&stage.bed, "ledger", LIMIT, |views| views.len() == count && views.iter().all(is_healthy))?;
    }
    stage.must(turns(stage, &node, "ledger")? == "xx\n", || {
        format!("two processes wrote {:?}", turns(stage, &node, "ledger"))
    })?;
    stage.wherry(&["volume", "restore", "ledger", "notes", archive, "--yes"])?;

    stage.must(turns(stage, &node, "ledger")? == "x\n", || format!("restored: {:?}", turns(stage, &node, "ledger")))?;
    stage.wherry(&["scale", "ledger", "1"])?;
    until_healthy(&stage.bed, "ledger", 1, LIMIT)?;
    stage.must(turns(stage, &node, "ledger")? == "xx\n", || {
        format!("the next one goes on: {:?}", turns(stage, &node, "ledger"))
    })
}

/// What the volume of the first replica holds, on its node.
fn turns(stage: &Stage, node: &str, workload: &str) -> io::Result<String> {
    let volume: PathBuf = ["state", "volumes", "default", workload, "notes", "0", "turns"].iter().collect();
    fs::read_to_string(stage.bed.node(node).folder().join(volume))
}

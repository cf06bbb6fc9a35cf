//! Stories of what binds an instance to a place: its data.

use std::{fs, io, path::PathBuf};

use api_types::{node::Liveness, view::InstanceView};
use tests_system::cluster::{is_healthy, until, until_healthy, until_node};

use crate::stage::{LIMIT, Outcome, Stage};

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
    stage.must(turns(stage, &home)? == "first\nsecond\n", || format!("{:?}", turns(stage, &home)))?;

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
    let told = turns(stage, &home)?;
    stage.must(told.starts_with("first\nsecond\nsecond\n"), || format!("the volume holds {told:?}"))
}

/// What the volume of the first replica holds, on its node.
fn turns(stage: &Stage, node: &str) -> io::Result<String> {
    let volume: PathBuf = ["state", "volumes", "default", "keeper", "notes", "0", "turns"].iter().collect();
    fs::read_to_string(stage.bed.node(node).folder().join(volume))
}

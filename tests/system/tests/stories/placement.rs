//! Stories of what binds an instance to a place: a device, another workload, data.

use std::{fs, io, os::unix::fs::symlink, path::PathBuf};

use api_types::{
    instance::{Health, InstanceState},
    node::Liveness,
    view::InstanceView,
};
use tests_system::cluster::{is_healthy, nodes, until, until_healthy, until_node};

use crate::stage::{LIMIT, Outcome, Stage};

/// The node that has the camera.
const WITH_CAMERA: &str = "edge-2";
/// Opened for writing, it changes nothing; no container may open it without leave.
const HARMLESS_DEVICE: &str = "/dev/kmsg";

pub(crate) fn a_shared_device_is_given_where_it_is(stage: &mut Stage) -> Outcome {
    let camera = stage.bed.folder().join("camera");
    let config = stage.bed.node(WITH_CAMERA).config();
    let before = fs::read_to_string(&config)?;
    let device = format!(
        "[[device]]\nname = \"front-door\"\nkind = \"camera\"\nshares = 2\npaths = [\"{}\"]\n",
        camera.display()
    );
    symlink(HARMLESS_DEVICE, &camera)?;
    configure(stage, WITH_CAMERA, &format!("{before}{device}"))?;
    let devices = |ok: bool| condition_of(stage, WITH_CAMERA, "devices", ok);
    stage.until("the camera is offered", || devices(true).is_some())?;

    // It only serves if its camera is there and can be opened.
    let script = r#"(: >"$WHERRY_DEVICE_CAMERA") && exec /bin/hello"#;
    let manifest = |replicas: u32| {
        format!(
            "name = \"vision\"\n[service.eye]\nimage = \"{}\"\nreplicas = {replicas}\ncommand = [\"/bin/sh\", \"-c\", '{script}']\n\
             ports = {{ http = {{ container = 8080 }} }}\nhealth = {{ http = \"http/\", interval = \"1s\" }}\n\
             resources = {{ devices = {{ camera = \"share\" }} }}\n",
            stage.image
        )
    };
    stage.apply(&manifest(3))?;
    let two = |views: &[InstanceView]| views.iter().filter(|view| is_healthy(view)).count() == 2;
    let (views, _) = until(&stage.bed, "eye", LIMIT, two)?;
    let healthy: Vec<InstanceView> = views.into_iter().filter(is_healthy).collect();
    stage.must(nodes(&healthy).iter().eq([WITH_CAMERA]), || "an instance is where its device is not".to_owned())?;
    let third = stage.until_reason("eye", &["camera"])?;
    stage.must(third.state == InstanceState::Pending, || format!("there are two shares: {third:?}"))?;
    stage.apply(&manifest(2))?;
    until_healthy(&stage.bed, "eye", 2, LIMIT)?;

    fs::remove_file(&camera)?;
    let bereft = |view: &InstanceView| view.health == Health::Unhealthy && view.reason.contains("front-door");
    let both = |views: &[InstanceView]| views.len() == 2 && views.iter().all(bereft);
    let (sick, _) = until(&stage.bed, "eye", LIMIT, both)?;
    stage.must(sick.iter().all(|view| view.state == InstanceState::Running), || "they run on".to_owned())?;
    stage.until("the node says what is missing", || {
        devices(false).is_some_and(|reason| reason.contains("front-door"))
    })?;

    symlink(HARMLESS_DEVICE, &camera)?;
    let (again, _) = until_healthy(&stage.bed, "eye", 2, LIMIT)?;
    let names = |views: &[InstanceView]| views.iter().map(|view| view.name.clone()).collect::<Vec<_>>();
    stage.must(names(&again) == names(&healthy), || "an instance was replaced instead of started anew".to_owned())?;
    stage.must(again.iter().all(|view| view.restarts == 1), || "each got one new process".to_owned())?;

    stage.wherry(&["delete", "eye", "--yes"])?;
    stage.until("the camera is free", || stage.containers(WITH_CAMERA).is_some_and(|left| left.is_empty()))?;
    configure(stage, WITH_CAMERA, &before)?;
    Ok(fs::remove_file(&camera)?)
}

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

/// Gives a node's agent another configuration.
fn configure(stage: &mut Stage, node: &str, text: &str) -> Outcome {
    let node_of_bed = stage.bed.node_mut(node);
    fs::write(node_of_bed.config(), text)?;
    node_of_bed.kill_agent();
    node_of_bed.start_agent()?;
    until_node(&stage.bed, node, Liveness::Ready, LIMIT)?;
    Ok(())
}

/// What a node's condition says, while it is so.
fn condition_of(stage: &Stage, node: &str, name: &str, ok: bool) -> Option<String> {
    let view = stage.bed.node_views().ok()?.into_iter().find(|view| view.name.as_str() == node)?;
    let condition = view.conditions.into_iter().find(|condition| condition.name == name)?;
    (condition.ok == ok).then_some(condition.reason)
}

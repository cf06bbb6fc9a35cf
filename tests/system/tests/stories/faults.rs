//! Stories of things that cannot run: each says why in words, and runs when the cause goes.

use std::{io::Write as _, net::TcpListener};

use api_types::instance::{Exit, InstanceState};
use serde_json::json;
use tests_support::{netns::inside, oci::Image, wait::try_wait_for};
use tests_system::{
    cluster::{published, until_healthy},
    shop,
};

use crate::stage::{LIMIT, NODES, Outcome, Stage};

pub(crate) fn a_missing_image(stage: &mut Stage) -> Outcome {
    let reference = format!("{}/test/later:7", stage.bed.registry().address());
    stage.apply(&format!("name = \"later\"\n[service.later]\nimage = \"{reference}\"\n"))?;

    let view = stage.until_reason("later", &["not found", "no such", "unknown", "does not exist", "not there"])?;
    stage.must(view.state == InstanceState::Preparing, || format!("{view:?}"))?;
    stage.must(view.reason.contains("later"), || format!("the reason names the image: {}", view.reason))?;

    let image = Image::busybox()?.set("Cmd", json!(["sleep", "100000"]));
    stage.bed.registry().push(&image, "test/later", "7")?;
    let healthy = until_healthy(&stage.bed, "later", 1, LIMIT)?.0;
    stage.must(healthy[0].reason.is_empty(), || format!("all is well: {:?}", healthy[0]))
}

pub(crate) fn a_missing_command(stage: &mut Stage) -> Outcome {
    let manifest = |command: &str| {
        format!("name = \"tool\"\n[service.tool]\nimage = \"{}\"\ncommand = [\"{command}\", \"100000\"]\n", stage.image)
    };
    stage.apply(&manifest("/bin/no-such-program"))?;

    let view = stage.until_reason("tool", &["no-such-program"])?;
    stage.must(view.state == InstanceState::Starting, || format!("{view:?}"))?;

    stage.apply(&manifest("/bin/sleep"))?;
    let healthy = until_healthy(&stage.bed, "tool", 1, LIMIT)?.0;
    stage.must(healthy[0].reason.is_empty(), || format!("all is well: {:?}", healthy[0]))
}

pub(crate) fn a_memory_limit(stage: &mut Stage) -> Outcome {
    // What doubles without end fits below no limit; 24 MiB, which `tail` keeps of an endless line, fit below the second.
    // The first leaves room for the runtime, whose own start counts too.
    let manifest = |limit: &str| {
        let command = "head -c 25165824 /dev/zero | tail -c 25165824 > /dev/null; exec sleep 100000";
        format!(
            "name = \"hungry\"\n[service.hungry]\nimage = \"{}\"\ncommand = [\"sh\", \"-c\", \"{command}\"]\n\
             resources = {{ memory = \"8MiB .. {limit}\" }}\n",
            stage.image
        )
    };
    let eats_itself = "i=x; while true; do i=$i$i; done";
    let greedy = manifest("32MiB")
        .replace("head -c 25165824 /dev/zero | tail -c 25165824 > /dev/null; exec sleep 100000", eats_itself);
    stage.apply(&greedy)?;

    let view = stage.until_reason("hungry", &["memory"])?;
    stage.must(view.last_exit == Some(Exit::OutOfMemory), || format!("{view:?}"))?;
    stage.must(view.reason.to_lowercase().contains("limit"), || {
        format!("the reason names the limit: {}", view.reason)
    })?;

    stage.apply(&manifest("64MiB"))?;
    until_healthy(&stage.bed, "hungry", 1, LIMIT)?;
    Ok(())
}

pub(crate) fn no_node_fits(stage: &mut Stage) -> Outcome {
    let manifest = |memory: &str| {
        format!("name = \"big\"\n[service.big]\nimage = \"{}\"\nresources = {{ memory = \"{memory}\" }}\n", stage.image)
    };
    stage.apply(&manifest("900GiB"))?;

    let view = stage.until_reason("big", &["memory"])?;
    stage.must(view.state == InstanceState::Pending && view.node.is_none(), || format!("{view:?}"))?;
    let why = stage.wherry(&["why", "big"])?;
    let told = NODES.iter().all(|name| why.contains(name)) && why.contains("memory");
    stage.must(told, || format!("`why` names every node and what it lacks:\n{why}"))?;
    let waited = stage.bed.apply(&manifest("900GiB"), &["--wait=2s"])?;
    stage.must(waited.code == Some(4), || format!("an apply that is not placed ends with 4: {waited:?}"))?;

    stage.apply(&manifest("32MiB"))?;
    until_healthy(&stage.bed, "big", 1, LIMIT)?;
    Ok(())
}

pub(crate) fn a_port_is_taken(stage: &mut Stage) -> Outcome {
    let port = shop::PUBLISHED;
    let taken = inside(&stage.bed.netns("edge-1"), || TcpListener::bind(("0.0.0.0", port)))??;
    stage.run_web(3)?;

    let ports = |bed: &tests_support::cluster::Bed| {
        let view = bed.node_views().ok()?.into_iter().find(|view| view.name.as_str() == "edge-1")?;
        view.conditions.into_iter().find(|condition| condition.name == "ports")
    };
    let named = try_wait_for(LIMIT, || ports(&stage.bed).filter(|condition| !condition.ok));
    let condition = named.ok_or("edge-1 does not say that a port is taken")?;
    stage.must(condition.reason.contains(&port.to_string()), || format!("the port is named: {condition:?}"))?;
    for name in ["edge-2", "edge-3"] {
        stage.until_answered_by("visitor", published(&stage.bed, name, port), 3)?;
    }

    drop(taken);
    stage.until("the port is free, and said to be", || ports(&stage.bed).is_some_and(|condition| condition.ok))?;
    stage.until_answered_by("visitor", published(&stage.bed, "edge-1", port), 3)?;

    let rival = shop::manifest(&stage.image, 1).replace("service.web", "service.rival");
    let refused = stage.bed.apply(&rival, &["--detach"])?;
    std::io::stdout().flush()?;
    let said = refused.stderr.contains(&port.to_string()) && refused.stderr.contains("web");
    stage.must(refused.code != Some(0) && said, || {
        format!("a second owner of the port is refused by name: {refused:?}")
    })?;
    stage.must(stage.bed.instances("rival")?.is_empty(), || "nothing of it was applied".to_owned())
}

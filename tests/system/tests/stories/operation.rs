//! Stories of an ordinary day: placing, balancing, scaling, draining, looking.

use std::{collections::BTreeSet, net::SocketAddr};

use api_types::instance::InstanceState;
use nix::sys::signal::Signal;
use serde_json::json;
use tests_support::{oci::Image, program};
use tests_system::{
    cluster::{is_healthy, nodes, pids, published, until, until_healthy, virtual_address},
    shop,
};

use crate::stage::{LIMIT, NODES, Outcome, Stage, ask_from_process};

pub(crate) fn replicas_are_placed_and_balanced(stage: &mut Stage) -> Outcome {
    let instances = stage.run_web(3)?;
    let address: SocketAddr = (virtual_address(&stage.bed, "web")?, shop::SERVICE).into();

    stage.must(nodes(&instances).len() == 3, || "not on three nodes".to_owned())?;
    for name in NODES {
        for (from, server) in [("visitor", published(&stage.bed, name, shop::PUBLISHED)), (name, address)] {
            stage.until_answered_by(from, server, 3)?;
            let answers = stage.bed.count_answers(from, server, 300)?;
            let fair = answers.len() == 3 && answers.values().all(|count| (50..=150).contains(count));
            stage.must(fair, || format!("300 requests from {from} to {server}: {answers:?}"))?;
        }
    }
    for instance in &instances {
        let pid = instance.pid.ok_or("a healthy instance has a process")?;
        let answers: BTreeSet<String> = (0..40).map(|_| ask_from_process(pid, address)).collect::<Result<_, _>>()?;
        stage.must(answers.len() == 3, || format!("from inside {}: {answers:?}", instance.name))?;
    }
    Ok(())
}

pub(crate) fn a_killed_process_is_started_again(stage: &mut Stage) -> Outcome {
    let before = stage.run_web(3)?;
    let victim = before[0].clone();
    let pid = victim.pid.ok_or("a healthy instance has a process")?;

    program::signal(pid, Signal::SIGKILL);

    let is_again = |instances: &[api_types::view::InstanceView]| {
        let again = instances.iter().find(|view| view.name == victim.name);
        instances.len() == 3
            && again.is_some_and(|view| is_healthy(view) && view.pid != Some(pid) && view.restarts == 1)
    };
    let (after, _) = until(&stage.bed, "web", LIMIT, is_again)?;
    let others = |views: &[api_types::view::InstanceView]| {
        let mut pids = pids(views);
        pids.remove(&victim.name);
        pids
    };
    stage.must(others(&before) == others(&after), || "others were disturbed".to_owned())?;
    stage.until_answered_by("visitor", published(&stage.bed, "edge-1", shop::PUBLISHED), 3)
}

pub(crate) fn scaling_moves_nothing_else(stage: &mut Stage) -> Outcome {
    let three = pids(&stage.run_web(3)?);

    stage.wherry(&["scale", "web", "6"])?;
    let six = pids(&until_healthy(&stage.bed, "web", 6, LIMIT)?.0);
    stage.wherry(&["scale", "web", "2"])?;
    let two = pids(&until_healthy(&stage.bed, "web", 2, LIMIT)?.0);

    stage.must(three.iter().all(|kept| six.get(kept.0) == Some(kept.1)), || format!("{three:?} became {six:?}"))?;
    stage.must(two.iter().all(|kept| six.get(kept.0) == Some(kept.1)), || format!("{six:?} became {two:?}"))?;
    stage.until("the surplus containers are gone", || {
        NODES.iter().filter_map(|name| stage.containers(name)).map(|found| found.len()).sum::<usize>() == 2
    })
}

pub(crate) fn a_daemon_runs_once_on_each_node(stage: &mut Stage) -> Outcome {
    let manifest = format!("name = \"probe\"\n[daemon.probe]\nimage = \"{}\"\n", stage.image);

    stage.apply(&manifest)?;

    let (instances, _) = until_healthy(&stage.bed, "probe", 3, LIMIT)?;
    stage.must(nodes(&instances).len() == 3, || "a daemon runs on each node".to_owned())
}

pub(crate) fn a_drained_node_gives_everything_away(stage: &mut Stage) -> Outcome {
    stage.run_web(3)?;

    stage.wherry(&["drain", "edge-2"])?;
    let away = |instances: &[api_types::view::InstanceView]| {
        instances.len() == 3
            && instances
                .iter()
                .all(|view| is_healthy(view) && view.node.as_ref().is_some_and(|node| node.as_str() != "edge-2"))
    };
    let drained = pids(&until(&stage.bed, "web", LIMIT, away)?.0);
    stage.until("edge-2 is empty", || stage.containers("edge-2").is_some_and(|containers| containers.is_empty()))?;
    stage.until_answered_by("visitor", published(&stage.bed, "edge-2", shop::PUBLISHED), 3)?;
    stage.wherry(&["uncordon", "edge-2"])?;

    let after = pids(&until_healthy(&stage.bed, "web", 3, LIMIT)?.0);
    stage.must(drained == after, || "a node that takes instances again must not draw any".to_owned())
}

pub(crate) fn a_cordoned_node_takes_nothing(stage: &mut Stage) -> Outcome {
    let three = pids(&stage.run_web(3)?);

    stage.wherry(&["cordon", "edge-1"])?;
    stage.wherry(&["scale", "web", "7"])?;
    let (seven, _) = until_healthy(&stage.bed, "web", 7, LIMIT)?;
    stage.wherry(&["uncordon", "edge-1"])?;

    let there = seven.iter().filter(|view| view.node.as_ref().is_some_and(|node| node.as_str() == "edge-1")).count();
    stage.must(there == 1, || format!("{there} instances on a node that had one when it was cordoned"))?;
    let seven = pids(&seven);
    stage.must(three.iter().all(|kept| seven.get(kept.0) == Some(kept.1)), || "what it had is kept".to_owned())
}

pub(crate) fn every_look_is_answered(stage: &mut Stage) -> Outcome {
    let instances = stage.run_web(3)?;
    let manifest = shop::manifest(&stage.image, 4);
    let file = stage.file("four.toml", manifest.as_bytes())?;
    let file = file.to_string_lossy();
    let looks: [(&[&str], &str); 10] = [
        (&["describe", "node", "edge-1"], "edge-1"),
        (&["describe", "service", "web"], &instances[0].name),
        (&["describe", "instance", &instances[1].name], "10.42."),
        (&["why", "web"], "3 of 3"),
        (&["what-if", "node-loss", "edge-3"], "If edge-3 loses its power"),
        (&["what-if", "join", "--like", "edge-1", "--count", "2"], "2 nodes like edge-1 join"),
        (&["top", "nodes"], "edge-3"),
        (&["get", "events"], "placed"),
        (&["plan", "-f", &file], "replicas"),
        (&["version"], env!("CARGO_PKG_VERSION")),
    ];

    for (arguments, word) in looks {
        let said = stage.wherry(arguments)?;
        stage.must(said.contains(word), || format!("wherry {arguments:?} does not say {word}:\n{said}"))?;
    }
    let after = until_healthy(&stage.bed, "web", 3, LIMIT)?.0;
    stage.must(pids(&instances) == pids(&after), || "looking changes nothing".to_owned())
}

pub(crate) fn an_image_from_a_file_runs(stage: &mut Stage) -> Outcome {
    let reference = "example.org/test/loaded:1";
    let image = Image::busybox()?.set("Cmd", json!(["sleep", "100000"])).set("Labels", json!({ "from": "a file" }));
    let file = stage.file("image.tar", &image.archive(reference)?)?;

    stage.wherry(&["image", "load", &file.to_string_lossy()])?;
    stage.apply(&format!("name = \"loaded\"\n[service.loaded]\nimage = \"{reference}\"\nreplicas = 3\n"))?;

    until_healthy(&stage.bed, "loaded", 3, LIMIT)?;
    Ok(())
}

pub(crate) fn output_is_read(stage: &mut Stage) -> Outcome {
    let command = r#"command = ["sh", "-c", "echo to stdout; echo to stderr >&2; exec sleep 100000"]"#;
    let manifest = format!("name = \"talk\"\n[service.talk]\nimage = \"{}\"\nreplicas = 2\n{command}\n", stage.image);
    stage.apply(&manifest)?;
    let (instances, _) = until_healthy(&stage.bed, "talk", 2, LIMIT)?;

    stage.until("both lines of both replicas are read", || {
        let said = stage.wherry(&["logs", "talk"]).unwrap_or_default();
        let count = |text: &str| said.lines().filter(|line| line.contains(text)).count();
        count("to stdout") == 2 && count("to stderr") == 2
    })?;
    let one = stage.wherry(&["logs", &instances[0].name])?;
    stage.must(one.lines().count() == 2, || format!("the output of one instance: {one}"))?;
    stage.must(instances.iter().all(|view| view.state == InstanceState::Running), String::new)
}

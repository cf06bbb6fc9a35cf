//! A published port on which the agent itself shares out HTTP requests.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::sys::signal::Signal;
use tests_support::{load::Load, program};
use tests_system::{
    cluster::{published, until_healthy},
    shop,
};

use crate::stage::{LIMIT, NODES, Outcome, Stage, ask_from_process};

/// How often a process is killed under load.
const KILLS: usize = 3;

pub(crate) fn a_published_http_port_outlives_its_processes(stage: &mut Stage) -> Outcome {
    let manifest = shop::manifest(&stage.image, 3).replacen("publish = ", "protocol = \"http\", publish = ", 1);
    stage.apply(&manifest)?;
    until_healthy(&stage.bed, "web", 3, LIMIT)?;
    for name in NODES {
        stage.until_answered_by("visitor", published(&stage.bed, name, shop::PUBLISHED), 3)?;
        // Unlike a port of the kernel's, it answers on the node itself at any address.
        for own in
            [(Ipv4Addr::LOCALHOST, shop::PUBLISHED).into(), SocketAddr::from((Ipv6Addr::LOCALHOST, shop::PUBLISHED))]
        {
            stage.until_answered_by(name, own, 3)?;
        }
    }
    let load = Load::start(&stage.bed.netns("visitor"), published(&stage.bed, NODES[0], shop::PUBLISHED), 2);

    for _ in 0..KILLS {
        let (instances, _) = until_healthy(&stage.bed, "web", 3, LIMIT)?;
        let victim = instances.iter().find(|view| view.restarts == 0).ok_or("one that was not killed yet")?;
        program::signal(victim.pid.ok_or("a healthy instance has a process")?, Signal::SIGKILL);
        let name = victim.name.clone();
        stage.until("the killed process runs again", || {
            let found = until_healthy(&stage.bed, "web", 3, LIMIT);
            found.is_ok_and(|(views, _)| views.iter().any(|view| view.name == name && view.restarts > 0))
        })?;
    }

    let tally = load.finish()?;
    let (instances, _) = until_healthy(&stage.bed, "web", 3, LIMIT)?;
    stage.must(tally.failures.is_empty() && tally.answered() > 0, || format!("{tally:?}"))?;
    let pid = instances[0].pid.ok_or("a healthy instance has a process")?;
    let answer = ask_from_process(pid, published(&stage.bed, NODES[0], shop::PUBLISHED))?;
    stage.must(!answer.is_empty(), || "instances, too, reach what is published".to_owned())
}

//! Stories of processes that hang, are not ready, start slowly, or end again and again.

use api_types::{
    instance::{Exit, Health, InstanceState},
    probe::ProbeKind,
    view::InstanceView,
};
use nix::sys::signal::Signal;
use tests_support::program;
use tests_system::{
    cluster::{is_healthy, published, until, until_healthy},
    shop,
};

use crate::stage::{LIMIT, Outcome, Stage};

const PUBLISHED: u16 = 8090;

/// A process that answers nothing any more is started again, and the others are left alone.
pub(crate) fn a_hung_process_is_started_again(stage: &mut Stage) -> Outcome {
    let manifest = format!(
        "name = \"hung\"\n[service.hung]\nimage = \"{}\"\nreplicas = 2\nstop = {{ grace = \"1s\" }}\n\
         ports = {{ http = {{ container = 8080 }} }}\n\
         liveness = {{ http = \"http/health\", interval = \"2s\", timeout = \"2s\", retries = 2, grace = \"0s\" }}\n",
        stage.image
    );
    stage.apply(&manifest)?;
    let (before, _) = until_healthy(&stage.bed, "hung", 2, LIMIT)?;
    let victim = before[0].clone();

    // What was stopped so hears no SIGTERM either.
    program::signal(victim.pid.ok_or("a healthy instance has a process")?, Signal::SIGSTOP);

    let killed = Some(Exit::Probe(ProbeKind::Liveness));
    let is_again = |view: &InstanceView| {
        view.name == victim.name && is_healthy(view) && view.restarts > victim.restarts && view.last_exit == killed
    };
    until(&stage.bed, "hung", LIMIT, |views| views.iter().any(is_again))?;
    let told = stage.wherry(&["describe", "instance", &victim.name])?;
    stage.must(told.contains("killed: its liveness probe failed"), || format!("its history says why:\n{told}"))
}

/// What is not ready gets no traffic, says what its probe heard, and goes on running.
pub(crate) fn what_is_not_ready_is_left_running(stage: &mut Stage) -> Outcome {
    let manifest = format!(
        "name = \"busy\"\n[service.busy]\nimage = \"{}\"\nreplicas = 2\n\
         ports = {{ http = {{ container = 8080, publish = {PUBLISHED} }} }}\n\
         health = {{ exec = [\"/bin/sh\", \"-c\", \"echo asked; test ! -e /tmp/busy\"], interval = \"2s\", timeout = \"2s\", grace = \"0s\" }}\n",
        stage.image
    );
    stage.apply(&manifest)?;
    let (before, _) = until_healthy(&stage.bed, "busy", 2, LIMIT)?;
    let server = published(&stage.bed, "edge-1", PUBLISHED);
    stage.until_answered_by("visitor", server, 2)?;

    stage.wherry(&["exec", &before[0].name, "--", "touch", "/tmp/busy"])?;

    let is_unready = |view: &InstanceView| view.name == before[0].name && view.health == Health::Unhealthy;
    let (after, _) = until(&stage.bed, "busy", LIMIT, |views| views.iter().any(is_unready))?;
    let unready = after.iter().find(|view| is_unready(view)).ok_or("it was there a moment ago")?;
    stage.must(unready.pid == before[0].pid && unready.restarts == 0, || format!("it runs on: {unready:?}"))?;
    let told = stage.wherry(&["describe", "instance", &unready.name])?;
    stage.must(told.contains("code 1: asked"), || format!("what the probe heard is told:\n{told}"))?;
    stage.until_answered_by("visitor", server, 1)?;

    stage.wherry(&["exec", &before[0].name, "--", "rm", "/tmp/busy"])?;
    until_healthy(&stage.bed, "busy", 2, LIMIT)?;
    stage.until_answered_by("visitor", server, 2)
}

/// The gRPC health of a service decides who gets traffic, that of the process whether it lives on.
pub(crate) fn grpc_health_is_asked(stage: &mut Stage) -> Outcome {
    let image = shop::image()?.program("bin/health", &program::folder()?.join("health"))?;
    let image = stage.bed.registry().push(&image, "test/health", "1")?;
    let manifest = format!(
        "name = \"rpc\"\n[service.rpc]\nimage = \"{image}\"\nreplicas = 2\nstop = {{ grace = \"0s\" }}\n\
         command = [\"/bin/sh\", \"-c\", \"hello & exec health\"]\n\
         ports = {{ http = {{ container = 8080, publish = {PUBLISHED} }}, rpc = {{ container = 9000 }} }}\n\
         health = {{ grpc = \"rpc/shop.Web\", interval = \"2s\", timeout = \"2s\", retries = 1, grace = \"0s\" }}\n\
         liveness = {{ grpc = \"rpc\", interval = \"2s\", timeout = \"2s\", retries = 3, grace = \"5s\" }}\n",
    );
    stage.apply(&manifest)?;
    let (before, _) = until_healthy(&stage.bed, "rpc", 2, LIMIT)?;
    let server = published(&stage.bed, "edge-1", PUBLISHED);
    stage.until_answered_by("visitor", server, 2)?;
    let first = &before[0];

    stage.wherry(&["exec", &first.name, "--", "touch", "/tmp/busy"])?;
    let is_unready = |view: &InstanceView| view.name == first.name && view.health == Health::Unhealthy;
    let (after, _) = until(&stage.bed, "rpc", LIMIT, |views| views.iter().any(is_unready))?;
    let unready = after.iter().find(|view| is_unready(view)).ok_or("it was there a moment ago")?;
    stage.must(unready.pid == first.pid && unready.restarts == 0, || format!("it runs on: {unready:?}"))?;
    let told = stage.wherry(&["describe", "instance", &first.name])?;
    stage.must(told.contains("NOT_SERVING"), || format!("what the probe heard is told:\n{told}"))?;
    stage.until_answered_by("visitor", server, 1)?;
    stage.wherry(&["exec", &first.name, "--", "rm", "/tmp/busy"])?;
    until_healthy(&stage.bed, "rpc", 2, LIMIT)?;
    stage.until_answered_by("visitor", server, 2)?;

    stage.wherry(&["exec", &first.name, "--", "touch", "/tmp/ill"])?;
    let killed = Some(Exit::Probe(ProbeKind::Liveness));
    let is_again = |view: &InstanceView| {
        view.name == first.name && is_healthy(view) && view.restarts == 1 && view.last_exit == killed
    };
    let (views, _) = until(&stage.bed, "rpc", LIMIT, |views| views.iter().any(is_again))?;
    let others = views.iter().filter(|view| view.name != first.name).all(|view| view.restarts == 0);
    stage.must(others, || format!("the other is left alone: {views:?}"))
}

/// A slow start is waited for by a probe of its own, and no other is asked before.
pub(crate) fn a_slow_start_is_waited_for(stage: &mut Stage) -> Outcome {
    let manifest = format!(
        "name = \"slow\"\n[service.slow]\nimage = \"{}\"\n\
         command = [\"/bin/sh\", \"-c\", \"sleep 4; touch /tmp/ready; exec sleep 100000\"]\n\
         startup  = {{ exec = [\"test\", \"-e\", \"/tmp/ready\"], timeout = \"20s\", interval = \"20s\", within = \"10m\" }}\n\
         liveness = {{ exec = [\"test\", \"-e\", \"/tmp/ready\"], timeout = \"20s\", interval = \"20s\", retries = 1, grace = \"0s\" }}\n",
        stage.image
    );
    stage.apply(&manifest)?;

    let starts = |view: &InstanceView| view.state == InstanceState::Running && view.health == Health::Unknown;
    until(&stage.bed, "slow", LIMIT, |views| views.iter().any(starts))?;
    let (views, _) = until_healthy(&stage.bed, "slow", 1, LIMIT)?;

    stage.must(views[0].restarts == 0 && views[0].last_exit.is_none(), || format!("{:?}", views[0]))
}

/// A process that ends again and again is named so, with what it wrote, and another node gets its turn.
pub(crate) fn a_crash_loop_is_named_and_moves_on(stage: &mut Stage) -> Outcome {
    let manifest = format!(
        "name = \"broken\"\n[service.broken]\nimage = \"{}\"\nmax_restarts = 3\n\
         command = [\"/bin/sh\", \"-c\", \"echo no database; exit 3\"]\n",
        stage.image
    );
    stage.apply(&manifest)?;

    let named = |view: &InstanceView| {
        let findings = &view.findings;
        findings.crash_loop && findings.last_lines.contains("no database") && view.last_exit == Some(Exit::Code(3))
    };
    let (views, _) = until(&stage.bed, "broken", LIMIT, |views| views.iter().any(named))?;
    let looping = views.iter().find(|view| named(view)).ok_or("it was there a moment ago")?;
    stage.must(looping.reason.starts_with("crash loop: "), || format!("{looping:?}"))?;
    until(&stage.bed, "broken", LIMIT, |views| {
        views.iter().any(|view| view.node.is_some() && view.node != looping.node)
    })?;

    let told = stage.wherry(&["describe", "service", "broken"])?;
    stage.must(told.contains("are used up"), || format!("why it moved is told:\n{told}"))
}

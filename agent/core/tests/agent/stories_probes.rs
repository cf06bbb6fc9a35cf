//! Stories of processes that run and do not answer, and of those that end again and again.

use agent_core::{effect::Effect, input::Input};
use api_types::{
    assignment::Assignment,
    counter::Epoch,
    instance::{Exit, Health, InstanceState},
    probe::{ProbeKind, ProbeSpec},
    restart::RestartSpec,
};

use crate::node::{Node, assignment, id, probe, probed, set, stopped};

/// An instance that is asked whether it lives.
fn watched(instance: &str) -> Assignment {
    let restart = RestartSpec { liveness: Some(probe(0)), ..RestartSpec::default() };
    Assignment { restart, ..assignment(instance) }
}

/// An instance that must have started within 30 s.
fn slow(instance: &str) -> Assignment {
    let startup = ProbeSpec { failures: 1, ..probe(30_000) };
    let restart = RestartSpec { startup: Some(startup), liveness: Some(probe(0)), ..RestartSpec::default() };
    Assignment { restart, ..probed(instance) }
}

fn told(node: &mut Node, attempt: u32, kind: ProbeKind, outcome: Result<&str, &str>) {
    let outcome = outcome.map(str::to_owned).map_err(str::to_owned);
    node.give(Input::Probed { instance: id("web-1"), attempt, kind, outcome });
}

/// The liveness probe of an attempt fails as often as it takes.
fn hang(node: &mut Node, attempt: u32) {
    told(node, attempt, ProbeKind::Liveness, Err("no answer"));
    told(node, attempt, ProbeKind::Liveness, Err("no answer"));
}

fn probes(node: &Node) -> Vec<(ProbeKind, bool, Option<u32>)> {
    let probe = |effect: &Effect| {
        if let Effect::StartProbe { kind, attempt, .. } = effect {
            return Some((*kind, true, Some(*attempt)));
        }
        if let Effect::StopProbe { kind, .. } = effect { Some((*kind, false, None)) } else { None }
    };
    node.log.iter().filter_map(probe).collect()
}

#[test]
fn a_process_that_does_not_live_is_asked_to_end_and_another_starts_when_nothing_is_left_of_it() {
    let mut node = Node::running(&[watched("web-1")]);
    told(&mut node, 0, ProbeKind::Liveness, Ok("status 200"));
    assert_eq!(node.endpoints(), ["web-1"]);
    let from = node.log.len();

    hang(&mut node, 0);

    let status = node.reported("web-1");
    assert_eq!((status.state, status.last_exit), (InstanceState::Starting, Some(Exit::Probe(ProbeKind::Liveness))));
    assert_eq!(status.reason, "killed, as its liveness probe failed: no answer, restart 1");
    assert!(node.endpoints().is_empty(), "nobody balances to it");
    assert_eq!(node.starts(), 1, "not beside the one that is told to end");
    node.pass(1000);
    let moves = node.log[from..].iter().filter_map(|effect| {
        if let Effect::Stop { attempt, grace_ms, .. } = effect {
            return Some(("stop", *attempt, *grace_ms));
        }
        if let Effect::Remove { attempt, .. } = effect {
            return Some(("remove", *attempt, 0));
        }
        if let Effect::Start { attempt, .. } = effect { Some(("start", *attempt, 0)) } else { None }
    });
    assert_eq!(moves.collect::<Vec<_>>(), [("stop", 0, 7000), ("remove", 0, 0), ("start", 1, 0)]);
    let status = node.reported("web-1");
    assert_eq!((status.state, status.restarts), (InstanceState::Running, 1));
    assert_eq!(status.last_exit, Some(Exit::Probe(ProbeKind::Liveness)), "not how it ended when it was told to");
    assert_eq!(status.findings.last_lines, "the last words of attempt 0");
    assert_eq!(node.endpoints(), ["web-1"]);
}

#[test]
fn a_process_that_never_lives_is_a_crash_loop_with_growing_pauses() {
    let mut node = Node::running(&[watched("web-1")]);
    let mut pauses = Vec::new();

    for attempt in 0..5 {
        hang(&mut node, attempt);
        let before = node.now;
        while node.state("web-1") != Some(InstanceState::Running) {
            node.pass(100);
        }
        pauses.push(node.now.since(before) / 1000);
    }

    assert_eq!(pauses, [0, 1, 2, 4, 8]);
    assert!(node.reported("web-1").findings.crash_loop);
    assert_eq!(
        node.reported("web-1").reason,
        "crash loop: the process before killed, as its liveness probe failed: no answer"
    );
}

#[test]
fn a_process_that_was_well_for_long_is_forgiven_its_past() {
    let mut node = Node::running(&[watched("web-1")]);
    for attempt in 0..3 {
        hang(&mut node, attempt);
        node.pass(10_000);
    }
    assert!(node.reported("web-1").findings.crash_loop);

    told(&mut node, 3, ProbeKind::Liveness, Ok("status 200"));
    node.pass(61_000);

    let status = node.reported("web-1");
    assert!(status.findings.is_empty(), "{status:?}");
    assert_eq!((status.reason.as_str(), status.restarts), ("", 3));
    assert_eq!(node.agent.next_deadline(), None, "all is quiet");
}

#[test]
fn what_fails_its_health_probe_gets_no_connections_and_is_not_restarted() {
    let mut node = Node::running(&[Assignment { probe: Some(probe(0)), ..watched("web-1") }]);
    told(&mut node, 0, ProbeKind::Liveness, Ok(""));
    told(&mut node, 0, ProbeKind::Health, Ok(""));
    assert_eq!(node.endpoints(), ["web-1"]);

    for _ in 0..9 {
        told(&mut node, 0, ProbeKind::Health, Err("GET / on port 80: status 503: busy"));
    }

    assert!(node.endpoints().is_empty());
    assert_eq!(node.starts(), 1);
    let status = node.reported("web-1");
    assert_eq!((status.state, status.health), (InstanceState::Running, Health::Unhealthy));
    let [finding] = status.findings.probes.as_slice() else { panic!("{:?}", status.findings) };
    assert_eq!((finding.kind, finding.health), (ProbeKind::Health, Health::Unhealthy));
    assert_eq!(finding.output, "GET / on port 80: status 503: busy");
}

#[test]
fn until_it_has_started_nothing_else_is_asked() {
    let mut node = Node::running(&[slow("web-1")]);

    told(&mut node, 0, ProbeKind::Startup, Err("not yet"));
    told(&mut node, 0, ProbeKind::Liveness, Err("nobody asked"));
    told(&mut node, 0, ProbeKind::Liveness, Err("nobody asked"));
    let before = (node.endpoints(), node.reported("web-1"));
    told(&mut node, 0, ProbeKind::Startup, Ok("ready"));
    told(&mut node, 0, ProbeKind::Health, Ok(""));

    assert_eq!(before.0, [""; 0]);
    assert_eq!((before.1.health, before.1.reason.as_str()), (Health::Unknown, "startup: not yet"));
    assert_eq!(node.endpoints(), ["web-1"]);
    let [first, second, third, fourth] = probes(&node)[..] else { panic!("{:?}", probes(&node)) };
    assert_eq!([first, second], [(ProbeKind::Startup, true, Some(0)), (ProbeKind::Startup, false, None)]);
    assert_eq!([third, fourth], [(ProbeKind::Health, true, Some(0)), (ProbeKind::Liveness, true, Some(0))]);
}

#[test]
fn what_has_not_started_in_time_is_started_again() {
    let mut node = Node::running(&[slow("web-1")]);

    told(&mut node, 0, ProbeKind::Startup, Err("not yet"));
    node.pass(30_000);
    let in_time = node.starts();
    told(&mut node, 0, ProbeKind::Startup, Err("not yet"));
    node.pass(1000);

    assert_eq!((in_time, node.starts()), (1, 2));
    assert_eq!(node.reported("web-1").last_exit, Some(Exit::Probe(ProbeKind::Startup)));
}

#[test]
fn a_service_without_a_health_probe_is_healthy_once_it_has_started() {
    let mut node = Node::running(&[Assignment { probe: None, ..slow("web-1") }]);
    let before = node.reported("web-1").health;

    told(&mut node, 0, ProbeKind::Startup, Ok("ready"));

    assert_eq!((before, node.reported("web-1").health), (Health::Unknown, Health::Healthy));
}

#[test]
fn an_end_that_nobody_answers_is_not_waited_for() {
    let mut node = Node::running(&[watched("web-1")]);
    hang(&mut node, 0);
    node.drop_answers();

    node.pass(16_900);
    let before = node.starts();
    node.pass(1000);

    assert_eq!((before, node.starts()), (1, 2));
}

#[test]
fn a_process_that_hangs_is_ended_while_the_node_is_cut_off_and_when_containerd_is_back() {
    let mut node = Node::running(&[watched("web-1")]);
    node.give(Input::SessionClosed);
    node.give(Input::RuntimeLost);

    hang(&mut node, 0);
    node.pass(5000);
    let while_away = node.count(|effect| matches!(effect, Effect::Stop { .. }));
    node.observe();
    node.pass(1000);

    assert_eq!((while_away, node.starts()), (0, 2));
    assert_eq!(node.state("web-1"), Some(InstanceState::Running));
}

#[test]
fn an_end_that_containerd_forgot_is_asked_for_again_and_counts_once() {
    let restart = RestartSpec { max_restarts: Some(1), ..watched("web-1").restart };
    let mut node = Node::running(&[Assignment { restart, ..watched("web-1") }]);
    hang(&mut node, 0);
    node.drop_answers();
    let pid = 4711;
    node.containers.insert((id("web-1"), 0), Some(pid));

    node.give(Input::RuntimeLost);
    node.observe();
    node.pass(1000);

    assert_eq!(node.count(|effect| matches!(effect, Effect::Stop { .. })), 2);
    assert_eq!(node.starts(), 2);
    assert!(!node.reported("web-1").findings.used_up, "one restart is allowed");
}

#[test]
fn what_is_told_to_stop_while_it_is_ended_for_its_probe_leaves_nothing() {
    let mut node = Node::running(&[watched("web-1")]);
    hang(&mut node, 0);

    node.give(Input::Assigned(set(2, &[stopped(watched("web-1"))])));
    node.pass(30_000);

    assert!(node.containers.is_empty() && node.networks.is_empty());
    assert_eq!(node.starts(), 1);
}

#[test]
fn restarts_that_are_used_up_are_told_and_go_on_with_and_without_a_scheduler() {
    let restart = RestartSpec { max_restarts: Some(2), ..RestartSpec::default() };
    let mut node = Node::running(&[Assignment { restart, ..assignment("web-1") }]);
    let mut told = Vec::new();

    for attempt in 0..6 {
        if attempt == 4 {
            node.give(Input::SessionClosed);
        }
        node.exit("web-1", Exit::Code(139));
        node.pass(20_000);
        if attempt < 3 {
            told.push(node.reports.last().expect("a report").statuses[0].findings.used_up);
        }
    }
    node.give(Input::SessionOpened { epoch: Epoch(2) });

    assert_eq!(told, [false, false, true]);
    assert_eq!((node.starts(), node.state("web-1")), (7, Some(InstanceState::Running)));
}

#[test]
fn the_last_lines_are_asked_for_once_an_end_and_kept_at_a_bounded_length() {
    let mut node = Node::running(&[assignment("web-1")]);
    node.exit("web-1", Exit::Code(1));
    node.pass(1000);
    let asked = node.count(|effect| matches!(effect, Effect::ReadLastLines { attempt: 0, .. }));

    let lines = format!("{}end", "\u{20ac}".repeat(1000));
    node.give(Input::LastLines { instance: id("web-1"), attempt: 0, lines });

    assert_eq!(asked, 1);
    let kept = node.reported("web-1").findings.last_lines;
    assert!(kept.len() <= 500 && kept.ends_with("\u{20ac}end"), "{kept}");
}

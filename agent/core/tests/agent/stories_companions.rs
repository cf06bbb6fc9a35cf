//! Init steps before the main process, and sidecars beside it.

use agent_core::{
    effect::{CompanionWish, Effect},
    input::{CompanionAttempt, CompanionEvent, Input},
};
use api_types::{
    assignment::Assignment,
    counter::Epoch,
    instance::{Exit, Health, InstanceState},
    restart::RestartSpec,
};

use crate::node::{Node, accompanied, set, stopped, table};

const FETCH: u8 = 0;
const MIGRATE: u8 = 1;
const PROXY: u8 = 2;

/// A node with a session, whose init steps run on until somebody ends them.
fn with_long_steps(assignment: Assignment) -> Node {
    let mut node = Node::new();
    node.steps_end = None;
    node.observe();
    node.give(Input::SessionOpened { epoch: Epoch(1) });
    node.give(Input::Services(table(1, &["web"], &[])));
    node.give(Input::Assigned(set(1, &[assignment])));
    node.pass(1000);
    node
}

/// How often a companion was started.
fn starts_of(node: &Node, companion: u8) -> usize {
    node.count(|effect| {
        matches!(effect, Effect::Companion { key, wish: CompanionWish::Start { .. } } if key.companion == companion)
    })
}

#[test]
fn steps_run_one_after_another_to_success_before_the_main_process() {
    let mut node = with_long_steps(accompanied("web-1"));
    let first = (starts_of(&node, FETCH), starts_of(&node, MIGRATE), node.starts());
    let told = node.reported("web-1");

    node.companion_exit("web-1", FETCH, Exit::Code(0));
    node.pass(1000);
    let second = (starts_of(&node, FETCH), starts_of(&node, MIGRATE), node.starts());
    node.companion_exit("web-1", MIGRATE, Exit::Code(0));
    node.pass(1000);

    assert_eq!((first, second), ((1, 0, 0), (1, 1, 0)));
    assert_eq!((told.state, told.reason.as_str()), (InstanceState::Starting, "init step `fetch` is under way"));
    assert_eq!((node.starts(), starts_of(&node, PROXY)), (1, 1));
    assert_eq!(node.endpoints(), ["web-1"]);
    assert_eq!(node.companions.len(), 1, "what the steps left is removed: {:?}", node.companions);
}

#[test]
fn a_step_that_fails_is_tried_again_alone_with_the_back_off_of_its_instance() {
    let mut node = with_long_steps(accompanied("web-1"));
    node.companion_exit("web-1", FETCH, Exit::Code(0));
    node.pass(1000);

    node.companion_exit("web-1", MIGRATE, Exit::Code(3));
    node.pass(100);
    let at_once = starts_of(&node, MIGRATE);
    node.companion_exit("web-1", MIGRATE, Exit::Code(3));
    node.pass(900);
    let told = node.reported("web-1");
    let waits = starts_of(&node, MIGRATE);
    node.pass(200);

    assert_eq!((at_once, waits, starts_of(&node, MIGRATE)), (2, 2, 3));
    assert_eq!((starts_of(&node, FETCH), node.starts()), (1, 0));
    assert_eq!(told.reason, "init step `migrate` exited with code 3, restart 2 in 1 s");
    assert_eq!(told.last_exit, Some(Exit::Code(3)));
    assert_eq!(told.findings.last_lines, "the last words of migrate");
}

#[test]
fn what_a_try_of_a_step_left_is_removed_though_a_later_try_is_done() {
    let mut node = with_long_steps(accompanied("web-1"));
    let first = node.companion("web-1", FETCH).expect("it runs");
    let is_removal =
        |effect: &Effect| matches!(effect, Effect::Companion { key, wish: CompanionWish::Remove } if *key == first);

    node.companion_exit("web-1", FETCH, Exit::Code(3));
    let event = CompanionEvent::RemoveFailed { reason: "device or resource busy".to_owned() };
    node.give(Input::Companion { key: first.clone(), event });
    node.pass(500);
    node.companion_exit("web-1", FETCH, Exit::Code(0));
    node.pass(5000);

    assert_eq!((starts_of(&node, FETCH), starts_of(&node, MIGRATE)), (2, 1));
    assert_eq!(node.count(is_removal), 2, "it is tried again");
    assert!(node.agent.next_deadline().is_none_or(|(at, _)| at > node.now), "{:?}", node.agent.next_deadline());
}

#[test]
fn steps_that_keep_failing_use_up_the_restarts_that_are_allowed() {
    let restart = RestartSpec { max_restarts: Some(1), ..RestartSpec::default() };
    let mut node = with_long_steps(Assignment { restart, ..accompanied("web-1") });

    for _ in 0..3 {
        node.companion_exit("web-1", FETCH, Exit::Code(1));
        node.pass(5000);
    }

    let findings = node.reported("web-1").findings;
    assert!(findings.used_up && findings.crash_loop, "{findings:?}");
}

#[test]
fn every_start_of_the_main_process_has_the_steps_before_it() {
    let mut node = Node::running(&[accompanied("web-1")]);
    let before = (starts_of(&node, FETCH), starts_of(&node, MIGRATE), starts_of(&node, PROXY));

    node.exit("web-1", Exit::Code(1));
    node.pass(1000);

    assert_eq!(before, (1, 1, 1));
    assert_eq!((starts_of(&node, FETCH), starts_of(&node, MIGRATE), starts_of(&node, PROXY)), (2, 2, 1));
    assert_eq!((node.starts(), node.state("web-1")), (2, Some(InstanceState::Running)));
}

#[test]
fn a_sidecar_that_dies_is_started_again_without_the_main_process() {
    let mut node = Node::running(&[accompanied("web-1")]);
    node.companion_exit("web-1", PROXY, Exit::Code(1));
    node.pass(500);

    node.companion_exit("web-1", PROXY, Exit::OutOfMemory);
    node.pass(300);
    let (told, endpoints) = (node.reported("web-1"), node.endpoints());
    node.pass(2000);

    assert_eq!((told.state, told.health), (InstanceState::Running, Health::Unhealthy));
    assert_eq!(told.reason, "sidecar `proxy`: killed at its memory limit, restart 2 in 1 s");
    assert_eq!(told.findings.last_lines, "the last words of proxy");
    assert!(endpoints.is_empty(), "{endpoints:?}");
    assert_eq!((starts_of(&node, PROXY), node.starts(), starts_of(&node, FETCH)), (3, 1, 1));
    assert_eq!((node.endpoints(), node.reported("web-1").health), (vec!["web-1".to_owned()], Health::Healthy));
}

#[test]
fn a_sidecar_that_ran_long_is_forgiven() {
    let mut node = Node::running(&[accompanied("web-1")]);
    for _ in 0..3 {
        node.companion_exit("web-1", PROXY, Exit::Code(1));
        node.pass(5000);
    }
    let in_a_loop = node.reported("web-1");

    node.pass(60_000);

    let told = node.reported("web-1");
    assert!(in_a_loop.findings.crash_loop && !told.findings.crash_loop);
    assert_eq!((told.reason.as_str(), told.findings.last_lines.as_str()), ("", ""));
}

#[test]
fn what_an_agent_started_that_was_killed_is_found_and_kept() {
    let mut node = with_long_steps(accompanied("web-1"));
    node.restart_agent();
    node.observe();
    node.pass(1000);
    let while_it_runs = starts_of(&node, FETCH);

    // The step ends well while nobody watches.
    let key = node.companion("web-1", FETCH).expect("it runs on");
    node.companions.insert(key, Err(Exit::Code(0)));
    node.steps_end = Some(Exit::Code(0));
    node.restart_agent();
    node.observe();
    node.pass(1000);
    let started = (starts_of(&node, FETCH), starts_of(&node, MIGRATE), node.starts(), starts_of(&node, PROXY));
    node.restart_agent();
    node.observe();
    node.pass(10_000);

    assert_eq!((while_it_runs, started), (1, (1, 1, 1, 1)));
    assert_eq!((node.starts(), starts_of(&node, PROXY)), (1, 1), "nothing is started again");
    assert_eq!(node.endpoints(), ["web-1"]);
    assert_eq!(node.companions.len(), 1, "{:?}", node.companions);
}

#[test]
fn steps_of_a_start_that_was_are_not_taken_for_those_of_the_next() {
    let mut node = Node::running(&[accompanied("web-1")]);
    // The agent died before it removed them, and the main process ended while nobody watched.
    for companion in [FETCH, MIGRATE] {
        let instance = node.companion("web-1", PROXY).expect("it runs").instance;
        node.companions.insert(CompanionAttempt { instance, companion, attempt: 0 }, Err(Exit::Code(0)));
    }
    let (main, _) = node.process("web-1").expect("it runs");
    node.containers.insert(main, None);

    node.restart_agent();
    node.observe();
    node.pass(3000);

    assert_eq!((starts_of(&node, FETCH), starts_of(&node, MIGRATE), node.starts()), (2, 2, 2));
}

#[test]
fn a_sidecar_that_ended_while_nobody_watched_is_started_again() {
    let mut node = Node::running(&[accompanied("web-1")]);
    let key = node.companion("web-1", PROXY).expect("it runs");
    node.companions.insert(key, Err(Exit::Unknown));

    node.restart_agent();
    node.observe();
    let right_after = node.endpoints();
    node.pass(1000);

    assert!(right_after.is_empty(), "{right_after:?}");
    assert_eq!((starts_of(&node, PROXY), node.starts(), node.endpoints().len()), (2, 1, 1));
}

#[test]
fn after_a_power_cut_all_is_started_in_the_same_order() {
    let mut node = Node::running(&[accompanied("web-1")]);
    node.log.clear();

    node.reboot();
    node.observe();
    node.pass(3000);

    let order: Vec<String> = node.log.iter().filter_map(started).collect();
    assert_eq!(order, ["companion 0", "companion 1", "main", "companion 2"]);
    assert_eq!((node.state("web-1"), node.companions.len()), (Some(InstanceState::Running), 1));
}

#[test]
fn sidecars_end_after_the_main_process_and_nothing_is_left() {
    let mut node = Node::running(&[accompanied("web-1")]);
    node.log.clear();

    node.give(Input::Assigned(set(2, &[stopped(accompanied("web-1"))])));
    node.pass(20_000);

    let order: Vec<&str> = node.log.iter().filter_map(stopped_what).collect();
    assert_eq!(order, ["main", "proxy"]);
    assert!(node.containers.is_empty() && node.companions.is_empty() && node.networks.is_empty());
    assert_eq!(node.state("web-1"), None);
}

#[test]
fn an_instance_that_leaves_during_a_step_leaves_nothing() {
    let mut node = with_long_steps(accompanied("web-1"));

    node.give(Input::Assigned(set(2, &[])));
    node.pass(20_000);

    assert!(node.containers.is_empty() && node.companions.is_empty() && node.networks.is_empty());
    assert_eq!((node.starts(), node.state("web-1")), (0, None));
}

#[test]
fn an_image_of_a_companion_that_cannot_be_had_is_named() {
    let mut node = Node::new();
    node.bad_images.insert("registry.lan/proxy:1".to_owned(), "not found".to_owned());
    node.observe();
    node.give(Input::SessionOpened { epoch: Epoch(1) });
    node.give(Input::Assigned(set(1, &[accompanied("web-1")])));
    node.pass(900);
    let told = node.reported("web-1");

    node.bad_images.clear();
    node.pass(5000);

    assert_eq!(told.state, InstanceState::Preparing);
    assert_eq!(told.reason, "image registry.lan/proxy:1: not found; next try in 1 s");
    assert_eq!(node.state("web-1"), Some(InstanceState::Running));
}

#[test]
fn a_sidecar_that_cannot_be_started_is_named_and_ends_nobody() {
    let mut node = Node::running(&[accompanied("web-1")]);
    node.bad_starts = Some("no such program".to_owned());

    node.companion_exit("web-1", PROXY, Exit::Code(1));
    node.pass(500);
    let told = node.reported("web-1");
    node.bad_starts = None;
    node.pass(5000);

    assert_eq!(told.reason, "sidecar `proxy`: cannot start: no such program; next try in 1 s");
    assert_eq!((node.starts(), node.reported("web-1").health), (1, Health::Healthy));
}

#[test]
fn a_lost_network_takes_sidecars_along() {
    let mut node = Node::running(&[accompanied("web-1")]);

    node.networks.clear();
    node.pass(6000);
    node.observe();
    node.pass(3000);

    assert_eq!((node.starts(), starts_of(&node, PROXY)), (2, 2));
    assert_eq!((node.state("web-1"), node.companions.len()), (Some(InstanceState::Running), 1));
}

/// What a wish starts.
fn started(effect: &Effect) -> Option<String> {
    if matches!(effect, Effect::Start { .. }) {
        return Some("main".to_owned());
    }
    let Effect::Companion { key, wish: CompanionWish::Start { .. } } = effect else { return None };
    Some(format!("companion {}", key.companion))
}

/// What a wish asks to end.
fn stopped_what(effect: &Effect) -> Option<&'static str> {
    if matches!(effect, Effect::Stop { .. }) {
        return Some("main");
    }
    let Effect::Companion { key, wish: CompanionWish::Stop { .. } } = effect else { return None };
    (key.companion == PROXY).then_some("proxy")
}

//! Instances that wait for other workloads before their first process.

use agent_core::{effect::Effect, input::Input};
use api_types::{
    assignment::{Assignment, AssignmentSet},
    counter::Epoch,
    dependency::{Awaited, Dependency},
    instance::{Exit, InstanceState},
    probe::ProbeKind,
};

use crate::node::{Node, accompanied, assignment, id, probed, set, table};

/// "`db` is so far."
fn db_is(awaited: Awaited) -> Dependency {
    Dependency { workload: "db".parse().expect("an id"), awaited }
}

/// An instance of `web` that waits until the service `db` is healthy.
fn after_db() -> Assignment {
    Assignment { after: vec![db_is(Awaited::Healthy)], ..assignment("web-1") }
}

/// A set that tells what is so of `db`.
fn set_with(generation: u64, assignments: &[Assignment], met: Awaited) -> AssignmentSet {
    AssignmentSet { met: vec![db_is(met)], ..set(generation, assignments) }
}

/// An instance of the service `db` here, which is probed.
fn db() -> Assignment {
    Assignment { workload: "db".parse().expect("an id"), ..probed("db-1") }
}

fn connected(assignments: &[Assignment]) -> Node {
    let mut node = Node::new();
    node.observe();
    node.give(Input::SessionOpened { epoch: Epoch(1) });
    node.give(Input::Services(table(1, &["db", "web"], &[])));
    node.give(Input::Assigned(set(1, assignments)));
    node.pass(1000);
    node
}

/// The probe of `db-1` answers.
fn probe_db(node: &mut Node) {
    let ((instance, attempt), _) = node.process("db-1").expect("it runs");
    node.give(Input::Probed { instance, attempt, kind: ProbeKind::Health, outcome: Ok("well".to_owned()) });
    node.pass(500);
}

#[test]
fn a_service_elsewhere_is_waited_for_as_long_as_the_scheduler_is_there() {
    let mut node = connected(&[after_db()]);
    node.pass(600_000);
    let (told, starts) = (node.reported("web-1"), node.starts());

    node.give(Input::Services(table(2, &["db", "web"], &[("db-7", "edge-2", 9)])));
    node.pass(500);

    assert_eq!((told.state, told.reason.as_str(), starts), (InstanceState::Preparing, "waits until db is healthy", 0));
    assert_eq!((node.state("web-1"), node.reported("web-1").reason.as_str()), (Some(InstanceState::Running), ""));
}

#[test]
fn a_service_beside_it_is_waited_for_until_its_probe_is_well() {
    let mut node = connected(&[db(), after_db()]);
    let before = node.process("web-1");

    probe_db(&mut node);

    assert_eq!(before, None);
    assert!(node.process("web-1").is_some());
}

#[test]
fn what_was_started_once_waits_no_more() {
    let mut node = connected(&[after_db()]);
    node.give(Input::Services(table(2, &["db", "web"], &[("db-7", "edge-2", 9)])));
    node.pass(500);
    node.give(Input::Services(table(3, &["db", "web"], &[])));

    node.exit("web-1", Exit::Code(1));
    node.pass(500);

    assert!(node.process("web-1").is_some());
}

#[test]
fn after_a_power_cut_without_a_scheduler_the_order_is_kept() {
    let mut node = connected(&[db(), after_db()]);
    probe_db(&mut node);

    node.reboot();
    node.observe();
    node.pass(5000);
    let before = (node.process("db-1").is_some(), node.process("web-1").is_some());
    probe_db(&mut node);

    assert_eq!(before, (true, false));
    assert!(node.process("web-1").is_some());
}

#[test]
fn without_a_scheduler_nobody_is_waited_for_without_end() {
    let mut node = connected(&[after_db()]);
    node.reboot();
    node.observe();
    node.pass(59_000);
    let before = node.process("web-1");

    node.pass(2000);

    assert_eq!(before, None);
    assert!(node.process("web-1").is_some());
}

#[test]
fn a_session_that_ends_does_not_end_the_waiting_at_once() {
    let mut node = connected(&[after_db()]);
    node.pass(600_000);

    node.give(Input::SessionClosed);
    node.pass(59_000);
    let while_away = node.process("web-1");
    node.give(Input::SessionOpened { epoch: Epoch(1) });
    node.pass(600_000);

    assert_eq!((while_away, node.process("web-1")), (None, None));
}

#[test]
fn an_agent_that_is_started_again_lets_what_runs_run() {
    let mut node = connected(&[after_db()]);
    node.give(Input::Services(table(2, &["db", "web"], &[("db-7", "edge-2", 9)])));
    node.pass(500);
    node.disk.1 = None;

    node.restart_agent();
    node.observe();
    node.pass(5000);

    assert_eq!((node.starts(), node.state("web-1")), (1, Some(InstanceState::Running)));
}

#[test]
fn the_waiting_comes_before_the_steps_and_holds_no_image_up() {
    let after = after_db().after;
    let mut node = connected(&[Assignment { after, ..accompanied("web-1") }]);
    let (steps, networks) = (node.companions.len(), node.networks.contains_key(&id("web-1")));

    node.give(Input::Services(table(2, &["db", "web"], &[("db-7", "edge-2", 9)])));
    node.pass(110);
    let soon = node.companions.len();
    node.pass(1000);

    assert_eq!((steps, networks, soon), (0, true, 2), "the first step is over, the second runs");
    assert!(node.process("web-1").is_some());
}

#[test]
fn what_the_scheduler_tells_of_a_workload_elsewhere_is_enough() {
    for awaited in Awaited::ALL {
        let web = Assignment { after: vec![db_is(awaited)], ..assignment("web-1") };
        let mut node = connected(std::slice::from_ref(&web));
        node.pass(600_000);
        let (before, told) = (node.starts(), node.reported("web-1").reason);

        node.give(Input::Assigned(set_with(2, &[web], awaited)));
        node.pass(500);

        assert_eq!((before, told), (0, format!("waits until db is {}", awaited.as_str())));
        assert_eq!(node.state("web-1"), Some(InstanceState::Running));
    }
}

#[test]
fn a_process_that_is_to_run_here_is_waited_for_though_one_ran_before() {
    let mut db = db();
    db.container.image = "registry.lan/db:1".to_owned();
    let web = Assignment { after: vec![db_is(Awaited::Started)], ..assignment("web-1") };
    let mut node = connected(&[]);
    node.give(Input::Assigned(set_with(2, &[db, web], Awaited::Started)));
    node.pass(1000);
    let started = |effect: &Effect| {
        if let Effect::Start { assignment, .. } = effect { Some(assignment.instance.to_string()) } else { None }
    };
    let order: Vec<_> = node.log.iter().filter_map(started).collect();

    node.reboot();
    node.bad_images.insert("registry.lan/db:1".to_owned(), "no luck".to_owned());
    node.observe();
    node.pass(30_000);
    let after_boot = node.process("web-1");
    node.pass(31_000);

    assert_eq!((order, after_boot), (vec!["db-1".to_owned(), "web-1".to_owned()], None));
    assert!(node.process("web-1").is_some(), "and not without end");
}

#[test]
fn a_job_that_was_done_before_a_power_cut_is_not_waited_for() {
    let web = Assignment { after: vec![db_is(Awaited::Completed)], ..assignment("web-1") };
    let mut node = connected(std::slice::from_ref(&web));
    node.give(Input::Assigned(set_with(2, &[web], Awaited::Completed)));
    node.pass(500);

    node.reboot();
    node.observe();
    node.pass(5000);

    assert!(node.process("web-1").is_some());
}

//! Stories of instances that their node ends when nobody is sure to hear it.

use agent_core::{effect::Effect, input::Input};
use api_types::{
    assignment::Assignment,
    counter::Epoch,
    instance::{Exit, InstanceState},
};

use crate::node::{Node, assignment, id, probed, set, stopped, table};

const STOP_AFTER_MS: u64 = 20_000;

/// An instance of which no two may run.
fn single(instance: &str) -> Assignment {
    Assignment { stop_after_ms: Some(STOP_AFTER_MS), ..assignment(instance) }
}

/// A node that runs these, and was heard just now.
fn heard(assignments: &[Assignment]) -> Node {
    let mut node = Node::new();
    node.observe();
    node.give(Input::LeaseRenewed { age_ms: 0 });
    node.give(Input::SessionOpened { epoch: Epoch(1) });
    node.give(Input::Services(table(1, &["web"], &[])));
    node.give(Input::Assigned(set(1, assignments)));
    node.give(Input::LeaseRenewed { age_ms: 0 });
    node.pass(2_000);
    node.give(Input::LeaseRenewed { age_ms: 0 });
    node
}

fn stops(node: &Node) -> usize {
    node.count(|effect| matches!(effect, Effect::Stop { .. }))
}

#[test]
fn one_that_is_not_heard_for_so_long_ends_what_may_run_once_and_nothing_else() {
    let mut node = heard(&[single("db-1"), assignment("web-1")]);
    node.give(Input::SessionClosed);

    node.pass(STOP_AFTER_MS - 1);
    let before = (node.process("db-1").is_some(), node.kept_tries.len());
    node.pass(1);
    let at_once = (node.process("db-1").is_some(), node.endpoints());
    node.pass(600_000);

    assert_eq!(before, (true, 0));
    assert_eq!(at_once, (false, vec!["web-1".to_owned()]), "it waits for no connections");
    assert!(node.kept_tries[&id("db-1")].fenced);
    assert!(node.process("web-1").is_some() && node.process("db-1").is_none());
    assert_eq!((stops(&node), node.starts()), (1, 2));
}

#[test]
fn a_lease_that_is_renewed_goes_on_and_an_open_session_alone_renews_none() {
    let mut node = heard(&[single("db-1")]);

    for _ in 0..100 {
        node.pass(1_000);
        node.give(Input::LeaseRenewed { age_ms: 10 });
    }
    let renewed = node.process("db-1").is_some();
    node.pass(STOP_AFTER_MS);

    assert!(renewed && node.process("db-1").is_none());
}

#[test]
fn what_was_heard_long_ago_renews_nothing() {
    let mut node = heard(&[single("db-1")]);
    node.pass(10_000);

    node.give(Input::LeaseRenewed { age_ms: 15_000 });
    node.pass(STOP_AFTER_MS - 10_000 - 1);
    let before = node.process("db-1").is_some();
    node.pass(1);

    assert!(before && node.process("db-1").is_none());
}

#[test]
fn what_the_machine_slept_counts() {
    let mut node = heard(&[single("db-1")]);

    node.give(Input::Slept { ms: STOP_AFTER_MS - 1 });
    let before = node.process("db-1").is_some();
    node.pass(1);

    assert!(before && node.process("db-1").is_none());
}

#[test]
fn a_crash_is_restarted_as_long_as_the_lease_lasts_and_not_after_it() {
    let mut node = heard(&[single("db-1")]);
    node.give(Input::SessionClosed);

    node.exit("db-1", Exit::Code(1));
    node.pass(1_000);
    let restarted = node.process("db-1").is_some();
    node.exit("db-1", Exit::Code(1));
    node.give(Input::Slept { ms: STOP_AFTER_MS });
    node.pass(600_000);

    assert!(restarted && node.process("db-1").is_none());
    assert_eq!(node.starts(), 2);
}

#[test]
fn what_was_fenced_is_told_once_nothing_of_it_is_left_and_never_runs_again() {
    let mut node = heard(&[single("db-1")]);
    node.give(Input::SessionClosed);
    node.pass(STOP_AFTER_MS);
    node.reports.clear();

    node.give(Input::LeaseRenewed { age_ms: 0 });
    node.give(Input::SessionOpened { epoch: Epoch(1) });
    let at_first = node.reported("db-1").state;
    node.pass(60_000);
    let status = node.reported("db-1");
    node.give(Input::Assigned(set(2, &[stopped(single("db-1"))])));
    node.pass(1_000);

    assert_eq!((at_first, status.state), (InstanceState::Stopping, InstanceState::Stopped));
    assert_eq!(status.reason, "it ended itself: the scheduler did not hear its node for 20 s");
    assert_eq!((status.last_exit, status.address, node.starts()), (None, None, 1));
    assert!(node.kept_tries.is_empty() && node.networks.is_empty() && node.outputs.is_empty());
    assert!(node.reports.iter().any(|report| report.gone == [id("db-1")]), "{:?}", node.reports);
}

#[test]
fn an_agent_that_is_started_again_goes_on_with_the_lease_of_the_one_before() {
    let mut node = heard(&[single("db-1")]);
    node.give(Input::SessionClosed);
    node.pass(5_000);

    node.restart_agent();
    node.give(Input::LeaseRenewed { age_ms: 5_000 });
    node.observe();
    node.pass(STOP_AFTER_MS - 5_000 - 1);
    let before = node.process("db-1").is_some();
    node.pass(1);

    assert!(before && node.process("db-1").is_none());
    assert_eq!(node.starts(), 1);
}

#[test]
fn what_was_fenced_stays_so_in_an_agent_that_is_heard_after_it_was_started_again() {
    let mut node = heard(&[single("db-1")]);
    node.give(Input::SessionClosed);
    node.pass(STOP_AFTER_MS);

    node.restart_agent();
    node.give(Input::LeaseRenewed { age_ms: 0 });
    node.give(Input::SessionOpened { epoch: Epoch(1) });
    node.observe();
    node.pass(60_000);

    assert_eq!((node.reported("db-1").state, node.starts()), (InstanceState::Stopped, 1));
}

#[test]
fn after_a_power_cut_nobody_knows_how_long_it_was_so_nothing_starts_that_may_run_once() {
    let mut node = heard(&[single("db-1"), assignment("web-1")]);

    node.reboot();
    node.observe();
    node.pass(5_000);
    let alone = (node.process("db-1").is_some(), node.process("web-1").is_some());
    node.give(Input::LeaseRenewed { age_ms: 0 });
    node.give(Input::SessionOpened { epoch: Epoch(1) });
    node.pass(60_000);

    assert_eq!(alone, (false, true));
    assert_eq!(node.reported("db-1").state, InstanceState::Stopped);
    assert!(node.process("db-1").is_none());
}

#[test]
fn a_start_that_is_under_way_when_the_lease_ends_is_ended_as_soon_as_it_is_there() {
    let mut node = Node::new();
    node.observe();
    node.give(Input::SessionOpened { epoch: Epoch(1) });
    node.give(Input::Assigned(set(1, &[single("db-1")])));
    node.give(Input::LeaseRenewed { age_ms: 0 });
    node.give(Input::Slept { ms: STOP_AFTER_MS - 325 });

    node.pass(10_000);

    assert_eq!((node.starts(), stops(&node)), (1, 1));
    assert!(node.process("db-1").is_none() && node.containers.is_empty());
}

#[test]
fn leases_are_asked_for_only_where_something_runs_by_one() {
    let mut node = heard(&[assignment("web-1")]);
    let without = node.agent.holds_leases();

    node.give(Input::Assigned(set(2, &[assignment("web-1"), single("db-1")])));
    let with = node.agent.holds_leases();
    node.give(Input::Slept { ms: STOP_AFTER_MS });
    node.pass(1_000);

    assert_eq!((without, with, node.agent.holds_leases()), (false, true, false));
}

#[test]
fn what_is_assigned_long_after_a_sign_of_life_was_answered_waits_for_the_next_answer() {
    let mut node = heard(&[assignment("web-1")]);
    node.pass(10 * STOP_AFTER_MS);
    node.give(Input::LeaseRenewed { age_ms: STOP_AFTER_MS - 1 });

    node.give(Input::Assigned(set(2, &[assignment("web-1"), single("db-1")])));
    node.pass(5_000);
    let before = (node.process("db-1").is_some(), node.reported("db-1").reason);
    node.give(Input::LeaseRenewed { age_ms: 20 });
    node.pass(1_000);

    assert_eq!(before, (false, "waits until the scheduler answers".to_owned()));
    assert!(node.process("db-1").is_some());
}

#[test]
fn what_waits_for_an_answer_as_long_as_a_lease_would_last_is_never_started() {
    let mut node = heard(&[]);
    node.pass(10 * STOP_AFTER_MS);

    node.give(Input::Assigned(set(2, &[single("db-1")])));
    node.pass(STOP_AFTER_MS);
    node.give(Input::LeaseRenewed { age_ms: 0 });
    node.pass(60_000);

    assert_eq!((node.reported("db-1").state, node.starts()), (InstanceState::Stopped, 0));
}

#[test]
fn what_is_fenced_is_probed_no_more() {
    let mut node = heard(&[Assignment { stop_after_ms: Some(STOP_AFTER_MS), ..probed("db-1") }]);

    node.give(Input::Slept { ms: STOP_AFTER_MS });

    let stopped = |effect: &Effect| matches!(effect, Effect::StopProbe { instance, .. } if instance.as_str() == "db-1");
    assert_eq!((stops(&node), node.count(stopped)), (1, 1));
}

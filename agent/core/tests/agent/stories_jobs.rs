//! Stories of instances that shall end by themselves.

use agent_core::{effect::Effect, input::Input};
use api_types::{
    assignment::Assignment,
    counter::Epoch,
    instance::{Exit, InstanceState},
};

use crate::node::{Node, assignment, id, set, stopped, table};

/// An instance of a job that is tried so often after its first failure.
fn job(instance: &str, retries: u32) -> Assignment {
    Assignment { retries: Some(retries), ports: Vec::new(), ..assignment(instance) }
}

fn removals_of_output(node: &Node) -> usize {
    node.count(|effect| matches!(effect, Effect::RemoveNetwork { keeps_output: false, .. }))
}

#[test]
fn one_that_ends_with_success_is_done_and_only_what_it_wrote_stays() {
    let mut node = Node::running(&[job("migrate-1", 3), assignment("web-1")]);
    let starts = node.starts();

    node.exit("migrate-1", Exit::Code(0));
    node.pass(120_000);

    let status = node.reported("migrate-1");
    assert_eq!((status.state, status.reason.as_str()), (InstanceState::Completed, ""));
    assert_eq!((status.last_exit, status.restarts, status.address), (Some(Exit::Code(0)), 0, None));
    assert_eq!(node.starts(), starts);
    assert_eq!(node.containers.len(), 1, "{:?}", node.containers);
    assert!(!node.networks.contains_key(&id("migrate-1")) && node.outputs.contains(&id("migrate-1")));
}

#[test]
fn one_that_fails_is_tried_again_with_growing_pauses_and_then_given_up() {
    let mut node = Node::running(&[job("migrate-1", 2)]);

    let mut waited = Vec::new();
    for _ in 0..2 {
        node.exit("migrate-1", Exit::Code(3));
        let ended = node.now;
        while node.process("migrate-1").is_none() {
            node.pass(10);
        }
        waited.push(node.now.since(ended) >= 1_000);
    }
    node.exit("migrate-1", Exit::Code(4));
    node.pass(120_000);

    assert_eq!(waited, [false, true]);
    let status = node.reported("migrate-1");
    assert_eq!((status.state, status.last_exit, status.restarts), (InstanceState::Failed, Some(Exit::Code(4)), 2));
    assert_eq!(status.reason, "exited with code 4, the last of 3 tries");
    assert_eq!(node.starts(), 3);
    assert!(node.process("migrate-1").is_none() && node.outputs.contains(&id("migrate-1")));
}

#[test]
fn what_is_done_is_told_to_every_session_until_it_is_told_to_leave() {
    let mut node = Node::running(&[job("migrate-1", 0)]);
    node.give(Input::SessionClosed);
    node.exit("migrate-1", Exit::Code(0));
    node.pass(1_000);
    node.reports.clear();

    node.give(Input::SessionOpened { epoch: Epoch(1) });
    node.pass(1_000);
    let told = node.reported("migrate-1").state;
    node.give(Input::Assigned(set(2, &[stopped(job("migrate-1", 0))])));
    node.pass(1_000);

    assert_eq!(told, InstanceState::Completed);
    assert!(node.outputs.is_empty() && node.networks.is_empty());
    assert_eq!(removals_of_output(&node), 1);
    assert!(node.reports.iter().any(|report| report.gone == [id("migrate-1")]), "{:?}", node.reports);
}

#[test]
fn what_is_done_is_not_done_again_after_a_restart_or_a_power_cut() {
    let mut node = Node::running(&[job("migrate-1", 0), job("backup-1", 1)]);
    node.exit("migrate-1", Exit::Code(0));
    node.exit("backup-1", Exit::Code(1));
    node.pass(1_000);
    node.exit("backup-1", Exit::Code(1));
    node.pass(1_000);
    let starts = node.starts();

    for boots in [false, true] {
        if boots {
            node.reboot();
        } else {
            node.restart_agent();
        }
        node.observe();
        node.give(Input::SessionOpened { epoch: Epoch(1) });
        node.pass(60_000);

        let states = ["migrate-1", "backup-1"].map(|instance| node.reported(instance).state);
        assert_eq!(states, [InstanceState::Completed, InstanceState::Failed], "boots: {boots}");
    }
    assert_eq!(node.starts(), starts);
    node.give(Input::Assigned(set(2, &[])));
    node.pass(1_000);
    assert!(node.outputs.is_empty(), "{:?}", node.outputs);
}

#[test]
fn tries_are_counted_through_restarts_of_the_agent() {
    let mut node = Node::running(&[job("backup-1", 2)]);

    for _ in 0..3 {
        node.exit("backup-1", Exit::Code(1));
        node.pass(50);
        node.restart_agent();
        node.observe();
        node.pass(5_000);
    }

    assert_eq!(node.state("backup-1"), Some(InstanceState::Failed));
    assert_eq!(node.starts(), 3);
}

#[test]
fn an_end_that_nobody_saw_is_no_failure_of_the_process() {
    let mut node = Node::running(&[job("backup-1", 0)]);

    node.reboot();
    node.observe();
    node.pass(5_000);
    let after_the_cut = node.state("backup-1");
    node.exit("backup-1", Exit::Code(0));
    node.pass(1_000);

    assert_eq!((after_the_cut, node.state("backup-1")), (Some(InstanceState::Running), Some(InstanceState::Completed)));
    assert_eq!(node.starts(), 2);
}

#[test]
fn one_that_is_told_to_leave_while_it_waits_for_its_next_try_leaves() {
    let mut node = Node::running(&[job("backup-1", 5)]);
    node.give(Input::Services(table(2, &["web"], &[])));
    node.exit("backup-1", Exit::Code(1));
    node.pass(1_000);
    node.exit("backup-1", Exit::Code(1));
    node.pass(100);
    let waits = node.process("backup-1").is_none();

    node.give(Input::Assigned(set(2, &[stopped(job("backup-1", 5))])));
    node.pass(60_000);

    assert!(waits);
    assert_eq!((node.state("backup-1"), node.starts()), (None, 2));
    assert!(node.outputs.is_empty() && node.containers.is_empty());
}

//! Stories of ends that lose no request: which table the scheduler is told of, and what the last signal waits for.

use agent_core::{effect::Effect, input::Input};
use api_types::{
    assignment::Assignment,
    container::ContainerSpec,
    counter::{Epoch, Generation},
};

use crate::node::{Node, assignment, probed, set, stopped, table};

#[test]
fn the_scheduler_is_told_which_table_the_kernel_has_only_once_it_has_it() {
    let mut node = Node::running(&[assignment("web-1")]);
    node.kernel_ms = Some(300);
    assert_eq!(node.confirmed, Some((Epoch(1), Generation(1))));

    node.give(Input::Services(table(2, &["web"], &[("web-7", "edge-2", 9)])));
    node.pass(299);
    assert_eq!(node.confirmed, Some((Epoch(1), Generation(1))), "the kernel is not done");
    node.pass(1);

    assert_eq!(node.confirmed, Some((Epoch(1), Generation(2))));
}

#[test]
fn a_table_that_changes_nothing_here_is_confirmed_at_once() {
    let mut node = Node::running(&[assignment("web-1")]);

    node.give(Input::Services(table(2, &["web"], &[("web-1", "edge-1", 2)])));

    assert_eq!(node.confirmed, Some((Epoch(1), Generation(2))), "the kernel balances like this already");
}

#[test]
fn a_kernel_that_fails_confirms_nothing() {
    let mut node = Node::running(&[assignment("web-1")]);
    node.kernel_ms = None;

    node.give(Input::Services(table(2, &["web"], &[("web-7", "edge-2", 9)])));
    node.give(Input::ServicesFailed { reason: "netlink: busy".to_owned() });
    node.pass(5000);

    assert_eq!(node.confirmed, Some((Epoch(1), Generation(1))));
}

#[test]
fn each_session_is_told_which_table_the_kernel_has() {
    let mut node = Node::running(&[assignment("web-1")]);
    let told = |node: &Node| node.count(|effect| matches!(effect, Effect::ConfirmTable(_)));
    let before = told(&node);

    node.give(Input::SessionClosed);
    node.give(Input::Services(table(2, &["web"], &[])));
    node.pass(1000);
    assert_eq!(told(&node), before, "there is nobody to tell");
    node.give(Input::SessionOpened { epoch: Epoch(2) });

    assert_eq!((told(&node), node.confirmed), (before + 1, Some((Epoch(1), Generation(2)))));
}

#[test]
fn an_instance_without_connections_ends_after_a_lull() {
    let mut node = Node::running(&[assignment("web-1")]);

    node.give(Input::Assigned(set(2, &[stopped(assignment("web-1"))])));
    node.pass(240);
    assert_eq!(stops(&node), 0, "connections may be on their way to it");
    node.pass(20);

    assert_eq!(stops(&node), 1, "nobody is connected");
}

#[test]
fn open_connections_may_end_before_their_instance() {
    let mut node = Node::running(&[assignment("web-1")]);
    node.connections = 3;

    node.give(Input::Assigned(set(2, &[stopped(assignment("web-1"))])));
    node.pass(8000);
    assert_eq!(stops(&node), 0, "three are connected");
    node.connections = 0;
    node.pass(600);

    assert_eq!(stops(&node), 1, "the last one hung up");
}

#[test]
fn connections_that_stay_open_hold_an_end_up_for_the_drain_time_only() {
    let mut node = Node::running(&[drained(assignment("web-1"), 3000)]);
    node.connections = 1;

    node.give(Input::Assigned(set(2, &[stopped(drained(assignment("web-1"), 3000))])));
    node.pass(2990);
    assert_eq!(stops(&node), 0);
    node.pass(20);

    assert_eq!(stops(&node), 1);
}

#[test]
fn a_kernel_that_cannot_count_costs_the_drain_time_and_no_more() {
    let mut node = Node::running(&[drained(assignment("web-1"), 3000)]);
    node.give(Input::Assigned(set(2, &[stopped(drained(assignment("web-1"), 3000))])));
    node.pass(252);
    node.drop_answers();

    node.give(Input::ConnectionsCounted { open: Err("netlink: busy".to_owned()) });
    node.connections = 1;
    node.pass(2700);
    assert_eq!(stops(&node), 0);
    node.pass(100);

    assert_eq!(stops(&node), 1);
}

#[test]
fn connections_of_many_are_counted_together_and_not_too_often() {
    let names = ["web-1", "web-2", "web-3"].map(assignment);
    let mut node = Node::running(&names);
    node.connections = 1;

    node.give(Input::Assigned(set(2, &names.map(stopped))));
    node.pass(5250);

    let counts = node.count(|effect| matches!(effect, Effect::CountConnections(all) if all.len() == 3));
    assert_eq!(counts, node.count(|effect| matches!(effect, Effect::CountConnections(_))));
    assert!((5..=11).contains(&counts), "{counts} counts in five seconds");
}

#[test]
fn what_nobody_connects_to_ends_at_once() {
    let lone = Assignment { ports: Vec::new(), ..assignment("batch-1") };
    let mut node = Node::running(std::slice::from_ref(&lone));

    node.give(Input::Assigned(set(2, &[stopped(lone)])));
    node.pass(5);

    assert_eq!(stops(&node), 1);
}

#[test]
fn who_was_told_to_end_is_asked_after_a_restart_until_a_table_names_its_successor() {
    let web = drained(probed("web-1"), 6000);
    let mut node = Node::running(std::slice::from_ref(&web));
    let order = set(2, &[stopped(web)]);
    node.connections = 1;
    // Orders are kept at once, tables once a second: the one that lists the successor came to disk no more.
    node.disk = (Some(order), Some(table(2, &["web"], &[("web-1", "edge-1", 2)])));
    node.restart_agent();

    node.observe();
    node.pass(1000);

    assert_eq!(asked(&node), [("web-1".to_owned(), true)], "it runs, and nobody else is known");
    assert_eq!(stops(&node), 0);

    node.give(Input::SessionOpened { epoch: Epoch(1) });
    node.give(Input::Services(table(3, &["web"], &[("web-2", "edge-2", 2)])));

    assert_eq!(asked(&node), [("web-2".to_owned(), false)]);

    node.connections = 0;
    node.pass(60_000);

    assert!(node.process("web-1").is_none(), "its end is for good");
}

#[test]
fn who_was_told_to_end_ends_also_while_no_table_comes() {
    let web = drained(probed("web-1"), 6000);
    let mut node = Node::running(std::slice::from_ref(&web));
    let order = set(2, &[stopped(web)]);
    node.disk.0 = Some(order);
    node.restart_agent();

    node.observe();
    node.pass(60_000);

    assert!(node.process("web-1").is_none());
    assert!(asked(&node).is_empty());
}

#[test]
fn who_was_told_to_end_leaves_balancing_before_its_end_also_while_no_table_comes() {
    let web = drained(probed("web-1"), 6000);
    let mut node = Node::running(std::slice::from_ref(&web));
    node.disk = (Some(set(2, &[stopped(web)])), Some(table(2, &["web"], &[("web-1", "edge-1", 2)])));
    node.restart_agent();
    node.observe();

    while stops(&node) == 0 {
        assert!(node.process("web-1").is_some());
        node.pass(100);
    }

    assert!(asked(&node).is_empty(), "nobody new comes before the signal");
}

fn stops(node: &Node) -> usize {
    node.count(|effect| matches!(effect, Effect::Stop { .. }))
}

fn drained(assignment: Assignment, drain_ms: u64) -> Assignment {
    Assignment { container: ContainerSpec { drain_ms, ..assignment.container.clone() }, ..assignment }
}

/// Whom the kernel balances `web` to, and whether as a last resort.
fn asked(node: &Node) -> Vec<(String, bool)> {
    let services = &node.balancing.as_ref().expect("programmed").services;
    services[0].endpoints.iter().map(|endpoint| (endpoint.instance.to_string(), endpoint.last_resort)).collect()
}

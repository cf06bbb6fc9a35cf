//! Stories of what an instance is shown while it runs.

use std::collections::BTreeMap;

use agent_core::{effect::Effect, input::Input};
use api_types::{
    assignment::Assignment,
    content::{ContentSpec, FileContent, FileSpec, OnChange},
    counter::Epoch,
    instance::Exit,
};

use crate::node::{Node, assignment, set};

fn shown(text: &str, version: u64, on_change: OnChange) -> Assignment {
    let file = FileSpec { content: FileContent::Text(text.to_owned()), mode: 0o444, owner: None };
    let mut assignment = assignment("web-1");
    assignment.container.content =
        ContentSpec { files: BTreeMap::from([("/etc/app".to_owned(), file)]), env: BTreeMap::new(), on_change };
    assignment.secrets = BTreeMap::from([("db".parse().expect("a name"), version)]);
    assignment
}

/// What was shown anew, by text, version and attempt.
fn refreshed(node: &Node) -> Vec<(String, u64, u32)> {
    let refresh = |effect: &Effect| {
        let Effect::Refresh { assignment, attempt } = effect else { return None };
        let FileContent::Text(text) = &assignment.container.content.files["/etc/app"].content else { return None };
        Some((text.clone(), assignment.secrets.values().sum(), *attempt))
    };
    node.log.iter().filter_map(refresh).collect()
}

fn signal() -> OnChange {
    OnChange::Signal("SIGHUP".to_owned())
}

#[test]
fn what_changed_is_shown_to_the_process_that_runs() {
    for on_change in [signal(), OnChange::Nothing] {
        let mut node = Node::running(&[shown("a", 1, on_change.clone())]);

        node.give(Input::Assigned(set(2, &[shown("b", 1, on_change.clone())])));
        node.give(Input::Assigned(set(3, &[shown("b", 2, on_change.clone())])));
        node.give(Input::Assigned(set(4, &[shown("b", 2, on_change.clone())])));

        assert_eq!(refreshed(&node), [("b".to_owned(), 1, 0), ("b".to_owned(), 2, 0)], "{on_change:?}");
        assert_eq!(node.starts(), 1);
    }
}

#[test]
fn an_instance_that_is_to_be_replaced_keeps_what_it_has_until_it_is_started_again() {
    let mut node = Node::running(&[shown("a", 1, OnChange::Restart)]);

    node.give(Input::Assigned(set(2, &[shown("a", 2, OnChange::Restart)])));
    node.exit("web-1", Exit::Code(1));
    node.pass(500);

    assert!(refreshed(&node).is_empty());
    let versions: Vec<u64> = node.log.iter().filter_map(started_with).collect();
    assert_eq!(versions, [1, 2], "the next attempt is shown the newest");
}

fn started_with(effect: &Effect) -> Option<u64> {
    let Effect::Start { assignment, .. } = effect else { return None };
    Some(assignment.secrets.values().sum())
}

#[test]
fn what_changes_during_a_start_is_shown_after_it() {
    let mut node = Node::new();
    node.observe();
    node.give(Input::SessionOpened { epoch: Epoch(1) });
    node.give(Input::Assigned(set(1, &[shown("a", 1, signal())])));
    while node.starts() == 0 {
        node.pass(1);
    }

    node.give(Input::Assigned(set(2, &[shown("b", 1, signal())])));
    assert!(refreshed(&node).is_empty(), "nothing runs yet");
    node.pass(1000);

    assert_eq!(refreshed(&node), [("b".to_owned(), 1, 0)]);
}

#[test]
fn a_process_that_was_taken_over_is_shown_what_it_may_have_missed() {
    let mut node = Node::running(&[shown("a", 1, signal())]);

    node.restart_agent();
    node.observe();
    node.pass(1000);

    assert_eq!(refreshed(&node), [("a".to_owned(), 1, 0)]);
}

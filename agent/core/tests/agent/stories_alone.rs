//! Stories of jobs that the node begins by its own clock while it hears no scheduler.

use std::collections::{BTreeMap, BTreeSet};

use agent_core::{effect::Effect, input::Input};
use api_types::{
    assignment::{Assignment, AssignmentSet},
    counter::Epoch,
    id::InstanceId,
    instance::{Exit, InstanceState},
    schedule::{JobAhead, Overlap},
    time::Timestamp,
};

use crate::node::{Node, assignment, id, set};

const MINUTE: u64 = 60_000;

/// An instance of the job, as it is assigned.
fn backup(instance: &str) -> Assignment {
    let workload = "backup".parse().expect("an id");
    Assignment { workload, retries: Some(1), ports: Vec::new(), ..assignment(instance) }
}

/// The job is due in so many minutes, by instances that are named after them.
fn ahead(node: &Node, minutes: &[u64], overlap: Overlap) -> JobAhead {
    let coming = |minute: &u64| (node.now + minute * MINUTE, id(&format!("backup-{minute}")));
    JobAhead {
        template: backup("backup-0"),
        late_ms: MINUTE,
        overlap,
        coming: minutes.iter().map(coming).collect(),
        withdrawn: BTreeSet::new(),
    }
}

fn told(generation: u64, assignments: &[Assignment], job: JobAhead) -> AssignmentSet {
    AssignmentSet { ahead: vec![job], ..set(generation, assignments) }
}

/// A node that was told of these minutes from now on, and is cut off.
fn cut_off(minutes: &[u64], overlap: Overlap) -> Node {
    let mut node = Node::running(&[]);
    let job = ahead(&node, minutes, overlap);
    node.give(Input::Assigned(told(2, &[], job)));
    node.give(Input::SessionClosed);
    node
}

fn returns(node: &mut Node) {
    node.give(Input::SessionOpened { epoch: Epoch(1) });
    node.pass(1_000);
}

/// Which instances the scheduler was last told that the node began, and how far it followed the schedule.
fn begun(node: &Node) -> (Vec<String>, Timestamp) {
    let followed = &node.told_alone.last().expect("it tells")[&"backup".parse().expect("an id")];
    (followed.begun.keys().map(ToString::to_string).collect(), followed.until)
}

fn starts_of(node: &Node, instance: &str) -> usize {
    node.count(|effect| matches!(effect, Effect::Start { assignment, .. } if assignment.instance.as_str() == instance))
}

#[test]
fn what_is_due_while_nobody_is_heard_begins_by_its_own_clock_and_is_told_at_the_return() {
    let mut node = cut_off(&[1, 2, 3], Overlap::Forbid);
    let begin = node.now;

    node.pass(MINUTE + 1_000);
    node.exit("backup-1", Exit::Code(0));
    node.pass(MINUTE);
    returns(&mut node);

    assert_eq!(begun(&node), (vec!["backup-1".to_owned(), "backup-2".to_owned()], begin + 2 * MINUTE));
    assert_eq!(node.reported("backup-1").state, InstanceState::Completed);
    assert_eq!(node.reported("backup-2").state, InstanceState::Running);
    assert_eq!((starts_of(&node, "backup-1"), starts_of(&node, "backup-2")), (1, 1));
}

#[test]
fn while_the_scheduler_is_heard_it_begins_what_is_due() {
    let mut node = Node::running(&[]);
    let job = ahead(&node, &[1], Overlap::Forbid);
    node.give(Input::Assigned(told(2, &[], job)));

    node.pass(2 * MINUTE);

    assert_eq!(node.starts(), 0);
    assert!(node.told_alone.is_empty());
}

#[test]
fn a_run_that_both_begin_is_one() {
    let mut node = cut_off(&[1], Overlap::Forbid);
    node.pass(MINUTE + 1_000);

    returns(&mut node);
    let job = JobAhead { coming: BTreeMap::new(), ..ahead(&node, &[], Overlap::Forbid) };
    node.give(Input::Assigned(told(3, &[backup("backup-1")], job)));
    node.pass(MINUTE);

    assert_eq!(starts_of(&node, "backup-1"), 1);
    assert_eq!(node.state("backup-1"), Some(InstanceState::Running));
    node.give(Input::SessionClosed);
    returns(&mut node);
    assert_eq!(begun(&node).0, Vec::<String>::new(), "it is assigned now");
}

#[test]
fn one_that_runs_goes_on_until_the_scheduler_knows_of_it_though_its_time_is_taken_back() {
    let mut node = cut_off(&[1, 2], Overlap::Forbid);
    node.pass(MINUTE + 1_000);
    returns(&mut node);

    let mut job = ahead(&node, &[], Overlap::Forbid);
    job.withdrawn = [id("backup-1"), id("backup-2")].into();
    node.give(Input::Assigned(told(3, &[], job)));
    node.pass(2 * MINUTE);
    assert_eq!(node.state("backup-1"), Some(InstanceState::Running));
    assert_eq!(starts_of(&node, "backup-2"), 0, "it was taken back before it began");
    node.give(Input::Assigned(set(4, &[])));
    node.pass(30_000);

    assert_eq!(node.state("backup-1"), None, "the job is gone, and all of it");
}

#[test]
fn an_agent_that_is_started_again_or_boots_alone_goes_on_and_repeats_nothing() {
    for boots in [false, true] {
        let mut node = cut_off(&[1, 2, 3], Overlap::Forbid);
        node.pass(MINUTE + 1_000);
        node.exit("backup-1", Exit::Code(0));
        node.pass(MINUTE);

        if boots {
            node.reboot();
        } else {
            node.restart_agent();
        }
        node.observe();
        node.pass(10_000);

        assert_eq!(starts_of(&node, "backup-1"), 1, "boots: {boots}");
        assert_eq!(starts_of(&node, "backup-2"), if boots { 2 } else { 1 }, "what a power cut took begins anew");
        node.exit("backup-2", Exit::Code(0));
        node.pass(MINUTE);
        assert_eq!(starts_of(&node, "backup-3"), 1, "boots: {boots}");
        returns(&mut node);
        assert_eq!(begun(&node).0, ["backup-1", "backup-2", "backup-3"], "boots: {boots}");
    }
}

#[test]
fn a_node_that_was_off_runs_the_latest_that_is_not_too_late_and_leaves_out_the_others() {
    for (minutes_off, expected) in [(150_000, Some("backup-2")), (200_000, None)] {
        let mut node = cut_off(&[1, 2], Overlap::Forbid);
        node.now = node.now + minutes_off;

        node.reboot();
        node.observe();
        node.pass(5_000);

        assert_eq!(node.starts(), usize::from(expected.is_some()), "{minutes_off}");
        assert!(expected.is_none_or(|instance| starts_of(&node, instance) == 1));
    }
}

#[test]
fn a_clock_that_is_put_back_repeats_nothing_and_one_that_is_put_forward_is_followed() {
    let mut node = cut_off(&[1, 2], Overlap::Forbid);
    node.pass(MINUTE + 1_000);
    node.exit("backup-1", Exit::Code(0));
    node.pass(1_000);

    node.give(Input::WallClock { ahead_ms: -120_000 });
    node.pass(2 * MINUTE);
    let (first, second) = (starts_of(&node, "backup-1"), starts_of(&node, "backup-2"));
    node.give(Input::WallClock { ahead_ms: 0 });
    node.pass(1_000);

    assert_eq!((first, second), (1, 0));
    assert_eq!((starts_of(&node, "backup-1"), starts_of(&node, "backup-2")), (1, 0), "62 s late is too late");
    assert_eq!(node.kept_followed.values().map(|followed| followed.begun.len()).sum::<usize>(), 1);
}

#[test]
fn while_one_is_active_the_next_is_left_out_or_takes_its_place_or_begins_beside_it() {
    let expected = [
        (Overlap::Forbid, vec!["backup-1"]),
        (Overlap::Replace, vec!["backup-2"]),
        (Overlap::Allow, vec!["backup-1", "backup-2"]),
    ];
    for (overlap, runs) in expected {
        let mut node = cut_off(&[1, 2], overlap);

        node.pass(2 * MINUTE + 20_000);
        node.restart_agent();
        node.observe();
        node.pass(20_000);

        let running: Vec<InstanceId> =
            node.containers.iter().filter(|(_, pid)| pid.is_some()).map(|((id, _), _)| id.clone()).collect();
        assert_eq!(running, runs.iter().map(|name| id(name)).collect::<Vec<_>>(), "{overlap:?}");
        assert_eq!(starts_of(&node, "backup-1"), 1, "{overlap:?}");
    }
}

#[test]
fn a_run_that_the_scheduler_began_counts_as_active_too() {
    let mut node = Node::running(&[]);
    let job = ahead(&node, &[1], Overlap::Forbid);
    node.give(Input::Assigned(told(2, &[backup("backup-by-hand")], job)));
    node.pass(1_000);
    node.give(Input::SessionClosed);

    node.pass(2 * MINUTE);

    assert_eq!((node.starts(), starts_of(&node, "backup-1")), (1, 0));
}

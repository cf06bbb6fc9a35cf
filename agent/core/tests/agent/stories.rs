//! Stories of one instance: it starts, dies, is restarted, cannot start, ends.

use std::sync::Arc;

use agent_core::{effect::Effect, input::Input};
use api_types::{
    counter::{Epoch, Generation},
    instance::{Exit, Health, InstanceState},
    probe::ProbeKind,
};

use crate::node::{Node, address, assignment, id, probed, set, stopped, table};

#[test]
fn an_assigned_instance_gets_image_and_network_side_by_side_and_runs() {
    let mut node = Node::new();
    node.observe();
    node.give(Input::SessionOpened { epoch: Epoch(1) });

    node.give(Input::Assigned(set(1, &[assignment("web-1")])));

    let last: Vec<_> = node.log.iter().rev().take(3).rev().cloned().collect();
    assert!(
        matches!(&last[..2], [Effect::EnsureImage { .. }, Effect::EnsureNetwork { address: at, .. }] if *at == address(2)),
        "{last:?}"
    );
    assert_eq!(node.reported("web-1").state, InstanceState::Preparing);
    node.pass(1000);
    let status = node.reported("web-1");
    assert_eq!((status.state, status.health, status.restarts), (InstanceState::Running, Health::Healthy, 0));
    assert_eq!((status.address, status.pid), (Some(address(2)), node.process("web-1").map(|(_, pid)| pid)));
    assert_eq!(status.reason, "");
}

#[test]
fn the_assignment_is_kept_on_disk_before_anything_is_done_for_it() {
    let mut node = Node::new();
    node.observe();

    node.give(Input::Assigned(set(1, &[assignment("web-1")])));

    assert!(matches!(node.log.first(), Some(Effect::KeepAssignments(_))), "{:?}", node.log);
    assert_eq!(node.agent.held().0, Some((Epoch(1), Generation(1))));
}

#[test]
fn instances_of_one_image_share_its_pull() {
    let node = Node::running(&[assignment("web-1"), assignment("web-2"), assignment("web-3")]);

    assert_eq!(node.count(|effect| matches!(effect, Effect::EnsureImage { .. })), 1);
    assert_eq!(node.starts(), 3);
    assert_eq!(node.networks.values().copied().collect::<Vec<_>>(), [address(2), address(3), address(4)]);
}

#[test]
fn a_process_that_ends_is_started_again_at_once_even_after_success() {
    for exit in [Exit::Code(1), Exit::Code(0), Exit::OutOfMemory] {
        let mut node = Node::running(&[assignment("web-1")]);

        node.exit("web-1", exit.clone());

        let tail: Vec<_> = node.log.iter().rev().take(4).collect();
        assert!(tail.iter().any(|effect| matches!(effect, Effect::Start { attempt: 1, .. })), "{tail:?}");
        assert!(tail.iter().any(|effect| matches!(effect, Effect::Remove { attempt: 0, .. })), "{tail:?}");
        let status = node.reported("web-1");
        assert_eq!((status.state, status.last_exit), (InstanceState::Starting, Some(exit)));
        node.pass(500);
        let status = node.reported("web-1");
        assert_eq!((status.state, status.restarts, status.address), (InstanceState::Running, 1, Some(address(2))));
        assert_eq!(node.containers.len(), 1, "the old container is removed");
    }
}

#[test]
fn a_crash_loop_slows_down_and_says_so_and_never_ends() {
    let mut node = Node::running(&[assignment("web-1")]);
    let mut reasons = Vec::new();

    for _ in 0..12 {
        node.exit("web-1", Exit::Code(1));
        reasons.push(node.reported("web-1").reason);
        let before = node.now;
        while node.process("web-1").is_none() {
            node.pass(100);
            assert!(node.now.since(before) <= 61_000, "it gave up");
        }
        node.pass(200);
    }

    assert_eq!(reasons[0], "exited with code 1, restart 1");
    assert_eq!(reasons[3], "crash loop: exited with code 1, restart 4 in 4 s");
    assert_eq!(reasons[11], "crash loop: exited with code 1, restart 12 in 60 s");
}

#[test]
fn an_image_that_is_not_found_gives_its_reason_and_is_tried_until_it_is_there() {
    let mut node = Node::new();
    node.bad_images.insert("registry.lan/web:1".to_owned(), "not found".to_owned());
    node.observe();
    node.give(Input::SessionOpened { epoch: Epoch(1) });
    node.give(Input::Assigned(set(1, &[assignment("web-1")])));

    node.pass(10_000);
    let waiting = node.reported("web-1");
    node.bad_images.clear();
    node.pass(70_000);

    assert_eq!(waiting.state, InstanceState::Preparing);
    assert_eq!(waiting.reason, "image registry.lan/web:1: not found; next try in 8 s");
    assert_eq!(node.state("web-1"), Some(InstanceState::Running));
}

#[test]
fn a_start_that_fails_keeps_its_number_and_makes_sure_of_image_and_network_again() {
    let mut node = Node::new();
    node.bad_starts = Some("exec: `wbe`: no such file".to_owned());
    node.observe();
    node.give(Input::SessionOpened { epoch: Epoch(1) });
    node.give(Input::Assigned(set(1, &[assignment("web-1")])));

    node.pass(5000);
    let waiting = node.reported("web-1");
    node.bad_starts = None;
    node.pass(70_000);

    assert_eq!(waiting.state, InstanceState::Starting);
    assert!(waiting.reason.starts_with("cannot start: exec: `wbe`: no such file; next try in "), "{}", waiting.reason);
    assert!(node.count(|effect| matches!(effect, Effect::EnsureImage { .. })) > 1);
    let status = node.reported("web-1");
    assert_eq!((status.state, status.restarts, status.reason.as_str()), (InstanceState::Running, 0, ""));
}

#[test]
fn an_instance_that_never_started_leaves_no_network() {
    let mut node = Node::new();
    node.bad_starts = Some("no luck".to_owned());
    node.observe();
    node.give(Input::Assigned(set(1, &[assignment("web-1")])));
    node.pass(500);

    node.give(Input::Assigned(set(2, &[])));
    node.pass(500);

    assert_eq!((node.state("web-1"), node.networks.len()), (None, 0));
}

#[test]
fn a_network_that_cannot_be_made_gives_its_reason_and_is_tried_again() {
    let mut node = Node::new();
    node.observe();
    node.give(Input::SessionOpened { epoch: Epoch(1) });
    node.give(Input::Assigned(set(1, &[assignment("web-1")])));

    node.give(Input::NetworkFailed { instance: id("web-1"), reason: "no veth".to_owned() });
    let reason = node.reported("web-1").reason;
    node.pass(2000);

    assert_eq!(reason, "network: no veth; next try in 1 s");
    assert_eq!(node.state("web-1"), Some(InstanceState::Running));
}

#[test]
fn a_stopped_instance_ends_with_its_signal_and_grace_and_leaves_nothing() {
    let mut node = Node::running(&[probed("web-1")]);
    node.give(Input::Probed { instance: id("web-1"), attempt: 0, kind: ProbeKind::Health, outcome: Ok(String::new()) });
    assert_eq!(node.endpoints(), ["web-1"]);
    let before = node.log.len();

    node.give(Input::Assigned(set(2, &[stopped(probed("web-1"))])));
    node.pass(256);

    let is_asking = |effect: &&Effect| !matches!(effect, Effect::Report(_) | Effect::CountConnections(_));
    let wishes: Vec<_> = node.log[before..].iter().filter(is_asking).collect();
    let [Effect::KeepAssignments(_), Effect::ProgramServices { balancing, .. }, Effect::StopProbe { .. }, stop] =
        wishes[..]
    else {
        panic!("{wishes:?}")
    };
    assert!(balancing.services.iter().all(|service| service.endpoints.is_empty()), "it left balancing first");
    assert!(
        matches!(stop, Effect::Stop { signal: Some(signal), grace_ms: 7000, .. } if signal == "SIGQUIT"),
        "{stop:?}"
    );
    node.pass(1000);
    assert_eq!((node.containers.len(), node.networks.len()), (0, 0));
    assert_eq!(node.reports.last().map(|report| report.gone.clone()), Some(vec![id("web-1")]));
}

#[test]
fn what_is_gone_is_told_to_every_session_until_the_set_drops_it() {
    let mut node = Node::running(&[assignment("web-1")]);
    node.give(Input::Assigned(set(2, &[stopped(assignment("web-1"))])));
    node.pass(1000);
    let mut told = || {
        node.give(Input::SessionClosed);
        node.give(Input::SessionOpened { epoch: Epoch(1) });
        node.reports.last().map(|report| (report.complete, report.gone.len()))
    };

    assert_eq!(told(), Some((true, 1)));
    assert_eq!(told(), Some((true, 1)));
    node.give(Input::Assigned(set(3, &[])));
    node.give(Input::SessionOpened { epoch: Epoch(1) });

    assert_eq!(node.reports.last().map(|report| (report.complete, report.gone.len())), Some((true, 0)));
}

#[test]
fn an_instance_that_leaves_the_set_ends_like_a_stopped_one() {
    let mut node = Node::running(&[assignment("web-1"), assignment("web-2")]);

    node.give(Input::Assigned(set(2, &[assignment("web-2")])));
    node.pass(1000);

    assert!(node.process("web-1").is_none() && node.process("web-2").is_some());
    assert_eq!(node.networks.len(), 1);
}

#[test]
fn an_instance_stopped_while_it_starts_is_ended_once_it_runs() {
    let mut node = Node::new();
    node.observe();
    node.give(Input::Services(table(1, &["web"], &[])));
    node.give(Input::Assigned(set(1, &[assignment("web-1")])));
    while node.starts() == 0 {
        node.pass(10);
    }

    node.give(Input::Assigned(set(2, &[stopped(assignment("web-1"))])));
    node.pass(1000);

    assert_eq!((node.containers.len(), node.networks.len()), (0, 0));
    assert_eq!(node.state("web-1"), None);
}

#[test]
fn a_stop_that_nobody_answers_ends_in_removal() {
    let mut node = Node::running(&[assignment("web-1")]);
    node.give(Input::Assigned(set(2, &[stopped(assignment("web-1"))])));
    node.drop_answers();

    node.pass(30_000);

    assert_eq!(node.state("web-1"), None);
    assert_eq!((node.containers.len(), node.networks.len()), (0, 0));
}

#[test]
fn leftovers_that_cannot_be_removed_are_tried_again_and_named() {
    let mut node = Node::running(&[assignment("web-1")]);
    node.give(Input::Assigned(set(2, &[stopped(assignment("web-1"))])));
    node.give(Input::Exited { instance: id("web-1"), attempt: 0, exit: Exit::Code(0) });
    node.drop_answers();

    node.give(Input::RemoveFailed { instance: id("web-1"), attempt: 0, reason: "device busy".to_owned() });
    let reason = node.reported("web-1").reason;
    node.pass(5000);

    assert_eq!(reason, "cannot remove: device busy; next try in 1 s");
    assert_eq!(node.state("web-1"), None);
}

#[test]
fn an_older_equal_or_foreign_set_is_ignored() {
    let mut node = Node::running(&[assignment("web-1")]);
    node.give(Input::Assigned(set(5, &[assignment("web-1")])));
    let before = node.log.len();
    let mut foreign = set(9, &[]);
    foreign.node = crate::node::node_id("edge-2");
    let mut older_epoch = set(9, &[]);
    older_epoch.epoch = Epoch(0);

    for old in [set(4, &[]), set(5, &[]), foreign, older_epoch] {
        node.give(Input::Assigned(old));
    }

    assert_eq!(node.log.len(), before);
    assert_eq!(node.agent.held().0, Some((Epoch(1), Generation(5))));
}

#[test]
fn a_set_of_an_earlier_scheduler_is_ignored_where_only_its_successors_table_was_kept() {
    let mut node = Node::new();
    node.observe();
    let mut of_successor = table(1, &["web"], &[]);
    Arc::make_mut(&mut of_successor).epoch = Epoch(2);
    node.give(Input::Services(of_successor));

    node.give(Input::Assigned(set(9, &[assignment("web-1")])));
    let held = node.agent.held().0;
    let mut later = set(1, &[]);
    later.epoch = Epoch(2);
    node.give(Input::Assigned(later));

    assert_eq!(held, None);
    assert_eq!(node.agent.held().0, Some((Epoch(2), Generation(1))));
}

#[test]
fn a_table_of_an_earlier_scheduler_is_ignored_where_only_its_successors_set_was_kept() {
    let mut node = Node::new();
    node.observe();
    let mut of_successor = set(1, &[]);
    of_successor.epoch = Epoch(2);
    node.give(Input::Assigned(of_successor));

    node.give(Input::Services(table(9, &["web"], &[("web-7", "edge-2", 9)])));

    assert_eq!(node.agent.held().1, None);
}

#[test]
fn an_end_is_for_good_under_the_same_id() {
    let mut node = Node::running(&[assignment("web-1")]);
    node.give(Input::Assigned(set(2, &[stopped(assignment("web-1"))])));
    node.pass(1000);

    node.give(Input::Assigned(set(3, &[assignment("web-1")])));
    node.pass(1000);

    assert_eq!((node.starts(), node.containers.len()), (1, 0));
}

#[test]
fn reports_tell_only_what_changed() {
    let mut node = Node::running(&[assignment("web-1"), assignment("web-2")]);
    let before = node.reports.len();

    node.exit("web-1", Exit::Code(1));

    let told = &node.reports[before..];
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].complete, told[0].statuses.len()), (false, 1));
    node.pass(1000);
    let before = node.reports.len();
    node.give(Input::Tick);
    node.observe();
    assert_eq!(node.reports.len(), before, "nothing changed, nothing is told");
}

#[test]
fn without_a_session_nothing_is_told_and_everything_goes_on() {
    let mut node = Node::running(&[assignment("web-1")]);
    node.give(Input::SessionClosed);
    let before = node.reports.len();

    node.exit("web-1", Exit::Code(1));
    node.pass(1000);
    assert_eq!(node.reports.len(), before);
    assert_eq!(node.state("web-1"), Some(InstanceState::Running));
    node.give(Input::SessionOpened { epoch: Epoch(1) });

    assert_eq!(node.reports.len(), before + 1);
    assert_eq!(node.reported("web-1").restarts, 1);
}

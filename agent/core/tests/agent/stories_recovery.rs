//! Stories of what survives: restarts of the agent, of containerd, of the machine, and hands behind our back.

use std::collections::BTreeMap;

use agent_core::{effect::Effect, input::Input};
use api_types::{
    counter::Epoch,
    instance::{Exit, Health, InstanceState},
    probe::ProbeKind,
};

use crate::node::{Node, address, assignment, id, probed, set, stopped, table};

/// Wishes that touch containers or networks.
fn touching(effects: &[Effect]) -> Vec<&Effect> {
    let touches = |effect: &&Effect| match effect {
        Effect::Start { .. } | Effect::Stop { .. } | Effect::Remove { .. } | Effect::Refresh { .. } => true,
        Effect::EnsureImage { .. } | Effect::EnsureNetwork { .. } | Effect::RemoveNetwork { .. } => true,
        Effect::Companion { .. } => true,
        Effect::KeepAssignments(_) | Effect::KeepServices(_) | Effect::KeepAddresses(_) => false,
        Effect::KeepTries(_) | Effect::KeepFollowed(_) | Effect::TellAlone(_) => false,
        Effect::Observe | Effect::Report(_) => false,
        Effect::StartProbe { .. } | Effect::StopProbe { .. } | Effect::ProgramServices { .. } => false,
        Effect::ConfirmTable(_) | Effect::CountConnections(_) | Effect::ReadLastLines { .. } => false,
    };
    effects.iter().filter(touches).collect()
}

#[test]
fn nothing_is_done_before_the_node_was_looked_at() {
    let mut node = Node::new();

    node.give(Input::SessionOpened { epoch: Epoch(1) });
    node.give(Input::Services(table(1, &["web"], &[])));
    node.give(Input::Assigned(set(1, &[assignment("web-1")])));
    node.pass(60_000);

    let keeps = |effect: &Effect| matches!(effect, Effect::KeepAssignments(_) | Effect::KeepServices(_));
    assert!(node.log.iter().all(keeps));
    node.observe();
    node.pass(1000);
    assert_eq!(node.state("web-1"), Some(InstanceState::Running));
}

#[test]
fn a_restarted_agent_takes_over_what_runs_without_touching_it() {
    let mut node = Node::running(&[assignment("web-1"), assignment("web-2")]);
    let (containers, networks) = (node.containers.clone(), node.networks.clone());

    node.restart_agent();
    let before = node.log.len();
    node.observe();
    node.give(Input::SessionOpened { epoch: Epoch(1) });
    node.pass(60_000);

    assert_eq!(touching(&node.log[before..]), Vec::<&Effect>::new());
    assert_eq!((&node.containers, &node.networks), (&containers, &networks));
    let status = node.reported("web-2");
    assert_eq!((status.state, status.address, status.restarts), (InstanceState::Running, Some(address(3)), 0));
    assert_eq!(Some(status.pid), node.process("web-2").map(|(_, pid)| Some(pid)));
    let programmed = node.log[before..].iter().filter(|effect| matches!(effect, Effect::ProgramServices { .. }));
    assert_eq!(programmed.count(), 1);
}

#[test]
fn an_endpoint_does_not_come_and_go_because_its_agent_restarts() {
    let mut node = Node::running(&[probed("web-1")]);
    node.give(Input::Probed { instance: id("web-1"), attempt: 0, kind: ProbeKind::Health, outcome: Ok(String::new()) });
    node.give(Input::Services(table(2, &["web"], &[("web-1", "edge-1", 2)])));

    node.restart_agent();
    node.observe();
    node.give(Input::SessionOpened { epoch: Epoch(1) });

    assert_eq!(node.endpoints(), ["web-1"], "the table said it was well, and nothing says otherwise");
    assert_eq!(node.reported("web-1").health, Health::Healthy);
    for _ in 0..2 {
        node.give(Input::Probed {
            instance: id("web-1"),
            attempt: 0,
            kind: ProbeKind::Health,
            outcome: Err("refused".to_owned()),
        });
    }
    assert!(node.endpoints().is_empty());
}

#[test]
fn an_adopted_instance_is_asked_where_the_table_of_before_knows_nobody() {
    let mut node = Node::running(&[probed("web-1")]);
    // Kept when the service was new; the table that lists the instance came to disk no more.
    node.disk.1 = Some(table(2, &["web"], &[]));
    node.restart_agent();

    node.observe();

    let asked = node.balancing.as_ref().expect("programmed").services[0].endpoints.clone();
    let asked: Vec<_> = asked.iter().map(|endpoint| (endpoint.instance.as_str(), endpoint.last_resort)).collect();
    assert_eq!(asked, [("web-1", true)], "the kernel has balanced to it until now");
}

#[test]
fn a_table_that_does_not_list_an_adopted_instance_makes_it_wait_for_its_probe() {
    let mut node = Node::running(&[probed("web-1")]);

    node.restart_agent();
    node.observe();

    assert!(node.endpoints().is_empty());
}

#[test]
fn a_process_that_ended_while_the_agent_was_away_is_started_again() {
    let mut node = Node::running(&[assignment("web-1")]);
    node.containers.insert((id("web-1"), 0), None);

    node.restart_agent();
    node.observe();
    node.give(Input::SessionOpened { epoch: Epoch(1) });
    node.pass(1000);

    let status = node.reported("web-1");
    assert_eq!((status.state, status.restarts), (InstanceState::Running, 1));
    assert_eq!((status.last_exit, status.address), (Some(Exit::Unknown), Some(address(2))));
    assert_eq!(node.containers.len(), 1);
}

#[test]
fn a_process_that_ended_before_the_first_list_arrived_is_not_taken_for_alive() {
    let mut node = Node::running(&[assignment("web-1")]);
    node.disk = (None, None);
    node.restart_agent();
    let early = node.list();

    node.exit("web-1", Exit::Code(1));
    node.give(early);
    node.give(Input::Assigned(set(9, &[assignment("web-1")])));
    node.pass(2000);

    assert_eq!(node.process("web-1").map(|((_, attempt), _)| attempt), Some(1));
    assert_eq!(node.state("web-1"), Some(InstanceState::Running));
}

#[test]
fn a_node_boots_alone_from_its_disk() {
    let mut node = Node::running(&[assignment("web-1"), assignment("web-2")]);

    node.reboot();
    node.observe();
    node.pass(2000);

    assert!(node.process("web-1").is_some() && node.process("web-2").is_some());
    assert_eq!(node.containers.len(), 2);
    assert_eq!(node.endpoints(), ["web-1", "web-2"]);
}

#[test]
fn with_both_files_lost_nothing_is_touched_until_a_session_says_what_is_wanted() {
    let mut node = Node::running(&[assignment("web-1"), assignment("web-2")]);
    node.disk = (None, None);
    node.restart_agent();
    let before = node.log.len();

    node.observe();
    node.pass(600_000);
    assert_eq!(touching(&node.log[before..]), Vec::<&Effect>::new());
    node.give(Input::SessionOpened { epoch: Epoch(1) });
    node.give(Input::Assigned(set(9, &[assignment("web-2")])));
    node.pass(100);
    assert!(node.process("web-1").is_some(), "without a table nobody knows whom the kernel still balances to");
    node.give(Input::Services(table(9, &["web"], &[])));
    node.pass(1000);

    assert!(node.process("web-1").is_none(), "nobody wants it");
    assert_eq!(node.process("web-2").map(|((_, attempt), _)| attempt), Some(0), "it was taken over");
    let first = node.reports.iter().rfind(|report| report.complete).expect("a complete report");
    assert_eq!(first.statuses.len(), 2);
}

#[test]
fn a_session_that_brings_no_set_is_told_what_was_found_in_the_end() {
    let mut node = Node::running(&[assignment("web-1")]);
    node.disk = (None, None);
    node.restart_agent();
    node.observe();
    node.reports.clear();

    node.give(Input::SessionOpened { epoch: Epoch(1) });
    assert!(node.reports.is_empty());
    node.pass(5000);

    assert_eq!(node.reported("web-1").state, InstanceState::Running);
}

#[test]
fn what_nobody_assigned_is_ended_and_removed() {
    let mut node = Node::new();
    node.containers.insert((id("old-1"), 4), Some(77));
    node.containers.insert((id("old-2"), 0), None);
    node.networks.insert(id("old-1"), address(9));
    node.networks.insert(id("old-3"), address(10));
    node.disk = (Some(set(1, &[])), Some(table(1, &["web"], &[])));
    node.restart_agent();

    node.observe();
    node.pass(600_000);
    node.give(Input::SessionOpened { epoch: Epoch(1) });
    node.pass(9999);
    assert_eq!(touching(&node.log), Vec::<&Effect>::new(), "the set on disk may be an older one");
    node.pass(1);

    let stops: Vec<_> = node.log.iter().filter(|effect| matches!(effect, Effect::Stop { .. })).collect();
    assert!(matches!(stops[..], [Effect::Stop { attempt: 4, signal: None, grace_ms: 10_000, .. }]), "{stops:?}");
    node.pass(1000);
    assert_eq!((node.containers.len(), node.networks.len()), (0, 0));
}

#[test]
fn a_set_that_did_not_reach_the_disk_costs_no_instance() {
    let mut node = Node::running(&[assignment("web-1"), assignment("web-2")]);
    node.disk.0 = Some(set(0, &[assignment("web-1")]));
    node.restart_agent();

    node.observe();
    node.pass(5000);
    node.give(Input::Assigned(set(1, &[assignment("web-1"), assignment("web-2")])));
    node.pass(60_000);

    assert_eq!(node.process("web-2").map(|((_, attempt), _)| attempt), Some(0));
    assert_eq!(node.starts(), 2);
}

#[test]
fn of_several_containers_of_one_instance_the_highest_that_runs_is_kept() {
    let mut node = Node::running(&[assignment("web-1")]);
    node.containers.insert((id("web-1"), 2), Some(77));
    node.containers.insert((id("web-1"), 3), None);
    node.restart_agent();

    node.observe();
    node.pass(1000);

    assert_eq!(node.containers.iter().collect::<Vec<_>>(), [(&(id("web-1"), 2), &Some(77))]);
    node.exit("web-1", Exit::Code(1));
    node.pass(1000);
    assert_eq!(node.process("web-1").map(|((_, attempt), _)| attempt), Some(4), "no number is used twice");
}

#[test]
fn a_container_removed_behind_our_back_is_made_again() {
    let mut node = Node::running(&[assignment("web-1")]);
    node.pass(10_000);
    node.containers.clear();

    node.observe();
    node.pass(1000);

    let status = node.reported("web-1");
    assert_eq!((status.state, status.restarts), (InstanceState::Running, 1));
    assert_eq!(status.last_exit, Some(Exit::Unknown));
}

#[test]
fn a_list_made_before_a_start_was_known_condemns_nothing() {
    let mut node = Node::new();
    node.observe();
    node.give(Input::Assigned(set(1, &[assignment("web-1")])));
    let early = node.list();
    node.pass(1000);
    assert_eq!(node.state("web-1"), Some(InstanceState::Running));

    node.give(early);
    node.pass(10_000);

    assert_eq!((node.starts(), node.containers.len(), node.networks.len()), (1, 1, 1));
    assert_eq!(node.count(|effect| *effect == Effect::Observe), 1, "the doubt was settled by another look");
}

#[test]
fn a_network_that_vanished_is_made_again_with_the_same_address() {
    let mut node = Node::running(&[assignment("web-1")]);
    node.pass(10_000);
    node.networks.clear();

    node.observe();
    node.pass(1000);

    assert_eq!(node.networks.get(&id("web-1")), Some(&address(2)));
    assert_eq!(node.process("web-1").map(|((_, attempt), _)| attempt), Some(1), "its process could not be reached");
}

#[test]
fn while_containerd_is_away_nothing_is_declared_dead_and_nothing_is_asked() {
    let mut node = Node::running(&[assignment("web-1"), assignment("web-2")]);
    let before = node.log.len();

    node.give(Input::RuntimeLost);
    node.give(Input::Assigned(set(2, &[assignment("web-1"), assignment("web-3")])));
    node.pass(600_000);
    assert_eq!(touching(&node.log[before..]), Vec::<&Effect>::new());
    assert_eq!(node.endpoints(), ["web-1"], "who shall end is no endpoint any more");
    node.observe();
    node.pass(1000);

    assert_eq!(node.process("web-1").map(|((_, attempt), _)| attempt), Some(0));
    assert!(node.process("web-2").is_none() && node.process("web-3").is_some());
}

#[test]
fn a_start_that_was_cut_off_is_settled_by_the_next_list() {
    for arrived in [true, false] {
        let mut node = Node::new();
        node.observe();
        node.give(Input::Assigned(set(1, &[assignment("web-1")])));
        while node.starts() == 0 {
            node.pass(10);
        }
        node.drop_answers();
        if !arrived {
            node.containers.clear();
        }

        node.give(Input::RuntimeLost);
        node.observe();
        node.pass(1000);

        assert_eq!(node.containers.len(), 1);
        assert_eq!(node.process("web-1").map(|((_, attempt), _)| attempt), Some(u32::from(!arrived)));
    }
}

#[test]
fn a_stop_that_was_cut_off_is_asked_for_again() {
    let mut node = Node::running(&[assignment("web-1")]);
    let process = node.containers.clone();
    node.give(Input::Assigned(set(2, &[stopped(assignment("web-1"))])));
    node.pass(256);
    node.drop_answers();
    node.containers = process;

    node.give(Input::RuntimeLost);
    node.observe();
    node.pass(1000);

    assert_eq!(node.count(|effect| matches!(effect, Effect::Stop { .. })), 2);
    assert_eq!((node.containers.len(), node.networks.len()), (0, 0));
}

#[test]
fn a_process_that_appears_unasked_is_removed() {
    let mut node = Node::running(&[assignment("web-1")]);
    node.containers.insert((id("ghost-1"), 0), Some(99));

    node.give(Input::Started { instance: id("ghost-1"), attempt: 0, pid: 99 });
    node.pass(1000);

    assert!(node.process("ghost-1").is_none() && node.process("web-1").is_some());
}

#[test]
fn an_address_just_given_back_is_not_given_out() {
    let mut node = Node::running(&[assignment("web-1")]);
    node.give(Input::Assigned(set(2, &[])));
    node.pass(1000);

    node.give(Input::Assigned(set(3, &[assignment("web-2")])));
    node.pass(1000);

    assert_eq!(node.networks.get(&id("web-2")), Some(&address(3)));
}

#[test]
fn a_node_that_boots_alone_gives_every_instance_its_address_again() {
    let mut node = Node::running(&[assignment("web-1"), assignment("web-2")]);
    node.give(Input::Assigned(set(2, &[assignment("web-2")])));
    node.pass(1000);
    node.give(Input::Assigned(set(3, &[assignment("web-2"), assignment("api-1")])));
    node.pass(1000);
    let before = node.networks.clone();
    assert_eq!(before.get(&id("api-1")), Some(&address(4)), "one given back is not given out at once");

    node.reboot();
    node.observe();
    node.pass(2000);

    assert_eq!(node.networks, before);
    assert_eq!(node.kept_addresses, before, "and no longer that of the instance that is gone");
}

#[test]
fn what_the_disk_remembers_of_addresses_yields_to_what_is_there() {
    let mut node = Node::running(&[assignment("web-1"), assignment("web-2")]);
    let (containers, networks) = (node.containers.clone(), node.networks.clone());
    node.kept_addresses = BTreeMap::from([(id("web-1"), address(3)), (id("web-2"), address(2))]);

    node.restart_agent();
    node.observe();
    node.pass(60_000);

    assert_eq!((&node.containers, &node.networks), (&containers, &networks));
    assert_eq!(node.kept_addresses, networks);
}

#[test]
fn without_a_record_of_addresses_the_last_table_tells_them() {
    let mut node = Node::running(&[assignment("web-1"), assignment("web-2")]);
    node.give(Input::Services(table(2, &["web"], &[("web-1", "edge-1", 9), ("web-2", "edge-2", 2)])));
    node.kept_addresses = BTreeMap::new();

    node.reboot();
    node.observe();
    node.pass(2000);

    assert_eq!(node.networks.get(&id("web-1")), Some(&address(9)));
    assert_eq!(node.networks.get(&id("web-2")), Some(&address(2)), "another node's endpoint is no record");
}

#[test]
fn whom_an_older_set_does_not_name_keeps_its_address_until_a_session_says_otherwise() {
    let mut node = Node::running(&[assignment("web-1")]);
    node.disk.0 = Some(set(0, &[]));
    node.reboot();
    node.observe();
    node.give(Input::SessionOpened { epoch: Epoch(1) });

    node.give(Input::Assigned(set(2, &[assignment("api-1"), assignment("web-1")])));
    node.pass(2000);

    assert_eq!(node.networks.get(&id("web-1")), Some(&address(2)));
    assert_eq!(node.networks.get(&id("api-1")), Some(&address(3)));
}

#[test]
fn a_node_without_a_free_address_says_so_and_goes_on_when_one_is_back() {
    let mut node = Node::new();
    node.observe();
    node.give(Input::SessionOpened { epoch: Epoch(1) });
    node.give(Input::Services(table(1, &["web"], &[])));
    let mut tiny = set(1, &[assignment("web-1"), assignment("web-2")]);
    tiny.subnet = "10.42.3.0/30".parse().expect("a range");
    node.give(Input::Assigned(tiny.clone()));
    node.pass(1000);
    assert_eq!(node.reported("web-2").reason, "no address is free in 10.42.3.0/30");

    tiny.generation = tiny.generation.next();
    tiny.assignments.remove(0);
    node.give(Input::Assigned(tiny));
    node.pass(1000);

    assert_eq!(node.state("web-2"), Some(InstanceState::Running));
}

//! Stories of devices that vanish and come back under what runs with them.

use std::collections::BTreeMap;

use agent_core::{effect::Effect, input::Input};
use api_types::{
    instance::{Health, InstanceState},
    probe::ProbeKind,
};

use crate::node::{Node, assignment, probed, table, with_camera};

fn missing(device: &str) -> Input {
    let why = "/dev/video0 is not there".to_owned();
    Input::DevicesSeen { missing: BTreeMap::from([(device.to_owned(), why)]) }
}

fn all_there() -> Input {
    Input::DevicesSeen { missing: BTreeMap::new() }
}

#[test]
fn an_instance_whose_device_vanished_is_unhealthy_with_a_reason_and_runs_on() {
    let mut node = Node::running(&[with_camera("web-1"), assignment("web-2")]);
    let starts = node.starts();

    node.give(missing("front-door"));
    node.pass(60_000);
    node.give(missing("front-door"));

    let status = node.reported("web-1");
    assert_eq!((status.state, status.health), (InstanceState::Running, Health::Unhealthy));
    assert_eq!(status.reason, "device front-door: /dev/video0 is not there");
    assert_eq!(node.reported("web-2").health, Health::Healthy);
    assert_eq!(node.endpoints(), ["web-2"]);
    assert_eq!(node.starts(), starts);
}

#[test]
fn a_device_that_is_back_gives_its_instance_a_new_process_once() {
    let mut node = Node::running(&[with_camera("web-1"), assignment("web-2")]);
    let starts = node.starts();
    node.give(missing("front-door"));
    node.pass(10_000);

    node.give(all_there());
    node.pass(1000);
    node.give(all_there());
    node.pass(1000);

    let status = node.reported("web-1");
    assert_eq!((status.state, status.health, status.restarts), (InstanceState::Running, Health::Healthy, 1));
    assert_eq!((status.reason.as_str(), node.starts()), ("", starts + 1));
    assert_eq!(node.containers.len(), 2, "{:?}", node.containers);
    assert_eq!(node.endpoints(), ["web-1", "web-2"]);
}

#[test]
fn the_process_that_held_the_device_is_gone_before_the_next_one_starts() {
    let mut node = Node::running(&[with_camera("web-1")]);
    let starts = node.starts();
    node.give(missing("front-door"));
    node.pass(10_000);

    node.give(all_there());
    node.drop_answers();
    node.pass(5000);
    assert_eq!(node.count(|effect| matches!(effect, Effect::Remove { .. })), 1);
    assert_eq!(node.starts(), starts, "nobody said that the first process is gone");

    let (instance, attempt) = (crate::node::id("web-1"), 0);
    node.give(Input::RemoveFailed { instance: instance.clone(), attempt, reason: "busy".to_owned() });
    node.drop_answers();
    assert_eq!(node.starts(), starts, "it is still there");
    node.pass(5000);
    node.pass(5000);

    assert_eq!(node.starts(), starts + 1);
    assert_eq!(node.reported("web-1").state, InstanceState::Running);
}

#[test]
fn devices_of_others_and_devices_that_stay_change_nothing() {
    let mut node = Node::running(&[with_camera("web-1")]);
    let before = node.log.len();

    node.give(all_there());
    node.give(missing("back-door"));
    node.give(all_there());

    assert_eq!(node.log.len(), before, "{:?}", &node.log[before..]);
}

#[test]
fn what_started_after_the_device_was_back_is_not_started_again() {
    let mut node = Node::running(&[with_camera("web-1")]);
    node.give(missing("front-door"));
    node.exit("web-1", api_types::instance::Exit::Code(1));
    node.pass(1000);
    let starts = node.starts();
    assert_eq!(node.reported("web-1").health, Health::Healthy, "the new process found its device");

    node.give(all_there());
    node.pass(1000);

    assert_eq!(node.starts(), starts);
}

#[test]
fn a_probe_that_answers_does_not_hide_a_missing_device() {
    let mut with_probe = probed("web-1");
    with_probe.devices = with_camera("web-1").devices;
    let mut node = Node::running(&[with_probe]);
    node.give(Input::Services(table(2, &["web"], &[])));
    let answer = |node: &mut Node| {
        let ((instance, attempt), _) = node.process("web-1").expect("a process");
        node.give(Input::Probed { instance, attempt, kind: ProbeKind::Health, outcome: Ok(String::new()) });
    };
    answer(&mut node);
    assert_eq!(node.reported("web-1").health, Health::Healthy);

    node.give(missing("front-door"));
    answer(&mut node);

    assert_eq!(node.reported("web-1").health, Health::Unhealthy);
    assert_eq!(node.count(|effect| matches!(effect, Effect::Stop { .. })), 0);
}

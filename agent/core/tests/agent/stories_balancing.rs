//! Stories of balancing: what the kernel is asked to do, and who is an endpoint.

use std::{collections::BTreeSet, sync::Arc};

use agent_core::{
    effect::{ClosedInstance, Effect},
    input::Input,
};
use api_types::{
    assignment::Assignment,
    balance::{Preference, WhenNoneReady},
    container::{NetworkMode, PortSpec},
    counter::Epoch,
    instance::{Exit, Health, InstanceState},
    probe::ProbeKind,
    site::{Across, Reach},
};

use crate::node::{NODE_ADDRESS, Node, address, assignment, id, node_id, probed, set, stopped, table};

#[test]
fn what_runs_on_a_machine_that_ends_is_balanced_to_no_more_and_runs_on() {
    let mut node = Node::running(&[assignment("web-1")]);
    node.give(Input::Services(table(2, &["web"], &[("web-1", "edge-1", 2), ("web-2", "edge-2", 3)])));
    assert_eq!(node.endpoints(), ["web-1", "web-2"]);

    node.give(Input::MachineEnds);

    assert_eq!(node.endpoints(), ["web-2"]);
    let told = node.reported("web-1");
    assert_eq!((told.state, told.health), (InstanceState::Running, Health::Unhealthy));
    assert_eq!(told.reason, "its machine is being shut down");
    assert!(node.process("web-1").is_some(), "the shell ends it, after the others had time");
}

#[test]
fn a_local_endpoint_comes_and_goes_with_its_process_whatever_the_table_says() {
    let mut node = Node::running(&[assignment("web-1")]);
    node.give(Input::Services(table(2, &["web"], &[("web-7", "edge-2", 9)])));
    assert_eq!(node.endpoints(), ["web-1", "web-7"], "the table does not know it yet");

    node.give(Input::Services(table(3, &["web"], &[("web-1", "edge-1", 2), ("web-7", "edge-2", 9)])));
    node.exit("web-1", Exit::Code(1));

    assert_eq!(node.endpoints(), ["web-7"], "the table still lists it");
    node.pass(1000);
    assert_eq!(node.endpoints(), ["web-1", "web-7"]);
}

#[test]
fn one_that_is_judged_is_asked_here_too_only_once_the_table_names_it() {
    let judged = |name: &str| Assignment { is_judged: true, ..assignment(name) };
    let mut node = Node::running(&[judged("web-1"), assignment("web-2")]);
    node.give(Input::Services(table(2, &["web"], &[("web-7", "edge-2", 9)])));
    assert_eq!(node.endpoints(), ["web-2", "web-7"], "its process may end as soon as it began");

    node.give(Input::Services(table(3, &["web"], &[("web-1", "edge-1", 2), ("web-7", "edge-2", 9)])));
    assert_eq!(node.endpoints(), ["web-1", "web-2", "web-7"]);
    node.exit("web-1", Exit::Code(1));
    assert_eq!(node.endpoints(), ["web-2", "web-7"]);
    node.pass(1000);
    assert_eq!(node.endpoints(), ["web-1", "web-2", "web-7"], "the table names it still");

    let mut alone = Node::running(&[judged("web-1")]);
    alone.give(Input::Services(table(2, &["web"], &[])));
    assert_eq!(alone.endpoints(), ["web-1"], "one on trial is better than nobody");
}

#[test]
fn the_kernel_is_asked_only_when_something_changed() {
    let mut node = Node::running(&[assignment("web-1")]);
    let asked = |node: &Node| node.count(|effect| matches!(effect, Effect::ProgramServices { .. }));
    let before = asked(&node);

    node.give(Input::Services(table(2, &["web"], &[("web-1", "edge-1", 2)])));
    node.observe();
    node.give(Input::Tick);

    assert_eq!(asked(&node), before, "the table only learned what this node knew");
}

#[test]
fn balancing_that_fails_is_tried_again_with_the_latest() {
    let mut node = Node::running(&[assignment("web-1")]);
    let asked = |node: &Node| node.count(|effect| matches!(effect, Effect::ProgramServices { .. }));
    let before = asked(&node);

    node.give(Input::ServicesFailed { reason: "netlink: busy".to_owned() });
    node.pass(999);
    assert_eq!(asked(&node), before);
    node.pass(1);
    assert_eq!(asked(&node), before + 1);
    node.pass(60_000);

    assert_eq!(asked(&node), before + 1, "once it worked, all is quiet");
}

#[test]
fn only_a_healthy_instance_is_an_endpoint_and_the_reason_is_told() {
    let mut node = Node::running(&[probed("web-1")]);
    let answer = |node: &mut Node, outcome: Result<(), &str>| {
        node.give(Input::Probed {
            instance: id("web-1"),
            attempt: 0,
            kind: ProbeKind::Health,
            outcome: outcome.map(|()| String::new()).map_err(str::to_owned),
        });
        node.endpoints().len()
    };
    assert_eq!(node.count(|effect| matches!(effect, Effect::StartProbe { .. })), 1);
    assert!(node.endpoints().is_empty(), "no verdict yet");

    assert_eq!(answer(&mut node, Ok(())), 1);
    assert_eq!(answer(&mut node, Err("refused")), 1, "one failure is none");
    assert_eq!(answer(&mut node, Err("timed out")), 0);
    let status = node.reported("web-1");
    assert_eq!((status.health, status.reason.as_str()), (Health::Unhealthy, "timed out"));
    assert_eq!(answer(&mut node, Ok(())), 1);
    assert_eq!(node.reported("web-1").reason, "");
}

#[test]
fn a_new_process_must_prove_itself_anew() {
    let mut node = Node::running(&[probed("web-1")]);
    node.give(Input::Probed { instance: id("web-1"), attempt: 0, kind: ProbeKind::Health, outcome: Ok(String::new()) });

    node.exit("web-1", Exit::Code(1));
    node.pass(1000);

    assert!(node.endpoints().is_empty());
    let probes: Vec<_> = node
        .log
        .iter()
        .filter(|effect| matches!(effect, Effect::StartProbe { .. } | Effect::StopProbe { .. }))
        .collect();
    assert!(
        matches!(
            probes[..],
            [Effect::StartProbe { attempt: 0, .. }, Effect::StopProbe { .. }, Effect::StartProbe { attempt: 1, .. }]
        ),
        "{probes:?}"
    );
    node.give(Input::Probed { instance: id("web-1"), attempt: 0, kind: ProbeKind::Health, outcome: Ok(String::new()) });
    assert!(node.endpoints().is_empty(), "an answer of the old process counts for nothing");
}

#[test]
fn host_ports_lead_to_instances_that_run() {
    let mut with_port = assignment("web-1");
    with_port.ports.push(PortSpec {
        name: "admin".to_owned(),
        container: 9000,
        protocol: api_types::container::Protocol::Tcp,
        service: 9000,
        publish: None,
        http: false,
        host: Some(19_000),
        bind: None,
        allow: Vec::new(),
    });
    let mut node = Node::running(std::slice::from_ref(&with_port));
    let ports = |node: &Node| {
        let balancing = node.balancing.as_ref().expect("balancing");
        balancing.host_ports.iter().map(|port| (port.host, port.address, port.container)).collect::<Vec<_>>()
    };
    assert_eq!(ports(&node), [(19_000, address(2), 9000)]);

    node.exit("web-1", Exit::Code(1));
    assert!(ports(&node).is_empty(), "nobody listens there");
    node.pass(5000);
    assert_eq!(ports(&node), [(19_000, address(2), 9000)]);
    node.give(Input::Assigned(set(2, &[stopped(with_port)])));

    assert!(ports(&node).is_empty());
}

#[test]
fn an_instance_in_the_node_s_network_is_an_endpoint_at_the_node_s_address() {
    let mut proxy = assignment("web-1");
    proxy.container.network = NetworkMode::Host;
    proxy.ports[0].host = Some(proxy.ports[0].container);

    let node = Node::running(std::slice::from_ref(&proxy));

    let balancing = node.balancing.as_ref().expect("balancing");
    let at: Vec<_> = balancing.services[0].endpoints.iter().map(|endpoint| endpoint.address).collect();
    assert_eq!(at, [NODE_ADDRESS]);
    assert!(balancing.host_ports.is_empty(), "the port is the process's own");
    assert_eq!(node.reported("web-1").address, Some(NODE_ADDRESS));
    let asked = |effect: &Effect| matches!(effect, Effect::EnsureNetwork { network: NetworkMode::Host, .. });
    assert_eq!(node.count(asked), 1);
}

#[test]
fn an_instance_that_only_ports_lead_to_is_closed_until_its_network_is_gone() {
    let mut web = assignment("web-1");
    web.container.network = NetworkMode::Published;
    let mut node = Node::running(std::slice::from_ref(&web));
    let closed = |node: &Node| node.balancing.as_ref().expect("balancing").closed.clone();
    let expected = [ClosedInstance { address: address(2), workload: web.workload.clone() }];
    assert_eq!(closed(&node), expected);

    node.exit("web-1", Exit::Code(1));
    assert_eq!(closed(&node), expected, "another process follows at that address");
    node.pass(5000);
    node.give(Input::Assigned(set(2, &[stopped(web)])));
    node.pass(30_000);
    node.give(Input::Assigned(set(3, &[])));

    assert_eq!(closed(&node), []);
}

#[test]
fn peers_are_the_other_nodes() {
    let node = Node::running(&[]);

    let balancing = node.balancing.expect("balancing");

    assert_eq!(balancing.peers.iter().map(|peer| peer.node.as_str()).collect::<Vec<_>>(), ["edge-2"]);
}

/// The weights of the endpoints that the kernel shall use, with their instances.
fn weights(node: &Node) -> Vec<(String, u16)> {
    let services = &node.balancing.as_ref().expect("balancing").services;
    services[0].endpoints.iter().map(|endpoint| (endpoint.instance.to_string(), endpoint.weight)).collect()
}

#[test]
fn the_own_instance_is_preferred_while_it_is_well() {
    let mut node = Node::running(&[probed("web-1")]);
    let mut table = table(2, &["web"], &[("web-7", "edge-2", 9)]);
    Arc::make_mut(&mut Arc::make_mut(&mut table).services[0]).balance.prefer = Preference::Local;
    node.give(Input::Services(table));
    assert_eq!(weights(&node), [("web-7".to_owned(), 1)], "there is no other yet");

    node.give(Input::Probed { instance: id("web-1"), attempt: 0, kind: ProbeKind::Health, outcome: Ok(String::new()) });
    assert_eq!(weights(&node), [("web-1".to_owned(), 1), ("web-7".to_owned(), 0)]);
}

#[test]
fn one_that_joins_others_slowly_gets_all_of_its_weight_in_the_end() {
    let mut node = Node::running(&[]);
    let with = |generation, endpoints: &[(&str, &str, u8)]| {
        let mut table = table(generation, &["web"], endpoints);
        Arc::make_mut(&mut Arc::make_mut(&mut table).services[0]).balance.slow_start_ms = Some(8_000);
        Input::Services(table)
    };
    node.give(with(2, &[("web-7", "edge-2", 9)]));

    node.give(with(3, &[("web-7", "edge-2", 9), ("web-8", "edge-2", 10)]));

    assert_eq!(weights(&node), [("web-7".to_owned(), 8), ("web-8".to_owned(), 1)]);
    node.pass(1_000);
    assert_eq!(weights(&node), [("web-7".to_owned(), 8), ("web-8".to_owned(), 2)]);
    node.pass(7_000);
    assert_eq!(weights(&node), [("web-7".to_owned(), 1), ("web-8".to_owned(), 1)]);
}

#[test]
fn while_nobody_is_ready_those_that_run_are_used_unless_the_service_refuses() {
    for (when_none_ready, used) in [(WhenNoneReady::Keep, 1), (WhenNoneReady::Refuse, 0)] {
        let mut node = Node::running(&[probed("web-1")]);
        let mut table = table(2, &["web"], &[]);
        Arc::make_mut(&mut Arc::make_mut(&mut table).services[0]).balance.when_none_ready = when_none_ready;
        node.give(Input::Services(table));
        let answer = |outcome: Result<(), &str>| Input::Probed {
            instance: id("web-1"),
            attempt: 0,
            kind: ProbeKind::Health,
            outcome: outcome.map(|()| String::new()).map_err(str::to_owned),
        };
        node.give(answer(Ok(())));
        assert_eq!(node.endpoints(), ["web-1"]);

        node.give(answer(Err("refused")));
        node.give(answer(Err("refused")));

        assert!(node.endpoints().is_empty(), "it is not ready");
        assert_eq!(weights(&node).len(), used);
    }
}

/// The sites of this node and of the other one, and how these are reached.
fn between(own: (&str, Across), other: (&str, Reach, Across)) -> Vec<(Reach, usize)> {
    let mut node = Node::running(&[]);
    let mut table = table(2, &["web"], &[("web-7", "edge-2", 9)]);
    let [here, there] = Arc::make_mut(&mut Arc::make_mut(&mut table).peers) else { panic!("two nodes") };
    (here.site, here.across) = (own.0.to_owned(), own.1);
    (there.site, there.reach, there.across) = (other.0.to_owned(), other.1, other.2);

    node.give(Input::Services(table));

    let balancing = node.balancing.expect("balancing");
    let endpoints = balancing.services[0].endpoints.len();
    if balancing.peers.is_empty() {
        assert_eq!(endpoints, 0, "nobody is asked whom nothing reaches");
    }
    balancing.peers.iter().map(|peer| (peer.reach, endpoints)).collect()
}

#[test]
fn inside_a_site_nodes_are_reached_as_it_says() {
    let reached = between(("berlin", Across::Apart), ("berlin", Reach::Vxlan, Across::Apart));

    assert_eq!(reached, [(Reach::Vxlan, 1)]);
}

#[test]
fn sites_of_which_nobody_spoke_are_one_network() {
    let reached = between(("berlin", Across::Routes), ("hamburg", Reach::Routes, Across::Routes));

    assert_eq!(reached, [(Reach::Routes, 1)]);
}

#[test]
fn what_a_site_wraps_inside_is_not_wrapped_for_others() {
    let reached = between(("berlin", Across::Routes), ("hamburg", Reach::Vxlan, Across::Routes));

    assert_eq!(reached, [(Reach::Routes, 1)]);
}

#[test]
fn a_site_apart_has_neither_routes_nor_endpoints_here() {
    assert_eq!(between(("berlin", Across::Routes), ("hamburg", Reach::Routes, Across::Apart)), []);
    assert_eq!(between(("berlin", Across::Apart), ("hamburg", Reach::Vxlan, Across::Routes)), []);
}

#[test]
fn an_older_table_is_ignored() {
    let mut node = Node::running(&[]);
    node.give(Input::Services(table(5, &["web"], &[("web-7", "edge-2", 9)])));
    let mut older_epoch = table(9, &["web"], &[]);
    Arc::make_mut(&mut older_epoch).epoch = Epoch(0);

    node.give(Input::Services(table(4, &["web"], &[])));
    node.give(Input::Services(older_epoch));

    assert_eq!(node.endpoints(), ["web-7"]);
}

/// A node whose instance the scheduler's table lists beside one elsewhere, long after the session began.
fn listed(assignment: &api_types::assignment::Assignment) -> Node {
    let mut node = Node::running(std::slice::from_ref(assignment));
    node.give(Input::Services(table(2, &["web"], &[("web-1", "edge-1", 2), ("web-7", "edge-2", 9)])));
    node.pass(10_000);
    assert_eq!(node.endpoints(), ["web-1", "web-7"]);
    node
}

const WITHOUT: [(&str, &str, u8); 1] = [("web-7", "edge-2", 9)];

#[test]
fn who_is_taken_out_of_the_table_is_balanced_to_no_more_before_it_is_told_to_end() {
    let mut node = listed(&assignment("web-1"));

    node.give(Input::Services(table(3, &["web"], &WITHOUT)));

    assert_eq!(node.endpoints(), ["web-7"]);
    assert!(node.process("web-1").is_some());
    node.give(Input::Services(table(4, &["web"], &[("web-1", "edge-1", 2), ("web-7", "edge-2", 9)])));
    assert_eq!(node.endpoints(), ["web-1", "web-7"], "the scheduler thought better of it");
}

#[test]
fn who_is_taken_out_stays_while_there_is_nobody_else() {
    let mut node = listed(&assignment("web-1"));

    node.give(Input::Services(table(3, &["web"], &[])));

    assert_eq!(node.endpoints(), ["web-1"]);
}

#[test]
fn without_a_scheduler_the_node_trusts_what_it_sees() {
    let mut node = listed(&assignment("web-1"));
    node.give(Input::Services(table(3, &["web"], &WITHOUT)));

    node.give(Input::SessionClosed);

    assert_eq!(node.endpoints(), ["web-1", "web-7"]);
}

#[test]
fn a_table_made_before_the_node_was_heard_again_takes_nobody_out() {
    let mut node = listed(&assignment("web-1"));
    node.give(Input::SessionClosed);
    node.pass(20_000);
    node.give(Input::SessionOpened { epoch: Epoch(1) });

    node.give(Input::Services(table(3, &["web"], &WITHOUT)));

    assert_eq!(node.endpoints(), ["web-1", "web-7"]);
}

#[test]
fn a_table_made_of_an_earlier_process_takes_no_later_one_out() {
    let mut node = listed(&assignment("web-1"));
    node.exit("web-1", Exit::Code(1));
    node.pass(1000);

    node.give(Input::Services(table(3, &["web"], &WITHOUT)));

    assert_eq!(node.endpoints(), ["web-1", "web-7"], "it was made between the report of the end and that of the start");
}

#[test]
fn an_agent_that_restarted_honours_the_table_like_the_one_before() {
    let mut node = listed(&assignment("web-1"));
    node.restart_agent();
    node.observe();
    node.give(Input::SessionOpened { epoch: Epoch(1) });
    node.pass(10_000);

    node.give(Input::Services(table(3, &["web"], &WITHOUT)));

    assert_eq!(node.endpoints(), ["web-7"]);
}

/// Whether a process was asked to end.
fn is_told(node: &Node) -> bool {
    node.count(|effect| matches!(effect, Effect::Stop { .. })) > 0
}

#[test]
fn a_process_is_told_to_end_when_the_kernel_sends_it_nothing_new() {
    let mut node = listed(&assignment("web-1"));
    node.kernel_ms = Some(300);

    node.give(Input::Assigned(set(2, &[stopped(assignment("web-1"))])));

    assert_eq!(node.endpoints(), ["web-7"]);
    node.pass(299);
    assert!(!is_told(&node), "the kernel is not done yet");
    node.pass(1);
    assert!(!is_told(&node), "connections may be on their way to it");
    node.pass(255);
    assert!(is_told(&node));
}

#[test]
fn a_kernel_that_does_not_answer_delays_an_end_for_two_seconds() {
    let mut node = listed(&assignment("web-1"));
    node.kernel_ms = None;

    node.give(Input::Assigned(set(2, &[stopped(assignment("web-1"))])));
    node.give(Input::ServicesFailed { reason: "netlink: busy".to_owned() });

    node.pass(2249);
    assert!(!is_told(&node));
    node.pass(6);
    assert!(is_told(&node));
}

#[test]
fn an_answer_to_an_earlier_wish_says_nothing_of_the_latest() {
    let mut node = listed(&assignment("web-1"));
    node.kernel_ms = None;
    node.give(Input::Services(table(3, &["web"], &[("web-8", "edge-2", 10), ("web-1", "edge-1", 2)])));
    let number =
        |effect: &Effect| if let Effect::ProgramServices { number, .. } = effect { Some(*number) } else { None };
    let earlier = node.log.iter().rev().find_map(number).expect("it was asked");

    node.give(Input::Assigned(set(2, &[stopped(assignment("web-1"))])));
    node.give(Input::ServicesProgrammed { number: earlier });
    node.pass(1000);
    assert!(!is_told(&node));
    node.give(Input::ServicesProgrammed { number: earlier + 1 });
    node.pass(256);

    assert!(is_told(&node));
}

#[test]
fn who_cannot_be_reached_is_balanced_to_no_more_until_it_can() {
    let mut node = Node::running(&[assignment("web-1")]);
    let endpoints = [("web-1", "edge-1", 2), ("web-7", "edge-2", 9), ("web-8", "edge-3", 10)];
    node.give(Input::Services(table(2, &["web"], &endpoints)));

    node.give(Input::Unreachable { nodes: BTreeSet::from([node_id("edge-2")]) });
    assert_eq!(node.endpoints(), ["web-1", "web-8"]);
    node.give(Input::Services(table(3, &["web"], &endpoints)));
    assert_eq!(node.endpoints(), ["web-1", "web-8"], "the scheduler hears it, this node does not");
    node.give(Input::Unreachable { nodes: BTreeSet::new() });

    assert_eq!(node.endpoints(), ["web-1", "web-7", "web-8"]);
}

#[test]
fn a_service_whose_endpoints_cannot_be_reached_keeps_them() {
    let mut node = Node::running(&[]);
    node.give(Input::Services(table(2, &["web"], &[("web-7", "edge-2", 9)])));

    node.give(Input::Unreachable { nodes: BTreeSet::from([node_id("edge-2")]) });

    assert_eq!(node.endpoints(), ["web-7"], "there is nobody else");
}

#[test]
fn who_the_scheduler_took_out_is_not_brought_back_by_being_heard() {
    let mut node = Node::running(&[assignment("web-1")]);
    node.give(Input::Services(table(2, &["web"], &[("web-1", "edge-1", 2), ("web-7", "edge-2", 9)])));
    node.give(Input::Unreachable { nodes: BTreeSet::from([node_id("edge-2")]) });

    node.give(Input::Services(table(3, &["web"], &[("web-1", "edge-1", 2)])));
    node.give(Input::Unreachable { nodes: BTreeSet::new() });

    assert_eq!(node.endpoints(), ["web-1"]);
}

//! What a story cannot tell: late ticks, limits of a step, and agents that say what is not theirs to say.

use std::collections::BTreeMap;

use api_types::{
    counter::SessionId,
    id::{InstanceId, NodeId},
    instance::{Findings, Health, InstanceState, InstanceStatus},
    node::{Liveness, NodeFacts},
    resources::Resources,
    workload::{WorkloadKind, WorkloadSpec},
};
use scheduler_core::{
    Settings,
    effect::{Effect, Effects, Record},
    input::{Change, Input},
};

use crate::{
    fleet::{Fleet, well},
    walk,
};

#[test]
fn a_scheduler_that_was_stopped_judges_nobody_by_it() {
    let mut fleet = fleet_of(3, Settings::default());
    fleet.advance(5_000);

    // The machine slept for a minute; the tick is read before the heartbeats that wait behind it.
    fleet.now = fleet.now + 60_000;
    fleet.step(Input::Tick);
    assert_eq!(fleet.scheduler.liveness_counts().ready, 3);

    // Who is silent now is silent indeed.
    fleet.agents.get_mut(&name("n0")).unwrap().connected = false;
    fleet.advance(2_000);
    let views = fleet.scheduler.node_views();
    let silent: Vec<_> = views.iter().filter(|node| node.liveness != Liveness::Ready).map(|node| &node.name).collect();
    assert_eq!(silent, [&name("n0")]);
}

#[test]
fn a_step_places_so_many_and_asks_for_another_tick() {
    let mut fleet = fleet_of(4, Settings { placements_per_step_max: 3, ..Settings::default() });

    fleet.request(Change::Apply { specs: vec![service(8)], expect: None }).unwrap();

    let placed = |fleet: &Fleet| fleet.homes.len();
    assert_eq!(placed(&fleet), 3);
    for expected in [6, 8] {
        assert!(fleet.scheduler.next_deadline().is_some_and(|(at, _)| at <= fleet.now), "it asks for a tick at once");
        fleet.step(Input::Tick);
        assert_eq!(placed(&fleet), expected);
    }
    fleet.step(Input::Tick);
    assert!(fleet.scheduler.next_deadline().is_none_or(|(at, _)| at > fleet.now), "it is done");
    assert_eq!(placed(&fleet), 8);
}

#[test]
fn a_service_of_many_takes_few_steps() {
    let mut fleet = fleet_of(4, Settings { placements_per_step_max: 3, ..Settings::default() });
    let many = WorkloadSpec { resources: Default::default(), ..service(60) };

    fleet.request(Change::Apply { specs: vec![many], expect: None }).unwrap();

    let mut placed = vec![fleet.homes.len()];
    while placed.len() < 30 && fleet.homes.len() < 60 {
        fleet.step(Input::Tick);
        placed.push(fleet.homes.len());
    }
    // Three a step, then a quarter of what is there, since each step looks at all of that.
    assert_eq!(placed, [3, 6, 9, 12, 15, 18, 22, 27, 33, 41, 51, 60]);
}

#[test]
fn an_agent_speaks_for_its_own_instances_only() {
    let mut fleet = fleet_of(2, Settings::default());
    fleet.request(Change::Apply { specs: vec![service(1)], expect: None }).unwrap();
    let (victim, home) = fleet.homes.iter().map(|(id, node)| (id.clone(), node.clone())).next().unwrap();
    fleet.say(&victim, well);
    let before = fleet.scheduler.instance_views();
    let stranger = fleet.agents.keys().find(|node| **node != home).unwrap().clone();
    let session = fleet.agents[&stranger].session;

    let ignored = fleet.scheduler.ignored_inputs();
    let statuses = vec![failed(&victim)];
    fleet.step(Input::Reported { node: stranger, session, statuses, gone: vec![victim.clone()], complete: true });
    let old = SessionId(fleet.agents[&home].session.0 - 1);
    let statuses = vec![failed(&victim)];
    fleet.step(Input::Reported { node: home, session: old, statuses, gone: Vec::new(), complete: true });

    assert_eq!(fleet.scheduler.instance_views(), before);
    assert_eq!(fleet.scheduler.ignored_inputs(), ignored + 3);
}

#[test]
fn a_hello_that_is_late_takes_nothing_from_the_newer_session() {
    let mut fleet = fleet_of(1, Settings::default());
    fleet.request(Change::Apply { specs: vec![service(1)], expect: None }).unwrap();
    let victim = fleet.homes.keys().next().unwrap().clone();
    fleet.say(&victim, well);
    let node = name("n0");
    let session = fleet.agents[&node].session;
    let (before, ignored) = (fleet.scheduler.instance_views(), fleet.scheduler.ignored_inputs());

    let facts = NodeFacts { arch: "amd64".to_owned(), boot_id: "another".to_owned(), ..NodeFacts::default() };
    fleet.step(Input::SessionOpened { node: node.clone(), session: SessionId(session.0 - 1), facts });
    let after_the_hello = fleet.scheduler.ignored_inputs();
    fleet.step(Input::Heartbeat { node, session });

    assert_eq!(fleet.scheduler.instance_views(), before);
    assert_eq!(after_the_hello, ignored + 1, "the old hello counts for nothing");
    assert_eq!(fleet.scheduler.ignored_inputs(), after_the_hello, "the newest session goes on");
}

#[test]
fn what_a_node_said_before_its_silence_counts_for_nothing_until_it_said_all_of_it_again() {
    let mut fleet = fleet_of(2, Settings::default());
    fleet.request(Change::Apply { specs: vec![service(1)], expect: None }).unwrap();
    let (id, home) = fleet.homes.iter().map(|(id, node)| (id.clone(), node.clone())).next().unwrap();
    fleet.say(&id, well);
    let endpoints = |fleet: &Fleet| fleet.scheduler.service_table().unwrap().services[0].endpoints.len();
    assert_eq!(endpoints(&fleet), 1);
    fleet.agents.get_mut(&home).unwrap().connected = false;
    fleet.advance(5_000);
    assert_eq!(endpoints(&fleet), 0, "it is silent");

    // The same boot on a new session, whose report is still on its way.
    let (session, facts) = (SessionId(100), fleet.agents[&home].facts.clone());
    fleet.step(Input::SessionOpened { node: home.clone(), session, facts });
    assert_eq!(endpoints(&fleet), 0, "nobody knows yet what runs there now");
    let agent = fleet.agents.get_mut(&home).unwrap();
    (agent.connected, agent.session) = (true, session);
    fleet.report_all(&home);

    assert_eq!(endpoints(&fleet), 1);
}

#[test]
fn every_address_at_which_a_node_is_reached_comes_to_the_table_as_it_changes() {
    let mut fleet = fleet_of(2, Settings::default());
    let node = name("n0");
    let peer = |fleet: &Fleet| {
        let table = fleet.scheduler.service_table().expect("it knows its nodes");
        table.peers.iter().find(|peer| peer.node == node).cloned().expect("a peer")
    };

    fleet.agents.get_mut(&node).unwrap().facts.ipv6_address = Some("2001:db8::7".parse().unwrap());
    fleet.connect(&node);
    let by_ipv6 = peer(&fleet).ipv6_address;
    fleet.agents.get_mut(&node).unwrap().facts.tunnel = Some("192.0.2.7:7447".parse().unwrap());
    fleet.connect(&node);

    assert_eq!(by_ipv6, Some("2001:db8::7".parse().unwrap()));
    assert_eq!(peer(&fleet).tunnel, Some("192.0.2.7:7447".parse().unwrap()));
}

#[test]
fn what_is_durable_comes_before_what_is_visible() {
    let mut fleet = fleet_of(2, Settings::default());
    let mut effects = Effects::new();
    let change = Change::Apply { specs: vec![service(4)], expect: None };

    fleet.scheduler.step(
        fleet.now,
        Input::Request { request: Default::default(), by: String::new(), change },
        &mut effects,
    );

    let durable = |effect: &Effect| matches!(effect, Effect::Persist(_) | Effect::Forget(_));
    let first_visible = effects.iter().position(|effect| !durable(effect)).unwrap();
    assert!(effects[first_visible..].iter().all(|effect| !durable(effect)), "{effects:#?}");
    assert_eq!(
        effects[..first_visible].len(),
        5,
        "counters, workload, its rollout, address, a page of instances: {effects:#?}"
    );
}

#[test]
fn instances_of_the_schema_before_are_read_and_become_pages() {
    let mut fleet = fleet_of(3, Settings::default());
    fleet.request(Change::Apply { specs: vec![service(8)], expect: None }).unwrap();
    assert!(fleet.settle());
    let before: Vec<_> = fleet.told_sets.values().map(|set| set.assignments.clone()).collect();
    let pages = fleet.records.clone();

    let singles = |record: &Record| {
        if let Record::Instances(page) = record {
            page.instances().map(Record::Instance).collect()
        } else {
            vec![record.clone()]
        }
    };
    let old = pages.values().flat_map(singles).map(|record| (record.key(), record));
    fleet.records = old.collect();
    assert!(fleet.records.len() > pages.len(), "a record for each instance");
    fleet.restart();
    fleet.step(Input::Tick);

    let sets = fleet.agents.keys().map(|node| fleet.scheduler.assignment_set(node).unwrap().assignments.clone());
    assert_eq!(sets.collect::<Vec<_>>(), before);
    assert_eq!(fleet.records, pages);
}

#[test]
fn a_heartbeat_of_a_calm_cluster_does_nothing() {
    let mut fleet = fleet_of(3, Settings::default());
    fleet.request(Change::Apply { specs: vec![service(6)], expect: None }).unwrap();
    assert!(fleet.settle());
    let version = fleet.scheduler.view_version();
    let mut effects = Effects::new();

    for (node, session) in fleet.connected() {
        fleet.scheduler.step(fleet.now + 500, Input::Heartbeat { node, session }, &mut effects);
    }

    assert!(effects.is_empty());
    assert_eq!(fleet.scheduler.view_version(), version);
}

fn fleet_of(count: usize, settings: Settings) -> Fleet {
    let mut fleet = Fleet::new(settings);
    for number in 0..count {
        let node = name(&format!("n{number}"));
        fleet.add_agent(&node, Resources { cpu_millis: 4_000, memory_bytes: 4 << 30 }, "amd64");
        let change = Change::AdmitNode { node: node.clone(), site: format!("s{number}"), labels: BTreeMap::new() };
        fleet.request(change).expect("a free subnet");
        fleet.connect(&node);
    }
    fleet
}

#[test]
fn an_agent_cannot_lead_connections_out_of_its_own_subnet() {
    let mut fleet = fleet_of(2, Settings::default());
    fleet.request(Change::Apply { specs: vec![service(1)], expect: None }).unwrap();
    let (id, home) = fleet.homes.iter().map(|(id, node)| (id.clone(), node.clone())).next().unwrap();
    fleet.say(&id, well);
    let endpoints = |fleet: &Fleet| fleet.scheduler.service_table().unwrap().services[0].endpoints.clone();
    let own = endpoints(&fleet);
    assert_eq!(own.len(), 1);
    let subnet = |node: &NodeId| fleet.agents[node].set.as_ref().unwrap().subnet;
    let other = fleet.agents.keys().find(|node| **node != home).map(subnet).unwrap();
    let strangers = [other.nth(1).unwrap(), [127, 0, 0, 1].into(), [10, 43, 0, 1].into(), [192, 0, 2, 1].into()];

    for address in strangers {
        let session = fleet.agents[&home].session;
        let status = InstanceStatus { address: Some(address), ..fleet.agents[&home].statuses[&id].clone() };
        let (node, statuses) = (home.clone(), vec![status]);
        fleet.step(Input::Reported { node, session, statuses, gone: Vec::new(), complete: false });
        assert_eq!(endpoints(&fleet), [], "{address}");
    }
    fleet.say(&id, well);
    assert_eq!(endpoints(&fleet), own);
}

fn service(replicas: u32) -> WorkloadSpec {
    WorkloadSpec { kind: WorkloadKind::Service { replicas }, ..walk::plain_service("web") }
}

fn failed(instance: &InstanceId) -> InstanceStatus {
    InstanceStatus {
        instance: instance.clone(),
        state: InstanceState::Failed,
        health: Health::Unhealthy,
        address: None,
        pid: None,
        restarts: 9,
        last_exit: None,
        reason: "it is not mine".to_owned(),
        since: Default::default(),
        findings: Findings::default(),
    }
}

fn name(text: &str) -> NodeId {
    NodeId::new(text).expect("a name")
}

//! What holds for any story: random nodes, random inputs, random faults.

use std::collections::BTreeMap;

use agent_core::{
    Agent, Settings,
    effect::Effect,
    input::{CompanionAttempt, CompanionEvent, Input},
};
use api_types::{
    assignment::{Assignment, AssignmentSet},
    counter::Epoch,
    instance::{Desired, Exit, InstanceState},
    probe::ProbeKind,
    restart::RestartSpec,
    time::Timestamp,
};

use crate::node::{Node, accompanied, assignment, id, node_id, probe, probed, set, stopped, table, with_camera};

/// A small seeded generator (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        let index = self.below(choices.len() as u64);
        &choices[usize::try_from(index).expect("an index")]
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// An instance that always has the same assignment under the same id.
fn wish(number: u64) -> Assignment {
    let name = format!("web-{number}");
    let mut wish = if number.is_multiple_of(3) { probed(&name) } else { assignment(&name) };
    if number.is_multiple_of(5) {
        wish = with_camera(&name);
    }
    if number.is_multiple_of(2) {
        wish.restart = RestartSpec {
            startup: number.is_multiple_of(4).then(|| probe(5000)),
            liveness: Some(probe(0)),
            max_restarts: Some(2),
        };
    }
    if number.is_multiple_of(4) {
        wish.container.image = "registry.lan/other:1".to_owned();
    }
    if number % 3 == 1 {
        wish.companions = accompanied(&name).companions;
    }
    wish
}

/// Any set: instances come, are stopped, leave.
fn any_set(random: &mut Random, generation: u64) -> AssignmentSet {
    let numbers = (0..10).filter(|_| random.chance(60)).collect::<Vec<_>>();
    let wishes: Vec<_> = numbers
        .into_iter()
        .map(|number| if random.chance(20) { stopped(wish(number)) } else { wish(number) })
        .collect();
    let mut any = set(generation, &wishes);
    any.epoch = Epoch(1 + generation / 20);
    any
}

/// Any input at all, whether it makes sense or not.
fn any_input(random: &mut Random, node: &Node) -> Input {
    let instance = id(&format!("web-{}", random.below(12)));
    let attempt = u32::try_from(random.below(4)).expect("small");
    let image = (*random.pick(&["registry.lan/web:1", "registry.lan/other:1", "nobody/asked:1"])).to_owned();
    let reason = "no luck".to_owned();
    let pid = u32::try_from(random.below(5000)).expect("small");
    let exit = random.pick(&[Exit::Code(0), Exit::Code(137), Exit::OutOfMemory, Exit::Unknown]).clone();
    let generation = random.below(200);
    match random.below(26) {
        0 | 1 => Input::Tick,
        2 => node.list(),
        3 => Input::Observed { containers: Vec::new(), networks: Vec::new() },
        4 => Input::RuntimeLost,
        5 | 6 => Input::Assigned(any_set(random, generation)),
        7 => Input::Services(table(generation, &["web"], &[("web-1", "edge-1", 2), ("web-7", "edge-2", 9)])),
        8 => Input::SessionOpened { epoch: Epoch(1) },
        9 => Input::SessionClosed,
        10 => Input::ImageReady { image },
        11 => Input::ImageFailed { image, reason, is_missing: false },
        12 => Input::NetworkReady { instance },
        13 => Input::NetworkFailed { instance, reason },
        14 => Input::NetworkRemoved { instance },
        15 => Input::Started { instance, attempt, pid },
        16 => Input::StartFailed { instance, attempt, reason },
        17 => Input::Exited { instance, attempt, exit },
        18 => Input::Removed { instance, attempt },
        19 => Input::RemoveFailed { instance, attempt, reason },
        20 => Input::Probed {
            instance,
            attempt,
            kind: *random.pick(&[ProbeKind::Startup, ProbeKind::Health, ProbeKind::Liveness]),
            outcome: if random.chance(50) { Ok(reason) } else { Err(reason) },
        },
        21 => {
            let gone = random.chance(50).then(|| ("front-door".to_owned(), reason));
            Input::DevicesSeen { missing: gone.into_iter().collect() }
        }
        22 => Input::LastLines { instance, attempt, lines: "\u{e4}".repeat(600) },
        23 | 24 => {
            let companion = u8::try_from(random.below(4)).expect("small");
            let events = [
                CompanionEvent::Started { pid },
                CompanionEvent::StartFailed { reason: reason.clone() },
                CompanionEvent::Exited { exit },
                CompanionEvent::Removed,
                CompanionEvent::RemoveFailed { reason: reason.clone() },
                CompanionEvent::LastLines { lines: reason },
            ];
            let key = CompanionAttempt { instance, companion, attempt };
            Input::Companion { key, event: random.pick(&events).clone() }
        }
        _ => Input::ServicesFailed { reason },
    }
}

/// Every assigned instance runs, once; nothing else is there.
fn assert_converged(node: &Node, wanted: &AssignmentSet, story: &str) {
    let running: Vec<_> = wanted.assignments.iter().filter(|wish| wish.desired == Desired::Run).collect();
    for wish in &running {
        let name = wish.instance.as_str();
        assert_eq!(node.state(name), Some(InstanceState::Running), "{name} does not run; {story}");
        assert!(node.process(name).is_some(), "{name} has no process; {story}");
        let sidecar = wish.companions.iter().position(|companion| !companion.is_init());
        let sidecar = sidecar.map(|index| u8::try_from(index).expect("small"));
        assert!(sidecar.is_none_or(|index| node.companion(name, index).is_some()), "{name} has no sidecar; {story}");
    }
    let accompanied = running.iter().filter(|wish| !wish.companions.is_empty()).count();
    assert_eq!(node.companions.len(), accompanied, "{:?}; {story}", node.companions);
    assert_eq!(node.containers.len(), running.len(), "{:?}; {story}", node.containers);
    assert_eq!(node.networks.len(), running.len(), "{:?}; {story}", node.networks);
}

#[test]
fn no_input_breaks_an_invariant_and_no_deadline_spins() {
    for seed in 0..300 {
        let mut random = Random(seed);
        let mut node = Node::new();
        for _ in 0..200 {
            let input = any_input(&mut random, &node);
            let mut effects = Vec::new();
            node.agent.step(node.now, input.clone(), &mut effects);
            assert_eq!(node.agent.check_invariants(), Ok(()), "seed {seed}, after {input:?}");
            node.now = node.now + random.below(3000);
            for _ in 0..50 {
                let Some((at, why)) = node.agent.next_deadline() else { break };
                if at > node.now {
                    break;
                }
                node.agent.step(node.now, Input::Tick, &mut effects);
                let again = node.agent.next_deadline();
                assert!(again != Some((at, why)) || at > node.now, "seed {seed}: {why} is due for ever");
            }
        }
    }
}

#[test]
fn when_nothing_is_left_to_do_nothing_is_asked() {
    for seed in 0..100 {
        let mut random = Random(seed);
        let mut node = Node::new();
        node.observe();
        node.give(Input::Services(table(1, &["web"], &[])));
        node.give(Input::Assigned(any_set(&mut random, 1)));
        node.pass(120_000);
        node.give(Input::SessionOpened { epoch: Epoch(1) });
        let before = node.log.len();

        node.give(Input::Tick);
        node.observe();
        node.give(Input::Tick);

        assert_eq!(&node.log[before..], [], "seed {seed}");
    }
}

/// Faults that happen to a node; gives the instances that they are a cause for.
fn fault(random: &mut Random, node: &mut Node) -> Vec<String> {
    let running: Vec<String> = node
        .containers
        .iter()
        .filter(|(_, pid)| pid.is_some())
        .map(|((instance, _), _)| instance.to_string())
        .collect();
    let victim = (!running.is_empty()).then(|| random.pick(&running).clone());
    match random.below(8) {
        0 => {
            node.restart_agent();
            node.observe();
            Vec::new()
        }
        1 => {
            node.reboot();
            node.observe();
            running
        }
        2 => {
            // Answers in flight are lost with the connection.
            node.drop_answers();
            node.give(Input::RuntimeLost);
            node.observe();
            Vec::new()
        }
        3 => {
            node.observe();
            Vec::new()
        }
        4 => {
            let list = node.list();
            node.answer(random.below(200), list);
            Vec::new()
        }
        5 => {
            let session =
                if random.chance(50) { Input::SessionClosed } else { Input::SessionOpened { epoch: Epoch(1) } };
            node.give(session);
            Vec::new()
        }
        6 => {
            if let Some((key, _)) = victim.as_deref().and_then(|victim| node.process(victim)) {
                node.containers.insert(key.clone(), None);
                node.give(Input::Exited { instance: key.0, attempt: key.1, exit: Exit::Code(1) });
            }
            victim.into_iter().collect()
        }
        _ => {
            node.bad_starts = random.chance(30).then(|| "no luck".to_owned());
            Vec::new()
        }
    }
}

#[test]
fn whatever_happens_the_node_converges_and_restarts_nothing_without_a_cause() {
    for seed in 0..300 {
        let mut random = Random(seed);
        let mut node = Node::new();
        let mut wanted = set(0, &[]);
        let mut causes: BTreeMap<String, usize> = BTreeMap::new();
        let mut ended: Vec<String> = Vec::new();
        node.observe();
        for generation in 1..40 {
            if random.chance(30) {
                wanted = any_set(&mut random, generation);
                // An end is for good: who was stopped or left out does not come back.
                let now_ended = (0..10).map(|number| format!("web-{number}")).filter(|name| {
                    let wish = wanted.assignments.iter().find(|wish| wish.instance.as_str() == name);
                    wish.is_none_or(|wish| wish.desired == Desired::Stop)
                });
                ended.extend(now_ended);
                for wish in &mut wanted.assignments {
                    if ended.iter().any(|name| name == wish.instance.as_str()) {
                        wish.desired = Desired::Stop;
                    }
                }
                node.give(Input::Assigned(wanted.clone()));
            }
            for victim in fault(&mut random, &mut node) {
                *causes.entry(victim).or_default() += 1;
            }
            node.pass(random.below(3000));
        }
        node.bad_starts = None;
        node.give(Input::SessionOpened { epoch: Epoch(1) });
        node.pass(200_000);
        assert_converged(&node, &wanted, &format!("seed {seed}"));

        let before = node.log.len();
        node.observe();
        node.pass(300_000);
        assert_eq!(&node.log[before..], [], "seed {seed}: something moves after the end");
        for (instance, attempt) in node.containers.keys() {
            // A start cut off with its connection may cost a number, too; it ended nothing that ran.
            let stops = node.count(|effect| matches!(effect, Effect::Stop { instance: id, .. } if id == instance));
            assert_eq!(stops, 0, "seed {seed}: {instance} was assigned and was stopped");
            let restarts = node.count(|effect| {
                matches!(effect, Effect::Start { assignment, attempt, .. }
                if assignment.instance == *instance && *attempt > 0)
            });
            let cause = causes.get(instance.as_str()).copied().unwrap_or(0);
            assert!(cause > 0 || restarts == 0, "seed {seed}: {instance} is at attempt {attempt} without a cause");
        }
    }
}

#[test]
fn the_same_story_gives_the_same_wishes() {
    let story = || {
        let mut random = Random(7);
        let mut node = Node::new();
        for _ in 0..300 {
            let input = any_input(&mut random, &node);
            let mut effects = Vec::new();
            node.agent.step(node.now, input, &mut effects);
            node.now = node.now + random.below(2000);
            node.log.extend(effects);
        }
        node.log
    };

    assert_eq!(story(), story());
}

#[test]
fn an_agent_is_not_moved_by_a_disk_of_another_node() {
    let mut foreign = set(3, &[assignment("web-1")]);
    foreign.node = node_id("edge-2");

    let agent = Agent::new(
        Settings::new(node_id("edge-1")),
        Some(foreign),
        None,
        BTreeMap::new(),
        Default::default(),
        Timestamp(0),
    );

    assert_eq!(agent.held(), (None, None));
    assert_eq!(agent.instances().count(), 0);
    assert_eq!(agent.assignment(&id("web-1")), None);
}

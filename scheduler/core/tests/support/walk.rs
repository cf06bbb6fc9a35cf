//! A random walk through everything that can happen to a cluster, from a seed.

use std::collections::BTreeMap;

use api_types::{
    container::{Mount, PortSpec, Protocol},
    counter::{Revision, SessionId},
    disconnect::DisconnectPolicy,
    id::{InstanceId, Name, NodeId, WorkloadId},
    instance::{Desired, Findings, Health, InstanceState, InstanceStatus},
    node::{Availability, NodeUsage},
    placement::{Constraint, ConstraintKey, Operator, PlacementSpec, Priority},
    probe::{ProbeCheck, ProbeSpec},
    resources::{ResourceSpec, Resources},
    rollout::{OnFailure, RolloutAction, Share, UpdateOrder, UpdateSpec},
    site::{Across, Reach},
    workload::WorkloadSpec,
};
use scheduler_core::{
    Settings,
    input::{Change, Input},
};

use crate::fleet::{Fleet, crashed, well};

/// A seeded generator (splitmix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    pub(crate) fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        if from.is_empty() {
            return None;
        }
        let index = self.below(from.len() as u64);
        from.get(usize::try_from(index).expect("small")).cloned()
    }
}

/// A service with one port and nothing else special.
pub(crate) fn plain_service(name: &str) -> WorkloadSpec {
    WorkloadSpec {
        ports: vec![PortSpec {
            name: "main".to_owned(),
            container: 80,
            protocol: Protocol::Tcp,
            service: 80,
            publish: None,
            http: false,
            host: None,
            bind: None,
            allow: Vec::new(),
        }],
        ..WorkloadSpec::service(name.parse().expect("a name"), image(&mut Random(0)), 1)
    }
}

/// Walks so many steps from a seed.
pub(crate) fn walk(seed: u64, steps: usize, check: impl Fn(&mut Fleet)) -> Fleet {
    walk_with(Fleet::new(Settings { placements_per_step_max: 7, ..Settings::default() }), seed, steps, check)
}

/// The same with workloads that judge their rollouts, and people who pause, undo, promote and abort them.
#[allow(dead_code, reason = "each test program uses a part of it")]
pub(crate) fn walk_with_rollouts(seed: u64, steps: usize, check: impl Fn(&mut Fleet)) -> Fleet {
    let mut fleet = Fleet::new(Settings { placements_per_step_max: 7, ..Settings::default() });
    fleet.judges = true;
    walk_with(fleet, seed, steps, check)
}

fn walk_with(mut fleet: Fleet, seed: u64, steps: usize, check: impl Fn(&mut Fleet)) -> Fleet {
    let mut random = Random(seed);
    add_nodes(&mut fleet, &mut random);
    for step in 0..steps {
        one_step(&mut fleet, &mut random);
        if step % 25 == 0 {
            check(&mut fleet);
        }
    }
    fleet
}

/// The nodes of the beginning.
pub(crate) fn add_nodes(fleet: &mut Fleet, random: &mut Random) {
    for number in 0..4 + random.below(6) {
        add_node(fleet, random, number);
    }
}

/// Mends all that is broken and lets the agents do their work.
pub(crate) fn heal(fleet: &mut Fleet) {
    for node in fleet.agents.keys().cloned().collect::<Vec<_>>() {
        let _ = fleet.request(Change::SetAvailability { node: node.clone(), availability: Availability::Active });
        if !fleet.agents[&node].connected {
            fleet.connect(&node);
        }
    }
    fleet.advance(15_000);
    // Their instances are tried one after the other.
    let rounds = if fleet.judges { 60 } else { 6 };
    for _ in 0..rounds {
        if fleet.judges {
            let_go_on(fleet);
        }
        assert!(fleet.settle(), "the agents never get done");
        fleet.advance(7_000);
    }
}

/// People let every rollout go on.
fn let_go_on(fleet: &mut Fleet) {
    for workload in fleet.scheduler.workload_views() {
        for action in [RolloutAction::Resume, RolloutAction::Promote] {
            let _ = fleet.request(Change::Rollout { workload: workload.name.clone(), action });
        }
    }
}

/// A person does something to a rollout.
fn act_on_rollout(fleet: &mut Fleet, random: &mut Random) {
    let actions = [
        RolloutAction::Undo { to: None },
        RolloutAction::Undo { to: Some(Revision(1 + random.below(6))) },
        RolloutAction::Pause,
        RolloutAction::Resume,
        RolloutAction::Promote,
        RolloutAction::Abort,
    ];
    if let Some(action) = random.pick(&actions) {
        let _ = fleet.request(Change::Rollout { workload: workload(random), action });
    }
}

/// The longest deadline of a rollout.
pub(crate) const DEADLINE_MS_MAX: u64 = 60_000;

fn update(random: &mut Random) -> Option<UpdateSpec> {
    let share = |random: &mut Random| random.pick(&[None, Some(Share::Count(2)), Some(Share::Percent(50))]).flatten();
    let default = UpdateSpec::default();
    let update = (!random.one_in(5)).then(|| UpdateSpec {
        order: random.pick(&[None, None, Some(UpdateOrder::StopFirst)]).flatten(),
        parallel: share(random),
        healthy_for_ms: random.pick(&[0, 1_000, 5_000]).unwrap_or_default(),
        deadline_ms: random.pick(&[10_000, DEADLINE_MS_MAX]).unwrap_or(default.deadline_ms),
        on_failure: if random.one_in(4) { OnFailure::Pause } else { OnFailure::Rollback },
        canary: share(random).filter(|_| random.one_in(2)),
        ..default
    })?;
    // Nothing is drawn for these: the walks of seeds that were kept stay what they are.
    let (canary_weight, waves) = (update.canary.map(|_| 10), (update.healthy_for_ms == 1_000).then(Vec::new));
    Some(UpdateSpec { canary_weight, waves, ..update })
}

/// One thing that happens.
pub(crate) fn one_step(fleet: &mut Fleet, random: &mut Random) {
    if fleet.judges && random.one_in(12) {
        act_on_rollout(fleet, random);
    }
    match random.below(32) {
        0..=3 => {
            let milliseconds = 50 + random.below(4_000);
            fleet.advance(milliseconds);
        }
        4..=6 => apply(fleet, random),
        7 => {
            let (workload, replicas) = (workload(random), u32::try_from(random.below(9)).expect("small"));
            let _ = fleet.request(Change::Scale { workload, replicas });
        }
        8 if random.one_in(3) => {
            let _ = fleet.request(Change::Delete { workload: workload(random) });
        }
        9 | 10 => {
            let availability =
                [Availability::Active, Availability::Active, Availability::Cordoned, Availability::Draining];
            if let (Some(node), Some(availability)) = (node(fleet, random), random.pick(&availability)) {
                let _ = fleet.request(Change::SetAvailability { node, availability });
            }
        }
        11 => {
            let lost = if random.one_in(5) { fleet.agents.len() } else { 1 };
            for _ in 0..lost {
                if let Some(node) = node(fleet, random) {
                    fleet.agents.get_mut(&node).expect("known").connected = false;
                }
            }
        }
        12 | 13 => return_node(fleet, random),
        14 if random.one_in(4) => {
            if let Some(node) = node(fleet, random) {
                let _ = fleet.request(Change::RemoveNode { node, force: random.one_in(2), watch_key: None });
            }
        }
        15 if fleet.agents.len() < 12 => {
            let number = random.below(12);
            add_node(fleet, random, number);
        }
        16 if random.one_in(6) => fleet.restart(),
        17 => nonsense(fleet, random),
        18 | 19 => {
            if let Some(node) = node(fleet, random) {
                fleet.report_all(&node);
            }
        }
        24 => know_better(fleet, random),
        20..=23 => stop_some(fleet, random),
        _ => run_some(fleet, random),
    }
}

/// What only a person knows: a silent site is dead, how a site is reached, data is gone, now is the time to move things.
fn know_better(fleet: &mut Fleet, random: &mut Random) {
    let what = random.below(4);
    let mut site = || if random.one_in(2) { "a" } else { "b" }.to_owned();
    let change = match what {
        0 => Change::ResumeSite { site: site() },
        1 => {
            let (site, reach) = (site(), random.one_in(2).then_some(Reach::Vxlan));
            let across = if random.one_in(2) { Across::Apart } else { Across::Routes };
            Change::SetSite { site, reach: Some(reach.unwrap_or_default()), across: Some(across) }
        }
        2 => Change::Rebalance,
        _ => {
            let slot = random.one_in(2).then(|| u32::try_from(random.below(4)).expect("small"));
            Change::ForgetVolume { workload: workload(random), volume: data(), slot }
        }
    };
    let _ = fleet.request(change);
}

fn data() -> Name {
    Name::new("data").expect("a name")
}

fn run_some(fleet: &mut Fleet, random: &mut Random) {
    for id in fleet.to_do(Desired::Run) {
        match random.below(10) {
            0..=5 => fleet.say(&id, well),
            6 => fleet.say(&id, |status| status.state = InstanceState::Starting),
            _ => {}
        }
    }
    let living: Vec<InstanceId> = fleet
        .agents
        .values()
        .flat_map(|agent| agent.statuses.values())
        .filter(|status| status.state == InstanceState::Running)
        .map(|status| status.instance.clone())
        .collect();
    if let Some(id) = random.pick(&living) {
        match random.below(8) {
            0 => fleet.say(&id, crashed),
            1 => fleet.say(&id, |status| status.health = Health::Unhealthy),
            2 if random.one_in(3) => fleet.say(&id, |status| status.state = InstanceState::Failed),
            _ => {}
        }
    }
}

fn stop_some(fleet: &mut Fleet, random: &mut Random) {
    for id in fleet.to_do(Desired::Stop) {
        if random.one_in(2) {
            fleet.end(&id);
        }
    }
}

fn return_node(fleet: &mut Fleet, random: &mut Random) {
    let Some(node) = node(fleet, random) else { return };
    match random.below(4) {
        0 => {
            fleet.power_cut(&node);
            fleet.connect(&node);
        }
        // Also a node that never was away dials again at times.
        _ => fleet.connect(&node),
    }
}

/// Inputs that make no sense, or come from someone who must not say it.
fn nonsense(fleet: &mut Fleet, random: &mut Random) {
    let stranger = NodeId::new("stranger").expect("a name");
    let node = node(fleet, random).unwrap_or_else(|| stranger.clone());
    let instances: Vec<InstanceId> = fleet.homes.keys().cloned().collect();
    let foreign = random.pick(&instances).unwrap_or_else(|| InstanceId::new("nothing-1").expect("a name"));
    let session = fleet.agents.get(&node).map_or(SessionId(0), |agent| agent.session);
    let is_foreign = fleet.homes.get(&foreign) != Some(&node);
    match random.below(4) {
        0 => fleet.step(Input::Heartbeat { node: stranger, session }),
        1 => fleet.step(Input::Heartbeat { node, session: SessionId(session.0.saturating_sub(1)) }),
        2 if is_foreign => {
            let status = InstanceStatus {
                instance: foreign.clone(),
                state: InstanceState::Running,
                health: Health::Healthy,
                address: Some([10, 0, 0, 1].into()),
                pid: None,
                restarts: 0,
                last_exit: None,
                reason: "x".repeat(10_000),
                since: fleet.now,
                findings: Findings::default(),
            };
            let (statuses, gone) = (vec![status], vec![foreign]);
            fleet.step(Input::Reported { node, session, statuses, gone, complete: false });
        }
        _ => fleet.step(Input::NodeReported {
            node: stranger,
            session,
            conditions: None,
            facts: None,
            usage: NodeUsage::default(),
            instances: BTreeMap::new(),
            requests: BTreeMap::new(),
        }),
    }
}

fn add_node(fleet: &mut Fleet, random: &mut Random, number: u64) {
    let node = NodeId::new(&format!("n{number}")).expect("a name");
    let site = if random.one_in(2) { "a" } else { "b" }.to_owned();
    let labels =
        if random.one_in(3) { BTreeMap::from([("disk".to_owned(), "ssd".to_owned())]) } else { BTreeMap::new() };
    if !fleet.agents.contains_key(&node) {
        let capacity =
            Resources { cpu_millis: 1_000 + random.below(4) * 1_000, memory_bytes: (1 + random.below(4)) << 30 };
        fleet.add_agent(&node, capacity, if random.one_in(3) { "arm64" } else { "amd64" });
    }
    let _ = fleet.request(Change::AdmitNode { node: node.clone(), site, labels });
    if fleet.scheduler.node(&node).is_none() {
        fleet.agents.remove(&node);
    } else if !random.one_in(5) {
        fleet.connect(&node);
    }
}

fn node(fleet: &Fleet, random: &mut Random) -> Option<NodeId> {
    random.pick(&fleet.agents.keys().cloned().collect::<Vec<_>>())
}

fn workload(random: &mut Random) -> WorkloadId {
    format!("w{}", random.below(7)).parse().expect("a name")
}

fn apply(fleet: &mut Fleet, random: &mut Random) {
    let mut specs: Vec<WorkloadSpec> = (0..=random.below(2)).map(|_| spec(random)).collect();
    if fleet.judges {
        specs.iter_mut().for_each(|spec| spec.update = update(random));
    }
    let _ = fleet.request(Change::Apply { specs, expect: None });
}

fn spec(random: &mut Random) -> WorkloadSpec {
    let id = workload(random);
    let number = u16::try_from(id.name.as_str().len()).expect("small");
    let is_daemon = id.name.as_str() == "w6";
    let has_port = random.one_in(2);
    let port = has_port.then(|| PortSpec {
        name: "main".to_owned(),
        container: 80,
        protocol: Protocol::Tcp,
        service: 80,
        publish: (!is_daemon && random.one_in(4)).then(|| 8_000 + number),
        http: false,
        host: random.one_in(4).then(|| u16::try_from(9_000 + random.below(2)).expect("small")),
        bind: None,
        allow: Vec::new(),
    });
    let key = random.pick(&[ConstraintKey::Arch, ConstraintKey::Site, ConstraintKey::Label("disk".to_owned())]);
    let constraint = key.filter(|_| random.one_in(4)).map(|key| {
        let value = match key {
            ConstraintKey::Arch => "arm64",
            ConstraintKey::Site => "a",
            ConstraintKey::Os | ConstraintKey::Node | ConstraintKey::Label(_) => "ssd",
        };
        Constraint { key, operator: Operator::Equal, values: vec![value.to_owned()] }
    });
    let replicas = u32::try_from(random.below(9)).expect("small");
    let image = image(random);
    let priority = random.pick(&[Priority::Low, Priority::Normal, Priority::High, Priority::Critical]);
    let volume = random.one_in(6).then(|| ("/data".to_owned(), Mount::Volume { name: data(), read_only: false }));
    let mut spec = if is_daemon { WorkloadSpec::daemon(id, image) } else { WorkloadSpec::service(id, image, replicas) };
    spec.container.mounts.extend(volume);
    WorkloadSpec {
        resources: ResourceSpec {
            reserve: Resources { cpu_millis: 100 * (1 + random.below(5)), memory_bytes: (64 << 20) << random.below(4) },
            memory_bytes_max: 2 << 30,
            ..ResourceSpec::default()
        },
        placement: PlacementSpec {
            constraints: constraint.into_iter().collect(),
            per_node_max: random.one_in(6).then_some(1),
            priority: priority.unwrap_or_default(),
            ..PlacementSpec::default()
        },
        ports: port.into_iter().collect(),
        probe: random.one_in(2).then_some(ProbeSpec {
            check: ProbeCheck::Tcp { port: 80 },
            interval_ms: 5_000,
            timeout_ms: 1_000,
            failures: 3,
            successes: 1,
            grace_ms: 10_000,
        }),
        disconnect: DisconnectPolicy {
            replace_after_ms: random.pick(&[Some(10_000), Some(10_000), Some(1_000), Some(30_000), None]).flatten(),
            ..DisconnectPolicy::default()
        },
        ..spec
    }
}

fn image(random: &mut Random) -> String {
    format!("registry.lan/app:{}", random.below(3))
}

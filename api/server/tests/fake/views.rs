//! What the fake shows of its nodes and workloads.

use std::{collections::BTreeMap, net::Ipv4Addr};

use api_types::{
    counter::Revision,
    instance::{Exit, Findings, Health, InstanceState, InstanceUsage},
    job::RunState,
    node::{Availability, Condition, Liveness, NodeFacts, NodeUsage},
    placement::ConstraintKey,
    resources::Resources,
    service::ServicePort,
    view::{InstanceView, JobRunView, JobView, NodeView, WorkloadView},
    workload::WorkloadKind,
};

use super::{Kept, THEN, node_id, wanted};

pub(crate) fn view(kept: &Kept) -> WorkloadView {
    let stuck = kept.spec.id.name.as_str() == "stuck";
    let wanted = wanted(&kept.spec);
    WorkloadView {
        name: kept.spec.id.clone(),
        kind: match kept.spec.kind {
            WorkloadKind::Service { .. } => "service",
            WorkloadKind::Daemon => "daemon",
            WorkloadKind::Job(_) => "job",
        }
        .into(),
        image: kept.spec.container.image.clone(),
        revision: Revision(kept.revision),
        wanted,
        running: kept.ready,
        ready: kept.ready,
        pending: if stuck { wanted } else { 0 },
        address: (!kept.spec.ports.is_empty()).then_some(Ipv4Addr::new(10, 43, 0, 7)),
        ports: kept
            .spec
            .ports
            .iter()
            .map(|port| ServicePort {
                name: port.name.clone(),
                protocol: port.protocol,
                service: port.service,
                container: port.container,
                publish: port.publish,
                http: port.http,
                bind: port.bind.clone(),
                allow: port.allow.clone(),
            })
            .collect(),
        endpoints: kept.ready,
        reason: if stuck { "no node fits: 3 of 3 fail `arch == arm64`".into() } else { String::new() },
        rollout: None,
        scale: None,
        job: job(kept),
        applied_at: THEN,
        spec: kept.spec.clone(),
    }
}

/// A job of which a run failed before; the latest is done once as many of its instances run as shall.
fn job(kept: &Kept) -> Option<JobView> {
    let WorkloadKind::Job(spec) = kept.spec.kind else { return None };
    let is_done = kept.ready >= wanted(&kept.spec);
    let run = |number: u64, state: RunState, done: u32| JobRunView {
        number,
        revision: Revision(number),
        state,
        cause: String::new(),
        done,
        completions: spec.completions,
        scheduled_at: kept.spec.schedule.is_some().then_some(THEN),
        alone: false,
        began_at: THEN,
        ended_at: None,
        instances: Vec::new(),
    };
    let (state, done) = if is_done { (RunState::Succeeded, spec.completions) } else { (RunState::Active, kept.ready) };
    let latest = JobRunView { ended_at: is_done.then_some(THEN + 90_000), ..run(2, state, done) };
    let cause = format!("{}-0a on n1 exited with code 3", kept.spec.id.name);
    let pin = kept.spec.placement.constraints.iter().find(|constraint| constraint.key == ConstraintKey::Node);
    let follower = pin.filter(|_| kept.spec.schedule.is_some()).map(|pin| node_id(&pin.values[0]));
    let earlier =
        JobRunView { cause, alone: follower.is_some(), ended_at: Some(THEN + 2_000), ..run(1, RunState::Failed, 0) };
    let next_at = kept.spec.schedule.as_ref().filter(|schedule| !schedule.suspend).map(|_| THEN + 86_400_000);
    Some(JobView { runs: vec![latest, earlier], next_at, follower })
}

pub(crate) fn instance_views(kept: &Kept) -> Vec<InstanceView> {
    let name = &kept.spec.id.name;
    let placed = (0..kept.ready).map(|slot| InstanceView {
        name: format!("{name}-{slot}a"),
        node: Some(node_id(if slot % 2 == 0 { "n1" } else { "n2" })),
        state: InstanceState::Running,
        health: Health::Healthy,
        address: Some(Ipv4Addr::new(10, 42, 1, 2 + u8::try_from(slot).unwrap())),
        pid: Some(4000 + slot),
        restarts: slot,
        last_exit: (slot > 0).then_some(Exit::Code(1)),
        usage: InstanceUsage { cpu_millis: 120, memory_bytes: 48 << 20, pids: 4, new_connections_millis: None },
        ..pending(kept, slot)
    });
    placed.chain((kept.ready..wanted(&kept.spec)).map(|slot| pending(kept, slot))).collect()
}

pub(crate) fn pending(kept: &Kept, slot: u32) -> InstanceView {
    InstanceView {
        name: format!("{}-{slot}", kept.spec.id.name),
        workload: kept.spec.id.clone(),
        slot,
        revision: Revision(kept.revision),
        node: None,
        state: InstanceState::Pending,
        health: Health::Unknown,
        address: None,
        pid: None,
        restarts: 0,
        last_exit: None,
        reason: String::new(),
        since: THEN,
        usage: InstanceUsage::default(),
        reserve: kept.spec.resources.reserve,
        findings: Findings::default(),
    }
}

pub(crate) fn node(name: &str, last: u8, liveness: Liveness, availability: Availability) -> NodeView {
    NodeView {
        name: node_id(name),
        site: "berlin".into(),
        labels: BTreeMap::from([("tier".into(), "edge".into()), ("disk".into(), "ssd".into())]),
        liveness,
        availability,
        facts: NodeFacts {
            devices: Vec::new(),
            arch: "amd64".into(),
            os: "linux".into(),
            kernel: "6.1.0".into(),
            capacity: Resources { cpu_millis: 4000, memory_bytes: 4 << 30 },
            address: Some(Ipv4Addr::new(192, 0, 2, last)),
            ipv6_address: None,
            tunnel: None,
            agent_version: "0.1.0".into(),
            runtime_version: "1.6.20".into(),
            boot_id: "b".into(),
            cgroup_version: 2,
        },
        conditions: vec![
            Condition {
                name: "runtime".into(),
                ok: true,
                reason: "containerd 1.6.20 answers".into(),
                taken: Vec::new(),
            },
            Condition {
                name: "balancing".into(),
                ok: liveness == Liveness::Ready,
                reason: "no answer through the table".into(),
                taken: Vec::new(),
            },
        ],
        usage: NodeUsage { cpu_millis: 350, memory_bytes: 1 << 30, disk_free_bytes: 9 << 30 },
        allocatable: Resources { cpu_millis: 3800, memory_bytes: 3 << 30 },
        allocated: Resources { cpu_millis: 500, memory_bytes: 256 << 20 },
        instances: 2,
        subnet: format!("10.42.{last}.0/24").parse().unwrap(),
        last_seen: (liveness == Liveness::Ready).then_some(THEN),
        joined_at: THEN,
    }
}

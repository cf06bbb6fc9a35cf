//! What the fake answers to `why`, `plan` and `what-if`: fixed texts that use every field.

use std::collections::BTreeMap;

use api_server::control_plane::Target;
use api_types::{
    id::{InstanceId, WorkloadId},
    resources::Resources,
    view::{
        Displaced, Explanation, Forecast, InstanceMove, NodeForecast, NodeVerdict, PlacedInstance, Plan,
        PlannedPlacement, PlannedStep, Problem, Question, Rejection, Remedy, ScorePart, StepKind, VerdictGroup,
        WorkloadChange, WorkloadForecast,
    },
    workload::WorkloadSpec,
};

use super::{node_id, problem, wanted};

pub(super) fn plan(mut changes: Vec<WorkloadChange>, specs: &[WorkloadSpec]) -> Plan {
    let mut plan = Plan::default();
    for (change, spec) in changes.iter_mut().zip(specs) {
        if change.action == "none" {
            continue;
        }
        let place = |slot| PlannedPlacement {
            slot,
            node: (slot < 2).then(|| node_id(if slot == 0 { "n1" } else { "n2" })),
            reason: if slot < 2 { String::new() } else { "n1, n2: 64 MiB of memory are missing".into() },
        };
        change.placements = (0..wanted(spec)).map(place).collect();
        change.warnings = vec!["the tag `latest` moves: pin a version".into()];
        for placement in &change.placements {
            let Some(node) = &placement.node else { continue };
            let step = |does, instance: Option<&str>| PlannedStep {
                round: placement.slot + 1,
                workload: spec.id.clone(),
                slot: placement.slot,
                does,
                node: node.clone(),
                instance: instance.map(|name| InstanceId::new(name).unwrap()),
            };
            plan.steps.push(step(StepKind::Start, None));
            if change.action == "update" {
                plan.steps.push(step(StepKind::End, Some(if placement.slot == 0 { "web-0a" } else { "web-1a" })));
            }
        }
        if spec.id.name.as_str() == "urgent" {
            let displaced = |instance: &str, to: Option<&str>| Displaced {
                instance: InstanceId::new(instance).unwrap(),
                workload: "batch".parse().unwrap(),
                node: node_id("n2"),
                by: spec.id.clone(),
                to: to.map(node_id),
            };
            plan.displaced = vec![displaced("batch-3f9", Some("n1")), displaced("batch-3fa", None)];
        }
    }
    plan.changes = changes;
    plan
}

pub(super) fn why(target: &Target, all: bool) -> Result<Explanation, Problem> {
    let workload: WorkloadId = match target {
        Target::Workload(workload) if workload.name.as_str().ends_with("-0a") => {
            return Err(problem(404, "not_found", &format!("there is no workload `{workload}`"), ""));
        }
        Target::Workload(workload) => workload.clone(),
        Target::Instance(instance) if instance.as_str() == "web-0a" => "web".parse().unwrap(),
        Target::Instance(instance) => {
            return Err(problem(404, "not_found", &format!("there is no instance `{instance}`"), ""));
        }
        Target::Node(_) => return Err(problem(422, "invalid", "a node is not placed", "")),
    };
    let mut explanation = explanation(workload);
    if matches!(target, Target::Instance(_)) {
        explanation.instances.truncate(1);
    }
    if all {
        let again = NodeVerdict { node: node_id("n4"), ..explanation.nodes[2].clone() };
        explanation.nodes.push(again);
        explanation.nodes_left_out = 0;
    }
    Ok(explanation)
}

fn explanation(workload: WorkloadId) -> Explanation {
    let rejection = |filter: &str, reason: &str| Rejection { filter: filter.into(), reason: reason.into() };
    let verdict = |name: &str, no: &[Rejection], instances| NodeVerdict {
        node: node_id(name),
        filter: no[0].filter.clone(),
        reason: no[0].reason.clone(),
        also: no[1..].to_vec(),
        instances,
        score: Vec::new(),
    };
    let memory = rejection("resources", "lacks 64 MiB");
    let arch = rejection("constraints", "does not meet `arch == arm64`");
    let away = rejection("availability", "it is unreachable");
    let group = |no: &Rejection, count, examples: &[&str]| VerdictGroup {
        filter: no.filter.clone(),
        reason: no.reason.clone(),
        count,
        examples: examples.iter().map(|name| node_id(name)).collect(),
    };
    let placed = |instance: &str, slot, node: &str| PlacedInstance {
        instance: InstanceId::new(instance).unwrap(),
        slot,
        node: node_id(node),
        rank: 1,
        fits: 2,
        score: vec![
            ScorePart { name: "spread".into(), value: 1, words: "1 more at site berlin".into() },
            ScorePart { name: "balance".into(), value: 12, words: "free CPU and memory 12 % apart".into() },
        ],
        reason: "best of 2 nodes that fit: fewest at its site".into(),
    };
    Explanation {
        workload,
        summary: "2 of 3 placed; no node fits one more".into(),
        instances: vec![placed("web-0a", 0, "n1"), placed("web-1a", 1, "n2")],
        instances_left_out: 0,
        groups: vec![
            group(&away, 2, &["n3", "n4"]),
            group(&arch, 1, &["n2"]),
            group(&rejection("resources", "lacks memory"), 1, &["n1"]),
        ],
        nodes: vec![
            verdict("n1", std::slice::from_ref(&memory), 1),
            verdict("n2", &[arch, memory.clone()], 1),
            verdict("n3", &[away], 0),
        ],
        nodes_left_out: 1,
        counts: BTreeMap::from([("availability".into(), 2), ("constraints".into(), 1), ("resources".into(), 1)]),
        remedies: vec![Remedy {
            filter: "resources".into(),
            action: "reserve 64 MiB less".into(),
            node: node_id("n1"),
            nodes: 1,
            less: Resources { cpu_millis: 0, memory_bytes: 64 << 20 },
        }],
        hint: "it fits on n1 if 64 MiB are freed there or reserved less".into(),
    }
}

pub(super) fn what_if(question: &Question) -> Result<Forecast, Problem> {
    let words = match question {
        Question::NodeLoss { nodes } | Question::Drain { nodes } => {
            if let Some(unknown) = nodes.iter().find(|node| !["n1", "n2", "n3"].contains(&node.as_str())) {
                return Err(problem(404, "not_found", &format!("there is no node `{unknown}`"), "did you mean `n1`?"));
            }
            let names = nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
            match (question, nodes.len()) {
                (Question::Drain { .. }, _) => format!("{names} is drained"),
                (_, 1) => format!("{names} loses its power"),
                (_, _) => format!("{names} lose their power"),
            }
        }
        Question::SiteLoss { site } => format!("site {site} loses its power"),
        Question::Join { count, like } => return Ok(quiet(format!("{count} nodes like {like} join"))),
        Question::Apply { specs } => format!("{} is applied", specs[0].id),
    };
    Ok(forecast(words))
}

fn quiet(question: String) -> Forecast {
    Forecast {
        question,
        summary: "nothing moves".into(),
        settled_after_ms: Some(0),
        cut: String::new(),
        workloads: Vec::new(),
        moves: Vec::new(),
        moves_count: 0,
        nodes: Vec::new(),
        warnings: Vec::new(),
        rebalance: None,
    }
}

fn forecast(question: String) -> Forecast {
    let workload = |name: &str, least, after, times: (Option<u64>, Option<u64>), reason: &str| WorkloadForecast {
        workload: name.parse().unwrap(),
        kind: "service".into(),
        wanted: 3,
        ready_before: 3,
        ready_least: least,
        ready_after: after,
        ended: 3 - least,
        short_ms: times.0,
        down_ms: times.1,
        unplaced: 3 - after,
        reason: reason.into(),
    };
    let moved = |at_ms, name: &str, slot, to: Option<&str>| InstanceMove {
        at_ms,
        workload: name.parse().unwrap(),
        slot,
        from: Some(node_id("n1")),
        to: to.map(node_id),
    };
    let use_of = |millis, mebibytes: u64| Resources { cpu_millis: millis, memory_bytes: mebibytes << 20 };
    let node = |name: &str, before: u32, after: u32, mebibytes| NodeForecast {
        node: node_id(name),
        instances_before: before,
        instances: after,
        allocated_before: use_of(500, 256),
        allocated: use_of(u64::from(after) * 250, mebibytes),
        allocatable: use_of(3800, 3072),
    };
    Forecast {
        question,
        summary: "2 workloads lose 4 instances; 3 run elsewhere after 10 s, 1 finds no node".into(),
        settled_after_ms: Some(10_000),
        cut: "3 of 40 moves are shown".into(),
        workloads: vec![
            workload("prod/db", 0, 2, (None, Some(10_000)), "2 nodes: 2 lack memory (nearest: n2 lacks 64 MiB)"),
            workload("web", 2, 3, (Some(10_000), Some(0)), ""),
        ],
        moves: vec![
            moved(10_000, "prod/db", 0, Some("n2")),
            moved(10_000, "prod/db", 2, None),
            moved(10_000, "web", 1, Some("n2")),
        ],
        moves_count: 40,
        nodes: vec![node("n2", 2, 5, 2900), node("n3", 2, 2, 256)],
        warnings: vec!["prod/db has no endpoint for 10 s".into()],
        rebalance: None,
    }
}

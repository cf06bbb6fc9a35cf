//! What stories say of autoscaling.

use std::{collections::BTreeMap, fmt::Write as _};

use api_types::{
    id::{InstanceId, NodeId, WorkloadId},
    instance::{Desired, InstanceUsage},
    node::NodeUsage,
    scale::ScaleSpec,
};
use scheduler_core::{Scheduler, input::Input};

use crate::fleet::Fleet;

/// `min=2 max=10 target_cpu=70 tolerance=10 window=60s cooldown=30s step_up=100% step_down=1 per_site`.
pub(crate) fn spec(options: &BTreeMap<String, String>) -> Option<ScaleSpec> {
    let get = |key: &str| options.get(key).map(String::as_str);
    let number = |key: &str| get(key).map(|text| text.parse().expect("a number"));
    let max = number("max")?;
    let spec = ScaleSpec::between(number("min").unwrap_or(1), max);
    Some(ScaleSpec {
        cpu_percent: number("target_cpu"),
        memory_percent: number("target_memory"),
        requests: number("target_requests"),
        new_connections: number("target_connections"),
        tolerance_percent: number("tolerance").unwrap_or(spec.tolerance_percent),
        window_ms: get("window").map_or(spec.window_ms, super::milliseconds),
        cooldown_ms: get("cooldown").map_or(spec.cooldown_ms, super::milliseconds),
        step_up: get("step_up").map_or(spec.step_up, super::rollouts::share),
        step_down: get("step_down").map_or(spec.step_down, super::rollouts::share),
        per_site: options.contains_key("per_site"),
        ..spec
    })
}

/// `load web cpu=70 memory=32 for=60s`: every ten seconds each node that is heard of says what its running instances of the
/// workload use. `at=n1` = only that node does; `requests=40` = what each listener shares out to each of them in a second,
/// `connections=40` = what is opened to each of them in a second; without it that is not known.
pub(crate) fn load(fleet: &mut Fleet, words: &[&str]) -> String {
    let options = super::options(&words[1..]);
    let number = |key: &str| options.get(key).map_or(0, |text| text.parse().expect("a number"));
    let usage = InstanceUsage {
        cpu_millis: number("cpu"),
        memory_bytes: number("memory") << 20,
        pids: 1,
        new_connections_millis: options.contains_key("connections").then(|| number("connections") * 1_000),
    };
    let rate = number("requests") * 1_000;
    let mut left_ms = options.get("for").map_or(10_000, |time| super::milliseconds(time));
    while left_ms > 0 {
        fleet.advance(10_000);
        left_ms = left_ms.saturating_sub(10_000);
        let says = |node: &NodeId| options.get("at").is_none_or(|only| only == node.as_str());
        let all: Vec<InstanceId> =
            fleet.connected().iter().flat_map(|(node, _)| running(fleet, node, words[0])).collect();
        for (node, session) in fleet.connected().into_iter().filter(|(node, _)| says(node)) {
            let own = running(fleet, &node, words[0]);
            let requests = all.iter().filter(|_| rate > 0).map(|id| (id.clone(), rate)).collect();
            fleet.step(Input::NodeReported {
                node,
                session,
                conditions: None,
                facts: None,
                usage: NodeUsage::default(),
                instances: own.into_iter().map(|id| (id, usage.clone())).collect(),
                requests,
            });
        }
    }
    String::new()
}

/// What a node runs of a workload.
fn running(fleet: &Fleet, node: &NodeId, workload: &str) -> Vec<InstanceId> {
    let set = fleet.scheduler.assignment_set(node);
    let own = set.iter().flat_map(|set| &set.assignments).filter(|assignment| assignment.desired == Desired::Run);
    let own = own.filter(|assignment| assignment.instance.as_str().starts_with(&format!("{workload}-")));
    let there = &fleet.agents[node].statuses;
    own.map(|assignment| assignment.instance.clone()).filter(|id| there.contains_key(id)).collect()
}

/// How a service is scaled, in lines.
pub(crate) fn show(scheduler: &Scheduler, id: &WorkloadId) -> String {
    let description = scheduler.describe_workload(id).expect("a known workload");
    let view = description.workload.expect("a workload");
    let Some(scale) = view.scale else { return "not scaled by its load\n".to_owned() };
    let wish = scale.wish.map_or_else(|| "-".to_owned(), |wish| wish.to_string());
    let mut text = format!("{} of {}..{}, wish {wish}: {}\n", view.wanted, scale.min, scale.max, scale.reason);
    for load in scale.loads {
        let shown = load.load.map_or_else(|| "-".to_owned(), |mean| load.metric.show(mean));
        let wish = load.wish.map_or_else(|| "-".to_owned(), |wish| wish.to_string());
        let target = load.metric.show(load.target.into());
        writeln!(text, "  {} {shown} of {target}, wish {wish}", load.metric.as_str()).expect("a text takes all");
    }
    text
}

//! Stories of what makes room and what moves: priorities, rebalancing.

use std::collections::BTreeMap;

use api_types::{
    instance::InstanceState,
    view::{InstanceView, RebalancePlan},
};
use tests_system::cluster::{is_healthy, nodes, until, until_healthy};

use crate::stage::{LIMIT, Outcome, Stage};

pub(crate) fn what_is_urgent_displaces(stage: &mut Stage) -> Outcome {
    let node = stage.bed.node_views()?.into_iter().find(|view| view.name.as_str() == "edge-1").ok_or("no edge-1")?;
    // Two of them do not fit beside each other.
    let millis = node.allocatable.cpu_millis * 6 / 10;
    let service = |name: &str, priority: &str| {
        let (image, cpus) = (&stage.image, format!("{}.{:03} ..", millis / 1_000, millis % 1_000));
        format!(
            "name = \"{name}\"\n[service.{name}]\nimage = \"{image}\"\nresources = {{ cpu = \"{cpus}\" }}\n\
             place = {{ priority = \"{priority}\", require = [\"node == edge-1\"] }}\n"
        )
    };
    stage.apply(&service("batch", "low"))?;
    let (first, _) = until_healthy(&stage.bed, "batch", 1, LIMIT)?;

    stage.apply(&service("alarm", "critical"))?;

    until_healthy(&stage.bed, "alarm", 1, LIMIT)?;
    let waits = stage.until_reason("batch", &["displaced by alarm"])?;
    stage.must(waits.state == InstanceState::Pending, || format!("there is no room for both: {waits:?}"))?;
    let why = stage.wherry(&["why", "batch"])?;
    stage.must(why.contains("displaced by alarm"), || format!("`why` names who displaced it:\n{why}"))?;
    let events = stage.wherry(&["get", "events"])?;
    let told = |line: &str| line.contains(first[0].name.as_str()) && line.contains("makes room on edge-1 for alarm");
    stage.must(events.lines().any(told), || format!("the events say who made room for whom:\n{events}"))?;

    // An equal of the one that runs displaces nobody.
    stage.apply(&service("second", "critical"))?;
    let equal = stage.until_reason("second", &["cpu"])?;
    stage.must(equal.state == InstanceState::Pending, || format!("equals do not give way: {equal:?}"))?;
    stage.wherry(&["delete", "second", "--yes"])?;

    stage.wherry(&["delete", "alarm", "--yes"])?;
    until_healthy(&stage.bed, "batch", 1, LIMIT)?;
    Ok(())
}

pub(crate) fn a_rebalancing_evens_out(stage: &mut Stage) -> Outcome {
    stage.wherry(&["cordon", "edge-3"])?;
    let crowded = stage.run_web(6)?;
    stage.must(nodes(&crowded).len() == 2, || format!("edge-3 takes nothing: {:?}", nodes(&crowded)))?;
    stage.wherry(&["uncordon", "edge-3"])?;

    let plan: RebalancePlan = serde_json::from_value(stage.bed.ask(&["rebalance", "--plan"])?)?;
    let to: Vec<&str> = plan.moves.iter().map(|moved| moved.to.as_str()).collect();
    stage.must(to == ["edge-3", "edge-3"], || format!("two of six are missing there: {plan:?}"))?;
    let same: Vec<InstanceView> = stage.bed.instances("web")?;
    stage.must(names(&same) == names(&crowded), || "a plan moves nothing".to_owned())?;
    stage.wherry(&["rebalance", "--start"])?;

    let even = |views: &[InstanceView]| {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for view in views.iter().filter(|view| is_healthy(view)) {
            *counts.entry(view.node.as_ref().map(ToString::to_string).unwrap_or_default()).or_default() += 1;
        }
        views.len() == 6 && counts.into_values().eq([2, 2, 2])
    };
    let (views, _) = until(&stage.bed, "web", LIMIT, even)?;
    let stayed = names(&views).iter().filter(|name| names(&crowded).contains(name)).count();
    stage.must(stayed == 4, || format!("four of six stay who they are, {stayed} did"))?;
    stage.until("the rebalancing says that it ended", || {
        stage.wherry(&["get", "events"]).is_ok_and(|events| events.contains("2 instances moved"))
    })?;
    let again = stage.wherry(&["rebalance", "--start"])?;
    stage.must(again.contains("nothing would be better elsewhere"), || again.clone())
}

fn names(views: &[InstanceView]) -> Vec<String> {
    let mut names: Vec<String> = views.iter().map(|view| view.name.to_string()).collect();
    names.sort_unstable();
    names
}

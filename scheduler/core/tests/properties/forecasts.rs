//! What is forecast is what happens: the same question is asked and then acted out, from many different clusters.

use std::collections::BTreeMap;

use api_types::{
    id::{NodeId, WorkloadId},
    view::{Question, WorkloadChange},
    workload::{WorkloadKind, WorkloadSpec},
};
use scheduler_core::{effect::Accepted, input::Change};

use crate::{fleet::Fleet, walk};

const CLUSTERS: u64 = 60;
const STEPS: usize = 120;

/// Which node has the instance of which slot.
type Places = BTreeMap<(WorkloadId, u32), NodeId>;

#[test]
fn what_is_forecast_for_a_lost_node_is_what_happens() {
    let (mut asked, mut moved) = (0, 0);
    for seed in 0..CLUSTERS {
        let mut fleet = settled(seed);
        let Some(node) = fleet.agents.keys().nth(usize::try_from(seed % 3).unwrap()).cloned() else { continue };
        let earlier = places(&fleet, None);

        let forecast =
            fleet.scheduler.what_if(&Question::NodeLoss { nodes: vec![node.clone()] }).expect("a known node");
        assert_eq!(forecast.cut, "", "seed {seed}");
        if forecast.workloads.iter().any(|seen| seen.unplaced > 0) {
            // Where there is not room for all, who is first depends on whose instances end first.
            continue;
        }
        fleet.agents.get_mut(&node).expect("a known agent").connected = false;
        act(&mut fleet);

        let mut expected = earlier;
        expected.retain(|_, place| *place != node);
        for change in forecast.moves {
            match change.to {
                Some(to) => {
                    expected.insert((change.workload, change.slot), to);
                    moved += 1;
                }
                // It was displaced and finds no other place.
                None => drop(expected.remove(&(change.workload, change.slot))),
            }
        }
        assert_eq!(places(&fleet, Some(&node)), expected, "seed {seed}: {node} is lost");
        asked += 1;
    }
    assert!(asked > 20 && moved > 20, "only {asked} forecasts with {moved} moves were compared");
}

#[test]
fn a_forecast_changes_nothing() {
    let fleet = settled(7);
    let before = (fleet.scheduler.instance_views(), fleet.scheduler.events(), fleet.scheduler.view_version());
    let node = fleet.agents.keys().next().expect("a node").clone();

    for question in [
        Question::NodeLoss { nodes: vec![node.clone()] },
        Question::Drain { nodes: vec![node.clone()] },
        Question::Join { like: node, count: 3 },
    ] {
        let once = fleet.scheduler.what_if(&question);
        assert_eq!(once, fleet.scheduler.what_if(&question), "the same question has the same answer");
    }

    let after = (fleet.scheduler.instance_views(), fleet.scheduler.events(), fleet.scheduler.view_version());
    assert_eq!(before, after);
}

#[test]
fn a_plan_is_what_an_apply_does() {
    let (mut placed, mut compared) = (0, 0);
    for seed in 0..CLUSTERS {
        let mut fleet = settled(seed);
        let views = fleet.scheduler.workload_views();
        let Some(view) = views.get(usize::try_from(seed).unwrap() % views.len().max(1)) else { continue };
        let spec = changed(&view.spec, seed);
        let before = fleet.scheduler.instance_views();
        let slots: Vec<u32> = before.iter().filter(|view| view.workload == spec.id).map(|view| view.slot).collect();
        let has_gap = slots.iter().any(|slot| *slot as usize >= slots.len());
        let earlier: Vec<String> = before.into_iter().map(|view| view.name).collect();

        let plan = fleet.scheduler.plan(std::slice::from_ref(&spec));
        let applied = fleet.request(Change::Apply { specs: vec![spec.clone()], expect: None });
        act(&mut fleet);

        let (Ok(plan), Ok(Accepted::Workloads(changes))) = (plan, &applied) else {
            panic!("seed {seed}: what is planned is applied: {applied:?}")
        };
        let action =
            |changes: &[WorkloadChange]| changes.iter().map(|change| change.action.clone()).collect::<Vec<_>>();
        assert_eq!(action(&plan.changes), action(changes));
        let mut expected: Vec<_> =
            plan.changes[0].placements.iter().filter_map(|to| Some((to.slot, to.node.clone()?))).collect();
        let mut actual: Vec<_> = fleet
            .scheduler
            .instance_views()
            .into_iter()
            .filter(|view| view.workload == spec.id && !earlier.contains(&view.name))
            .filter_map(|view| Some((view.slot, view.node?)))
            .collect();
        if action(changes) == ["update"] {
            // Which node has room in a later round depends on what ended before it. So does the number of a slot whose instance
            // makes room, if a lower one is unused; else the slots are the same.
            let any = NodeId::new("any").expect("a name");
            for place in expected.iter_mut().chain(&mut actual) {
                *place = (if has_gap { 0 } else { place.0 }, any.clone());
            }
        }
        expected.sort();
        actual.sort();
        assert_eq!(actual, expected, "seed {seed}: {} was applied", spec.id);
        placed += expected.len();
        compared += 1;
    }
    assert!(compared > 20 && placed > 20, "only {compared} plans with {placed} placements were compared");
}

/// Some cluster in which nothing is under way.
fn settled(seed: u64) -> Fleet {
    let mut fleet = walk::walk(seed, STEPS, |_| {});
    walk::heal(&mut fleet);
    fleet
}

/// Lets agents do what they are told, until well after everything is decided.
fn act(fleet: &mut Fleet) {
    for _ in 0..60 {
        fleet.advance(1_000);
        assert!(fleet.settle(), "it never settles");
    }
}

/// Where instances are, those on a dead node left out.
fn places(fleet: &Fleet, dead: Option<&NodeId>) -> Places {
    let views = fleet.scheduler.instance_views().into_iter();
    let placed = views.filter_map(|view| Some(((view.workload, view.slot), view.node?)));
    placed.filter(|(_, node)| Some(node) != dead).collect()
}

/// The same workload with another image, or another number of replicas.
fn changed(spec: &WorkloadSpec, seed: u64) -> WorkloadSpec {
    let mut spec = spec.clone();
    if let (WorkloadKind::Service { replicas }, true) = (&mut spec.kind, seed.is_multiple_of(2)) {
        *replicas += 2;
    } else {
        spec.container.image = "registry.lan/app:9".to_owned();
    }
    spec
}

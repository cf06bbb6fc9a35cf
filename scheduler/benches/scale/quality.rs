//! How much of what is asked for is placed at 95 % load, beside the formulas of others on the same fleets.

use std::collections::BTreeMap;

use scheduler::replay::{
    policy::Policy,
    story::{self, Outcome},
    synthetic::{self, Mix, Order},
    trace::{Requirement, Shape, Trace},
};
use tests_support::figures::{Figures, number};

use crate::Result;

/// So many fleets.
const SEEDS: u64 = 5;

/// The share of demanded CPU and memory that is placed, their mean, over several fleets of 2,000 nodes and 20,000
/// replicas that come one by one in random order. Nothing that was placed is moved.
pub(crate) fn shares(figures: &mut Figures) -> Result<()> {
    let traces: Vec<Trace> = (1..=SEEDS)
        .map(|seed| {
            synthetic::trace(&Mix {
                nodes: 2_000,
                zones: 50,
                replicas: 20_000,
                shapes: 1_000,
                load_pct: 95,
                order: Order::Mixed,
                seed,
            })
        })
        .collect();
    let policies = [
        (Policy::Wherry, "placed_share_pct"),
        (Policy::Kubernetes, "placed_share_kubernetes_pct"),
        (Policy::BestFit, "placed_share_bestfit_pct"),
        (Policy::Nomad, "placed_share_nomad_pct"),
    ];
    let bounds: f64 = traces.iter().map(bound).sum();
    figures.note("placed_share_bound_pct", bounds / number(SEEDS))?;
    for (policy, name) in policies {
        // `tell` itself fails if a policy gives away too much or overlooks room.
        let shares: Vec<f64> =
            traces.iter().map(|trace| Ok(share(trace, &story::tell(trace, policy, 0)?))).collect::<Result<_>>()?;
        figures.note(name, shares.iter().sum::<f64>() / number(SEEDS))?;
        if policy == Policy::Wherry {
            figures.note("placed_share_worst_pct", tests_support::figures::best(&shares))?;
        }
    }
    Ok(())
}

/// The share of what is asked for that is placed, as the mean of CPU and memory, in percent.
fn share(trace: &Trace, outcome: &Outcome) -> f64 {
    let (demand, placed) = (trace.demand(), outcome.placed_amount);
    f64::midpoint(percent(placed.cpu_millis, demand.cpu_millis), percent(placed.memory_mib, demand.memory_mib))
}

/// What no policy can exceed on these fleets: the same share if replicas could be cut in pieces.
///
/// By the theorem of max-flow and min-cut it is, for each resource by itself, the least over all sets of requirements of
/// what nodes have that meet any of them, plus what is asked for by the others.
fn bound(trace: &Trace) -> f64 {
    let mut kinds: Vec<&Vec<Requirement>> = trace.shapes.iter().map(|shape| &shape.require).collect();
    kinds.sort();
    kinds.dedup();
    let kind = |shape: &Shape| kinds.iter().position(|kind| **kind == shape.require).unwrap_or(0);
    let mut asked = vec![[0_u128; 2]; kinds.len()];
    for request in &trace.requests {
        let shape = &trace.shapes[request.shape];
        let amounts = [shape.cpu_millis, shape.memory_mib].map(|amount| u128::from(amount) * u128::from(request.count));
        asked[kind(shape)].iter_mut().zip(amounts).for_each(|(sum, amount)| *sum += amount);
    }
    // What nodes have that meet the same requirements, by the set of those.
    let mut there: BTreeMap<u32, [u128; 2]> = BTreeMap::new();
    for node in &trace.nodes {
        let met = (0..kinds.len()).filter(|kind| kinds[*kind].iter().all(|rule| rule.is_met(&node.facts)));
        let have = there.entry(met.fold(0, |set, kind| set | 1 << kind)).or_default();
        have[0] += u128::from(node.cpu_millis);
        have[1] += u128::from(node.memory_mib);
    }
    let most = |resource: usize| {
        let cut = |set: u32| {
            let inside = there.iter().filter(|(met, _)| **met & set != 0).map(|(_, have)| have[resource]).sum::<u128>();
            let outside = (0..kinds.len()).filter(|kind| set & 1 << kind == 0);
            inside + outside.map(|kind| asked[kind][resource]).sum::<u128>()
        };
        let least = (0..1 << kinds.len()).map(cut).min().unwrap_or(0);
        percent(least, asked.iter().map(|sums| sums[resource]).sum())
    };
    f64::midpoint(most(0), most(1))
}

fn percent(part: u128, whole: u128) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a share needs no more than 52 bits")]
    let share = part as f64 / whole as f64;
    share * 100.0
}

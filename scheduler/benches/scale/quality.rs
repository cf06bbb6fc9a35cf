//! How much of what is asked for is placed at 95 % load, beside the formulas of others on the same fleets.

use scheduler::replay::{
    policy::Policy,
    story::{self, Outcome},
    synthetic::{self, Mix, Order},
    trace::Trace,
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

fn share(trace: &Trace, outcome: &Outcome) -> f64 {
    let demand = trace.demand();
    let percent = |part: u128, whole: u128| {
        #[expect(clippy::cast_precision_loss, reason = "a share needs no more than 52 bits")]
        let share = part as f64 / whole as f64;
        share * 100.0
    };
    let placed = outcome.placed_amount;
    (percent(placed.cpu_millis, demand.cpu_millis) + percent(placed.memory_mib, demand.memory_mib)) / 2.0
}

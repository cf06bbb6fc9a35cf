//! The words of scripts about balancing.

use std::collections::BTreeMap;

use api_types::{
    balance::{BalancePolicy, BalanceSpec, WeightRule, WhenNoneReady},
    service::Endpoint,
};

use super::constraint;

/// `weigh=label.size:large*3`, `refuse` (when nobody is ready).
pub(super) fn spec(options: &BTreeMap<String, String>) -> BalanceSpec {
    let rule = |text: &String| {
        let (nodes, weight) = text.split_once('*').expect("nodes*weight");
        WeightRule { nodes: constraint(nodes), weight: weight.parse().expect("a weight") }
    };
    let refuses = options.contains_key("refuse");
    let when_none_ready = if refuses { WhenNoneReady::Refuse } else { WhenNoneReady::Keep };
    let policy = BalancePolicy { when_none_ready, ..BalancePolicy::default() };
    BalanceSpec { policy, weights: options.get("weigh").map(rule).into_iter().collect() }
}

/// An endpoint's instance with its weight, if that is not 1, and whether it is a last resort.
pub(super) fn endpoint(endpoint: &Endpoint) -> String {
    let weight = if endpoint.weight == 1 { String::new() } else { format!("*{}", endpoint.weight) };
    let unready = if endpoint.last_resort { "(unready)" } else { "" };
    format!("{}{weight}{unready}", endpoint.instance)
}

//! Which instances of a service are balanced to, and how much each gets.

use api_types::{
    balance::{BalanceSpec, WhenNoneReady},
    id::WorkloadId,
    placement::ConstraintKey,
    service::Endpoint,
    workload::WorkloadSpec,
};

use super::{canary, is_endpoint};
use crate::cluster::{Cluster, held::Held, nodes::NodeEntry, rows::Observed};

/// All endpoints of a service, sorted: those that are ready or, while nobody is, those that run all the same, unless the
/// service refuses then.
pub(crate) fn endpoints(cluster: &Cluster, id: &WorkloadId) -> Vec<Endpoint> {
    let Some(spec) = cluster.workloads.get(id).map(|entry| entry.spec()) else { return Vec::new() };
    let all = |endpoint: fn(Held<'_>, &WorkloadSpec) -> Option<Endpoint>| -> Vec<Endpoint> {
        cluster.instances_of(id).filter_map(|held| endpoint(held, spec)).collect()
    };
    let mut endpoints = all(ready);
    if endpoints.is_empty() {
        endpoints = all(last_resort);
    }
    endpoints.sort_unstable();
    canary::weigh(cluster, id, &mut endpoints);
    endpoints
}

/// An instance that is ready, as an endpoint.
pub(super) fn ready(held: Held<'_>, spec: &WorkloadSpec) -> Option<Endpoint> {
    is_endpoint(held).then(|| endpoint(held, spec))?
}

/// An instance that runs and shall go on, but fails its probe or is well and on trial, as an endpoint for when nobody is ready.
pub(super) fn last_resort(held: Held<'_>, spec: &WorkloadSpec) -> Option<Endpoint> {
    let keeps = spec.balance.policy.when_none_ready == WhenNoneReady::Keep;
    let is_tried = held.is_on_trial() && held.looks_well();
    let is_used = (held.fails_its_probe() && keeps || is_tried)
        && held.is_wanted()
        && held.node().is_ready()
        && held.node().synced;
    Some(Endpoint { last_resort: true, ..is_used.then(|| endpoint(held, spec))?? })
}

fn endpoint(held: Held<'_>, spec: &WorkloadSpec) -> Option<Endpoint> {
    let address = held.observed().and_then(Observed::address)?;
    let weight = weight(&spec.balance, held.node());
    Some(Endpoint { weight, ..Endpoint::new(held.id(), held.node_id().clone(), address) })
}

/// What the first rule says that the node meets.
fn weight(balance: &BalanceSpec, node: &NodeEntry) -> u16 {
    let known = |text: &'_ str| (!text.is_empty()).then(|| text.to_owned());
    let value = |key: &ConstraintKey| match key {
        ConstraintKey::Arch => node.facts.as_ref().and_then(|facts| known(&facts.arch)),
        ConstraintKey::Os => node.facts.as_ref().and_then(|facts| known(&facts.os)),
        ConstraintKey::Site => Some(node.spec.site.clone()),
        ConstraintKey::Node => Some(node.spec.id.to_string()),
        ConstraintKey::Label(name) => node.spec.labels.get(name).cloned(),
    };
    let rule = balance.weights.iter().find(|rule| rule.nodes.is_met_by(value(&rule.nodes.key).as_deref()));
    rule.map_or(1, |rule| rule.weight)
}

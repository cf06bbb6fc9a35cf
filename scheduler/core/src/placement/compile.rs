//! A spec as the engine reads it.

use api_types::{
    device::DeviceAmount as Asked,
    placement::{ConstraintKey, Relation},
    workload::{WorkloadKind, WorkloadSpec},
};
use scheduler_placement::{Affinity, Demand, DeviceAmount, DeviceAsk, NodeIndex, SelectionId, Spread};

use crate::{
    cluster::nodes::Nodes,
    placement::{holdings, ledger::Ledger},
};

/// What each instance asks for. The groups that its rules name, and the kinds and models, are known already.
pub(crate) fn demand(
    ledger: &Ledger,
    spec: &WorkloadSpec,
    selection: SelectionId,
    nodes: Option<Vec<NodeIndex>>,
) -> Demand {
    let placement = &spec.placement;
    let spread = placement.spread.iter();
    let spread = spread.map(|rule| Spread { over: ledger.catalog.over(&rule.over), skew_max: rule.skew_max }).collect();
    let affinity = |rule: &api_types::placement::Affinity| {
        Some(Affinity {
            group: ledger.group(&rule.workload)?,
            within: ledger.catalog.over(&rule.within),
            relation: match rule.relation {
                Relation::With => scheduler_placement::Relation::With,
                Relation::Without => scheduler_placement::Relation::Without,
            },
        })
    };
    let affinities = placement.affinities.iter().filter_map(affinity).collect();
    let ask = |request: &api_types::device::DeviceRequest| DeviceAsk {
        kind: ledger.catalog.kinds.known(&request.kind),
        model: request.model.as_ref().map(|model| ledger.catalog.models.known(model)),
        amount: match request.amount {
            Asked::Whole(count) => DeviceAmount::Whole(count),
            Asked::Millis(millis) => DeviceAmount::Millis(millis),
            Asked::Share => DeviceAmount::Share,
        },
    };
    Demand {
        amount: holdings::request(spec.reserve()),
        selection,
        nodes,
        spread,
        per_node_max: match spec.kind {
            WorkloadKind::Service { .. } | WorkloadKind::Job(_) => placement.per_node_max,
            WorkloadKind::Daemon => Some(1),
        },
        affinities,
        ports: holdings::ports(spec),
        devices: spec.devices.iter().map(ask).collect(),
        priority: placement.priority as u8,
    }
}

/// The nodes that rules name or leave out by name; `None` = no rule does.
pub(crate) fn pins(nodes: &Nodes, spec: &WorkloadSpec) -> Option<Vec<NodeIndex>> {
    let rules = || spec.placement.constraints.iter().filter(|constraint| constraint.key == ConstraintKey::Node);
    rules().next()?;
    let meant = nodes.indexed().filter(|(_, node)| rules().all(|rule| rule.is_met_by(Some(node.spec.id.as_str()))));
    Some(meant.map(|(index, _)| NodeIndex(index)).collect())
}

/// How many instances a workload's classes must bear. A daemon is on all nodes and weighs on all alike.
pub(crate) fn wanted(kind: &WorkloadKind) -> u32 {
    match kind {
        WorkloadKind::Service { replicas } => *replicas,
        WorkloadKind::Daemon => 0,
        WorkloadKind::Job(job) => job.completions.min(job.parallelism),
    }
}

//! Says in words why no node fits.

use std::collections::BTreeMap;

use api_types::{
    device::{DeviceAmount, DeviceRequest},
    placement::{Affinity, Domain, Relation},
    resources::Resources,
    workload::WorkloadSpec,
};

use crate::{
    cluster::{Cluster, nodes::NodeEntry},
    placement::{self, filters::Miss},
};

/// How many different reasons one line names.
const REASONS_SHOWN_MAX: usize = 4;

/// One line for people: how many nodes turn an instance away and for what, with the nearest miss.
pub(crate) fn summary(cluster: &Cluster, spec: &WorkloadSpec) -> String {
    summary_of(cluster, spec, cluster.nodes.values())
}

/// The same of some nodes.
pub(crate) fn summary_of<'c>(
    cluster: &Cluster,
    spec: &WorkloadSpec,
    nodes: impl Iterator<Item = &'c NodeEntry>,
) -> String {
    let verdicts: Vec<_> = nodes.map(|node| (node, placement::check(cluster, node, spec).err())).collect();
    if verdicts.is_empty() {
        return "there are no nodes".to_owned();
    }
    let misses: Vec<_> = verdicts.iter().filter_map(|(node, miss)| Some((*node, miss.as_ref()?))).collect();
    let mut groups: BTreeMap<String, (usize, String)> = BTreeMap::new();
    for (_, miss) in &misses {
        let group = groups.entry(sentence(miss, 2)).or_insert_with(|| (0, sentence(miss, 1)));
        group.0 += 1;
    }
    let mut groups: Vec<(usize, String)> = groups
        .into_iter()
        .map(|(many, (count, one))| (count, format!("{count} {}", if count == 1 { &one } else { &many })))
        .collect();
    groups.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
    let hidden = groups.len().saturating_sub(REASONS_SHOWN_MAX);
    let mut parts: Vec<String> = groups.into_iter().take(REASONS_SHOWN_MAX).map(|(_, text)| text).collect();
    if hidden > 0 {
        parts.push(format!("{hidden} more reasons"));
    }
    if let (Some(part), Some((node, lack))) = (parts.iter_mut().find(|part| part.contains(" lack")), nearest(&misses)) {
        *part = format!("{part} (nearest: {} lacks {})", node.spec.id, amount(lack));
    }
    let count = verdicts.len();
    let head = format!("{count} {}", if count == 1 { "node" } else { "nodes" });
    if parts.is_empty() { format!("{head}, all fit") } else { format!("{head}: {}", parts.join(", ")) }
}

/// What one node says, in one line.
pub(crate) fn reason(cluster: &Cluster, node: &NodeEntry, miss: &Miss<'_>) -> String {
    match miss {
        Miss::Cordoned => "it is cordoned".to_owned(),
        Miss::Draining => "it is being drained".to_owned(),
        Miss::Unreachable => "it is unreachable".to_owned(),
        Miss::Lost => "it is lost".to_owned(),
        Miss::Unknown => "it has not said yet what it is".to_owned(),
        Miss::RuntimeAway => format!("its container runtime is away: {}", node.runtime_trouble().unwrap_or_default()),
        Miss::Claimed => {
            let urgent = node.claimed_for.as_ref().map(ToString::to_string).unwrap_or_default();
            format!("it makes room for {urgent}, which is more urgent")
        }
        Miss::Architecture(constraint) | Miss::Constraint(constraint) => format!("does not meet `{constraint}`"),
        Miss::HostPort(port, protocol) => match node.host_ports.get(&(*port, *protocol)) {
            Some(holder) => {
                let holder = cluster.held(*holder).map(|held| held.id().to_string()).unwrap_or_default();
                format!("port {port}/{} is held by {holder}", protocol.as_str())
            }
            None => format!("port {port}/{} is taken", protocol.as_str()),
        },
        Miss::NoDevice(request) => format!("has no {}", kind(request)),
        Miss::Affinity(rule) => company(rule, "there"),
        Miss::AvoidedBy(other) => format!("{other} is there and keeps it away"),
        Miss::Spread(rule) => format!("would exceed `{rule}`"),
        Miss::PerNode(limit) => format!("holds {limit} of at most {limit}"),
        Miss::Device(request) => format!("has not {request} free"),
        Miss::Resources(lack) => format!("lacks {}", amount(*lack)),
    }
}

/// What would make an instance fit, by the node that misses least; empty when something fits or nothing helps.
pub(crate) fn hint(cluster: &Cluster, spec: &WorkloadSpec) -> String {
    let verdicts: Vec<_> =
        cluster.nodes.values().map(|node| (node, placement::check(cluster, node, spec).err())).collect();
    if verdicts.iter().any(|(_, miss)| miss.is_none()) {
        return String::new();
    }
    let misses: Vec<_> = verdicts.iter().filter_map(|(node, miss)| Some((*node, miss.as_ref()?))).collect();
    if let Some((node, lack)) = nearest(&misses) {
        return format!("it fits on {} if {} are freed there or reserved less", node.spec.id, amount(lack));
    }
    match misses.first() {
        None => "add a node".to_owned(),
        Some((node, Miss::Cordoned | Miss::Draining)) => format!("uncordon {} or add a node", node.spec.id),
        Some((node, Miss::Unreachable | Miss::Lost)) => format!("bring {} back or add a node", node.spec.id),
        Some((node, Miss::Unknown | Miss::RuntimeAway)) => format!("look at the agent of {}", node.spec.id),
        Some((node, Miss::Claimed)) => format!("wait until {} made room for what is more urgent", node.spec.id),
        Some((_, Miss::Architecture(constraint) | Miss::Constraint(constraint))) => {
            format!("add a node that meets `{constraint}`, or drop the constraint")
        }
        Some((_, Miss::HostPort(port, _))) => format!("free port {port} on a node or add a node"),
        Some((_, Miss::NoDevice(request))) => format!("add a node with a {}", kind(request)),
        Some((_, Miss::Device(request))) => format!("free {request} on a node or add a node with one"),
        Some((_, Miss::Affinity(rule))) if rule.relation == Relation::With => {
            format!("make room beside {}, or drop the rule", rule.workload)
        }
        Some((_, Miss::Affinity(rule))) => format!("add a node away from {}, or drop the rule", rule.workload),
        Some((_, Miss::AvoidedBy(other))) => format!("add a node away from {other}, or drop its rule"),
        Some((_, Miss::Spread(rule))) => format!("make room where fewest are, or raise the skew of `{rule}`"),
        Some((_, Miss::PerNode(_) | Miss::Resources(_))) => "add a node or raise per_node_max".to_owned(),
    }
}

/// The node that lacks least of those where nothing but resources is missing.
pub(crate) fn nearest<'a>(misses: &[(&'a NodeEntry, &Miss<'_>)]) -> Option<(&'a NodeEntry, Resources)> {
    let lacks = misses.iter().filter_map(|(node, miss)| match miss {
        Miss::Resources(lack) => Some((*node, *lack)),
        Miss::Cordoned
        | Miss::Draining
        | Miss::Unreachable
        | Miss::Lost
        | Miss::Unknown
        | Miss::RuntimeAway
        | Miss::Claimed
        | Miss::Architecture(_)
        | Miss::Constraint(_)
        | Miss::NoDevice(_)
        | Miss::Affinity(_)
        | Miss::AvoidedBy(_)
        | Miss::Spread(_)
        | Miss::HostPort(..)
        | Miss::PerNode(_)
        | Miss::Device(_) => None,
    });
    // One CPU weighs as much as 4 GiB, the usual shape of a machine.
    lacks.min_by_key(|(_, lack)| {
        u128::from(lack.cpu_millis) * u128::from((4_u64 << 30) / 1_000) + u128::from(lack.memory_bytes)
    })
}

/// What `count` nodes do, without the number.
pub(crate) fn sentence(miss: &Miss<'_>, count: usize) -> String {
    let by_number = |one: &str, many: &str| if count == 1 { one.to_owned() } else { many.to_owned() };
    match miss {
        Miss::Cordoned => "cordoned".to_owned(),
        Miss::Draining => "draining".to_owned(),
        Miss::Unreachable => "unreachable".to_owned(),
        Miss::Lost => "lost".to_owned(),
        Miss::Unknown => by_number("has not said yet what it is", "have not said yet what they are"),
        Miss::RuntimeAway => "without container runtime".to_owned(),
        Miss::Claimed => by_number("makes room for what is more urgent", "make room for what is more urgent"),
        Miss::Architecture(constraint) | Miss::Constraint(constraint) => {
            format!("{} not meet `{constraint}`", by_number("does", "do"))
        }
        Miss::HostPort(port, protocol) => {
            format!("{} port {port}/{} taken", by_number("has", "have"), protocol.as_str())
        }
        Miss::NoDevice(request) => format!("{} no {}", by_number("has", "have"), kind(request)),
        Miss::Affinity(rule) => company(rule, if count == 1 { "there" } else { "at them" }),
        Miss::AvoidedBy(other) => format!("kept free by {other}"),
        Miss::Spread(rule) => format!("would exceed `{rule}`"),
        Miss::PerNode(limit) => format!("{} {limit} of at most {limit}", by_number("holds", "hold")),
        Miss::Device(request) => match request.amount {
            DeviceAmount::Whole(1) => format!("{} no free {}", by_number("has", "have"), kind(request)),
            DeviceAmount::Whole(_) | DeviceAmount::Millis(_) | DeviceAmount::Share => {
                format!("{} not {request} free", by_number("has", "have"))
            }
        },
        Miss::Resources(lack) => {
            let what = match (lack.cpu_millis > 0, lack.memory_bytes > 0) {
                (true, true) => "CPU and memory",
                (true, false) => "CPU",
                (false, _) => "memory",
            };
            format!("{} {what}", by_number("lacks", "lack"))
        }
    }
}

/// What is wrong with the company.
fn company(rule: &Affinity, there: &str) -> String {
    let place = match &rule.within {
        Domain::Node => there.to_owned(),
        other @ (Domain::Site | Domain::Label(_)) => format!("on one {other}"),
    };
    match rule.relation {
        Relation::With => format!("without {} {place}", rule.workload),
        Relation::Without => format!("with {} {place}", rule.workload),
    }
}

/// A kind of device, with the model if one is asked for.
fn kind(request: &DeviceRequest) -> String {
    match &request.model {
        Some(model) => format!("{}/{model}", request.kind),
        None => request.kind.clone(),
    }
}

/// An amount as people say it.
pub(crate) fn amount(amount: Resources) -> String {
    let cpu = format!("{}.{:03}", amount.cpu_millis / 1_000, amount.cpu_millis % 1_000);
    let cpu = format!("{} CPU", cpu.trim_end_matches('0').trim_end_matches('.'));
    match (amount.cpu_millis, amount.memory_bytes) {
        (_, 0) => cpu,
        (0, bytes) => memory(bytes),
        (_, bytes) => format!("{cpu} and {}", memory(bytes)),
    }
}

/// Bytes as people say them, rounded up.
pub(crate) fn memory(bytes: u64) -> String {
    let (unit, size) = if bytes >= 10 << 30 { ("GiB", 1 << 30) } else { ("MiB", 1 << 20) };
    format!("{} {unit}", bytes.div_ceil(size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_read_as_people_say_them() {
        let shown = |cpu_millis, memory_bytes| amount(Resources { cpu_millis, memory_bytes });

        assert_eq!(shown(250, 0), "0.25 CPU");
        assert_eq!(shown(10_000, 64 << 20), "10 CPU and 64 MiB");
        assert_eq!(shown(0, 1), "1 MiB");
        assert_eq!(shown(0, 12 << 30), "12 GiB");
        assert_eq!(shown(0, 0), "0 CPU");
    }
}

//! Ports of the nodes that somebody else holds, and who.

use std::collections::BTreeMap;

use api_types::{container::Protocol, id::NodeId};

use crate::cluster::Cluster;

/// By port, each node where it cannot be had, and who has it there.
#[derive(Debug, Default)]
pub(crate) struct TakenPorts<'c>(BTreeMap<(Protocol, u16), Vec<(&'c NodeId, &'c str)>>);

impl<'c> TakenPorts<'c> {
    /// What the nodes that are heard of say.
    pub(crate) fn of(cluster: &'c Cluster) -> Self {
        let mut ports = BTreeMap::<_, Vec<_>>::new();
        for (id, node) in cluster.nodes.iter().filter(|(_, node)| node.is_ready()) {
            for taken in node.conditions.iter().filter(|condition| !condition.ok).flat_map(|condition| &condition.taken)
            {
                ports.entry((taken.protocol, taken.port)).or_default().push((id, taken.owner.as_str()));
            }
        }
        Self(ports)
    }

    /// Where of some nodes a port is taken, and by whom, in one line for people.
    pub(crate) fn told(&self, port: (Protocol, u16), counts: impl Fn(&NodeId) -> bool) -> Option<String> {
        let mut places = self.0.get(&port)?.iter().filter(|(node, _)| counts(node));
        let (node, owner) = places.next()?;
        let more = match places.count() {
            0 => String::new(),
            1 => ", and of 1 more node".to_owned(),
            count => format!(", and of {count} more nodes"),
        };
        Some(format!("{} port {} of {node} is taken by {owner}{more}", port.0.as_str(), port.1))
    }
}

/// Two lines for people as one.
pub(crate) fn together(first: String, second: String) -> String {
    match (first.is_empty(), second.is_empty()) {
        (_, true) => first,
        (true, false) => second,
        (false, false) => format!("{first}; {second}"),
    }
}

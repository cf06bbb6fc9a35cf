//! The table of nodes.

use std::collections::{BTreeMap, BTreeSet};

use api_types::{
    container::Protocol,
    counter::SessionId,
    id::{InstanceId, NodeId},
    node::{Availability, Condition, Liveness, NodeFacts, NodeSpec, NodeUsage},
    resources::Resources,
    time::Timestamp,
};

use crate::{
    cluster::Cluster,
    effect::{Record, RecordKey},
    settings::SystemReserve,
};

/// The condition by which a node says that its container runtime answers.
const RUNTIME_CONDITION: &str = "runtime";

/// A registered node and all that is known of it.
#[derive(Clone, Debug)]
pub(crate) struct NodeEntry {
    /// As registered; durable.
    pub(crate) spec: NodeSpec,
    /// What it says it is; `None` until its first session in this run.
    pub(crate) facts: Option<NodeFacts>,
    /// What placement may give away; nothing until the facts are known.
    pub(crate) allocatable: Resources,
    /// What it checks about itself.
    pub(crate) conditions: Vec<Condition>,
    /// What it uses.
    pub(crate) usage: NodeUsage,
    /// Its newest session in this run.
    pub(crate) session: Option<SessionId>,
    /// When it was last heard of in this run.
    pub(crate) last_seen: Option<Timestamp>,
    /// From when its silence counts while it was not heard of in this run; `None` = it never had a session at all.
    pub(crate) expected_from: Option<Timestamp>,
    /// Before this its silence does not count for replacing: its site was frozen until then.
    pub(crate) excused_until: Option<Timestamp>,
    /// Whether it is heard of.
    pub(crate) liveness: Liveness,
    /// Whether a complete report came since it was last away.
    pub(crate) synced: bool,
    /// Index: the instances placed on it.
    pub(crate) instances: BTreeSet<InstanceId>,
    /// Index: what these were promised.
    pub(crate) allocated: Resources,
    /// Index: the host ports that these hold.
    pub(crate) host_ports: BTreeMap<(u16, Protocol), InstanceId>,
    /// The allocatable amount at the last placement: it may shrink later, what was given away stays.
    pub(crate) allocatable_when_placed: Option<Resources>,
    /// Whether people were told that draining is done.
    pub(crate) drained: bool,
}

impl NodeEntry {
    /// Makes the entry of a node that was not heard of yet.
    pub(crate) fn new(spec: NodeSpec, expected_from: Option<Timestamp>) -> Self {
        Self {
            spec,
            facts: None,
            allocatable: Resources::default(),
            conditions: Vec::new(),
            usage: NodeUsage::default(),
            session: None,
            last_seen: None,
            expected_from,
            excused_until: None,
            liveness: Liveness::Unreachable,
            synced: false,
            instances: BTreeSet::new(),
            allocated: Resources::default(),
            host_ports: BTreeMap::new(),
            allocatable_when_placed: None,
            drained: false,
        }
    }

    /// Whether its heartbeats come.
    pub(crate) fn is_ready(&self) -> bool {
        self.liveness == Liveness::Ready
    }

    /// From when its silence counts; `None` = there is nothing to miss yet.
    pub(crate) fn silent_since(&self) -> Option<Timestamp> {
        self.last_seen.or(self.expected_from)
    }

    /// What placement can still give away.
    pub(crate) fn free(&self) -> Resources {
        self.allocatable.saturating_sub(self.allocated)
    }

    /// Why its container runtime cannot be used, if so.
    pub(crate) fn runtime_trouble(&self) -> Option<&str> {
        let condition =
            self.conditions.iter().find(|condition| condition.name == RUNTIME_CONDITION && !condition.ok)?;
        Some(&condition.reason)
    }
}

impl Cluster {
    /// Registers a node, or changes what is registered of it.
    pub(crate) fn put_node(&mut self, spec: NodeSpec) {
        self.persist(Record::Node(spec.clone()));
        let id = spec.id.clone();
        match self.nodes.get_mut(&id) {
            Some(entry) => {
                entry.drained &= spec.availability == Availability::Draining;
                entry.spec = spec;
            }
            None => {
                self.nodes.insert(id.clone(), NodeEntry::new(spec, None));
            }
        }
        self.touched.sets.insert(id.clone());
        self.touched.peers = true;
        self.touched.room.insert(id.clone());
        self.touched.seen = true;
        self.touch_instances_on(&id);
    }

    /// Forgets a node that holds no instance any more.
    pub(crate) fn remove_node(&mut self, node: &NodeId) {
        debug_assert!(
            self.nodes.get(node).is_none_or(|entry| entry.instances.is_empty()),
            "forget its instances first"
        );
        self.nodes.remove(node);
        self.unpersist(RecordKey::Node(node.clone()));
        self.touched.peers = true;
        self.touched.liveness = true;
        self.touched.seen = true;
        // Daemons and misses speak of all nodes, also of this one.
        self.touched.room.insert(node.clone());
    }

    /// Takes over what a node says it is.
    pub(crate) fn set_facts(&mut self, node: &NodeId, facts: NodeFacts, reserve: &SystemReserve) {
        let Some(entry) = self.nodes.get_mut(node).filter(|entry| entry.facts.as_ref() != Some(&facts)) else { return };
        self.touched.peers |= entry.facts.as_ref().and_then(|facts| facts.address) != facts.address;
        entry.allocatable = reserve.allocatable(facts.capacity);
        entry.facts = Some(facts);
        self.touched.room.insert(node.clone());
        self.touched.seen = true;
    }

    /// Takes over what a node checks about itself.
    pub(crate) fn set_conditions(&mut self, node: &NodeId, conditions: Vec<Condition>) {
        let Some(entry) = self.nodes.get_mut(node).filter(|entry| entry.conditions != conditions) else { return };
        entry.conditions = conditions;
        self.touched.room.insert(node.clone());
        self.touched.seen = true;
    }

    /// Takes over whether a node is heard of.
    pub(crate) fn set_liveness(&mut self, node: &NodeId, liveness: Liveness) {
        let Some(entry) = self.nodes.get_mut(node).filter(|entry| entry.liveness != liveness) else { return };
        entry.liveness = liveness;
        if liveness == Liveness::Ready {
            entry.excused_until = None;
        }
        self.touched.liveness = true;
        self.touched.room.insert(node.clone());
        self.touched.seen = true;
        self.touch_instances_on(node);
    }

    /// Notes whether what is known of a node's instances is what it said since it was last away.
    pub(crate) fn set_synced(&mut self, node: &NodeId, synced: bool) {
        let Some(entry) = self.nodes.get_mut(node).filter(|entry| entry.synced != synced) else { return };
        entry.synced = synced;
        self.touched.seen = true;
        self.touch_instances_on(node);
    }
}

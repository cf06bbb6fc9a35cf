//! The table of nodes.

use std::collections::{BTreeMap, BTreeSet};

use api_types::{
    container::Protocol,
    counter::{Generation, SessionId},
    id::{NodeId, WorkloadId},
    net::Cidr,
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
    /// The service table that its kernel holds, as it said in its session; zero before it did.
    pub(crate) programmed: Generation,
    /// Whether it did not say so in time: nobody waits for it until it does.
    pub(crate) is_mute: bool,
    /// As what it is counted among those that are waited for.
    pub(crate) awaited: Option<Generation>,
    /// Index: the numbers of the instances placed on it, in order.
    pub(crate) instances: Vec<u64>,
    /// Index: what these were promised.
    pub(crate) allocated: Resources,
    /// Index: the host ports that these hold.
    pub(crate) host_ports: BTreeMap<(u16, Protocol), u64>,
    /// The allocatable amount at the last placement: it may shrink later, what was given away stays.
    pub(crate) allocatable_when_placed: Option<Resources>,
    /// Whether people were told that draining is done.
    pub(crate) drained: bool,
    /// For whom room is being made on it: nobody else is placed there meanwhile.
    pub(crate) claimed_for: Option<WorkloadId>,
    /// What it is told of the coming times of jobs.
    pub(crate) ahead: AheadOf,
    /// The version of its assignment set that was told last.
    pub(crate) set_generation: Generation,
    /// Whether its assignment set differs from the one that was told last.
    pub(crate) set_differs: bool,
}

/// Jobs of which a node is told the coming times.
#[derive(Clone, Debug, Default)]
pub(crate) struct AheadOf {
    /// Index: which.
    pub(crate) jobs: BTreeSet<WorkloadId>,
    /// Grows whenever what it is told of them may differ.
    pub(crate) version: u64,
}

/// All nodes, by name and by a dense index. An index is given to another node only after all instances there are gone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Nodes {
    by_name: BTreeMap<NodeId, u32>,
    entries: Vec<Option<NodeEntry>>,
    /// Indexes of removed nodes; the lowest is used first, as the placement engine does.
    free: BTreeSet<u32>,
    /// Index: how many are synced.
    synced: usize,
    /// Index: the ranges of their instances.
    subnets: BTreeSet<Cidr>,
}

impl Nodes {
    /// The node with this name.
    pub(crate) fn get(&self, node: &NodeId) -> Option<&NodeEntry> {
        self.at(self.index_of(node)?)
    }

    /// The node with this name, to change.
    pub(crate) fn get_mut(&mut self, node: &NodeId) -> Option<&mut NodeEntry> {
        self.at_mut(self.index_of(node)?)
    }

    /// The node with this index.
    pub(crate) fn at(&self, index: u32) -> Option<&NodeEntry> {
        self.entries.get(index as usize)?.as_ref()
    }

    /// The node with this index, to change.
    pub(crate) fn at_mut(&mut self, index: u32) -> Option<&mut NodeEntry> {
        self.entries.get_mut(index as usize)?.as_mut()
    }

    /// The index of a node.
    pub(crate) fn index_of(&self, node: &NodeId) -> Option<u32> {
        self.by_name.get(node).copied()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.by_name.len()
    }

    /// One more than the greatest index that was ever given.
    pub(crate) fn width(&self) -> u32 {
        u32::try_from(self.entries.len()).expect("fewer nodes than subnets")
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// The nodes with their names, sorted by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&NodeId, &NodeEntry)> {
        self.by_name.iter().filter_map(|(name, index)| Some((name, self.at(*index)?)))
    }

    /// The nodes with their indexes, sorted by name.
    pub(crate) fn indexed(&self) -> impl Iterator<Item = (u32, &NodeEntry)> {
        self.by_name.values().filter_map(|index| Some((*index, self.at(*index)?)))
    }

    /// The nodes, sorted by name.
    pub(crate) fn values(&self) -> impl Iterator<Item = &NodeEntry> {
        self.by_name.values().filter_map(|index| self.at(*index))
    }

    /// The nodes to change, in no order that means anything.
    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut NodeEntry> {
        self.entries.iter_mut().flatten()
    }

    /// The ranges of the nodes' instances.
    pub(crate) fn subnets(&self) -> &BTreeSet<Cidr> {
        &self.subnets
    }

    /// Whether a complete report came of each since it was last away.
    pub(crate) fn are_synced(&self) -> bool {
        self.synced == self.len()
    }

    /// Adds a node that is not there yet; gives its index.
    pub(crate) fn insert(&mut self, entry: NodeEntry) -> u32 {
        let name = entry.spec.id.clone();
        self.synced += usize::from(entry.synced);
        self.subnets.insert(entry.spec.subnet);
        debug_assert!(!self.by_name.contains_key(&name), "{name} is there already");
        let index = match self.free.pop_first() {
            Some(index) => {
                self.entries[index as usize] = Some(entry);
                index
            }
            None => {
                self.entries.push(Some(entry));
                u32::try_from(self.entries.len() - 1).expect("fewer nodes than subnets")
            }
        };
        self.by_name.insert(name, index);
        index
    }

    /// Takes a node out that holds nothing any more.
    pub(crate) fn remove(&mut self, node: &NodeId) -> Option<NodeEntry> {
        let index = self.by_name.remove(node)?;
        self.free.insert(index);
        let entry = self.entries[index as usize].take()?;
        self.synced -= usize::from(entry.synced);
        self.subnets.remove(&entry.spec.subnet);
        Some(entry)
    }
}

impl<'n> IntoIterator for &'n Nodes {
    type Item = (&'n NodeId, &'n NodeEntry);
    type IntoIter = Box<dyn Iterator<Item = Self::Item> + 'n>;

    fn into_iter(self) -> Self::IntoIter {
        Box::new(self.iter())
    }
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
            programmed: Generation(0),
            is_mute: false,
            awaited: None,
            instances: Vec::new(),
            allocated: Resources::default(),
            host_ports: BTreeMap::new(),
            allocatable_when_placed: None,
            drained: false,
            claimed_for: None,
            ahead: AheadOf::default(),
            set_generation: Generation(0),
            set_differs: true,
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
        let index = match self.nodes.index_of(&id) {
            Some(index) => index,
            None => self.nodes.insert(NodeEntry::new(spec.clone(), None)),
        };
        if let Some(entry) = self.nodes.at_mut(index) {
            entry.drained &= spec.availability == Availability::Draining;
            let (before, now) = (entry.spec.subnet, spec.subnet);
            entry.spec = spec;
            if before != now {
                entry.set_differs = true;
                self.nodes.subnets.remove(&before);
                self.nodes.subnets.insert(now);
            }
        }
        self.enter_node(index);
        self.touched.sets.insert(index);
        self.touched.peers = true;
        self.touched.room.insert(index);
        self.touched.seen = true;
        self.touch_instances_on(&id);
    }

    /// Forgets a node that holds no instance any more.
    pub(crate) fn remove_node(&mut self, node: &NodeId) {
        debug_assert!(
            self.nodes.get(node).is_none_or(|entry| entry.instances.is_empty()),
            "forget its instances first"
        );
        let index = self.nodes.index_of(node);
        if let Some(entry) = self.nodes.get_mut(node) {
            entry.liveness = Liveness::Lost;
        }
        index.into_iter().for_each(|index| self.await_node(index));
        self.nodes.remove(node);
        if let Some(index) = index {
            self.leave_node(index);
        }
        self.unpersist(RecordKey::Node(node.clone()));
        self.touched.peers = true;
        self.touched.liveness = true;
        self.touched.seen = true;
        // Daemons and misses speak of all nodes, also of this one.
        self.touched.fewer_nodes = true;
    }

    /// Takes over what a node says it is.
    pub(crate) fn set_facts(&mut self, node: &NodeId, facts: NodeFacts, reserve: &SystemReserve) {
        let Some(entry) = self.nodes.get_mut(node).filter(|entry| entry.facts.as_ref() != Some(&facts)) else { return };
        let places = |facts: &NodeFacts| (facts.address, facts.ipv6_address, facts.tunnel);
        self.touched.peers |= entry.facts.as_ref().map(places) != Some(places(&facts));
        // Endpoints may weigh more on some machines.
        let kind = |facts: &NodeFacts| (facts.arch.clone(), facts.os.clone());
        let is_another_kind = entry.facts.as_ref().is_some_and(|known| kind(known) != kind(&facts));
        entry.allocatable = reserve.allocatable(facts.capacity);
        entry.facts = Some(facts);
        if is_another_kind {
            self.touch_instances_on(node);
        }
        self.touch_room(node);
        self.touched.seen = true;
    }

    /// Takes over what a node checks about itself.
    pub(crate) fn set_conditions(&mut self, node: &NodeId, conditions: Vec<Condition>) {
        let Some(entry) = self.nodes.get_mut(node).filter(|entry| entry.conditions != conditions) else { return };
        entry.conditions = conditions;
        self.touch_room(node);
        self.touched.seen = true;
    }

    /// Keeps a node for a workload for which room is being made on it, or opens it again.
    pub(crate) fn set_claimed(&mut self, index: u32, workload: Option<WorkloadId>) {
        let Some(entry) = self.nodes.at_mut(index).filter(|entry| entry.claimed_for != workload) else { return };
        entry.claimed_for = workload;
        self.enter_node(index);
        // Daemons look at every node that changed, also at one that they have to wait for.
        self.touched.room.insert(index);
        self.touched.seen = true;
    }

    /// Takes over whether a node is heard of.
    pub(crate) fn set_liveness(&mut self, node: &NodeId, liveness: Liveness) {
        let Some(entry) = self.nodes.get_mut(node).filter(|entry| entry.liveness != liveness) else { return };
        entry.liveness = liveness;
        if liveness == Liveness::Ready {
            entry.excused_until = None;
        }
        if let Some(index) = self.nodes.index_of(node) {
            self.await_node(index);
        }
        self.touched.liveness = true;
        self.touch_room(node);
        self.touched.seen = true;
        self.touch_instances_on(node);
    }

    /// Notes whether what is known of a node's instances is what it said since it was last away.
    pub(crate) fn set_synced(&mut self, node: &NodeId, synced: bool) {
        let Some(entry) = self.nodes.get_mut(node).filter(|entry| entry.synced != synced) else { return };
        entry.synced = synced;
        self.nodes.synced = if synced { self.nodes.synced + 1 } else { self.nodes.synced - 1 };
        self.touched.seen = true;
        self.touch_instances_on(node);
        self.touch_pinned(node);
    }

    /// Notes that a node may take more than before.
    fn touch_room(&mut self, node: &NodeId) {
        let Some(index) = self.nodes.index_of(node) else { return };
        self.enter_node(index);
        self.touched.room.insert(index);
    }
}

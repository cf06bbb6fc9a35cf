//! What a search looks at: which classes and rows are open to a group, and what is in the way.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    block::{CLOSED, Candidate},
    check::View,
    class::{ClassId, DomainValue},
    demand::{Affinity, Demand, Over, Relation},
    fleet::{Fleet, NodeIndex},
    group::{Count, Group, GroupIndex},
    selection::{Hosts, Selections},
    slice::{Part, Slice},
};

/// One group's look for nodes. Marks that it leaves in the columns are wiped by [`Search::finish`].
#[derive(Debug)]
pub(crate) struct Search<'e> {
    pub(crate) fleet: &'e mut Fleet,
    pub(crate) groups: &'e [Option<Group>],
    pub(crate) selections: &'e Selections,
    pub(crate) index: GroupIndex,
    pub(crate) group: &'e Group,
    /// Whether a rule is over nodes: then marks count siblings.
    counts_nodes: bool,
    /// Whether rules about other groups close whole classes.
    pub(crate) has_company: bool,
    pub(crate) parts: Vec<Part>,
    marked: Vec<(ClassId, u32)>,
    /// What was placed in this search, where marks do not say it.
    seats: BTreeMap<NodeIndex, u32>,
}

impl<'e> Search<'e> {
    pub(crate) fn new(
        fleet: &'e mut Fleet,
        groups: &'e [Option<Group>],
        selections: &'e Selections,
        index: GroupIndex,
    ) -> Option<Self> {
        let group = groups.get(index.0 as usize)?.as_ref()?;
        let counts_nodes = group.demand.spread.iter().any(|rule| rule.over == Over::Node);
        let has_company = !group.demand.affinities.is_empty() || group.is_avoided();
        Some(Self {
            fleet,
            groups,
            selections,
            index,
            group,
            counts_nodes,
            has_company,
            parts: Vec::new(),
            marked: Vec::new(),
            seats: BTreeMap::new(),
        })
    }

    pub(crate) fn view(&self) -> View<'_> {
        View { fleet: self.fleet, groups: self.groups, selections: self.selections }
    }

    pub(crate) fn demand(&self) -> &'e Demand {
        &self.group.demand
    }

    /// Wipes the marks.
    pub(crate) fn finish(self) {
        for (class, row) in self.marked {
            let (block, lane) = self.fleet.lane_mut(class, row);
            block.set_mark(lane, 0);
        }
    }

    pub(crate) fn mark(&mut self, class: ClassId, row: u32, mark: u16) {
        let (block, lane) = self.fleet.lane_mut(class, row);
        if block.mark(lane) == 0 {
            self.marked.push((class, row));
        }
        block.set_mark(lane, mark);
    }

    pub(crate) fn close(&mut self, node: NodeIndex) {
        if let Some((class, row)) = self.fleet.placed(node) {
            self.mark(class, row, CLOSED);
        }
    }

    /// Whether the rules about other groups allow a class as a whole.
    pub(crate) fn is_open(&self, class: ClassId) -> bool {
        let class = self.fleet.class(class);
        let total = |other: GroupIndex, over: Over| {
            let Over::Domain(key) = over else { return None };
            Some(self.view().group(other).map(|other| other.at(key, class.value(key)).total).unwrap_or_default())
        };
        let own = self.demand().affinities.iter().all(|rule| {
            total(rule.group, rule.within).is_none_or(|there| View::holds(self.group, self.index, *rule, there))
        });
        own && self.group.named_by.iter().all(|(other, within, relation)| {
            *relation == Relation::With || total(*other, *within).is_none_or(|there| there == 0)
        })
    }

    /// The nodes that alone come into question: named ones, those beside another group; those with a device free, where they
    /// are few.
    pub(crate) fn listed(&self) -> Option<Vec<NodeIndex>> {
        let demand = self.demand();
        if let Some(nodes) = &demand.nodes {
            return Some(nodes.clone());
        }
        let holders = |other: &Affinity| self.view().group(other.group).map(Group::holders).unwrap_or_default();
        if let Some(rule) = self.beside().min_by_key(|rule| holders(rule)) {
            let other = self.view().group(rule.group);
            return Some(other.into_iter().flat_map(Group::nodes).map(|(node, _)| node).collect());
        }
        let open = |kind: u32| self.fleet.open_devices.get(&kind);
        let kinds = demand.devices.iter().map(|ask| ask.kind);
        let kind = kinds.min_by_key(|kind| open(*kind).map(BTreeSet::len).unwrap_or_default())?;
        let nodes: Vec<NodeIndex> = open(kind).into_iter().flatten().copied().collect();
        let is_few = (nodes.len() as u64) < self.selections.hosting(demand.selection) / 8;
        is_few.then_some(nodes)
    }

    /// The rules by which instances of another group must be on the very node.
    fn beside(&self) -> impl Iterator<Item = &'e Affinity> {
        let alone = self.group.total() == 0;
        let index = self.index;
        let rules = self.group.demand.affinities.iter();
        rules.filter(move |rule| {
            (rule.relation, rule.within) == (Relation::With, Over::Node) && !(rule.group == index && alone)
        })
    }

    /// Whether instances of all groups are on a node that must be.
    pub(crate) fn stands_beside(&self, node: NodeIndex) -> bool {
        let Some((class, _)) = self.fleet.placed(node) else { return false };
        let class = self.fleet.class(class);
        let on = |rule: &Affinity| self.view().group(rule.group).is_some_and(|other| other.on(class, node).total > 0);
        self.beside().all(on)
    }

    /// The classes that host the group, by place of the leading rule.
    pub(crate) fn hosts(&self) -> Option<&'e Hosts> {
        self.selections.hosts(self.group.demand.selection, self.group.lead)
    }

    /// The slices of one place of the leading rule, with the siblings there marked.
    pub(crate) fn ground(&mut self, value: DomainValue) -> Vec<Slice> {
        for (node, count) in self.group.nodes_in(value) {
            self.mark_sibling(node, count);
        }
        let classes = self.hosts().and_then(|hosts| hosts.get(&value)).into_iter().flatten();
        let mut slices = Vec::new();
        self.slice(classes.copied(), 0, &mut slices);
        slices
    }

    /// The mark of a node with siblings.
    pub(crate) fn sibling_mark(&self, counted: u32, total: u32) -> u16 {
        let demand = self.demand();
        if demand.per_node_max.is_some_and(|most| total >= most) {
            return CLOSED;
        }
        self.node_mark(counted)
    }

    /// So many siblings as a mark, where a rule asks for them.
    fn node_mark(&self, counted: u32) -> u16 {
        if self.counts_nodes { u16::try_from(counted).unwrap_or(CLOSED - 1).min(CLOSED - 1) } else { 0 }
    }

    /// Marks a node with siblings.
    pub(crate) fn mark_sibling(&mut self, node: NodeIndex, count: Count) {
        if let Some((class, row)) = self.fleet.placed(node) {
            let (block, lane) = self.fleet.lane(class, row);
            // What is in the way stays so.
            if block.mark(lane) != CLOSED {
                let mark = self.sibling_mark(count.counted, count.total);
                self.mark(class, row, mark);
            }
        }
    }

    /// Marks the node of a candidate, if it has siblings that were not marked: then it is not as good as it seemed. So only
    /// those siblings are looked up that could matter.
    pub(crate) fn has_siblings_unmarked(&mut self, node: NodeIndex, candidate: Candidate) -> bool {
        let count = self.group.on(self.fleet.class(candidate.class), node);
        if count.total == 0 || self.sibling_mark(count.counted, count.total) == candidate.mark {
            return false;
        }
        self.mark_sibling(node, count);
        true
    }

    /// Marks all siblings in a slice.
    pub(crate) fn mark_siblings_in(&mut self, slice: &Slice) {
        for (class, row) in self.rows(slice) {
            let node = self.fleet.node_at(class, row);
            let count = self.group.on(self.fleet.class(class), node);
            if count.total > 0 {
                self.mark_sibling(node, count);
            }
        }
    }

    /// Marks those of some nodes that have siblings.
    pub(crate) fn mark_listed(&mut self, nodes: &[NodeIndex]) {
        for node in nodes {
            let Some((class, _)) = self.fleet.placed(*node) else { continue };
            let count = self.group.on(self.fleet.class(class), *node);
            if count.total > 0 {
                self.mark_sibling(*node, count);
            }
        }
    }

    /// Closes every node where another group or a port is in the way.
    pub(crate) fn close_conflicts(&mut self) {
        let own = self.demand().affinities.iter().filter(|rule| rule.relation == Relation::Without);
        let own = own.filter(|rule| rule.within == Over::Node).map(|rule| rule.group);
        let theirs = self
            .group
            .named_by
            .iter()
            .filter(|(_, within, relation)| (*within, *relation) == (Over::Node, Relation::Without));
        let others: Vec<GroupIndex> = own.chain(theirs.map(|(other, ..)| *other)).collect();
        for other in others {
            let Some(other) = self.groups.get(other.0 as usize).and_then(Option::as_ref) else { continue };
            other.nodes().for_each(|(node, _)| self.close(node));
        }
        for port in &self.demand().ports {
            let holders: Vec<NodeIndex> =
                self.fleet.ports.get(port).into_iter().flatten().map(|(node, _)| *node).collect();
            holders.into_iter().for_each(|node| self.close(node));
        }
    }

    /// Marks a row on which one more instance was placed; how many siblings that count it has now, where rules ask.
    pub(crate) fn seated(&mut self, node: NodeIndex, class: ClassId, row: u32) -> u32 {
        let demand = self.demand();
        if !demand.ports.is_empty() {
            self.mark(class, row, CLOSED);
            return 1;
        }
        let there = self.fleet.class(class);
        let (block, lane) = self.fleet.lane(class, row);
        let mut counted = u32::from(block.mark(lane)) + 1;
        if demand.per_node_max.is_some() {
            let before = self.group.on(there, node);
            let more = self.seats.entry(node).or_default();
            *more += 1;
            counted = before.counted + *more;
            let mark = self.sibling_mark(counted, before.total + self.seats[&node]);
            self.mark(class, row, mark);
        } else if self.counts_nodes {
            self.mark(class, row, u16::try_from(counted).unwrap_or(CLOSED - 1).min(CLOSED - 1));
        }
        counted
    }
}

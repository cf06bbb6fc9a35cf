//! Keeps the engine in step with the tables: nodes, workloads and instances as they come, change and go.

use std::collections::{BTreeMap, BTreeSet};

use api_types::{
    device::Device,
    id::WorkloadId,
    node::{Availability, Liveness},
    workload::WorkloadSpec,
};
use scheduler_placement::{
    Amount, ClassId, Demand, Displaceable, Engine, GroupIndex, Intake, NodeIndex, NodeShape, Parked, SelectionId, Slot,
};

use crate::{
    cluster::{
        Cluster,
        nodes::NodeEntry,
        rows::{COUNTED, FINISHED},
    },
    placement::{
        catalog::Catalog,
        compile,
        holdings::{Taken, grants},
    },
};

/// The engine with the names of what it knows as numbers. A node's number is its index in the table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) engine: Engine,
    pub(crate) catalog: Catalog,
    /// The group of each workload that is wanted, has instances, or is named by a rule.
    groups: BTreeMap<WorkloadId, GroupIndex>,
    /// The same the other way round.
    names: BTreeMap<GroupIndex, WorkloadId>,
    /// Workloads whose rules name nodes: they look at each node that joins or goes.
    pinned: BTreeSet<WorkloadId>,
    /// Those that wait for room.
    pub(crate) parked: Parked,
    /// What could be displaced; `None` = nobody asked since priorities changed.
    pub(crate) displaceable: Option<Displaceable>,
}

impl Ledger {
    /// A workload's group.
    pub(crate) fn group(&self, id: &WorkloadId) -> Option<GroupIndex> {
        self.groups.get(id).copied()
    }

    /// The workload of a group.
    pub(crate) fn name(&self, group: GroupIndex) -> Option<&WorkloadId> {
        self.names.get(&group)
    }

    /// A workload's group, made without a demand if there is none.
    pub(crate) fn group_or_new(&mut self, id: &WorkloadId) -> GroupIndex {
        if let Some(group) = self.groups.get(id) {
            return *group;
        }
        let group = self.engine.add_group(Demand::default(), 0);
        self.groups.insert(id.clone(), group);
        self.names.insert(group, id.clone());
        group
    }

    /// Changes what a group asks for; one that waits, waits for that.
    fn set_demand(&mut self, index: GroupIndex, demand: Demand, wanted: u32) {
        self.engine.set_demand(index, demand, wanted);
        if self.parked.contains(index) {
            self.parked.park(&self.engine, index);
        }
    }

    /// Forgets a group that nobody wants, that has no instance and that no rule names.
    fn drop_if_unused(&mut self, id: &WorkloadId, wanted: bool) {
        let Some(index) = self.groups.get(id).copied().filter(|_| !wanted) else { return };
        let Some(group) = self.engine.group(index) else { return };
        if group.total() == 0 && !group.is_named() {
            self.parked.unpark(index);
            self.engine.remove_group(index);
            self.groups.remove(id);
            self.names.remove(&index);
        }
    }
}

/// A node as the engine knows it.
fn shape_of(node: &NodeEntry, class: ClassId) -> NodeShape {
    NodeShape {
        class,
        capacity: Amount::capacity(node.allocatable.cpu_millis, node.allocatable.memory_bytes),
        // Subnets are given once and kept: the same order after every restart.
        order: node.spec.subnet.address.into(),
        intake: match (is_available(node), &node.claimed_for) {
            (true, None) => Intake::Open,
            (true, Some(_)) => Intake::Held,
            (false, _) => Intake::Shut,
        },
    }
}

/// Whether a node takes instances.
pub(crate) fn is_available(node: &NodeEntry) -> bool {
    node.spec.availability == Availability::Active
        && node.liveness == Liveness::Ready
        && node.facts.is_some()
        && node.runtime_trouble().is_none()
}

impl Cluster {
    /// Tells the engine how a node is now; a new one gets its number.
    pub(crate) fn enter_node(&mut self, index: u32) {
        let Some(node) = self.nodes.at(index) else { return };
        let facts = self.ledger.catalog.facts(node);
        let class = match self.ledger.catalog.class(&facts) {
            Some(class) => class,
            None => {
                let values = self.ledger.catalog.values(&facts);
                let class = self.ledger.engine.add_class(&values);
                self.ledger.catalog.add_class(facts.clone(), class);
                self.admit_class(class, &|spec| facts.suit(spec));
                class
            }
        };
        let Some(node) = self.nodes.at(index) else { return };
        let shape = shape_of(node, class);
        let place = NodeIndex(index);
        match self.ledger.engine.fleet().shape(place) {
            None => {
                let given = self.ledger.engine.add_node(shape);
                debug_assert_eq!(given, place, "the table and the engine number nodes alike");
                self.look_at_nodes_again();
            }
            Some(before) if before != shape => self.ledger.engine.set_shape(place, shape),
            Some(_) => {}
        }
        self.enter_devices(index);
    }

    /// Tells the engine that a node is gone.
    pub(crate) fn leave_node(&mut self, index: u32) {
        self.ledger.engine.remove_node(NodeIndex(index));
        self.look_at_nodes_again();
    }

    /// Tells the engine a node's devices, with what its instances hold of them.
    fn enter_devices(&mut self, index: u32) {
        let Some(node) = self.nodes.at(index) else { return };
        let there = node.facts.as_ref().map(|facts| facts.devices.as_slice()).unwrap_or_default();
        let Ledger { catalog, engine, .. } = &mut self.ledger;
        if there.is_empty() && engine.fleet().devices(NodeIndex(index)).is_empty() {
            return;
        }
        let slot = |device: &Device| Slot {
            kind: catalog.kinds.number(&device.kind),
            model: catalog.models.number(&device.model),
            shares: device.shares.max(1),
            used: 0,
        };
        let mut slots: Vec<Slot> = there.iter().map(slot).collect();
        let is_finished = |number: &&u64| self.rows.get(**number).is_some_and(|(row, _)| row.flags & FINISHED != 0);
        let held = node.instances.iter().filter(|number| !is_finished(number));
        let held = held.filter_map(|number| self.rows.rare(*number));
        for grant in held.flat_map(|rare| grants(node, &rare.devices)) {
            if let Some(slot) = slots.get_mut(grant.slot as usize) {
                slot.used += grant.shares;
            }
        }
        if engine.fleet().devices(NodeIndex(index)) != slots.as_slice() {
            engine.set_devices(NodeIndex(index), slots);
        }
    }

    /// Tells the engine of an instance that is in the tables now.
    pub(crate) fn enter_instance(&mut self, number: u64) {
        let Some(held) = self.held(number).filter(|held| !held.is_finished()) else { return };
        let (node, taken, workload) = (NodeIndex(held.node_index()), Taken::of(held), held.workload().clone());
        let group = self.ledger.group_or_new(&workload);
        self.ledger.engine.take(node, group, taken.holding());
    }

    /// Tells the engine that an instance is about to leave the tables.
    pub(crate) fn leave_instance(&mut self, number: u64) {
        let Some(held) = self.held(number).filter(|held| !held.is_finished()) else { return };
        let (node, taken, workload) = (NodeIndex(held.node_index()), Taken::of(held), held.workload().clone());
        let Some(group) = self.ledger.group(&workload) else { return };
        self.ledger.engine.give_back(node, group, taken.holding());
        let wanted = self.workloads.contains_key(&workload);
        self.ledger.drop_if_unused(&workload, wanted);
    }

    /// Notes whether an instance counts for its workload's evenness.
    pub(crate) fn set_counted(&mut self, number: u64, counted: bool) {
        let Some(held) = self.held(number).filter(|held| held.is_counted() != counted) else { return };
        let (node, group) = (NodeIndex(held.node_index()), self.ledger.group(held.workload()));
        if let Some(row) = self.rows.get_mut(number) {
            row.flags ^= COUNTED;
        }
        if let Some(group) = group {
            self.ledger.engine.set_counted(node, group, counted);
        }
    }

    /// Tells the engine what a workload asks for now.
    pub(crate) fn enter_workload(&mut self, id: &WorkloadId) {
        let Some(entry) = self.workloads.get(id) else { return };
        if !self.ledger.catalog.knows(entry.spec()) {
            self.rebuild_ledger();
            return;
        }
        let spec = &entry.workload.spec;
        let before = self.named_by_rules_of(id);
        for affinity in &spec.placement.affinities {
            self.ledger.group_or_new(&affinity.workload);
        }
        let index = self.ledger.group_or_new(id);
        self.ledger.catalog.learn(spec);
        let selection = self.ledger.engine.add_selection(self.ledger.catalog.selection(spec));
        let nodes = compile::pins(&self.nodes, spec);
        if nodes.is_some() {
            self.ledger.pinned.insert(id.clone());
        } else {
            self.ledger.pinned.remove(id);
        }
        let demand = compile::demand(&self.ledger, spec, selection, nodes);
        let wanted = compile::wanted(&entry.kind());
        self.enter_priority(id, index, demand.priority);
        self.ledger.set_demand(index, demand, wanted);
        self.drop_unused(before);
    }

    /// Tells the engine that a workload is not wanted any more.
    pub(crate) fn leave_workload(&mut self, id: &WorkloadId) {
        self.ledger.displaceable = None;
        let mut before = self.named_by_rules_of(id);
        if let Some(index) = self.ledger.group(id) {
            self.ledger.set_demand(index, Demand::default(), 0);
            self.ledger.parked.unpark(index);
        }
        self.ledger.pinned.remove(id);
        before.push(id.clone());
        self.drop_unused(before);
    }

    /// The workloads that a group's rules name.
    fn named_by_rules_of(&self, id: &WorkloadId) -> Vec<WorkloadId> {
        let group = self.ledger.group(id).and_then(|index| self.ledger.engine.group(index));
        let rules = group.map(|group| group.demand().affinities.as_slice()).unwrap_or_default();
        rules.iter().filter_map(|rule| self.ledger.name(rule.group).cloned()).collect()
    }

    fn drop_unused(&mut self, ids: Vec<WorkloadId>) {
        for id in ids {
            let wanted = self.workloads.contains_key(&id);
            self.ledger.drop_if_unused(&id, wanted);
        }
    }

    /// Lets those selections have a new class whose workloads it suits.
    fn admit_class(&mut self, class: ClassId, suits: &dyn Fn(&WorkloadSpec) -> bool) {
        let mut by_selection: BTreeMap<SelectionId, (Vec<GroupIndex>, usize)> = BTreeMap::new();
        for (id, entry) in &self.workloads {
            let Some(index) = self.ledger.group(id) else { continue };
            let Some(group) = self.ledger.engine.group(index) else { continue };
            let (members, others) = by_selection.entry(group.demand().selection).or_default();
            if suits(entry.spec()) {
                members.push(index);
            } else {
                *others += 1;
            }
        }
        for (selection, (members, others)) in by_selection {
            if others == 0 && selection != SelectionId::default() {
                self.ledger.engine.allow(selection, class);
                continue;
            }
            // Workloads with different rules had the same classes until now.
            let Some(mut classes) = self.ledger.engine.selection(selection).cloned() else { continue };
            classes.allow(class);
            for index in members {
                let Some(group) = self.ledger.engine.group(index) else { continue };
                let (mut demand, wanted) = (group.demand().clone(), group.wanted());
                demand.selection = self.ledger.engine.add_selection(classes.clone());
                self.ledger.set_demand(index, demand, wanted);
            }
        }
    }

    /// Nodes came or went: rules that name nodes mean others now.
    fn look_at_nodes_again(&mut self) {
        for id in self.ledger.pinned.clone() {
            self.enter_workload(&id);
        }
    }

    /// Compares what the engine knows with the tables, and with itself made anew.
    ///
    /// # Errors
    /// The first difference, in one line.
    pub(crate) fn check_ledger(&self) -> Result<(), String> {
        let Ledger { engine, catalog, .. } = &self.ledger;
        for (index, node) in self.nodes.indexed() {
            let shape =
                engine.fleet().shape(NodeIndex(index)).ok_or(format!("{}: placement lacks it", node.spec.id))?;
            if Some(shape) != catalog.class(&catalog.facts(node)).map(|class| shape_of(node, class)) {
                return Err(format!("{}: placement knows it as it was", node.spec.id));
            }
        }
        if engine.fleet().len() != self.nodes.len() {
            return Err("placement knows nodes that are gone".to_owned());
        }
        let taken: Vec<_> = self
            .instances()
            .filter(|held| !held.is_finished())
            .filter_map(|held| {
                let group = self.ledger.group(held.workload())?;
                Some((NodeIndex(held.node_index()), group, Taken::of(held)))
            })
            .collect();
        engine.compare(taken.iter().map(|(node, group, taken)| (*node, *group, taken.holding())))?;
        self.check_displaceable()
    }

    /// Makes everything anew: rules speak of labels that no rule spoke of before, so nodes fall into other classes.
    pub(crate) fn rebuild_ledger(&mut self) {
        let parked: Vec<WorkloadId> = self
            .ledger
            .names
            .iter()
            .filter(|(index, _)| self.ledger.parked.contains(**index))
            .map(|(_, id)| id.clone())
            .collect();
        let catalog = Catalog::of(self.workloads.values().map(|entry| entry.spec()));
        self.ledger = Ledger { catalog, ..Ledger::default() };
        for index in 0..self.nodes.width() {
            self.enter_or_reserve(index);
        }
        for index in 0..self.nodes.width() {
            if self.nodes.at(index).is_none() {
                self.ledger.engine.remove_node(NodeIndex(index));
            }
        }
        for id in self.workloads.keys().cloned().collect::<Vec<_>>() {
            self.enter_workload(&id);
        }
        for number in self.rows.numbers().collect::<Vec<_>>() {
            self.enter_instance(number);
        }
        for index in 0..self.nodes.width() {
            self.enter_devices(index);
        }
        for id in parked {
            self.note_parked(&id);
        }
    }

    /// Enters a node, or keeps its number until all are entered.
    fn enter_or_reserve(&mut self, index: u32) {
        if self.nodes.at(index).is_some() {
            self.enter_node(index);
            return;
        }
        let class = self.ledger.engine.add_class(&[]);
        let nothing = NodeShape { class, capacity: Amount::default(), order: 0, intake: Intake::Shut };
        self.ledger.engine.add_node(nothing);
    }

    /// Notes that a workload waits for room.
    pub(crate) fn note_parked(&mut self, id: &WorkloadId) {
        let Ledger { engine, groups, parked, .. } = &mut self.ledger;
        if let Some(index) = groups.get(id) {
            parked.park(engine, *index);
        }
    }

    /// The workloads that wait and that a change of a node could help: by the room it has, or by an instance of theirs on
    /// it that could make room for its successor.
    pub(crate) fn wake(&self, index: u32) -> Vec<WorkloadId> {
        let Ledger { engine, names, parked, .. } = &self.ledger;
        let woken = parked.wake(engine, NodeIndex(index)).into_iter().filter_map(|group| names.get(&group));
        let there =
            self.nodes.at(index).into_iter().flat_map(|node| self.instances_on(node)).map(|held| held.workload());
        let waits = |id: &&WorkloadId| self.ledger.group(id).is_some_and(|group| parked.contains(group));
        woken.chain(there.filter(waits)).cloned().collect()
    }

    /// Notes that a workload does not wait.
    pub(crate) fn note_unparked(&mut self, id: &WorkloadId) {
        if let Some(index) = self.ledger.group(id) {
            self.ledger.parked.unpark(index);
        }
    }
}

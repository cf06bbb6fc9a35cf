//! The engine: the fleet, the groups, and every change of either.

use std::collections::BTreeSet;

use crate::{
    amount::Amount,
    check::View,
    class::{ClassId, DomainValue, Selection, SelectionId},
    demand::{Demand, Port},
    device::{Grant, Slot},
    fleet::{Fleet, NodeIndex, NodeShape},
    group::{Count, Group, GroupIndex, domain},
    search::Search,
    selection::Selections,
    single,
};

/// What one instance takes of its node. It need not be what its group demands now: instances outlive their spec.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holding<'h> {
    /// CPU and memory.
    pub amount: Amount,
    /// Ports.
    pub ports: &'h [Port],
    /// Devices.
    pub devices: &'h [Grant],
    /// Whether it counts for evenness: it shall go on as it is.
    pub counted: bool,
}

/// So many instances on one node.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Run {
    /// Where.
    pub node: NodeIndex,
    /// How many, at least 1; 1 where devices were given.
    pub count: u32,
    /// The devices given.
    pub devices: Vec<Grant>,
}

/// Everything that placement knows.
#[derive(Clone, Debug, Default)]
pub struct Engine {
    pub(crate) fleet: Fleet,
    pub(crate) groups: Vec<Option<Group>>,
    pub(crate) selections: Selections,
    /// Numbers of removed groups; the lowest is used first.
    pub(crate) vacant: BTreeSet<GroupIndex>,
}

impl Engine {
    /// The nodes.
    #[must_use]
    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// A group; `None` = no such group.
    #[must_use]
    pub fn group(&self, group: GroupIndex) -> Option<&Group> {
        self.groups.get(group.0 as usize)?.as_ref()
    }

    /// The groups, in the order of their numbers.
    pub fn groups(&self) -> impl Iterator<Item = (GroupIndex, &Group)> {
        (0..).zip(&self.groups).filter_map(|(index, group)| Some((GroupIndex(index), group.as_ref()?)))
    }

    /// A selection's classes; `None` = no such selection.
    #[must_use]
    pub fn selection(&self, selection: SelectionId) -> Option<&Selection> {
        self.selections.get(selection)
    }

    /// Adds a class with its value for each [`DomainKey`](crate::DomainKey); by convention the first is the zone. Selections
    /// that shall hold it are told by [`Engine::allow`].
    pub fn add_class(&mut self, domains: &[DomainValue]) -> ClassId {
        let id = ClassId(self.fleet.class_count());
        self.fleet.add_class(domains);
        id
    }

    /// Keeps a selection as long as a group uses it; equal ones are one.
    pub fn add_selection(&mut self, selection: Selection) -> SelectionId {
        self.selections.add(selection, &self.fleet.classes)
    }

    /// Puts a class into a selection: the owner does so for each selection that a new class belongs to. The selection of
    /// number zero stays empty.
    pub fn allow(&mut self, selection: SelectionId, class: ClassId) {
        self.selections.allow(selection, class, &mut self.fleet.classes);
    }

    /// Adds a node with nothing on it. Its class must have been added.
    pub fn add_node(&mut self, shape: NodeShape) -> NodeIndex {
        let before = self.class_before(shape.class);
        let node = self.fleet.add(shape);
        self.class_after(shape.class, before);
        node
    }

    /// Removes a node. Everything on it has been given back before.
    pub fn remove_node(&mut self, node: NodeIndex) {
        let Some(handle) = self.fleet.handle(node) else { return };
        let before = self.class_before(handle.class);
        self.fleet.remove(node);
        self.class_after(handle.class, before);
    }

    /// Takes over what the owner says of a node; what is on it stays.
    pub fn set_shape(&mut self, node: NodeIndex, shape: NodeShape) {
        let Some(from) = self.fleet.handle(node).map(|handle| handle.class) else { return };
        let before = (self.class_before(from), self.class_before(shape.class));
        let moves = from != shape.class && self.fleet.class(from).domains != self.fleet.class(shape.class).domains;
        self.fleet.reshape(node, shape);
        self.class_after(from, before.0);
        if from != shape.class {
            self.class_after(shape.class, before.1);
        }
        if moves {
            for group in self.groups.iter_mut().flatten() {
                group.move_node(
                    node,
                    &self.fleet.classes[from.0 as usize],
                    &self.fleet.classes[shape.class.0 as usize],
                );
            }
        }
    }

    /// Takes over a node's devices, with what is used of each.
    pub fn set_devices(&mut self, node: NodeIndex, slots: Vec<Slot>) {
        if self.fleet.handle(node).is_some() {
            self.fleet.set_devices(node, slots.into());
        }
    }

    /// Adds a group. `wanted` is how many instances it shall have: what its classes must bear.
    pub fn add_group(&mut self, demand: Demand, wanted: u32) -> GroupIndex {
        let index = self.vacant.pop_first().unwrap_or_else(|| {
            self.groups.push(None);
            GroupIndex(u32::try_from(self.groups.len() - 1).expect("groups are numbered in 32 bits"))
        });
        self.groups[index.0 as usize] = Some(Group::default());
        self.selections.want(SelectionId(0), 0, 0);
        self.set_demand(index, demand, wanted);
        index
    }

    /// Changes what a group asks for; its instances stay counted. Groups that its affinities name must exist.
    pub fn set_demand(&mut self, index: GroupIndex, mut demand: Demand, wanted: u32) {
        demand.amount.memory_kib = demand.amount.memory_kib.max(1);
        if let Some(nodes) = &mut demand.nodes {
            nodes.sort_unstable();
            nodes.dedup();
        }
        let Some(group) = self.groups.get_mut(index.0 as usize).and_then(Option::as_mut) else { return };
        let selection = demand.selection;
        let (cpu, memory) = bearing(&demand, wanted);
        self.selections.want(selection, cpu, memory);
        let before = std::mem::replace(&mut group.demand, demand);
        let (cpu, memory) = bearing(&before, group.wanted);
        group.wanted = wanted;
        self.selections.unwant(before.selection, cpu, memory, &mut self.fleet.classes);
        let counts_alike = before.spread == group.demand.spread && before.affinities == group.demand.affinities;
        if !counts_alike {
            self.rename(index, &before);
            self.recount(index);
        }
        let Some(group) = self.groups[index.0 as usize].as_ref() else { return };
        let keys = group.demand.spread.iter().filter_map(|rule| domain(rule.over));
        for lead in keys.map(Some).chain([group.lead]) {
            self.selections.watch(selection, lead, &self.fleet.classes);
        }
    }

    /// Removes a group. All its instances have been given back before, and no rule names it.
    pub fn remove_group(&mut self, index: GroupIndex) {
        self.set_demand(index, Demand::default(), 0);
        if self.groups.get_mut(index.0 as usize).and_then(Option::take).is_some() {
            self.selections.unwant(SelectionId(0), 0, 0, &mut self.fleet.classes);
            self.vacant.insert(index);
        }
    }

    /// Picks the best node for one more instance; `None` when none takes it. Changes nothing that can be seen.
    pub fn pick(&mut self, group: GroupIndex) -> Option<NodeIndex> {
        self.selections.weigh(&mut self.fleet.classes);
        self.fleet.put_in_order();
        let mut search = Search::new(&mut self.fleet, &self.groups, &self.selections, group)?;
        let found = single::pick(&mut search);
        search.finish();
        found
    }

    /// Notes an instance on a node. It is not asked whether there is room: what is, is.
    pub fn take(&mut self, node: NodeIndex, group: GroupIndex, holding: Holding<'_>) {
        let Some(handle) = self.fleet.handle(node) else { return };
        self.fleet.take(node, holding.amount);
        for port in holding.ports {
            *self.fleet.ports.entry(*port).or_default().entry(node).or_default() += 1;
        }
        self.fleet.change_devices(node, holding.devices, |used, shares| used + shares);
        self.change(group, handle.class, node, |count| {
            count.total += 1;
            count.counted += u32::from(holding.counted);
        });
    }

    /// Undoes [`Engine::take`] exactly.
    pub fn give_back(&mut self, node: NodeIndex, group: GroupIndex, holding: Holding<'_>) {
        let Some(handle) = self.fleet.handle(node) else { return };
        self.fleet.give_back(node, holding.amount);
        for port in holding.ports {
            self.fleet.free_port(node, *port);
        }
        self.fleet.change_devices(node, holding.devices, u32::saturating_sub);
        self.change(group, handle.class, node, |count| {
            count.total = count.total.saturating_sub(1);
            count.counted = count.counted.saturating_sub(u32::from(holding.counted));
        });
    }

    /// Notes that an instance that counted for evenness counts no more, or again.
    pub fn set_counted(&mut self, node: NodeIndex, group: GroupIndex, counted: bool) {
        let Some(handle) = self.fleet.handle(node) else { return };
        self.change(group, handle.class, node, |count| {
            count.counted = if counted { count.counted + 1 } else { count.counted.saturating_sub(1) };
        });
    }

    /// How many instances of a group a node holds.
    #[must_use]
    pub fn count(&self, node: NodeIndex, group: GroupIndex) -> Count {
        let class = self.fleet.handle(node).map(|handle| self.fleet.class(handle.class));
        class.zip(self.group(group)).map(|(class, group)| group.on(class, node)).unwrap_or_default()
    }

    pub(crate) fn view(&self) -> View<'_> {
        View { fleet: &self.fleet, groups: &self.groups, selections: &self.selections }
    }

    fn change(&mut self, group: GroupIndex, class: ClassId, node: NodeIndex, change: impl Fn(&mut Count)) {
        if let Some(group) = self.groups.get_mut(group.0 as usize).and_then(Option::as_mut) {
            group.change(self.fleet.class(class), node, change);
        }
    }

    /// Tells the groups that a group's rules name, and named before, by whom.
    fn rename(&mut self, index: GroupIndex, before: &Demand) {
        let Some(group) = self.group(index) else { return };
        let now = group.demand.affinities.clone();
        for rule in before.affinities.iter().chain(&now) {
            let Some(other) = self.groups.get_mut(rule.group.0 as usize).and_then(Option::as_mut) else { continue };
            let name = (index, rule.within, rule.relation);
            let changed = if now.contains(rule) { other.named_by.insert(name) } else { other.named_by.remove(&name) };
            if changed && domain(rule.within).is_some() {
                self.recount(rule.group);
            }
        }
    }

    fn recount(&mut self, index: GroupIndex) {
        let fleet = &self.fleet;
        if let Some(group) = self.groups.get_mut(index.0 as usize).and_then(Option::as_mut) {
            group.recount(|node| fleet.class(fleet.nodes[node.0 as usize].class));
        }
    }

    fn class_before(&self, class: ClassId) -> ((u64, u64), u32) {
        (self.fleet.class(class).capacity, self.fleet.class(class).hosting())
    }

    fn class_after(&mut self, class: ClassId, (capacity, hosting): ((u64, u64), u32)) {
        self.selections.class_changed(class, capacity, hosting, self.fleet.class(class));
    }
}

/// What all wanted instances of a demand ask for.
fn bearing(demand: &Demand, wanted: u32) -> (u64, u64) {
    (u64::from(demand.amount.cpu_millis) * u64::from(wanted), u64::from(demand.amount.memory_kib) * u64::from(wanted))
}

//! The nodes: their free amounts in dense columns, a slice for each class.
//!
//! A node that takes instances has a row in its class's slice; one that does not is set aside, so that no scan meets it.
//! What few nodes have (ports held, devices, more given away than they have) stands in side tables.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    amount::Amount,
    block::{Need, Row},
    ceiling::Ceilings,
    class::{ClassId, DomainKey, DomainValue},
    columns::{Columns, Extent},
    demand::Port,
    device::Slot,
};

/// A node, as the fleet numbers them; numbers of removed ones are used again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeIndex(pub u32);

/// What the owner says of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeShape {
    /// Its class.
    pub class: ClassId,
    /// All that it can give away.
    pub capacity: Amount,
    /// Which of two equally good nodes comes first: the lower one. Unique and durable, so that a rebuild decides alike.
    pub order: u32,
    /// Whether it takes instances at all.
    pub intake: Intake,
}

/// Whether a node takes instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intake {
    /// It does.
    Open,
    /// Not for a moment, as its room is promised: where it is, evenness counts on as if it did. Others would be filled
    /// beyond what their rules allow otherwise, and stay so.
    Held,
    /// It does not, and is no place to spread over: not ready, cordoned, and the like.
    Shut,
}

/// The row of a node that is set aside.
const ASIDE: u32 = u32::MAX;
/// The class of a number that is free.
const NOBODY: ClassId = ClassId(u32::MAX);

/// Every node. It is changed through the [`Engine`](crate::Engine) only.
#[derive(Clone, Debug, Default)]
pub struct Fleet {
    pub(crate) nodes: Vec<Handle>,
    pub(crate) classes: Vec<Class>,
    pub(crate) columns: Columns,
    pub(crate) ceilings: Ceilings,
    /// Numbers of removed nodes; the lowest is used first.
    vacant: BTreeSet<u32>,
    /// Nodes that take nothing now.
    aside: BTreeMap<NodeIndex, Row>,
    /// Those of them that count for evenness.
    held: BTreeSet<NodeIndex>,
    /// What was given away beyond a node's capacity.
    excess: BTreeMap<NodeIndex, (u64, u64)>,
    /// Who holds a port, with how many instances: one, but for ports of instances that outlived a change.
    pub(crate) ports: BTreeMap<Port, BTreeMap<NodeIndex, u32>>,
    /// The devices of the nodes that have any.
    pub(crate) devices: BTreeMap<NodeIndex, Box<[Slot]>>,
    /// The nodes with a free share of a kind of device.
    pub(crate) open_devices: BTreeMap<u32, BTreeSet<NodeIndex>>,
}

/// Where a node's row is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Handle {
    pub(crate) class: ClassId,
    pub(crate) row: u32,
    capacity: Amount,
}

/// The slice of one class.
#[derive(Clone, Debug, Default)]
pub(crate) struct Class {
    pub(crate) domains: Box<[DomainValue]>,
    pub(crate) extent: Extent,
    /// How many lanes hold a node.
    pub(crate) rows: u32,
    /// How many more of its nodes are held, and have no lane.
    pub(crate) held: u32,
    /// How much sought after it is, in the unit of imbalance.
    pub(crate) scarcity: u32,
    /// What all its nodes have, also those set aside.
    pub(crate) capacity: (u64, u64),
}

impl Class {
    /// How many of its nodes count for evenness: those that take instances, and those that are held.
    pub(crate) fn hosting(&self) -> u32 {
        self.rows + self.held
    }

    /// Its value of a property.
    pub(crate) fn value(&self, key: DomainKey) -> DomainValue {
        self.domains.get(usize::from(key.0)).copied().unwrap_or_default()
    }

    pub(crate) fn need(&self, amount: Amount) -> Need {
        Need { amount, scarcity: self.scarcity }
    }
}

impl Fleet {
    /// How many nodes there are, available or not.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len() - self.vacant.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the owner said of a node; `None` = no such node.
    #[must_use]
    pub fn shape(&self, node: NodeIndex) -> Option<NodeShape> {
        self.shape_and_free(node).map(|(shape, _)| shape)
    }

    /// What the owner said of a node, and what it still has to give away; `None` = no such node.
    pub(crate) fn shape_and_free(&self, node: NodeIndex) -> Option<(NodeShape, Amount)> {
        let (handle, row) = (self.handle(node)?, self.row(node)?);
        let intake = match handle.row {
            ASIDE if self.held.contains(&node) => Intake::Held,
            ASIDE => Intake::Shut,
            _ => Intake::Open,
        };
        Some((NodeShape { class: handle.class, capacity: handle.capacity, order: row.order, intake }, row.free))
    }

    /// What a node still has to give away; nothing where there is no such node.
    #[must_use]
    pub fn free(&self, node: NodeIndex) -> Amount {
        self.row(node).map(|row| row.free).unwrap_or_default()
    }

    /// What it could give away if `freed` were given back; what was given away beyond its capacity is paid for first.
    #[must_use]
    pub fn free_if(&self, node: NodeIndex, freed: Amount) -> Amount {
        let Some(row) = self.row(node) else { return Amount::default() };
        let (cpu, memory) = self.taken(node, row);
        Amount {
            cpu_millis: left(row.capacity.cpu_millis, cpu.saturating_sub(freed.cpu_millis.into())),
            memory_kib: left(row.capacity.memory_kib, memory.saturating_sub(freed.memory_kib.into())),
        }
    }

    /// The nodes, in the order of their numbers.
    pub fn nodes(&self) -> impl Iterator<Item = NodeIndex> + '_ {
        (0..).zip(&self.nodes).filter(|(_, handle)| handle.class != NOBODY).map(|(index, _)| NodeIndex(index))
    }

    /// A node's devices, with what is used of each.
    #[must_use]
    pub fn devices(&self, node: NodeIndex) -> &[Slot] {
        self.devices.get(&node).map(|slots| &**slots).unwrap_or_default()
    }

    /// How many classes there are, with and without nodes.
    #[must_use]
    pub fn class_count(&self) -> u32 {
        u32::try_from(self.classes.len()).expect("classes are numbered in 32 bits")
    }

    /// A class's value of a property; zero where it has none.
    #[must_use]
    pub fn value(&self, class: ClassId, key: DomainKey) -> DomainValue {
        self.classes.get(class.0 as usize).map(|class| class.value(key)).unwrap_or_default()
    }

    /// What was given away beyond what nodes have.
    pub(crate) fn excess(&self) -> &BTreeMap<NodeIndex, (u64, u64)> {
        &self.excess
    }

    pub(crate) fn handle(&self, node: NodeIndex) -> Option<Handle> {
        self.nodes.get(node.0 as usize).copied().filter(|handle| handle.class != NOBODY)
    }

    /// The class and the row of a node that takes instances.
    pub(crate) fn placed(&self, node: NodeIndex) -> Option<(ClassId, u32)> {
        self.handle(node).filter(|handle| handle.row != ASIDE).map(|handle| (handle.class, handle.row))
    }

    /// The class of a node that counts for evenness.
    pub(crate) fn hosting(&self, node: NodeIndex) -> Option<ClassId> {
        let counts = |handle: &Handle| handle.row != ASIDE || self.held.contains(&node);
        self.handle(node).filter(counts).map(|handle| handle.class)
    }

    pub(crate) fn class(&self, class: ClassId) -> &Class {
        &self.classes[class.0 as usize]
    }

    fn row(&self, node: NodeIndex) -> Option<Row> {
        let handle = self.handle(node)?;
        if handle.row == ASIDE {
            return self.aside.get(&node).copied();
        }
        let (block, lane) = self.lane(handle.class, handle.row);
        Some(Row { node, free: block.free(lane), capacity: handle.capacity, order: block.order(lane) })
    }

    /// Adds a class without nodes.
    pub(crate) fn add_class(&mut self, domains: &[DomainValue]) {
        self.classes.push(Class { domains: domains.into(), ..Class::default() });
        self.ceilings.add();
    }

    pub(crate) fn add(&mut self, shape: NodeShape) -> NodeIndex {
        let handle = Handle { class: shape.class, row: ASIDE, capacity: shape.capacity };
        let node = match self.vacant.pop_first() {
            Some(index) => NodeIndex(index),
            None => {
                let index = u32::try_from(self.nodes.len()).expect("nodes are numbered in 32 bits");
                self.nodes.reserve_exact(if self.nodes.len() == self.nodes.capacity() {
                    self.nodes.len() / 8 + 8
                } else {
                    0
                });
                self.nodes.push(handle);
                NodeIndex(index)
            }
        };
        self.nodes[node.0 as usize] = handle;
        self.enter(shape, Row { node, free: shape.capacity, capacity: shape.capacity, order: shape.order });
        node
    }

    pub(crate) fn remove(&mut self, node: NodeIndex) {
        if self.leave(node).is_none() {
            return;
        }
        self.nodes[node.0 as usize].class = NOBODY;
        self.vacant.insert(node.0);
        self.excess.remove(&node);
        self.set_devices(node, Box::default());
        self.ports.retain(|_, holders| {
            holders.remove(&node);
            !holders.is_empty()
        });
    }

    /// Takes over a shape; what is given away stays.
    pub(crate) fn reshape(&mut self, node: NodeIndex, shape: NodeShape) {
        let Some(row) = self.leave(node) else { return };
        let (taken_cpu, taken_memory) = self.taken(node, row);
        let free = Amount {
            cpu_millis: left(shape.capacity.cpu_millis, taken_cpu),
            memory_kib: left(shape.capacity.memory_kib, taken_memory),
        };
        self.set_excess(
            node,
            taken_cpu.saturating_sub(shape.capacity.cpu_millis.into()),
            taken_memory.saturating_sub(shape.capacity.memory_kib.into()),
        );
        self.enter(shape, Row { node, free, capacity: shape.capacity, order: shape.order });
    }

    /// What was given away of a node, in both.
    fn taken(&self, node: NodeIndex, row: Row) -> (u64, u64) {
        let (cpu, memory) = self.excess.get(&node).copied().unwrap_or_default();
        (
            u64::from(row.capacity.cpu_millis - row.free.cpu_millis) + cpu,
            u64::from(row.capacity.memory_kib - row.free.memory_kib) + memory,
        )
    }

    fn set_excess(&mut self, node: NodeIndex, cpu: u64, memory: u64) {
        if (cpu, memory) == (0, 0) {
            self.excess.remove(&node);
        } else {
            self.excess.insert(node, (cpu, memory));
        }
    }

    /// Gives a node its row.
    fn enter(&mut self, shape: NodeShape, row: Row) {
        let class = &mut self.classes[shape.class.0 as usize];
        class.capacity.0 += u64::from(shape.capacity.cpu_millis);
        class.capacity.1 += u64::from(shape.capacity.memory_kib);
        let place = if shape.intake == Intake::Open {
            self.push(shape.class, row)
        } else {
            if shape.intake == Intake::Held {
                class.held += 1;
                self.held.insert(row.node);
            }
            self.aside.insert(row.node, row);
            ASIDE
        };
        self.nodes[row.node.0 as usize] = Handle { class: shape.class, row: place, capacity: shape.capacity };
    }

    /// Takes a node's row from it.
    fn leave(&mut self, node: NodeIndex) -> Option<Row> {
        let handle = self.handle(node)?;
        let row = self.row(node)?;
        if handle.row == ASIDE {
            self.aside.remove(&node);
            if self.held.remove(&node) {
                self.classes[handle.class.0 as usize].held -= 1;
            }
        } else {
            let last = self.row(self.node_at(handle.class, self.class(handle.class).rows - 1))?;
            self.swap_remove(handle.class, handle.row, last);
        }
        let class = &mut self.classes[handle.class.0 as usize];
        class.capacity.0 -= u64::from(handle.capacity.cpu_millis);
        class.capacity.1 -= u64::from(handle.capacity.memory_kib);
        Some(row)
    }

    /// Takes an amount from a node, be there room for it or not.
    pub(crate) fn take(&mut self, node: NodeIndex, amount: Amount) {
        let Some(row) = self.row(node) else { return };
        let (cpu, memory) = (u64::from(amount.cpu_millis), u64::from(amount.memory_kib));
        let short_cpu = cpu.saturating_sub(row.free.cpu_millis.into());
        let short_memory = memory.saturating_sub(row.free.memory_kib.into());
        if short_cpu > 0 || short_memory > 0 {
            let (excess_cpu, excess_memory) = self.excess.get(&node).copied().unwrap_or_default();
            self.set_excess(node, excess_cpu + short_cpu, excess_memory + short_memory);
        }
        let free = Amount { cpu_millis: left(row.free.cpu_millis, cpu), memory_kib: left(row.free.memory_kib, memory) };
        self.set_free(node, free);
    }

    /// Takes an amount, `count` times, from a row that has room for that.
    pub(crate) fn take_from(&mut self, class: ClassId, row: u32, amount: Amount, count: u32) {
        let (block, lane) = self.lane_mut(class, row);
        let free = block.free(lane);
        let cpu_millis = left(free.cpu_millis, u64::from(amount.cpu_millis) * u64::from(count));
        let memory_kib = left(free.memory_kib, u64::from(amount.memory_kib) * u64::from(count));
        block.set_free(lane, Amount { cpu_millis, memory_kib });
    }

    /// Undoes [`Self::take`].
    pub(crate) fn give_back(&mut self, node: NodeIndex, amount: Amount) {
        let Some(row) = self.row(node) else { return };
        let (mut cpu, mut memory) = (u64::from(amount.cpu_millis), u64::from(amount.memory_kib));
        if let Some((excess_cpu, excess_memory)) = self.excess.get(&node).copied() {
            self.set_excess(node, excess_cpu.saturating_sub(cpu), excess_memory.saturating_sub(memory));
            cpu = cpu.saturating_sub(excess_cpu);
            memory = memory.saturating_sub(excess_memory);
        }
        let back = |free: u32, amount: u64, capacity: u32| {
            u32::try_from(u64::from(free) + amount).unwrap_or(u32::MAX).min(capacity)
        };
        let free = Amount {
            cpu_millis: back(row.free.cpu_millis, cpu, row.capacity.cpu_millis),
            memory_kib: back(row.free.memory_kib, memory, row.capacity.memory_kib),
        };
        self.set_free(node, free);
    }

    fn set_free(&mut self, node: NodeIndex, free: Amount) {
        match self.placed(node) {
            Some((class, row)) => {
                let (block, lane) = self.lane_mut(class, row);
                block.set_free(lane, free);
                self.ceilings.raise(class, free);
            }
            None => {
                if let Some(row) = self.aside.get_mut(&node) {
                    row.free = free;
                }
            }
        }
    }
}

/// What is left of a part when so much goes; nothing rather than less.
fn left(part: u32, gone: u64) -> u32 {
    u32::try_from(u64::from(part).saturating_sub(gone)).unwrap_or_default()
}

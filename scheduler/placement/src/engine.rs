//! The engine: the fleet, the groups, and every change of either.

use crate::{
    amount::Amount,
    check::{Credit, Miss},
    class::{ClassId, DomainValue, Selection, SelectionId},
    demand::{Demand, Port},
    device::{Grant, Slot},
    fleet::{Fleet, NodeIndex, NodeShape},
    group::{Count, Group, GroupIndex},
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
    fleet: Fleet,
    groups: Vec<Group>,
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
        self.groups.get(group.0 as usize)
    }

    /// Adds a class with its value for each [`DomainKey`](crate::DomainKey); by convention the first is the zone. Selections
    /// that shall hold it are told by [`Engine::allow`].
    pub fn add_class(&mut self, _domains: &[DomainValue]) -> ClassId {
        ClassId(0)
    }

    /// Keeps a selection; equal ones are one.
    pub fn add_selection(&mut self, _selection: Selection) -> SelectionId {
        SelectionId(0)
    }

    /// Puts a class into a selection.
    pub fn allow(&mut self, _selection: SelectionId, _class: ClassId) {}

    /// Adds a node with nothing on it.
    pub fn add_node(&mut self, _shape: NodeShape) -> NodeIndex {
        NodeIndex(0)
    }

    /// Removes a node. Everything on it has been given back before.
    pub fn remove_node(&mut self, _node: NodeIndex) {}

    /// Takes over what the owner says of a node; what is on it stays.
    pub fn set_shape(&mut self, _node: NodeIndex, _shape: NodeShape) {}

    /// Takes over a node's devices, with what is used of each.
    pub fn set_devices(&mut self, _node: NodeIndex, _slots: Vec<Slot>) {}

    /// Adds a group. `wanted` is how many instances it shall have: what its classes must bear.
    pub fn add_group(&mut self, _demand: Demand, _wanted: u32) -> GroupIndex {
        GroupIndex(0)
    }

    /// Changes what a group asks for; its instances stay counted.
    pub fn set_demand(&mut self, _group: GroupIndex, _demand: Demand, _wanted: u32) {}

    /// Removes a group. All its instances have been given back before.
    pub fn remove_group(&mut self, _group: GroupIndex) {}

    /// Whether a node takes one more instance of a group.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn check(&self, node: NodeIndex, group: GroupIndex) -> Result<(), Miss> {
        self.check_with(node, group, &Credit::default())
    }

    /// The same if `credit` were freed there.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn check_with(&self, _node: NodeIndex, _group: GroupIndex, _credit: &Credit) -> Result<(), Miss> {
        Err(Miss::Unavailable)
    }

    /// Picks the best node for one more instance; `None` when none takes it. Changes nothing that can be seen.
    pub fn pick(&mut self, _group: GroupIndex) -> Option<NodeIndex> {
        None
    }

    /// The devices that an instance of a group would be given on a node; `None` when it has not what is asked for.
    #[must_use]
    pub fn grant(&self, _node: NodeIndex, _group: GroupIndex) -> Option<Vec<Grant>> {
        None
    }

    /// Places up to `count` more instances and takes what they need, counted for evenness: the same nodes, as often, as
    /// picking one after the other would. Fewer when not all have room.
    pub fn place(&mut self, _group: GroupIndex, _count: u32) -> Vec<Run> {
        Vec::new()
    }

    /// Notes an instance on a node. It is not asked whether there is room: what is, is.
    pub fn take(&mut self, _node: NodeIndex, _group: GroupIndex, _holding: Holding<'_>) {}

    /// Undoes [`Engine::take`] exactly.
    pub fn give_back(&mut self, _node: NodeIndex, _group: GroupIndex, _holding: Holding<'_>) {}

    /// Notes that an instance that counted for evenness counts no more, or again.
    pub fn set_counted(&mut self, _node: NodeIndex, _group: GroupIndex, _counted: bool) {}

    /// How many instances of a group a node holds.
    #[must_use]
    pub fn count(&self, _node: NodeIndex, _group: GroupIndex) -> Count {
        Count::default()
    }

    /// The nodes that hold instances of a group, with how many.
    pub fn nodes_of(&self, _group: GroupIndex) -> impl Iterator<Item = (NodeIndex, Count)> + '_ {
        std::iter::empty()
    }
}

//! Whether a node takes one more instance: the one question that planner and committer both ask.

use crate::{amount::Amount, demand::Port, device::Grant, group::GroupIndex};

/// Why a node does not take an instance: the first rule that it breaks, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Miss {
    /// There is no such node, or it takes nothing now.
    Unavailable,
    /// Its class is not one on which the demand may be.
    Class,
    /// It is not one of the nodes on which the demand may be.
    Node,
    /// The demand's affinity at this place of its list does not hold.
    Affinity(usize),
    /// An instance of this group is in the same place and keeps it away.
    AvoidedBy(GroupIndex),
    /// It would be more uneven than the demand's rule at this place of its list allows.
    Spread(usize),
    /// Another instance holds this port.
    Port(Port),
    /// It holds as many instances of the group as it may: so many.
    PerNode(u32),
    /// It has not what the demand's device at this place of its list asks for.
    Device(usize),
    /// It lacks this much.
    Resources(Lack),
}

/// How much of what a node lacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lack {
    /// How much; zero in what it has enough of.
    pub amount: Amount,
}

/// What is looked upon as freed on a node: what would be so if certain instances were not there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credit {
    /// CPU and memory.
    pub amount: Amount,
    /// Ports.
    pub ports: Vec<Port>,
    /// Devices.
    pub devices: Vec<Grant>,
    /// Instances by group: how many in all, and how many of them count for evenness.
    pub groups: Vec<(GroupIndex, crate::group::Count)>,
}

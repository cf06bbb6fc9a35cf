//! What one instance of a workload asks for, compiled to numbers.

use crate::{
    amount::Amount,
    class::{DomainKey, SelectionId},
    device::DeviceAsk,
    fleet::NodeIndex,
    group::GroupIndex,
};

/// What each instance of a group asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Demand {
    /// How much of a node it takes.
    pub amount: Amount,
    /// On which classes it may be.
    pub selection: SelectionId,
    /// The only nodes on which it may be, sorted, where rules name nodes or a volume holds it; `None` = all of its classes.
    pub nodes: Option<Vec<NodeIndex>>,
    /// Over what to be even, the most important first.
    pub spread: Vec<Spread>,
    /// Most instances of the group on one node.
    pub per_node_max: Option<u32>,
    /// With which groups its instances share a place, and with which they do not.
    pub affinities: Vec<Affinity>,
    /// The ports of the node that it takes.
    pub ports: Vec<Port>,
    /// The devices it takes.
    pub devices: Vec<DeviceAsk>,
    /// Who goes first where there is not room for all; greater ones may displace lesser ones. Placement itself does not look.
    pub priority: u8,
}

/// What counts as one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Over {
    /// All nodes whose classes have one value of a property.
    Domain(DomainKey),
    /// Each node is a place of its own.
    Node,
}

/// One rule of evenness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Spread {
    /// Over what.
    pub over: Over,
    /// By how many the fullest place may exceed the emptiest that has a node that is meant; `None` = as even as there is room.
    pub skew_max: Option<u32>,
}

/// A rule about the instances of another group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Affinity {
    /// The other group; it may be without demand and instances.
    pub group: GroupIndex,
    /// What counts as one place.
    pub within: Over,
    /// Which way.
    pub relation: Relation,
}

/// Which way an [`Affinity`] goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Relation {
    /// At least one of its instances is in the same place. A group's rule with itself holds while it has no instances.
    With,
    /// None of its instances is in the same place; neither is placed where the other is.
    Without,
}

/// A port of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    /// Its number.
    pub number: u16,
    /// Of which protocol.
    pub protocol: Protocol,
}

/// A protocol with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

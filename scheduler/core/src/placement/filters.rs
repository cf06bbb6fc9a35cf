//! The filters, in the order in which a node is asked. A new one is a file, a line in a list and a script.

mod architecture;
mod availability;
mod constraints;
mod host_ports;
mod per_node;
mod resources;

use api_types::{
    container::Protocol,
    placement::{Constraint, ConstraintKey},
    resources::Resources,
    workload::WorkloadSpec,
};

use crate::cluster::{held::Held, nodes::NodeEntry};

/// A node and what it has left.
#[derive(Clone, Debug)]
pub(crate) struct Offer<'n> {
    /// The node.
    pub(crate) node: &'n NodeEntry,
    /// What it can still give away.
    pub(crate) free: Resources,
    /// How many instances of the workload it holds.
    pub(crate) there: u32,
    /// The number of an instance that is looked upon as gone.
    without: Option<u64>,
    /// Whether one more instance of the workload was given to it since the node was looked at.
    given: bool,
}

impl<'n> Offer<'n> {
    /// What a node has to offer now.
    pub(crate) fn new(node: &'n NodeEntry, there: u32) -> Self {
        Self { node, free: node.free(), there, without: None, given: false }
    }

    /// The same if an instance of the workload were not there.
    pub(crate) fn without(mut self, held: Held<'_>) -> Self {
        let allocated = self.node.allocated.saturating_sub(held.reserve());
        self.free = self.node.allocatable.saturating_sub(allocated);
        self.there = self.there.saturating_sub(1);
        self.without = Some(held.number);
        self
    }

    /// Counts one more instance of `spec`.
    pub(crate) fn take(&mut self, spec: &WorkloadSpec) {
        self.free = self.free.saturating_sub(spec.resources.reserve);
        self.there += 1;
        self.given = true;
    }
}

/// Why a node does not take an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Miss<'s> {
    /// An operator cordoned it.
    Cordoned,
    /// An operator drains it.
    Draining,
    /// It is silent for a short while.
    Unreachable,
    /// It is given up.
    Lost,
    /// It has not said yet what it is.
    Unknown,
    /// Its container runtime does not answer.
    RuntimeAway,
    /// It is of another architecture or operating system.
    Architecture(&'s Constraint),
    /// It does not meet a constraint.
    Constraint(&'s Constraint),
    /// Another instance holds this port of the node.
    HostPort(u16, Protocol),
    /// It holds as many instances of the workload as it may.
    PerNode(u32),
    /// It lacks this much.
    Resources(Resources),
}

type Filter = for<'s> fn(&Offer<'_>, &'s WorkloadSpec) -> Result<(), Miss<'s>>;

/// What placing an instance does not change.
const FIXED: [Filter; 3] = [availability::check, architecture::check, constraints::check];

/// What placing an instance uses up. Resources last: a node that misses only these is the nearest miss.
const ROOM: [Filter; 3] = [host_ports::check, per_node::check, resources::check];

/// Whether a node takes one more instance: all filters.
pub(crate) fn check<'s>(offer: &Offer<'_>, spec: &'s WorkloadSpec) -> Result<(), Miss<'s>> {
    check_fixed(offer, spec)?;
    check_room(offer, spec)
}

/// The filters whose verdict placing does not change.
pub(crate) fn check_fixed<'s>(offer: &Offer<'_>, spec: &'s WorkloadSpec) -> Result<(), Miss<'s>> {
    FIXED.iter().try_for_each(|filter| filter(offer, spec))
}

/// The filters whose verdict placing changes.
pub(crate) fn check_room<'s>(offer: &Offer<'_>, spec: &'s WorkloadSpec) -> Result<(), Miss<'s>> {
    ROOM.iter().try_for_each(|filter| filter(offer, spec))
}

/// Whether a node is one that the workload's rules mean, be it available or not; `None` while it has not said what it is.
pub(crate) fn is_meant(node: &NodeEntry, spec: &WorkloadSpec) -> Option<bool> {
    let offer = Offer::new(node, 0);
    match architecture::check(&offer, spec).and_then(|()| constraints::check(&offer, spec)) {
        Ok(()) => Some(true),
        Err(Miss::Unknown) => None,
        Err(_) => Some(false),
    }
}

/// Whether a constraint is about what an image must be built for.
fn is_about_images(constraint: &Constraint) -> bool {
    match constraint.key {
        ConstraintKey::Arch | ConstraintKey::Os => true,
        ConstraintKey::Site | ConstraintKey::Node | ConstraintKey::Label(_) => false,
    }
}

impl Miss<'_> {
    /// The filter's name, as people see it.
    pub(crate) fn filter(&self) -> &'static str {
        match self {
            Self::Cordoned | Self::Draining | Self::Unreachable | Self::Lost | Self::Unknown | Self::RuntimeAway => {
                "availability"
            }
            Self::Architecture(_) => "architecture",
            Self::Constraint(_) => "constraints",
            Self::HostPort(..) => "host_ports",
            Self::PerNode(_) => "per_node",
            Self::Resources(_) => "resources",
        }
    }
}

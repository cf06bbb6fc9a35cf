//! Demands that wait for room, and whom a changed node could help.

use crate::{engine::Engine, fleet::NodeIndex, group::GroupIndex};

/// The groups of which not all instances have a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parked {
    groups: std::collections::BTreeSet<GroupIndex>,
}

impl Parked {
    /// Notes that a group waits. Call it again when its demand changes.
    pub fn park(&mut self, _engine: &Engine, group: GroupIndex) {
        self.groups.insert(group);
    }

    /// Notes that a group waits no more; whether it did.
    pub fn unpark(&mut self, group: GroupIndex) -> bool {
        self.groups.remove(&group)
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// The groups that `node` could help as it is now: of an allowed class with room for one instance, or with rules about
    /// other places that the change may have met. Never too few, sometimes too many.
    #[must_use]
    pub fn wake(&self, _engine: &Engine, _node: NodeIndex) -> Vec<GroupIndex> {
        self.groups.iter().copied().collect()
    }
}

//! The nodes: their free amounts in dense columns, a slice for each class.

use crate::{amount::Amount, class::ClassId};

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
    /// Whether it takes instances at all: ready, not cordoned, and the like.
    pub available: bool,
}

/// Every node. It is changed through the [`Engine`](crate::Engine) only.
#[derive(Clone, Debug, Default)]
pub struct Fleet {
    shapes: Vec<Option<(NodeShape, Amount)>>,
}

impl Fleet {
    /// How many nodes there are, available or not.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shapes.iter().flatten().count()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the owner said of a node; `None` = no such node.
    #[must_use]
    pub fn shape(&self, node: NodeIndex) -> Option<NodeShape> {
        self.shapes.get(node.0 as usize)?.map(|(shape, _)| shape)
    }

    /// What a node still has to give away; nothing where there is no such node.
    #[must_use]
    pub fn free(&self, node: NodeIndex) -> Amount {
        self.shapes.get(node.0 as usize).copied().flatten().map(|(_, free)| free).unwrap_or_default()
    }

    /// The nodes, in the order of their numbers.
    pub fn nodes(&self) -> impl Iterator<Item = NodeIndex> + '_ {
        (0..).zip(&self.shapes).filter(|(_, shape)| shape.is_some()).map(|(index, _)| NodeIndex(index))
    }
}

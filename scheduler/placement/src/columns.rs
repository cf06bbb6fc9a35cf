//! All blocks of all classes in one place, those of classes with the same values beside each other: a look at the nodes of
//! a zone then reads memory from one end to the other.

use crate::{
    block::{Block, Candidate, Need, ROWS, Row},
    ceiling::Height,
    class::ClassId,
    fleet::{Class, Fleet, NodeIndex},
    lanes::LANES,
};

/// Where the blocks of one class are.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Extent {
    from: u32,
    /// How many blocks are in use.
    len: u32,
    /// How many there are.
    room: u32,
}

/// The blocks. Where they are decides nothing, it only saves time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Columns {
    blocks: Vec<Block>,
    /// How many blocks are in no extent, or in one that was moved since all were put in order.
    astray: u32,
}

impl Extent {
    /// How many blocks are in use.
    pub(crate) fn len(self) -> u32 {
        self.len
    }
}

impl Columns {
    /// The blocks of an extent that are in use.
    pub(crate) fn of(&self, extent: Extent) -> &[Block] {
        &self.blocks[extent.from as usize..][..extent.len as usize]
    }

    pub(crate) fn block(&self, extent: Extent, index: u32) -> &Block {
        &self.blocks[(extent.from + index) as usize]
    }

    pub(crate) fn block_mut(&mut self, extent: Extent, index: u32) -> &mut Block {
        &mut self.blocks[(extent.from + index) as usize]
    }

    /// Gives an extent one more block, an empty one. Without room it moves to the end.
    pub(crate) fn grow(&mut self, extent: &mut Extent) {
        if extent.len == extent.room {
            // An eighth at a time: half-empty columns would cost more than they save.
            let room = extent.len + extent.len / 8 + 1;
            let used = self.of(*extent).to_vec();
            self.astray += extent.room + room;
            *extent = Extent { from: self.end(), room, ..*extent };
            self.blocks.extend(used);
            self.blocks.resize((extent.from + room) as usize, Block::EMPTY);
        }
        extent.len += 1;
    }

    /// Takes the blocks after the first `len` from an extent; they were emptied before.
    pub(crate) fn shrink(extent: &mut Extent, len: u32) {
        extent.len = len;
    }

    /// Whether so much is astray that putting all in order is worth it.
    pub(crate) fn is_worn(&self) -> bool {
        self.astray > self.end() / 8
    }

    /// Whether so much is astray that the memory is worth an order before anybody looks.
    fn is_wasteful(&self) -> bool {
        self.astray > self.end() / 3
    }

    /// Puts the extents beside each other, in the order in which they come, without room to spare.
    pub(crate) fn put_in_order<'x>(&mut self, extents: impl Iterator<Item = &'x mut Extent>) {
        let mut blocks = Vec::with_capacity(self.blocks.len());
        for extent in extents {
            let from = u32::try_from(blocks.len()).expect("rows are numbered in 32 bits");
            blocks.extend_from_slice(self.of(*extent));
            *extent = Extent { from, len: extent.len, room: extent.len };
        }
        blocks.shrink_to_fit();
        *self = Self { blocks, astray: 0 };
    }

    fn end(&self) -> u32 {
        u32::try_from(self.blocks.len()).expect("rows are numbered in 32 bits")
    }
}

impl Fleet {
    /// The blocks of a class.
    pub(crate) fn blocks(&self, class: ClassId) -> &[Block] {
        self.columns.of(self.class(class).extent)
    }

    /// A row as a lane of its block.
    pub(crate) fn lane(&self, class: ClassId, row: u32) -> (&Block, usize) {
        (self.columns.block(self.class(class).extent, row / ROWS), (row % ROWS) as usize)
    }

    pub(crate) fn lane_mut(&mut self, class: ClassId, row: u32) -> (&mut Block, usize) {
        (self.columns.block_mut(self.classes[class.0 as usize].extent, row / ROWS), (row % ROWS) as usize)
    }

    /// The node of a row.
    pub(crate) fn node_at(&self, class: ClassId, row: u32) -> NodeIndex {
        let (block, lane) = self.lane(class, row);
        block.node(lane)
    }

    /// The candidate that one row is; `None` when it has no room or is closed.
    pub(crate) fn candidate(&self, class: ClassId, row: u32, need: Need) -> Option<Candidate> {
        let (block, lane) = self.lane(class, row);
        Some(Candidate { mark: block.mark(lane), key: block.key(lane, need)?, order: block.order(lane), class, row })
    }

    /// Whether a search left a mark in a class.
    pub(crate) fn has_marks(&self, class: &Class) -> bool {
        self.columns.of(class.extent).iter().any(|block| (0..LANES).any(|lane| block.mark(lane) != 0))
    }

    /// Puts the columns in order, where enough classes grew since the last time: those of one place beside each other.
    pub(crate) fn put_in_order(&mut self) {
        if self.columns.is_worn() {
            let mut classes: Vec<&mut Class> = self.classes.iter_mut().collect();
            classes.sort_by(|a, b| a.domains.cmp(&b.domains));
            self.columns.put_in_order(classes.into_iter().map(|class| &mut class.extent));
        }
    }

    /// Gives a node a row; which one.
    pub(crate) fn push(&mut self, id: ClassId, row: Row) -> u32 {
        let class = &mut self.classes[id.0 as usize];
        let place = class.rows;
        class.rows += 1;
        if place == class.extent.len() * ROWS {
            self.columns.grow(&mut class.extent);
            if self.columns.is_wasteful() {
                self.put_in_order();
            }
        }
        let (block, lane) = self.lane_mut(id, place);
        block.set(lane, row);
        self.ceilings.raise(id, row.free);
        place
    }

    /// Brings the ceiling of a class at one height down to what its nodes have.
    pub(crate) fn lower_ceiling(&mut self, class: ClassId, height: Height) {
        let least = height.least_cpu_millis();
        let most = self.blocks(class).iter().map(|block| block.memory_max(least)).max();
        self.ceilings.lower(class, height, most.unwrap_or_default());
    }

    /// Takes a row out; the last one moves to its place.
    pub(crate) fn swap_remove(&mut self, id: ClassId, row: u32, last: Row) {
        let end = self.class(id).rows - 1;
        if row != end {
            let (block, lane) = self.lane_mut(id, row);
            block.set(lane, last);
            self.nodes[last.node.0 as usize].row = row;
        }
        let (block, lane) = self.lane_mut(id, end);
        block.clear(lane);
        let class = &mut self.classes[id.0 as usize];
        class.rows = end;
        Columns::shrink(&mut class.extent, end.div_ceil(ROWS));
    }
}

//! The columns: eight nodes of one class beside each other, and the scan that finds the best of them.
//!
//! The scan is plain code over fixed arrays of 32-bit integers without branches, which compilers turn into vector
//! instructions. All values are integers, so every machine finds the same node.

use crate::{
    amount::Amount,
    class::ClassId,
    fleet::NodeIndex,
    lanes::{LANES, Lanes},
};

/// Nodes per block.
pub(crate) const ROWS: u32 = 8;
/// A mark of a row that takes no more, for whatever reason.
pub(crate) const CLOSED: u16 = u16::MAX;
/// The key of a row that has no room.
const NO_ROOM: u32 = u32::MAX;
/// Memory is compared in units of so many KiB as a power of two, so that a reciprocal in 32 bits is exact enough.
const MEMORY_SHIFT: u32 = 8;
/// A share of one is so many bits where imbalance and scarcity are compared.
pub(crate) const SHARE_BITS: u32 = 10;
/// So many of those bits are too fine to count: below that the node with more room wins.
const COARSE_SHIFT: u32 = 4;
/// Bits of the key for how much of a node would be used.
const USED_BITS: u32 = 20;

/// Eight rows. A lane without a node has no free memory; every demand takes some.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    free_cpu: Lanes,
    free_memory: Lanes,
    cpu_factor: Lanes,
    memory_factor: Lanes,
    order: Lanes,
    node: [u32; LANES],
    /// Scratch of one search: how many siblings are there, or [`CLOSED`]. All zero between searches.
    marks: [u16; LANES],
}

/// A node as one row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) node: NodeIndex,
    pub(crate) free: Amount,
    pub(crate) capacity: Amount,
    pub(crate) order: u32,
}

/// The best row of a scan; lower is better. Class and row are where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Candidate {
    pub(crate) mark: u16,
    pub(crate) key: u32,
    pub(crate) order: u32,
    pub(crate) class: ClassId,
    pub(crate) row: u32,
}

/// What a scan looks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Need {
    pub(crate) amount: Amount,
    /// The scarcity of the class, in the same unit as imbalance.
    pub(crate) scarcity: u32,
}

impl Block {
    pub(crate) const EMPTY: Self = Self {
        free_cpu: Lanes::all(0),
        free_memory: Lanes::all(0),
        cpu_factor: Lanes::all(0),
        memory_factor: Lanes::all(0),
        order: Lanes::all(u32::MAX),
        node: [u32::MAX; LANES],
        marks: [0; LANES],
    };

    pub(crate) fn set(&mut self, lane: usize, row: Row) {
        self.free_cpu.0[lane] = row.free.cpu_millis;
        self.free_memory.0[lane] = row.free.memory_kib;
        self.cpu_factor.0[lane] = u32::MAX / row.capacity.cpu_millis.max(1);
        self.memory_factor.0[lane] = u32::MAX / (row.capacity.memory_kib >> MEMORY_SHIFT).max(1);
        self.order.0[lane] = row.order;
        self.node[lane] = row.node.0;
        self.marks[lane] = 0;
    }

    pub(crate) fn clear(&mut self, lane: usize) {
        self.free_cpu.0[lane] = 0;
        self.free_memory.0[lane] = 0;
        self.cpu_factor.0[lane] = 0;
        self.memory_factor.0[lane] = 0;
        self.order.0[lane] = u32::MAX;
        self.node[lane] = u32::MAX;
        self.marks[lane] = 0;
    }

    pub(crate) fn free(&self, lane: usize) -> Amount {
        Amount { cpu_millis: self.free_cpu.0[lane], memory_kib: self.free_memory.0[lane] }
    }

    pub(crate) fn set_free(&mut self, lane: usize, free: Amount) {
        self.free_cpu.0[lane] = free.cpu_millis;
        self.free_memory.0[lane] = free.memory_kib;
    }

    pub(crate) fn node(&self, lane: usize) -> NodeIndex {
        NodeIndex(self.node[lane])
    }

    pub(crate) fn order(&self, lane: usize) -> u32 {
        self.order.0[lane]
    }

    pub(crate) fn mark(&self, lane: usize) -> u16 {
        self.marks[lane]
    }

    pub(crate) fn set_mark(&mut self, lane: usize, mark: u16) {
        self.marks[lane] = mark;
    }

    /// Lane by lane: how bad each node would be after taking the amount; [`NO_ROOM`] where it does not fit.
    ///
    /// The high bits are the gap between the free shares of CPU and memory plus the class's scarcity, in coarse steps; the
    /// low ones how much would be used of both.
    #[inline(always)]
    fn keys(&self, need: Need) -> Lanes {
        let (need_cpu, need_memory) = (Lanes::all(need.amount.cpu_millis), Lanes::all(need.amount.memory_kib));
        let no_room = self.free_cpu.less(need_cpu).or(self.free_memory.less(need_memory));
        let cpu = self.free_cpu.sub(need_cpu).mul(self.cpu_factor);
        let memory = self.free_memory.sub(need_memory).shift_right(MEMORY_SHIFT).mul(self.memory_factor);
        let share = 32 - SHARE_BITS;
        let gap = cpu.shift_right(share).distance(memory.shift_right(share));
        let uneven = gap.add(Lanes::all(need.scarcity)).shift_right(COARSE_SHIFT);
        let used = Lanes::all(u32::MAX).sub(cpu.shift_right(1)).sub(memory.shift_right(1));
        uneven.shift_left(USED_BITS).or(used.shift_right(32 - USED_BITS)).or(no_room)
    }

    /// One lane's key; `None` when it has no room or is closed.
    pub(crate) fn key(&self, lane: usize, need: Need) -> Option<u32> {
        Some(self.keys(need).0[lane]).filter(|key| *key != NO_ROOM && self.marks[lane] != CLOSED)
    }

    /// The most free memory of the rows with at least so much free CPU.
    pub(crate) fn memory_max(&self, least_cpu_millis: u32) -> u32 {
        let counted = self.free_memory.and(self.free_cpu.less(Lanes::all(least_cpu_millis)).not());
        counted.0.into_iter().max().unwrap_or_default()
    }

    /// How many more of an amount fit in a lane; none in a closed one.
    pub(crate) fn room(&self, lane: usize, amount: Amount) -> u32 {
        if self.marks[lane] == CLOSED {
            return 0;
        }
        let memory = self.free_memory.0[lane] / amount.memory_kib.max(1);
        self.free_cpu.0[lane].checked_div(amount.cpu_millis).map_or(memory, |cpu| cpu.min(memory))
    }
}

/// How uneven and how used a node would be after taking an amount.
pub(crate) fn parts(free: Amount, capacity: Amount, need: Need) -> (u32, u32) {
    let mut block = Block::EMPTY;
    // What does not fit would wrap round: it is looked upon as just fitting.
    let free = Amount {
        cpu_millis: free.cpu_millis.max(need.amount.cpu_millis),
        memory_kib: free.memory_kib.max(need.amount.memory_kib),
    };
    block.set(0, Row { node: NodeIndex(0), free, capacity, order: 0 });
    let [key, ..] = block.keys(need).0;
    (key >> USED_BITS, key & ((1 << USED_BITS) - 1))
}

/// The best row of several runs of blocks: fewest siblings, then lowest key, then lowest order. Rows are numbered on through
/// all runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scan {
    keys: Lanes,
    orders: Lanes,
    rows: Lanes,
    next: u32,
    /// The best row of blocks with marks.
    marked: Option<(u16, u32, u32, u32)>,
}

impl Scan {
    pub(crate) fn new() -> Self {
        let most = Lanes::all(u32::MAX);
        Self { keys: most, orders: most, rows: Lanes::all(0), next: 0, marked: None }
    }

    /// Looks at a run of blocks.
    pub(crate) fn look(&mut self, blocks: &[Block], need: Need) {
        // Copies that the compiler keeps in registers.
        let (mut keys, mut orders, mut rows, mut row) = (self.keys, self.orders, self.rows, self.next);
        for block in blocks {
            let found = block.keys(need);
            if block.marks == [0; LANES] {
                let tied = found.equal(keys).and(block.order.less(orders));
                let better = found.less(keys).or(tied);
                keys = keys.replace(found, better);
                orders = orders.replace(block.order, better);
                rows = rows.replace(Lanes::all(row), better);
            } else {
                self.look_marked(block, &found.0, row);
            }
            row += ROWS;
        }
        (self.keys, self.orders, self.rows, self.next) = (keys, orders, rows, row);
    }

    /// Looks at a block with marks, lane by lane: there are few.
    #[inline(never)]
    fn look_marked(&mut self, block: &Block, keys: &[u32; LANES], row: u32) {
        for (lane, row) in (row..).take(LANES).enumerate() {
            if keys[lane] != NO_ROOM && block.marks[lane] != CLOSED {
                let found = (block.marks[lane], keys[lane], block.order.0[lane], row);
                if self.marked.is_none_or(|best| found < best) {
                    self.marked = Some(found);
                }
            }
        }
    }

    /// The best: mark, key, order, and its number.
    pub(crate) fn best(&self) -> Option<(u16, u32, u32, u32)> {
        let mut best: Option<(u16, u32, u32, u32)> = self.marked;
        for (lane, offset) in (0..LANES).zip(0_u32..) {
            let found = (0, self.keys.0[lane], self.orders.0[lane], self.rows.0[lane] + offset);
            if self.keys.0[lane] != NO_ROOM && best.is_none_or(|best| found < best) {
                best = Some(found);
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u32 = 1 << 20;

    fn block(rows: &[(u32, u32)]) -> Block {
        let mut block = Block::EMPTY;
        for (lane, (cpu_millis, memory_kib)) in rows.iter().enumerate() {
            let (index, free) =
                (u32::try_from(lane).unwrap(), Amount { cpu_millis: *cpu_millis, memory_kib: *memory_kib });
            let capacity = Amount { cpu_millis: 4_000, memory_kib: 16 * GIB };
            block.set(lane, Row { node: NodeIndex(index), free, capacity, order: index });
        }
        block
    }

    fn best(blocks: &[Block], need: Need) -> Option<u32> {
        let mut scan = Scan::new();
        blocks.chunks(1).for_each(|blocks| scan.look(blocks, need));
        scan.best().map(|(_, _, _, row)| row)
    }

    fn need(cpu_millis: u32, memory_kib: u32) -> Need {
        Need { amount: Amount { cpu_millis, memory_kib }, scarcity: 0 }
    }

    #[test]
    fn the_node_that_stays_in_proportion_wins() {
        let blocks = [block(&[(4_000, 4 * GIB), (2_000, 8 * GIB), (500, 16 * GIB)])];

        let found = best(&blocks, need(500, 2 * GIB));

        assert_eq!(found, Some(1));
    }

    #[test]
    fn equals_are_told_apart_by_order_and_siblings_count_first() {
        let mut blocks = [block(&[(4_000, GIB); 8]), block(&[(4_000, GIB); 3])];
        blocks[0].set_mark(0, 1);
        blocks[0].set_mark(1, CLOSED);

        assert_eq!(best(&blocks, need(1, 1)), Some(8), "its order is 0");
        assert_eq!(best(&blocks[..1], need(4_001, 1)), None, "nothing has room");
        assert_eq!(best(&[Block::EMPTY], need(0, 1)), None, "an empty lane has no room");
    }

    #[test]
    fn room_is_what_both_amounts_allow() {
        let block = block(&[(1_000, 10 * GIB)]);

        assert_eq!(block.room(0, Amount { cpu_millis: 300, memory_kib: GIB }), 3);
        assert_eq!(block.room(0, Amount { cpu_millis: 0, memory_kib: 4 * GIB }), 2);
    }

    #[test]
    fn the_largest_node_has_a_sound_share() {
        let mut block = Block::EMPTY;
        let capacity = Amount { cpu_millis: u32::MAX, memory_kib: u32::MAX };
        block.set(0, Row { node: NodeIndex(0), free: capacity, capacity, order: 0 });

        let key = block.key(0, need(0, 1)).expect("it fits");

        assert_eq!(key, 0, "all is free and in proportion");
    }
}

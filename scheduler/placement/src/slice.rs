//! Slices: the pieces in which a search looks at its nodes, each small enough to be looked at again after a placement in it.

use std::ops::Range;

use crate::{
    block::{Candidate, ROWS, Scan},
    ceiling::Height,
    class::ClassId,
    fleet::NodeIndex,
    group::domain,
    search::Search,
};

/// Blocks that one slice has at most: what is scanned again after a placement in it.
const SLICE_BLOCKS_MAX: u32 = 64;
/// Listed nodes that one slice has at most.
const SLICE_NODES_MAX: usize = 64;

/// Some rows of classes that are one place to every rule of evenness.
#[derive(Clone, Debug)]
pub(crate) struct Slice {
    /// One of the classes.
    pub(crate) class: ClassId,
    /// How many blocks it has, also those of classes that have no room.
    blocks: u32,
    /// How many nodes these hold.
    pub(crate) nodes: u32,
    rows: Rows,
}

#[derive(Clone, Debug)]
enum Rows {
    /// Consecutive parts of the search: those of classes that may have room.
    Parts(Range<usize>),
    /// Single rows of the class.
    Listed(Vec<u32>),
}

impl Slice {
    /// Whether there is anything to look at.
    pub(crate) fn may_fit(&self) -> bool {
        match &self.rows {
            Rows::Parts(parts) => !parts.is_empty(),
            Rows::Listed(rows) => !rows.is_empty(),
        }
    }
}

/// Consecutive blocks of one class.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    class: ClassId,
    from: u32,
    to: u32,
}

impl Search<'_> {
    /// The slices of some nodes, in the order of their classes.
    pub(crate) fn slices_of(&self, nodes: &[NodeIndex]) -> Vec<Slice> {
        let selection = self.demand().selection;
        let mut rows: Vec<(ClassId, u32)> = nodes.iter().filter_map(|node| self.fleet.placed(*node)).collect();
        rows.retain(|(class, _)| self.selections.allows(selection, *class));
        rows.sort_unstable();
        let same = rows.chunk_by(|a, b| a.0 == b.0).filter(|rows| !self.has_company || self.is_open(rows[0].0));
        same.flat_map(|rows| rows.chunks(SLICE_NODES_MAX))
            .map(|rows| {
                let listed: Vec<u32> = rows.iter().map(|(_, row)| *row).collect();
                let nodes = u32::try_from(listed.len()).expect("a slice has few listed nodes");
                Slice { class: rows[0].0, blocks: nodes, nodes, rows: Rows::Listed(listed) }
            })
            .collect()
    }

    /// Cuts classes of one place of the leading rule into slices, each class beginning at one of its blocks and going round.
    pub(crate) fn slice(&mut self, classes: impl Iterator<Item = ClassId>, start: u64, slices: &mut Vec<Slice>) {
        let height = Height::of(self.demand().amount);
        let mut keys = self.demand().spread.iter().filter_map(|rule| domain(rule.over));
        let is_one_rule = keys.all(|key| Some(key) == self.group.lead);
        for id in classes {
            let class = self.fleet.class(id);
            let rows = class.rows;
            if rows == 0 || (self.has_company && !self.is_open(id)) {
                continue;
            }
            let blocks = class.extent.len();
            let may_fit = self.fleet.ceilings.admits(id, height);
            let is_same = slices.last().is_some_and(|last| is_one_rule || self.is_one_place(last.class, id));
            let count = blocks.div_ceil(SLICE_BLOCKS_MAX);
            // Most classes are one part, and a division for each would be felt.
            let start = if count == 1 { 0 } else { start % u64::from(count) };
            let start = u32::try_from(start).expect("it is less than their count");
            for part in (start..count).chain(0..start) {
                let from = part * SLICE_BLOCKS_MAX;
                let to = blocks.min(from + SLICE_BLOCKS_MAX);
                let nodes = rows.min(to * ROWS) - from * ROWS;
                let place = self.parts.len();
                self.parts.extend(may_fit.then_some(Part { class: id, from, to }));
                match slices.last_mut() {
                    Some(Slice { blocks, nodes: others, rows: Rows::Parts(parts), .. })
                        if is_same && *blocks + to - from <= SLICE_BLOCKS_MAX =>
                    {
                        parts.end = self.parts.len();
                        *blocks += to - from;
                        *others += nodes;
                    }
                    _ => {
                        let rows = Rows::Parts(place..self.parts.len());
                        slices.push(Slice { class: id, blocks: to - from, nodes, rows });
                    }
                }
            }
        }
    }

    /// Whether two classes have the same value of every property that a rule of evenness is over.
    fn is_one_place(&self, a: ClassId, b: ClassId) -> bool {
        let (a, b) = (self.fleet.class(a), self.fleet.class(b));
        let mut keys = self.group.demand.spread.iter().filter_map(|rule| domain(rule.over));
        keys.all(|key| a.value(key) == b.value(key))
    }

    /// Lowers the ceilings of the classes of a slice, in which nothing was found.
    pub(crate) fn lower_ceilings(&mut self, slice: &Slice) {
        let Rows::Parts(parts) = &slice.rows else { return };
        let height = Height::of(self.demand().amount);
        for part in &self.parts[parts.clone()] {
            // A class of several parts would be looked at as a whole for each.
            if part.from == 0 && part.to == self.fleet.class(part.class).extent.len() {
                self.fleet.lower_ceiling(part.class, height);
            }
        }
    }

    /// The rows of a slice with their classes, without those of classes that have no room.
    pub(crate) fn rows(&self, slice: &Slice) -> Vec<(ClassId, u32)> {
        match &slice.rows {
            Rows::Parts(parts) => {
                let rows = self.parts[parts.clone()].iter().flat_map(|part| {
                    let end = (part.to * ROWS).min(self.fleet.class(part.class).rows);
                    (part.from * ROWS..end).map(|row| (part.class, row))
                });
                rows.collect()
            }
            Rows::Listed(rows) => rows.iter().map(|row| (slice.class, *row)).collect(),
        }
    }

    /// The best row of a slice.
    pub(crate) fn best(&self, slice: &Slice) -> Option<Candidate> {
        let amount = self.demand().amount;
        match &slice.rows {
            Rows::Parts(parts) => {
                let parts = &self.parts[parts.clone()];
                let mut scan = Scan::new();
                for part in parts {
                    let blocks = &self.fleet.blocks(part.class)[part.from as usize..part.to as usize];
                    scan.look(blocks, self.fleet.class(part.class).need(amount));
                }
                let (mark, key, order, mut row) = scan.best()?;
                let part = parts.iter().find(|part| {
                    let rows = (part.to - part.from) * ROWS;
                    let is_in = row < rows;
                    row -= if is_in { 0 } else { rows };
                    is_in
                })?;
                Some(Candidate { mark, key, order, class: part.class, row: part.from * ROWS + row })
            }
            Rows::Listed(rows) => {
                let need = self.fleet.class(slice.class).need(amount);
                rows.iter().filter_map(|row| self.fleet.candidate(slice.class, *row, need)).min()
            }
        }
    }
}

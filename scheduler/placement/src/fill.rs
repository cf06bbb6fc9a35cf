//! Very many instances of one group with the usual rules: how high the water stands is computed, not walked.
//!
//! One instance at a time goes to the emptiest place, there to the emptiest node. The end of that walk is known beforehand: all
//! places up to one level, in each all nodes up to one level, as far as they have room. Only who gets the last one
//! of a level is decided by score.

use crate::{
    block::CLOSED,
    class::{ClassId, DomainValue},
    demand::{Demand, Over, Spread},
    fleet::NodeIndex,
    search::Search,
    slice::Slice,
};

/// Whether the rules are: over one property or none, then over nodes as even as there is room.
pub(crate) fn suits(demand: &Demand) -> bool {
    let soft_nodes = |rule: &Spread| rule.over == Over::Node && rule.skew_max.is_none();
    match demand.spread.as_slice() {
        [nodes] => soft_nodes(nodes),
        [place, nodes] => place.over != Over::Node && soft_nodes(nodes),
        _ => false,
    }
}

/// A node in one place.
#[derive(Clone, Copy, Debug)]
struct Well {
    class: ClassId,
    row: u32,
    /// Siblings that are there.
    depth: u64,
    /// How many more it takes.
    room: u64,
}

/// One place of the leading rule.
#[derive(Debug)]
struct Basin {
    wells: Vec<Well>,
    depth: u64,
    room: u64,
    /// How many it gets.
    share: u64,
}

/// A node that would get one more: siblings there, key and order as its score, then where it is.
type Next = (u64, u32, u32, ClassId, u32);

/// Places up to `count` instances, takes their amounts, and tells how many each node got. Siblings are marked.
pub(crate) fn fill(search: &mut Search<'_>, places: &[(DomainValue, Vec<Slice>)], count: u32) -> Vec<(NodeIndex, u32)> {
    search.close_conflicts();
    let mut basins: Vec<Basin> = places.iter().map(|(value, slices)| basin(search, *value, slices)).collect();
    let skew = search.demand().spread.first().filter(|_| search.group.lead.is_some()).and_then(|rule| rule.skew_max);
    // A place that is full holds the others back: they may exceed it by the skew only.
    let brim = skew.and_then(|skew| {
        let lowest = basins.iter().map(|basin| basin.depth + basin.room).min()?;
        Some(lowest + u64::from(skew))
    });
    let pools: Vec<(u64, u64)> = basins.iter().map(|basin| (basin.depth, basin.room)).collect();
    let (level, rest) = level(&pools, count.into(), brim.unwrap_or(u64::MAX));
    for basin in &mut basins {
        basin.share = level.saturating_sub(basin.depth).min(basin.room);
    }
    let mut filled = Vec::new();
    let mut last = Vec::new();
    for basin in &basins {
        let could = basin.depth + basin.share == level && basin.room > basin.share;
        if let Some(next) = pour(search, basin, &mut filled).filter(|_| could) {
            last.push(next);
        }
    }
    last.sort_unstable();
    for (.., class, row) in last.into_iter().take(usize::try_from(rest).unwrap_or(usize::MAX)) {
        take(search, class, row, 1, &mut filled);
    }
    filled
}

/// A place's nodes as wells.
fn basin(search: &Search<'_>, value: DomainValue, slices: &[Slice]) -> Basin {
    let demand = search.demand();
    // Also where all nodes are held and nothing can come.
    let depth = search.group.lead.map_or(0, |key| search.group.at(key, value).counted.into());
    let mut basin = Basin { wells: Vec::new(), depth, room: 0, share: 0 };
    for slice in slices {
        for (id, row) in search.rows(slice) {
            let class = search.fleet.class(id);
            let (block, lane) = search.fleet.lane(id, row);
            let mut room = block.room(lane, demand.amount);
            if block.mark(lane) == CLOSED {
                room = 0;
            }
            if let Some(most) = demand.per_node_max {
                room = room.min(most.saturating_sub(search.group.on(class, block.node(lane)).total));
            }
            if !demand.ports.is_empty() {
                room = room.min(1);
            }
            if room > 0 {
                let (depth, room) = (u64::from(block.mark(lane)), u64::from(room));
                basin.wells.push(Well { class: id, row, depth, room });
                basin.room += room;
            }
        }
    }
    basin
}

/// Gives a place its share; the node that would get the next one, with its depth.
fn pour(search: &mut Search<'_>, basin: &Basin, filled: &mut Vec<(NodeIndex, u32)>) -> Option<Next> {
    let pools: Vec<(u64, u64)> = basin.wells.iter().map(|well| (well.depth, well.room)).collect();
    let (level, rest) = level(&pools, basin.share, u64::MAX);
    let rest = usize::try_from(rest).expect("it is less than the number of nodes");
    let mut next = Vec::new();
    for well in &basin.wells {
        let share = level.saturating_sub(well.depth).min(well.room);
        take(search, well.class, well.row, share, filled);
        if well.depth + share == level && well.room > share {
            let need = search.fleet.class(well.class).need(search.demand().amount);
            let candidate = search.fleet.candidate(well.class, well.row, need);
            next.extend(candidate.map(|candidate| (level, candidate.key, candidate.order, well.class, candidate.row)));
        }
    }
    if rest < next.len() {
        next.select_nth_unstable(rest);
    }
    for (_, _, _, class, row) in next.iter().take(rest) {
        take(search, *class, *row, 1, filled);
    }
    next.get(rest).copied()
}

fn take(search: &mut Search<'_>, class: ClassId, row: u32, count: u64, filled: &mut Vec<(NodeIndex, u32)>) {
    if count == 0 {
        return;
    }
    let node = search.fleet.node_at(class, row);
    let count = u32::try_from(count).expect("it is at most what was asked for");
    search.fleet.take_from(class, row, search.demand().amount, count);
    filled.push((node, count));
}

/// How high `count` fills pools of a depth and a room each, the emptiest first, and how many are left over for pools at
/// that level. Not above `brim`, where nothing is left over.
fn level(pools: &[(u64, u64)], count: u64, brim: u64) -> (u64, u64) {
    let held = |level: u64| pools.iter().map(|(depth, room)| level.saturating_sub(*depth).min(*room)).sum::<u64>();
    let deepest = pools.iter().map(|(depth, _)| *depth).max().unwrap_or_default();
    let most = pools.iter().map(|(depth, room)| depth + room).max().unwrap_or_default();
    let mut low = pools.iter().map(|(depth, _)| *depth).min().unwrap_or_default().min(brim);
    let mut high = most.min(deepest + count).min(brim).max(low);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if held(middle) <= count { low = middle } else { high = middle - 1 }
    }
    let rest = if low == brim { 0 } else { count.saturating_sub(held(low)) };
    (low, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_is_where_the_walk_ends() {
        assert_eq!(level(&[(0, 10), (3, 10), (5, 10)], 5, u64::MAX), (4, 0));
        assert_eq!(level(&[(0, 10), (3, 10), (5, 10)], 6, u64::MAX), (4, 1));
        assert_eq!(level(&[(0, 2), (3, 10)], 6, u64::MAX), (7, 0), "the first is full at two");
        assert_eq!(level(&[(0, 2), (0, 10)], 20, 3), (3, 0), "the brim ends it");
        assert_eq!(level(&[(0, 2), (0, 1)], 9, u64::MAX), (2, 6), "all is full");
        assert_eq!(level(&[], 9, u64::MAX), (0, 9));
    }
}

//! On which nodes a group's instances are, and how many: sorted by place and node, in short runs of memory instead of the
//! half-empty nodes of a tree. A group may have a million instances, and most of its nodes hold one.

use std::collections::BTreeMap;

use crate::{class::DomainValue, fleet::NodeIndex, group::Count};

/// A place of the leading rule and a node in it.
type Spot = (DomainValue, NodeIndex);

/// With more spots a chunk is cut in two. Many make a new one slow to get between them, few make chunks dear.
const CHUNK_SPOTS_MAX: usize = 256;
/// So many are in each chunk when all are made at once: room for some before they are cut.
const CHUNK_SPOTS: usize = CHUNK_SPOTS_MAX / 4 * 3;

/// How many instances of a group each node has. Nodes without any are not there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Holders {
    /// The spots with all their instances, cut into chunks. A chunk's key is not above its first spot.
    chunks: BTreeMap<Spot, Vec<(Spot, u32)>>,
    /// How many instances of a node do not count for evenness. Few do not, but while
    /// another revision is rolled out.
    uncounted: BTreeMap<NodeIndex, u32>,
    len: usize,
}

impl PartialEq for Holders {
    /// Where the chunks are cut is of no matter.
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl Eq for Holders {}

impl Holders {
    /// How many nodes there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// How many instances a node has.
    pub(crate) fn get(&self, spot: Spot) -> Count {
        let Some((_, chunk)) = self.chunks.range(..=spot).next_back() else { return Count::default() };
        match chunk.binary_search_by_key(&spot, |(other, _)| *other) {
            Ok(index) => self.count(spot.1, chunk[index].1),
            Err(_) => Count::default(),
        }
    }

    /// All nodes with what they have.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Spot, Count)> + '_ {
        self.chunks.values().flatten().map(|(spot, total)| (*spot, self.count(spot.1, *total)))
    }

    /// The nodes of one place with what they have.
    pub(crate) fn within(&self, value: DomainValue) -> impl Iterator<Item = (NodeIndex, Count)> + '_ {
        let first = (value, NodeIndex(0));
        let (key, chunk) = self.chunks.range(..=first).next_back().unzip();
        let begin = chunk.map_or(&[][..], |chunk| &chunk[chunk.partition_point(|(spot, _)| *spot < first)..]);
        let rest = self.chunks.range(key.copied().unwrap_or_default()..).skip(usize::from(key.is_some()));
        let spots = begin.iter().chain(rest.flat_map(|(_, chunk)| chunk));
        let here = spots.take_while(move |((place, _), _)| *place == value);
        here.map(|((_, node), total)| (*node, self.count(*node, *total)))
    }

    /// Changes what a node has; gives what it had and what it has.
    pub(crate) fn change(&mut self, spot: Spot, change: impl FnOnce(&mut Count)) -> (Count, Count) {
        let before = self.get(spot);
        let mut after = before;
        change(&mut after);
        self.set(spot, after);
        (before, after)
    }

    /// Takes over what a node has.
    pub(crate) fn set(&mut self, spot: Spot, count: Count) {
        debug_assert!(count.counted <= count.total, "those that count are among all");
        match count.total.saturating_sub(count.counted) {
            0 if self.uncounted.is_empty() => {}
            0 => {
                self.uncounted.remove(&spot.1);
            }
            uncounted => {
                self.uncounted.insert(spot.1, uncounted);
            }
        }
        let Some((key, chunk)) = self.chunks.range_mut(..=spot).next_back() else {
            if count.total > 0 {
                self.chunks.insert(Spot::default(), vec![(spot, count.total)]);
                self.len += 1;
            }
            return;
        };
        let key = *key;
        match (chunk.binary_search_by_key(&spot, |(other, _)| *other), count.total) {
            (Ok(index), 0) => {
                chunk.remove(index);
                self.len -= 1;
                if chunk.is_empty() {
                    self.chunks.remove(&key);
                } else if chunk.len() * 2 < chunk.capacity() {
                    chunk.shrink_to_fit();
                }
            }
            (Ok(index), total) => chunk[index].1 = total,
            (Err(_), 0) => {}
            (Err(index), total) => {
                if chunk.len() == chunk.capacity() {
                    // An eighth at a time: half-empty chunks would cost what trees cost.
                    chunk.reserve_exact(chunk.len() / 8 + 1);
                }
                chunk.insert(index, (spot, total));
                self.len += 1;
                if chunk.len() > CHUNK_SPOTS_MAX {
                    let upper = chunk.split_off(CHUNK_SPOTS_MAX / 2);
                    chunk.shrink_to_fit();
                    self.chunks.insert(upper[0].0, upper);
                }
            }
        }
    }

    /// Adds instances that count, on nodes that are each named once.
    pub(crate) fn extend(&mut self, mut added: Vec<(Spot, u32)>) {
        if added.len() <= self.len / 8 {
            for (spot, more) in added {
                self.change(spot, |count| *count = count.plus(more));
            }
            return;
        }
        added.sort_unstable();
        let (mut before, mut added) =
            (self.chunks.values().flatten().copied().peekable(), added.into_iter().peekable());
        let merged = std::iter::from_fn(|| {
            let next = [before.peek(), added.peek()].into_iter().flatten().map(|(spot, _)| *spot).min()?;
            let here = [before.next_if(|(spot, _)| *spot == next), added.next_if(|(spot, _)| *spot == next)];
            Some((next, here.into_iter().flatten().map(|(_, total)| total).sum()))
        });
        let merged: Vec<(Spot, u32)> = merged.collect();
        self.cut(&merged);
    }

    /// Sorts all nodes into other places.
    pub(crate) fn sort_anew(&mut self, place: impl Fn(NodeIndex) -> DomainValue) {
        let all = self.chunks.values().flatten();
        let mut all: Vec<(Spot, u32)> = all.map(|((_, node), total)| ((place(*node), *node), *total)).collect();
        all.sort_unstable();
        self.cut(&all);
    }

    /// Takes over sorted spots.
    fn cut(&mut self, spots: &[(Spot, u32)]) {
        self.len = spots.len();
        let chunks = spots.chunks(CHUNK_SPOTS).enumerate();
        let key = |index: usize, chunk: &[(Spot, u32)]| if index == 0 { Spot::default() } else { chunk[0].0 };
        self.chunks = chunks.map(|(index, chunk)| (key(index, chunk), chunk.to_vec())).collect();
    }

    fn count(&self, node: NodeIndex, total: u32) -> Count {
        // Asked often, and mostly all count.
        let uncounted = if self.uncounted.is_empty() { None } else { self.uncounted.get(&node) };
        Count { counted: total - uncounted.copied().unwrap_or_default(), total }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(counted: bool) -> Count {
        Count { counted: u32::from(counted), total: 1 }
    }

    fn spot(number: u32) -> Spot {
        (number % 7, NodeIndex(number))
    }

    #[test]
    fn what_is_set_one_by_one_or_at_once_is_the_same() {
        let numbers = || (0..2_000).map(|step| step * 1_237 % 2_003);
        let (mut single, mut many) = (Holders::default(), Holders::default());

        numbers().for_each(|number| single.set(spot(number), one(true)));
        many.extend(numbers().take(500).map(|number| (spot(number), 1)).collect());
        many.extend(numbers().skip(500).map(|number| (spot(number), 1)).collect());

        assert_eq!((single.len(), &single), (2_000, &many));
        assert!(single.iter().is_sorted_by_key(|(spot, _)| spot));
        assert!(single.chunks.values().all(|chunk| chunk.len() <= CHUNK_SPOTS_MAX));
        for value in 0..8 {
            let mut there: Vec<NodeIndex> = numbers().filter(|number| number % 7 == value).map(NodeIndex).collect();
            there.sort_unstable();
            assert!(single.within(value).map(|(node, _)| node).eq(there.iter().copied()), "place {value}");
            assert!(many.within(value).map(|(node, _)| node).eq(there), "place {value}");
        }
    }

    #[test]
    fn nothing_is_left_when_all_are_gone_and_the_first_may_go_first() {
        let mut holders = Holders::default();
        (0..2_000).for_each(|number| holders.set(spot(number), one(number % 3 > 0)));

        (0..1_999).for_each(|number| holders.set(spot(number), Count::default()));

        assert_eq!(holders.iter().collect::<Vec<_>>(), [(spot(1_999), one(true))]);
        holders.set(spot(0), one(false));
        assert_eq!((holders.get(spot(0)), holders.get(spot(1)), holders.len()), (one(false), Count::default(), 2));
        holders.set(spot(0), Count::default());
        holders.set(spot(1_999), Count::default());
        assert_eq!(holders, Holders::default());
    }

    #[test]
    fn all_are_found_in_other_places() {
        let mut holders = Holders::default();
        (0..600).for_each(|number| holders.set(spot(number), one(number != 5)));

        holders.sort_anew(|node| node.0 % 2);

        assert_eq!(holders.within(1).count(), 300);
        assert_eq!((holders.get((1, NodeIndex(5))), holders.get((0, NodeIndex(6)))), (one(false), one(true)));
    }
}

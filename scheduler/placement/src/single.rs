//! One more instance: the emptiest places first, an exact scan of their slices.

use std::iter::Peekable;

use crate::{
    block::Candidate,
    check::{Credit, Miss},
    class::DomainValue,
    demand::Over,
    fleet::NodeIndex,
    group::domain,
    score::Score,
    search::Search,
    slice::Slice,
};

/// Up to so many nodes all that are equally good for evenness are compared.
const WHOLE_MAX: u64 = 512;
/// Of more nodes only so many equally good ones are compared for the rest; which of them changes with each instance. It
/// bounds one decision on a fleet of any size.
const WINDOW_NODES: u32 = 256;
/// After so many misses, everything that is in the way is looked up at once; after so many siblings, all of them.
const MISSES_MAX: u32 = 8;

/// The best node for one more instance.
pub(crate) fn pick(search: &mut Search<'_>) -> Option<NodeIndex> {
    if let Some(nodes) = search.listed() {
        search.mark_listed(&nodes);
        let slices = search.slices_of(&nodes);
        return best_of(search, slices).map(|(_, found)| found.node);
    }
    by_places(search).map(|found| found.node)
}

/// A node that takes the instance.
#[derive(Clone, Copy, Debug)]
struct Found {
    node: NodeIndex,
    /// Whether no place could be emptier, apart from the leading one.
    is_even: bool,
}

/// Looks at the places of the leading rule, the emptiest first.
fn by_places(search: &mut Search<'_>) -> Option<Found> {
    let (group, selections) = (search.group, search.selections);
    let hosts = selections.hosts(group.demand.selection, group.lead)?;
    let leads_first = group.demand.spread.first().is_some_and(|rule| domain(rule.over).is_some());
    let is_large = selections.hosting(group.demand.selection) > WHOLE_MAX;
    let seed = seed(search);
    let pivot = hosts.last_key_value().map_or(0, |(last, _)| turn(seed, u64::from(*last) + 1));
    let mut best: Option<(Score, Found)> = None;
    let mut level = 0;
    let (mut slices, mut window) = (Vec::new(), Vec::new());
    let mut nodes = 0;
    for (count, value) in places(search, pivot) {
        if count != level {
            keep(&mut best, best_of(search, std::mem::take(&mut window)));
            nodes = 0;
            level = count;
            if best.is_some() && (leads_first || best.as_ref().is_some_and(|(_, found)| found.is_even)) {
                break;
            }
        }
        let Some(classes) = hosts.get(&value) else { continue };
        let start = usize::try_from(seed % classes.len() as u64).expect("it is less than their count");
        search.slice(classes[start..].iter().chain(&classes[..start]).copied(), seed, &mut slices);
        if !is_large && slices.iter().any(Slice::may_fit) {
            for (node, count) in group.nodes_in(value) {
                search.mark_sibling(node, count);
            }
        }
        for slice in slices.drain(..) {
            // What is full counts as looked at, so that the window is the same whether that is known or not.
            nodes += slice.nodes;
            if slice.may_fit() {
                window.push(slice);
            }
            if is_large && nodes >= WINDOW_NODES {
                keep(&mut best, best_of(search, std::mem::take(&mut window)));
                nodes = 0;
                if best.as_ref().is_some_and(|(_, found)| found.is_even) {
                    return best.map(|(_, found)| found);
                }
            }
        }
    }
    keep(&mut best, best_of(search, window));
    best.map(|(_, found)| found)
}

/// The places of the leading rule with how many siblings are in each, the emptiest first; equals from `pivot` on.
fn places<'e>(search: &Search<'e>, pivot: DomainValue) -> impl Iterator<Item = (u32, DomainValue)> + use<'e> {
    let group = search.group;
    let hosts = search.selections.hosts(group.demand.selection, group.lead);
    let tally = group.lead.and_then(|key| group.tally(key));
    let empty = hosts.into_iter().flat_map(move |hosts| {
        let absent = move |from: DomainValue, to: DomainValue| {
            let values = hosts.range(from..to).map(|(value, _)| *value);
            Absent { values, counted: tally.map(|tally| tally.counted(from, to).peekable()) }
        };
        absent(pivot, u32::MAX).chain(absent(0, pivot))
    });
    let empty = empty.map(|value| (0, value));
    let mut above = 0;
    let levels = std::iter::from_fn(move || {
        above = tally?.levels.range((above + 1, 0)..).next()?.0;
        Some(above)
    });
    let filled = levels.flat_map(move |count| {
        let levels = tally.map(|tally| &tally.levels).into_iter();
        levels.flat_map(move |levels| {
            levels.range((count, pivot)..=(count, u32::MAX)).chain(levels.range((count, 0)..(count, pivot)))
        })
    });
    empty.chain(filled.copied())
}

/// Those of some sorted values that are not among other sorted ones: one pass over both.
struct Absent<V: Iterator<Item = DomainValue>, C: Iterator<Item = DomainValue>> {
    values: V,
    counted: Option<Peekable<C>>,
}

impl<V: Iterator<Item = DomainValue>, C: Iterator<Item = DomainValue>> Iterator for Absent<V, C> {
    type Item = DomainValue;

    fn next(&mut self) -> Option<DomainValue> {
        let Self { values, counted } = self;
        values.find(|value| {
            let Some(counted) = counted else { return true };
            while counted.next_if(|counted| counted < value).is_some() {}
            counted.peek() != Some(value)
        })
    }
}

fn keep(best: &mut Option<(Score, Found)>, found: Option<(Score, Found)>) {
    if let Some(found) = found.filter(|(score, _)| best.as_ref().is_none_or(|(lowest, _)| score < lowest)) {
        *best = Some(found);
    }
}

/// The best node of some slices that passes the check.
fn best_of(search: &mut Search<'_>, slices: Vec<Slice>) -> Option<(Score, Found)> {
    let mut open: Vec<(Slice, Option<(Score, Candidate)>)> = slices
        .into_iter()
        .map(|slice| {
            let best = scored(search, &slice);
            if best.is_none() {
                search.lower_ceilings(&slice);
            }
            (slice, best)
        })
        .collect();
    let (mut misses, mut surprises) = (0, 0);
    loop {
        let (place, (score, candidate)) = (0_usize..)
            .zip(&open)
            .filter_map(|(place, (_, best))| Some((place, (*best)?)))
            .min_by_key(|(_, (score, _))| *score)?;
        let node = search.fleet.node_at(candidate.class, candidate.row);
        if search.has_siblings_unmarked(node, candidate) {
            surprises += 1;
            if surprises == MISSES_MAX {
                open.iter().for_each(|(slice, _)| search.mark_siblings_in(slice));
                open.iter_mut().for_each(|(slice, best)| *best = scored(search, slice));
            } else {
                open[place].1 = scored(search, &open[place].0);
            }
            continue;
        }
        match search.view().check(node, search.index, &Credit::default()) {
            Ok(()) => return Some((score, Found { node, is_even: is_even(search, score) })),
            Err(Miss::Spread(rule)) => {
                // All of that place, or of the slice, would be as uneven.
                let over = search.demand().spread[rule].over;
                let value = |search: &Search<'_>, slice: &Slice| {
                    domain(over).map(|key| search.fleet.class(slice.class).value(key))
                };
                let there = value(search, &open[place].0);
                match over {
                    Over::Domain(_) => open.retain(|(slice, _)| value(search, slice) != there),
                    Over::Node => open[place].1 = None,
                }
            }
            Err(_) => {
                search.close(node);
                misses += 1;
                if misses == MISSES_MAX {
                    search.close_conflicts();
                    for (slice, best) in &mut open {
                        *best = scored(search, slice);
                    }
                } else {
                    open[place].1 = scored(search, &open[place].0);
                }
            }
        }
    }
}

fn scored(search: &Search<'_>, slice: &Slice) -> Option<(Score, Candidate)> {
    let candidate = search.best(slice)?;
    let rules = &search.demand().spread;
    let at = |rule: usize, value: DomainValue| {
        domain(rules[rule].over).map(|key| search.group.at(key, value).counted).unwrap_or_default()
    };
    Some((Score::new(rules, candidate, search.fleet.class(slice.class), at), candidate))
}

/// Whether the places of all rules but the leading one are empty: then none is better for evenness in this level.
fn is_even(search: &Search<'_>, score: Score) -> bool {
    let rules = &search.demand().spread;
    let lead = rules.iter().position(|rule| domain(rule.over).is_some());
    score.is_empty_but_for(lead)
}

/// Where a search begins: another place for each group and each of its instances, the same on every machine.
fn seed(search: &Search<'_>) -> u64 {
    let mixed = (search.group.total() ^ u64::from(search.index.0) << 32).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed ^ mixed >> 29
}

fn turn(seed: u64, count: u64) -> u32 {
    u32::try_from(seed % count.max(1)).unwrap_or_default()
}

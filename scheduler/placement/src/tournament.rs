//! Many instances of one group, one after the other, exactly as if each were picked alone: each slice keeps its best
//! row, each place its best slice, and only where something was placed is anything looked at again. A place is looked at
//! first when it could be the best one, so that the fuller ones cost nothing.

use std::{cmp::Reverse, collections::BinaryHeap};

use crate::{
    block::{CLOSED, Candidate},
    class::{DomainKey, DomainValue},
    demand::Over,
    fleet::NodeIndex,
    group::domain,
    score::Score,
    search::Search,
    slice::Slice,
};

/// One place of the leading rule to look at.
#[derive(Debug)]
pub(crate) enum Ground {
    /// These slices.
    Slices(Vec<Slice>),
    /// All slices of the place with this value.
    All(DomainValue),
}

/// Slices of one place of the leading rule.
#[derive(Debug)]
struct Place {
    /// Its value as long as nobody looked at it; until then it has no slices.
    unseen: Option<DomainValue>,
    slices: Vec<Entrant>,
    /// Whether a slice was passed over because it would be too uneven now.
    is_held_back: bool,
    /// How often it was looked at: entries of earlier looks count no more.
    looks: u32,
}

/// A place's entry: its best score, which place, which slice, and at which look.
type Entry = Reverse<(Score, usize, usize, u32)>;

/// A slice and its best row.
#[derive(Debug)]
struct Entrant {
    slice: Slice,
    best: Option<Candidate>,
    /// Whether something was placed in it since: then `best` is as good as it can be at most, and it is looked at again
    /// only when its turn comes.
    is_stale: bool,
}

/// What a rule over a property counts while instances are placed.
#[derive(Debug)]
struct Tier {
    key: DomainKey,
    counts: Vec<u32>,
    /// For a hard rule: its skew, the lowest count, and how many hosting values have that.
    hard: Option<(u32, u32, usize)>,
    hosts: Vec<DomainValue>,
}

/// One group's placements.
#[derive(Debug)]
pub(crate) struct Tournament<'s, 'e> {
    search: &'s mut Search<'e>,
    places: Vec<Place>,
    /// By the place of the rule in the demand's list; `None` for rules over nodes.
    tiers: Vec<Option<Tier>>,
    heap: BinaryHeap<Entry>,
    /// For a hard rule over nodes: the most siblings a node may have now, and how many nodes are at the lowest count.
    node_limit: Option<NodeLimit>,
    /// Whether more than one rule over properties makes scores of one place depend on what is placed in another.
    is_entangled: bool,
}

#[derive(Clone, Copy, Debug)]
struct NodeLimit {
    lowest: u32,
    most: u32,
    at_lowest: u64,
}

impl<'s, 'e> Tournament<'s, 'e> {
    /// Begins: conflicts are marked, and the siblings in places whose slices are given.
    pub(crate) fn new(search: &'s mut Search<'e>, places: Vec<Ground>) -> Self {
        let rules = &search.demand().spread;
        let tiers: Vec<Option<Tier>> =
            rules.iter().map(|rule| domain(rule.over).map(|key| Tier::new(search, key, rule.skew_max))).collect();
        let is_entangled = tiers.iter().flatten().count() > 1;
        let node_limit = NodeLimit::new(search);
        let places = places.into_iter().map(|ground| {
            let (unseen, slices) = match ground {
                Ground::Slices(slices) => (None, Entrant::all(search, slices)),
                Ground::All(value) => (Some(value), Vec::new()),
            };
            Place { unseen, slices, is_held_back: false, looks: 0 }
        });
        let places = places.collect();
        let mut this = Self { search, places, tiers, heap: BinaryHeap::new(), node_limit, is_entangled };
        (0..this.places.len()).for_each(|place| this.enter(place));
        this
    }

    /// Places one more instance and takes its amount; `None` when no node takes it.
    pub(crate) fn next(&mut self) -> Option<NodeIndex> {
        loop {
            let Reverse((score, place, slice, look)) = self.heap.pop()?;
            if look != self.places[place].looks {
                continue;
            }
            if let Some(value) = self.places[place].unseen.take() {
                let slices = self.search.ground(value);
                self.places[place].slices = Entrant::all(self.search, slices);
                self.enter(place);
                continue;
            }
            // What was placed elsewhere may have made it worse, never better.
            if self.is_entangled && self.best_of(place).map(|(now, _)| now) != Some(score) {
                self.enter(place);
                continue;
            }
            let entry = &mut self.places[place].slices[slice];
            if std::mem::take(&mut entry.is_stale) {
                entry.best = self.search.best(&entry.slice);
                self.enter(place);
                continue;
            }
            return Some(self.seat(place, slice));
        }
    }

    /// Whether the lowest count of a hard rule over nodes rose: then what was closed for it must be looked at anew.
    pub(crate) fn is_outgrown(&self) -> bool {
        self.node_limit.is_some_and(|limit| limit.at_lowest == 0)
    }

    fn seat(&mut self, place: usize, entrant: usize) -> NodeIndex {
        let entry = &mut self.places[place].slices[entrant];
        let best = entry.best.expect("only slices with a best row are entered");
        let class = best.class;
        let node = self.search.fleet.node_at(class, best.row);
        self.search.fleet.take_from(class, best.row, self.search.demand().amount, 1);
        let siblings = self.search.seated(node, class, best.row);
        if let Some(limit) = &mut self.node_limit {
            limit.at_lowest -= u64::from(siblings == limit.lowest + 1);
            if siblings >= limit.most {
                self.search.mark(class, best.row, CLOSED);
            }
        }
        self.places[place].slices[entrant].is_stale = true;
        let mut rose = false;
        for tier in self.tiers.iter_mut().flatten() {
            rose |= tier.add(self.search.fleet.class(class).value(tier.key));
        }
        if rose {
            for other in 0..self.places.len() {
                if other != place && std::mem::take(&mut self.places[other].is_held_back) {
                    self.enter(other);
                }
            }
        }
        self.enter(place);
        node
    }

    fn enter(&mut self, place: usize) {
        self.places[place].looks += 1;
        let look = self.places[place].looks;
        let best = self.best_of(place);
        self.heap.extend(best.map(|(score, slice)| Reverse((score, place, slice, look))));
    }

    /// The best slice of a place as the counts are now.
    fn best_of(&mut self, place: usize) -> Option<(Score, usize)> {
        if let Some(value) = self.places[place].unseen {
            return self.bound_of(place, value);
        }
        let rules = &self.search.demand().spread;
        let mut lowest: Option<(Score, usize)> = None;
        let mut is_held_back = false;
        for (index, entry) in self.places[place].slices.iter().enumerate() {
            let Some(candidate) = entry.best else { continue };
            let class = self.search.fleet.class(entry.slice.class);
            if self.tiers.iter().flatten().any(|tier| tier.is_full(class.value(tier.key))) {
                is_held_back = true;
                continue;
            }
            let at = |rule: usize, value: DomainValue| {
                self.tiers.get(rule).and_then(Option::as_ref).map(|tier| tier.get(value)).unwrap_or_default()
            };
            let score = Score::new(rules, candidate, class, at);
            let score = if entry.is_stale { score.at_best() } else { score };
            if lowest.as_ref().is_none_or(|(best, _)| score < *best) {
                lowest = Some((score, index));
            }
        }
        self.places[place].is_held_back = is_held_back;
        lowest
    }

    /// What nothing in a place that nobody looked at can be better than.
    fn bound_of(&mut self, place: usize, value: DomainValue) -> Option<(Score, usize)> {
        let lead = self.search.group.lead;
        let leading = |tier: &&Tier| Some(tier.key) == lead;
        let is_full = self.tiers.iter().flatten().filter(leading).any(|tier| tier.is_full(value));
        self.places[place].is_held_back = is_full;
        let at = |tier: &Option<Tier>| tier.as_ref().filter(leading).map(|tier| tier.get(value)).unwrap_or_default();
        (!is_full).then(|| (Score::least(self.tiers.iter().map(at)), 0))
    }
}

impl Entrant {
    fn all(search: &Search<'_>, slices: Vec<Slice>) -> Vec<Self> {
        slices.into_iter().map(|slice| Self { best: search.best(&slice), slice, is_stale: false }).collect()
    }
}

impl Tier {
    fn new(search: &Search<'_>, key: DomainKey, skew_max: Option<u32>) -> Self {
        let hosts = search.selections.hosts(search.demand().selection, Some(key));
        let hosts: Vec<DomainValue> = match &search.demand().nodes {
            // Of named nodes only their places count.
            Some(nodes) => search.view().meant(search.group, nodes).map(|(_, class)| class.value(key)).collect(),
            None => hosts.into_iter().flatten().map(|(value, _)| *value).collect(),
        };
        let size = hosts.iter().max().map_or(0, |value| *value as usize + 1);
        let mut counts = vec![0; size];
        for value in &hosts {
            counts[*value as usize] = search.group.at(key, *value).counted;
        }
        let mut tier = Self { key, counts, hard: skew_max.map(|skew| (skew, 0, 0)), hosts };
        tier.hosts.sort_unstable();
        tier.hosts.dedup();
        tier.find_lowest();
        tier
    }

    fn get(&self, value: DomainValue) -> u32 {
        self.counts.get(value as usize).copied().unwrap_or_default()
    }

    fn is_full(&self, value: DomainValue) -> bool {
        self.hard.is_some_and(|(skew, lowest, _)| self.get(value) >= lowest.saturating_add(skew))
    }

    /// Counts one more; whether the lowest count of a hard rule rose.
    fn add(&mut self, value: DomainValue) -> bool {
        if let Some(count) = self.counts.get_mut(value as usize) {
            *count += 1;
        }
        let there = self.get(value);
        let Some((_, lowest, at_lowest)) = &mut self.hard else { return false };
        *at_lowest -= usize::from(there == *lowest + 1);
        let rose = *at_lowest == 0;
        if rose {
            self.find_lowest();
        }
        rose
    }

    fn find_lowest(&mut self) {
        let counts = || self.hosts.iter().map(|value| self.counts[*value as usize]);
        let lowest = counts().min().unwrap_or_default();
        let at_lowest = counts().filter(|count| *count == lowest).count();
        if let Some(hard) = &mut self.hard {
            (hard.1, hard.2) = (lowest, at_lowest);
        }
    }
}

impl NodeLimit {
    /// The limit of a hard rule over nodes, with the nodes that are at it closed.
    fn new(search: &mut Search<'_>) -> Option<Self> {
        let group = search.group;
        let rules = search.demand().spread.iter().filter(|rule| rule.over == Over::Node);
        let skew = rules.filter_map(|rule| rule.skew_max).min()?;
        let lowest = search.view().floor(group, Over::Node);
        let most = lowest.saturating_add(skew);
        let nodes: Vec<NodeIndex> = group.nodes().map(|(node, _)| node).collect();
        let meant = match &search.demand().nodes {
            Some(nodes) => search.view().meant(group, nodes).count() as u64,
            None => search.selections.hosting(search.demand().selection),
        };
        let view = search.view();
        let counts: Vec<(NodeIndex, u32)> = view
            .meant(group, &nodes)
            .filter(|(node, _)| group.demand().nodes.as_ref().is_none_or(|named| named.binary_search(node).is_ok()))
            .map(|(node, class)| (node, group.on(class, node).counted))
            .collect();
        let above = counts.iter().filter(|(_, count)| *count > lowest).count() as u64;
        for (node, count) in counts {
            if count >= most {
                search.close(node);
            }
        }
        Some(Self { lowest, most, at_lowest: meant - above })
    }
}

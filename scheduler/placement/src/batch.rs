//! Many instances of one group at once: which way is used, and what is taken and counted in the end.

use std::collections::BTreeMap;

use crate::{
    class::DomainValue,
    engine::{Engine, Holding, Run},
    fill,
    fleet::NodeIndex,
    group::GroupIndex,
    search::Search,
    slice::Slice,
    tournament::{Ground, Tournament},
};

/// From so many instances on, one look at all slices is cheaper than a search for each.
const BATCH_MIN: u32 = 32;

impl Engine {
    /// Places up to `count` more instances and takes what they need, counted for evenness: the same nodes, as often, as
    /// picking one after the other would. Fewer when not all have room. A few are given in the order in which they were picked.
    ///
    /// On a fleet so large that [`Engine::pick`] compares some of the equally even nodes only, this compares all.
    pub fn place(&mut self, index: GroupIndex, count: u32) -> Vec<Run> {
        let Some(demand) = self.group(index).map(|group| &group.demand) else { return Vec::new() };
        let knows_itself = demand.affinities.iter().any(|rule| rule.group == index);
        if count < BATCH_MIN || !demand.devices.is_empty() || knows_itself {
            return self.one_by_one(index, count);
        }
        let is_plain = demand.nodes.is_none() && demand.affinities.is_empty() && fill::suits(demand);
        let is_large = u64::from(count) * 4 > self.selections.hosting(demand.selection);
        self.selections.weigh(&mut self.fleet.classes);
        self.fleet.put_in_order();
        if is_plain && is_large {
            let mut filled = Vec::new();
            self.search(index, |search| {
                let places = everywhere(search);
                filled = fill::fill(search, &places, count);
            });
            return self.count_all(index, &mut filled);
        }
        let mut runs = Vec::new();
        let mut left = count;
        loop {
            let mut seated = Vec::new();
            let mut again = false;
            self.search(index, |search| {
                let places = prepare(search);
                let mut tournament = Tournament::new(search, places);
                while left > 0 && !again {
                    let Some(node) = tournament.next() else { break };
                    seated.push((node, 1));
                    left -= 1;
                    again = tournament.is_outgrown();
                }
            });
            runs.extend(self.count_all(index, &mut seated));
            if !again || left == 0 {
                return runs;
            }
        }
    }

    /// In the order in which they were picked.
    fn one_by_one(&mut self, index: GroupIndex, count: u32) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        for _ in 0..count {
            let Some(node) = self.pick(index) else { break };
            let devices = self.grant(node, index).expect("the check passed");
            let Some(group) = self.group(index) else { break };
            let (amount, ports) = (group.demand.amount, group.demand.ports.clone());
            self.take(node, index, Holding { amount, ports: &ports, devices: &devices, counted: true });
            match runs.last_mut().filter(|last| last.node == node && devices.is_empty()) {
                Some(last) => last.count += 1,
                None => runs.push(Run { node, count: 1, devices }),
            }
        }
        runs
    }

    fn search(&mut self, index: GroupIndex, look: impl FnOnce(&mut Search<'_>)) {
        let Some(mut search) = Search::new(&mut self.fleet, &self.groups, &self.selections, index) else { return };
        look(&mut search);
        search.finish();
    }

    /// Counts what was placed; the amounts are taken already.
    fn count_all(&mut self, index: GroupIndex, placed: &mut [(NodeIndex, u32)]) -> Vec<Run> {
        let Some(group) = self.groups.get_mut(index.0 as usize).and_then(Option::as_mut) else { return Vec::new() };
        placed.sort_unstable();
        let same = placed.chunk_by(|a, b| a.0 == b.0);
        let runs: Vec<Run> = same
            .map(|same| Run { node: same[0].0, count: same.iter().map(|(_, count)| count).sum(), devices: Vec::new() })
            .collect();
        for run in &runs {
            for port in &group.demand.ports {
                *self.fleet.ports.entry(*port).or_default().entry(run.node).or_default() += run.count;
            }
        }
        let fleet = &self.fleet;
        group.extend(&runs, |node| fleet.class(fleet.nodes[node.0 as usize].class));
        runs
    }
}

/// Marks what is in the way and gives the places of the leading rule.
fn prepare(search: &mut Search<'_>) -> Vec<Ground> {
    let Some(mut nodes) = search.listed() else {
        search.close_conflicts();
        return search.hosts().into_iter().flatten().map(|(value, _)| Ground::All(*value)).collect();
    };
    nodes.retain(|node| search.stands_beside(*node));
    search.mark_listed(&nodes);
    search.close_conflicts();
    let mut places: BTreeMap<DomainValue, Vec<Slice>> = BTreeMap::new();
    for slice in search.slices_of(&nodes) {
        places.entry(search.group.place(search.fleet.class(slice.class))).or_default().push(slice);
    }
    places.into_values().map(Ground::Slices).collect()
}

/// All slices by place of the leading rule, with siblings marked.
fn everywhere(search: &mut Search<'_>) -> Vec<(DomainValue, Vec<Slice>)> {
    search.hosts().into_iter().flatten().map(|(value, _)| (*value, search.ground(*value))).collect()
}

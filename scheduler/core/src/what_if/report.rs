//! Makes a forecast of what a rehearsal showed.

mod workloads;

use std::{cmp::Reverse, collections::BTreeMap};

use api_types::{
    id::{NodeId, WorkloadId},
    resources::Resources,
    view::{Forecast, InstanceMove, NodeForecast, WorkloadForecast},
    workload::WorkloadKind,
};

use crate::{
    cluster::nodes::NodeEntry,
    machine::Scheduler,
    rehearsal::{End, Rehearsal},
    what_if::{event::Event, track::Tracks},
};

/// How many workloads and moves are told of at most, and how many nodes.
const LINES_MAX: usize = 1_000;

/// All that a forecast is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Report<'r> {
    pub(super) before: &'r Scheduler,
    pub(super) rehearsal: &'r Rehearsal,
    pub(super) tracks: &'r Tracks,
    pub(super) event: &'r Event<'r>,
    pub(super) end: End,
}

impl Report<'_> {
    /// The whole of it.
    pub(super) fn forecast(self) -> Forecast {
        let (mut workloads, mut moves) = (Vec::new(), Vec::new());
        for (id, track) in self.tracks.iter() {
            let own = self.moves_of(id);
            workloads.extend(self.workload(id, track, &own));
            moves.extend(own);
        }
        workloads.sort_by_key(|seen: &WorkloadForecast| {
            // None of them for good is worst.
            let lasts = |time: Option<u64>| time.unwrap_or(u64::MAX);
            (Reverse(lasts(seen.down_ms)), Reverse(seen.unplaced), Reverse(lasts(seen.short_ms)), seen.workload.clone())
        });
        moves.sort_by(|a: &InstanceMove, b| (a.at_ms, &a.workload, a.slot).cmp(&(b.at_ms, &b.workload, b.slot)));
        let moves_count = u32::try_from(moves.len()).unwrap_or(u32::MAX);
        let (summary, warnings) = (self.summary(&workloads, &moves), self.warnings(&workloads));
        let mut nodes = self.nodes();
        let mut rebalance = self.event.makes_room().then(|| self.rehearsal.scheduler.rebalance_plan());
        let cut = self.cut([
            ("workload", cut_to_most(&mut workloads)),
            ("move", cut_to_most(&mut moves)),
            ("node", cut_to_most(&mut nodes)),
            ("rebalancing move", rebalance.as_mut().map_or(0, |plan| cut_to_most(&mut plan.moves))),
        ]);
        Forecast {
            question: self.event.words(),
            summary,
            settled_after_ms: (self.end == End::Settled).then(|| self.since_start(self.tracks.busy_at)),
            cut,
            workloads,
            moves,
            moves_count,
            nodes,
            warnings,
            rebalance,
        }
    }

    fn since_start(self, at: api_types::time::Timestamp) -> u64 {
        at.since(self.rehearsal.began_at)
    }

    /// One line: what goes, what starts, what finds no place, what is down meanwhile.
    fn summary(self, workloads: &[WorkloadForecast], moves: &[InstanceMove]) -> String {
        let hit = workloads.iter().filter(|seen| seen.ended > 0).count();
        let ended: u32 = workloads.iter().map(|seen| seen.ended).sum();
        let unplaced: u32 = workloads.iter().map(|seen| seen.unplaced).sum();
        let placed: Vec<u64> = moves.iter().filter(|moved| moved.to.is_some()).map(|moved| moved.at_ms).collect();
        let mut parts = Vec::new();
        if ended > 0 {
            let goes = if ended == 1 { "goes" } else { "go" };
            parts.push(format!("{} of {} {goes}", counted(ended as usize, "instance"), counted(hit, "workload")));
        }
        if let Some(last) = placed.iter().max() {
            let after = if *last == 0 { "at once".to_owned() } else { format!("within {}", time(*last)) };
            parts.push(format!("{} placed {after}", are(placed.len())));
        }
        if unplaced > 0 {
            parts.push(format!("{unplaced} {} no node", if unplaced == 1 { "finds" } else { "find" }));
        }
        let (for_good, down): (Vec<_>, Vec<_>) =
            workloads.iter().filter(|seen| seen.down_ms != Some(0)).partition(|seen| seen.down_ms.is_none());
        for (down, long) in [(for_good, "from then on"), (down, "for a time")] {
            match down.as_slice() {
                [] => {}
                [one] => parts.push(format!("{} is down {long}", one.workload)),
                several => parts.push(format!("{} workloads are down {long}", several.len())),
            }
        }
        if parts.is_empty() { "nothing moves".to_owned() } else { parts.join(", ") }
    }

    fn warnings(self, workloads: &[WorkloadForecast]) -> Vec<String> {
        let mut warnings = Vec::new();
        for seen in workloads.iter().filter(|seen| seen.down_ms != Some(0)) {
            let entry = self.before.cluster.workloads.get(&seen.workload);
            let what =
                if entry.is_some_and(|entry| entry.spec().is_balanced()) { "no endpoint" } else { "no instance" };
            let long = seen.down_ms.map_or_else(|| "from then on".to_owned(), |down| format!("for {}", time(down)));
            warnings.push(format!("{} has {what} {long}", seen.workload));
        }
        let (earlier, scheduler) = (self.before.history.last(), &self.rehearsal.scheduler);
        let events = scheduler.history.all().into_iter().filter(|event| event.sequence > earlier);
        let of_sites = events.filter(|event| matches!(event.kind.as_str(), "site-frozen" | "site-slowed"));
        warnings.extend(of_sites.map(|event| format!("site {}: {}", event.subject, event.message)));
        for id in self.event.drained() {
            let stays = scheduler.cluster.nodes.get(id).map_or(0, |node| node.instances.len());
            if stays > 0 {
                warnings.push(format!("{id} does not get empty: {} without another place", counted(stays, "instance")));
            }
        }
        warnings.truncate(LINES_MAX);
        warnings
    }

    /// What is left out, and why it was not played to its end.
    fn cut(self, left_out: [(&str, usize); 4]) -> String {
        let mut parts = match self.end {
            End::Settled => Vec::new(),
            End::TooLong => vec!["a day was played, and something happens later".to_owned()],
            End::TooMuch => vec!["so much happens that only the beginning was played".to_owned()],
        };
        for (noun, count) in left_out.into_iter().filter(|(_, count)| *count > 0) {
            parts.push(format!("{} not shown", counted(count, &format!("more {noun}"))));
        }
        parts.join("; ")
    }

    /// Which instances of a workload have another place than before.
    fn moves_of(self, id: &WorkloadId) -> Vec<InstanceMove> {
        let scheduler = &self.rehearsal.scheduler;
        let mut earlier: BTreeMap<u32, (u64, &NodeId)> = BTreeMap::new();
        for held in self.before.cluster.instances_of(id).filter(|held| held.is_wanted()) {
            earlier.insert(held.slot(), (held.number, held.node_id()));
        }
        let mut later: BTreeMap<u32, (u64, &NodeId, u64)> = BTreeMap::new();
        let living =
            |held: &crate::cluster::held::Held<'_>| held.is_wanted() && !self.rehearsal.is_dead(held.node_id());
        for held in scheduler.cluster.instances_of(id).filter(living) {
            later.insert(held.slot(), (held.number, held.node_id(), self.since_start(held.placed_at())));
        }
        let mut moves = Vec::new();
        let moved = |at_ms, slot, from: Option<&NodeId>, to: Option<&NodeId>| InstanceMove {
            at_ms,
            workload: id.clone(),
            slot,
            from: from.cloned(),
            to: to.cloned(),
        };
        for (slot, (number, node, at_ms)) in &later {
            let from = earlier.get(slot);
            if from.is_none_or(|(before, _)| before != number) {
                moves.push(moved(*at_ms, *slot, from.map(|(_, node)| *node), Some(*node)));
            }
        }
        // Without a reason to wait for room, what is gone waits for its node, or is not wanted any more.
        let entry = scheduler.cluster.workloads.get(id);
        if entry
            .is_some_and(|entry| entry.parked.is_some() && matches!(entry.spec().kind, WorkloadKind::Service { .. }))
        {
            let gone = earlier.iter().filter(|(slot, _)| !later.contains_key(slot));
            moves.extend(
                gone.map(|(slot, (_, node))| moved(self.since_start(self.tracks.busy_at), *slot, Some(*node), None)),
            );
        }
        moves
    }

    /// The nodes on which something differs, the fullest first.
    fn nodes(self) -> Vec<NodeForecast> {
        let mut nodes = Vec::new();
        for (id, node) in &self.rehearsal.scheduler.cluster.nodes {
            let earlier = self.before.cluster.nodes.get(id);
            let same = earlier.is_some_and(|earlier| earlier.instances == node.instances);
            if same || self.rehearsal.is_dead(id) {
                continue;
            }
            let count = |node: &NodeEntry| u32::try_from(node.instances.len()).unwrap_or(u32::MAX);
            nodes.push(NodeForecast {
                node: id.clone(),
                instances_before: earlier.map_or(0, count),
                instances: count(node),
                allocated_before: earlier.map_or_else(Resources::default, |earlier| earlier.allocated),
                allocated: node.allocated,
                allocatable: node.allocatable,
            });
        }
        nodes.sort_by_key(|node| (Reverse(fullness(node.allocated, node.allocatable)), node.node.clone()));
        nodes
    }
}

/// The greater share of what is given away, in thousandths.
fn fullness(allocated: Resources, allocatable: Resources) -> u128 {
    let share = |part: u64, whole: u64| u128::from(part) * 1_000 / u128::from(whole.max(1));
    share(allocated.cpu_millis, allocatable.cpu_millis).max(share(allocated.memory_bytes, allocatable.memory_bytes))
}

/// Keeps what is told at most; how many are left out.
fn cut_to_most<T>(lines: &mut Vec<T>) -> usize {
    let left_out = lines.len().saturating_sub(LINES_MAX);
    lines.truncate(LINES_MAX);
    left_out
}

fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

fn are(count: usize) -> String {
    if count == 1 { "1 is".to_owned() } else { format!("{count} are") }
}

/// `800 ms`, `10 s`, `2.5 s`.
fn time(milliseconds: u64) -> String {
    match (milliseconds, milliseconds % 1_000 / 100) {
        (0..1_000, _) => format!("{milliseconds} ms"),
        (_, 0) => format!("{} s", milliseconds / 1_000),
        (_, tenths) => format!("{}.{tenths} s", milliseconds / 1_000),
    }
}

#[cfg(test)]
mod tests {
    use super::time;

    #[test]
    fn times_are_short() {
        assert_eq!([time(800), time(10_000), time(2_540)], ["800 ms", "10 s", "2.5 s"]);
    }
}

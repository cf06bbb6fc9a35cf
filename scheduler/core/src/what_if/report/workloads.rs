//! What a workload notices, and why something of it is missing in the end.

use std::collections::BTreeSet;

use api_types::{
    id::WorkloadId,
    node::Availability,
    view::{InstanceMove, WorkloadForecast},
    workload::WorkloadKind,
};

use crate::{
    admission::kind_name,
    cluster::{held::Held, workloads::WorkloadEntry},
    liveness::Silence,
    what_if::{
        report::Report,
        track::{Track, wanted},
    },
};

impl Report<'_> {
    /// What a workload notices; `None` for nothing.
    pub(super) fn workload(self, id: &WorkloadId, track: &Track, moves: &[InstanceMove]) -> Option<WorkloadForecast> {
        let scheduler = &self.rehearsal.scheduler;
        let entry = scheduler.cluster.workloads.get(id);
        let living: BTreeSet<u64> =
            scheduler.cluster.instances_of(id).filter(|held| self.lives(*held)).map(|held| held.number).collect();
        let earlier = self.before.cluster.instances_of(id).filter(|held| held.is_wanted());
        let ended = earlier.filter(|held| !living.contains(&held.number)).count();
        let unplaced = entry.map_or(0, |entry| self.unplaced(entry));
        if ended == 0 && unplaced == 0 && moves.is_empty() && track.short_ms == 0 {
            return None;
        }
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let lasts = |milliseconds: u64, goes_on: bool| if goes_on { None } else { Some(milliseconds) };
        Some(WorkloadForecast {
            workload: id.clone(),
            kind: entry.map_or_else(String::new, |entry| kind_name(&entry.spec().kind).to_owned()),
            wanted: wanted(scheduler, id),
            ready_before: track.before,
            ready_least: track.least,
            ready_after: track.serving,
            ended: number(ended),
            short_ms: lasts(track.short_ms, track.is_short()),
            down_ms: lasts(track.down_ms, track.is_down()),
            unplaced: number(unplaced),
            reason: entry.map(|entry| self.reason(entry)).unwrap_or_default(),
        })
    }

    /// How many instances find no node, or none to move to.
    fn unplaced(self, entry: &WorkloadEntry) -> usize {
        let scheduler = &self.rehearsal.scheduler;
        match entry.kind() {
            WorkloadKind::Service { .. } if entry.parked.is_none() => 0,
            WorkloadKind::Service { replicas } => {
                let drained = |held: &Held<'_>| held.node().spec.availability == Availability::Draining;
                let instances = scheduler.cluster.instances_of(&entry.spec().id);
                let settled = instances.filter(|held| self.lives(*held) && !drained(held));
                let slots: BTreeSet<u32> = settled.map(|held| held.slot()).collect();
                (replicas as usize).saturating_sub(slots.len())
            }
            WorkloadKind::Daemon => scheduler.daemon_nodes_without(entry),
            WorkloadKind::Job(_) => scheduler.open_slots(&entry.spec().id).len(),
        }
    }

    fn lives(self, held: Held<'_>) -> bool {
        held.is_wanted() && !self.rehearsal.is_dead(held.node_id())
    }

    /// What keeps a workload from having all it should; empty when nothing does.
    fn reason(self, entry: &WorkloadEntry) -> String {
        let scheduler = &self.rehearsal.scheduler;
        if let Some(reason) = scheduler.parked_reason(entry) {
            return reason;
        }
        let instances = scheduler.cluster.instances_of(&entry.spec().id);
        let left: Vec<Held<'_>> =
            instances.filter(|held| held.is_wanted() && self.rehearsal.is_dead(held.node_id())).collect();
        let Some(first) = left.first() else { return String::new() };
        let nodes: BTreeSet<&str> = left.iter().map(|held| held.node_id().as_str()).collect();
        let (count, node) = (nodes.len(), first.node_id());
        let who = if count == 1 { node.to_string() } else { format!("{count} nodes") };
        if entry.spec().kind == WorkloadKind::Daemon {
            return format!("waits for {who}: a daemon is not replaced elsewhere");
        }
        let replace_after_ms = entry.spec().disconnect.replace_after_ms;
        if scheduler.frozen.contains(node) {
            return format!("waits for {who}: so much silence at once looks like a cut link");
        }
        match (scheduler.silence_of(*first, replace_after_ms), replace_after_ms) {
            (_, None) => format!("waits for {who}: its `replace_after` is never"),
            (Silence::GivenUp, _) => "its successor is not there yet".to_owned(),
            (Silence::Waits(_) | Silence::None, _) => format!("waits for {who}"),
        }
    }
}

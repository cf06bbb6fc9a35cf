//! How many instances of each workload serve, over time.

use std::collections::{BTreeMap, BTreeSet};

use api_types::{id::WorkloadId, time::Timestamp, workload::WorkloadKind};

use crate::{
    machine::Scheduler,
    rehearsal::{Moment, Rehearsal},
};

/// The workloads that notice something.
#[derive(Debug)]
pub(super) struct Tracks {
    tracks: BTreeMap<WorkloadId, Track>,
    /// The latest moment at which something happened that people are told of.
    pub(super) busy_at: Timestamp,
    /// The newest event then.
    told: u64,
}

/// One workload on its way.
#[derive(Clone, Debug)]
pub(super) struct Track {
    /// How many served before.
    pub(super) before: u32,
    /// The fewest that served since.
    pub(super) least: u32,
    /// How many were wanted before.
    wanted: u32,
    /// How many serve now.
    pub(super) serving: u32,
    /// How many should: as many as before, less what is not wanted any more.
    enough: u32,
    /// Since when that is so.
    since: Timestamp,
    /// For how long fewer served than should, up to then.
    pub(super) short_ms: u64,
    /// For how long none served though some should, up to then.
    pub(super) down_ms: u64,
}

impl Track {
    /// Whether fewer serve than should.
    pub(super) fn is_short(&self) -> bool {
        self.serving < self.enough
    }

    /// Whether none serves though some should.
    pub(super) fn is_down(&self) -> bool {
        self.serving == 0 && self.enough > 0
    }

    fn count(&mut self, now: Timestamp, serving: u32, enough: u32) {
        let passed = now.since(self.since);
        self.short_ms += if self.is_short() { passed } else { 0 };
        self.down_ms += if self.is_down() { passed } else { 0 };
        self.since = now;
        (self.serving, self.enough) = (serving, enough);
        self.least = self.least.min(serving);
    }
}

impl Tracks {
    /// Watches workloads; others join when something of theirs starts or ends.
    pub(super) fn new(concerned: BTreeSet<WorkloadId>) -> Self {
        let start = Track {
            before: 0,
            least: 0,
            wanted: 0,
            serving: 0,
            enough: 0,
            since: Timestamp(0),
            short_ms: 0,
            down_ms: 0,
        };
        let tracks = concerned.into_iter().map(|id| (id, start.clone())).collect();
        Self { tracks, busy_at: Timestamp(0), told: 0 }
    }

    /// Counts what serves before anything happened.
    pub(super) fn begin(&mut self, before: &Scheduler) {
        (self.busy_at, self.told) = (before.now, before.history.last());
        for (id, track) in &mut self.tracks {
            *track = Self::start(before, id);
        }
    }

    /// Takes in a moment.
    pub(super) fn look(&mut self, before: &Scheduler, rehearsal: &Rehearsal, moment: &Moment) {
        let scheduler = &rehearsal.scheduler;
        let told = scheduler.history.last();
        if !moment.started.is_empty() || !moment.ended.is_empty() || told != self.told {
            (self.busy_at, self.told) = (scheduler.now, told);
        }
        let started = moment.started.iter().filter_map(|number| scheduler.cluster.held(*number));
        let ended = moment.ended.iter().map(|instance| &instance.workload);
        for id in started.map(|held| held.workload()).chain(ended) {
            if !self.tracks.contains_key(id) {
                self.tracks.insert(id.clone(), Self::start(before, id));
            }
        }
        for (id, track) in &mut self.tracks {
            let serving = serving(scheduler, id, &|node| !rehearsal.is_dead(node));
            let fewer = track.wanted.saturating_sub(wanted(scheduler, id));
            track.count(scheduler.now, serving, track.before.saturating_sub(fewer));
        }
    }

    /// The workloads in the order of their names.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&WorkloadId, &Track)> {
        self.tracks.iter()
    }

    fn start(before: &Scheduler, id: &WorkloadId) -> Track {
        let serving = serving(before, id, &|_| true);
        let (wanted, since) = (wanted(before, id), before.now);
        Track { before: serving, least: serving, wanted, serving, enough: serving, since, short_ms: 0, down_ms: 0 }
    }
}

/// How many instances a workload should have, those on silent nodes included.
pub(super) fn wanted(scheduler: &Scheduler, id: &WorkloadId) -> u32 {
    let count = match scheduler.cluster.workloads.get(id).map(|entry| (entry, entry.kind())) {
        Some((_, WorkloadKind::Service { replicas })) => return replicas,
        Some((entry, WorkloadKind::Daemon)) => {
            let there = scheduler.cluster.instances_of(id).filter(|held| held.is_wanted()).count();
            there + scheduler.daemon_nodes_without(entry)
        }
        Some((_, WorkloadKind::Job(_))) => scheduler.wanted_by_run(id),
        None => 0,
    };
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// How many instances serve and go on, on nodes that have power.
fn serving(scheduler: &Scheduler, id: &WorkloadId, has_power: &dyn Fn(&api_types::id::NodeId) -> bool) -> u32 {
    let instances = scheduler.cluster.instances_of(id);
    let count = instances.filter(|held| held.is_wanted() && held.is_serving() && has_power(held.node_id())).count();
    u32::try_from(count).unwrap_or(u32::MAX)
}

//! Rollouts that go site by site, seen from outside.

use std::collections::{BTreeMap, BTreeSet};

use api_types::{
    id::WorkloadId,
    view::{WaveTurn, WaveView},
};

use crate::{machine::Scheduler, reconcile::slots::is_current};

/// What is known of one slot at a site.
#[derive(Clone, Copy, Debug, Default)]
struct Standing {
    updated: bool,
    heard: bool,
}

impl Scheduler {
    /// The sites of a workload's instances in the order of their turns; empty when it is not rolled out site by site.
    pub(super) fn wave_views(&self, id: &WorkloadId) -> Vec<WaveView> {
        let Some(entry) = self.cluster.workloads.get(id).filter(|_| self.goes_by_sites(id)) else { return Vec::new() };
        let mut sites: BTreeMap<&str, BTreeMap<u32, Standing>> = BTreeMap::new();
        for held in self.cluster.instances_of(id).filter(|held| held.is_wanted()) {
            let slots = sites.entry(&held.node().spec.site).or_default();
            let standing = slots.entry(held.slot()).or_default();
            standing.updated |= is_current(held, entry) && held.is_serving();
            standing.heard |= held.node().is_ready();
        }
        for (slot, site) in self.sites_to_fill(id) {
            sites.entry(site).or_default().entry(slot).or_default().heard = true;
        }
        let (now, later) = (self.wave(id), self.later_waves(id));
        let mut views: Vec<WaveView> = sites.into_iter().map(|(site, slots)| view(site, &slots, now, &later)).collect();
        views.sort_by(|a, b| self.turn_of(id, &a.site).cmp(&self.turn_of(id, &b.site)));
        views
    }
}

fn view(site: &str, slots: &BTreeMap<u32, Standing>, now: Option<&str>, later: &BTreeSet<&str>) -> WaveView {
    let count = |counts: fn(&Standing) -> bool| {
        let counted = slots.values().filter(|standing| counts(standing)).count();
        u32::try_from(counted).unwrap_or(u32::MAX)
    };
    let silent = count(|standing| !standing.updated && !standing.heard);
    let turn = if now == Some(site) {
        WaveTurn::Now
    } else if later.contains(site) {
        WaveTurn::Later
    } else if silent > 0 {
        WaveTurn::Silent
    } else {
        WaveTurn::Done
    };
    WaveView {
        site: site.to_owned(),
        turn,
        updated: count(|standing| standing.updated),
        wanted: count(|_| true),
        silent,
    }
}

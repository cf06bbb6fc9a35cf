//! Rollouts of daemons that go site by site: the next site's turn comes when all of the one before that is heard of runs what is wanted.
//!
//! Who is not heard of holds up nobody: it is replaced when it is back, whatever the turn.

use std::collections::BTreeSet;

use api_types::id::WorkloadId;

use crate::{
    cluster::{held::Held, workloads::WorkloadEntry},
    machine::Scheduler,
    reconcile::slots::is_current,
};

/// The place of a site among the waves: those that are named in their order, then the others by name.
type Turn<'w> = (usize, &'w str);

impl Scheduler {
    /// Leaves those instances whose turn it is to be replaced.
    pub(crate) fn keep_to_wave(&self, id: &WorkloadId, renewals: &mut Vec<u64>) {
        let Some(waves) = self.waves_of(id) else { return };
        let Some(site) = self.wave(id) else { return };
        let now = turn(waves, site);
        renewals.retain(|old| {
            let held = self.cluster.held(*old);
            held.is_some_and(|held| turn(waves, &held.node().spec.site) <= now)
        });
    }

    /// The site whose turn it is; `None` = the workload is not rolled out by sites, or nothing is left to do where somebody is
    /// heard of.
    pub(crate) fn wave(&self, id: &WorkloadId) -> Option<&str> {
        let waves = self.waves_of(id)?;
        let turns = self.left(id).map(|held| turn(waves, &held.node().spec.site));
        turns.min().map(|(_, site)| site)
    }

    /// The sites whose turn comes later, by name.
    pub(crate) fn later_waves(&self, id: &WorkloadId) -> BTreeSet<&str> {
        let now = self.wave(id);
        let sites = self.left(id).map(|held| held.node().spec.site.as_str());
        sites.filter(|site| now.is_some_and(|now| now != *site)).collect()
    }

    /// What is heard of and does not run what is wanted, or not well yet.
    fn left(&self, id: &WorkloadId) -> impl Iterator<Item = Held<'_>> {
        let entry = self.cluster.workloads.get(id);
        let is_left = move |held: &Held<'_>| {
            held.node().is_ready() && entry.is_some_and(|entry| !is_current(*held, entry) || !held.is_serving())
        };
        self.cluster.instances_of(id).filter(is_left)
    }

    fn waves_of(&self, id: &WorkloadId) -> Option<&[String]> {
        let update = self.cluster.workloads.get(id).map(WorkloadEntry::spec)?.update.as_ref()?;
        update.waves.as_deref()
    }
}

fn turn<'w>(waves: &[String], site: &'w str) -> Turn<'w> {
    (waves.iter().position(|wave| wave == site).unwrap_or(waves.len()), site)
}

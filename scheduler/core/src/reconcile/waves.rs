//! Rollouts that go site by site: the next site's turn comes when all of the one before that is heard of runs what is wanted.
//!
//! Who is not heard of holds up nobody: it is replaced when it is back, whatever the turn. A service's instance has its
//! successor at its own site.

use std::collections::{BTreeMap, BTreeSet};

use api_types::id::WorkloadId;

use crate::{
    cluster::{held::Held, workloads::WorkloadEntry},
    machine::Scheduler,
    placement::{Seat, check, rank},
    reconcile::slots::{Slot, Why, is_current},
};

/// The place of a site among the waves: those that are named in their order, then the others by name.
type Turn<'w> = (usize, &'w str);

impl Scheduler {
    /// Leaves those whose instance has its turn to be replaced, and that is heard of.
    pub(crate) fn keep_to_wave<T>(&self, id: &WorkloadId, renewals: &mut Vec<T>, number: impl Fn(&T) -> u64) {
        let Some(waves) = self.waves_of(id) else { return };
        let now = self.wave(id).map(|site| turn(waves, site));
        let has_its_turn = |held: Held<'_>| now.is_some_and(|now| turn(waves, &held.node().spec.site) <= now);
        renewals.retain(|old| {
            self.cluster.held(number(old)).is_some_and(|held| held.node().is_ready() && has_its_turn(held))
        });
    }

    /// The site whose turn it is; `None` = the workload is not rolled out by sites, or nothing is left to do where somebody is
    /// heard of.
    pub(crate) fn wave(&self, id: &WorkloadId) -> Option<&str> {
        let waves = self.waves_of(id)?;
        let turns = self.left(id).map(|held| turn(waves, &held.node().spec.site));
        let empty = self.sites_to_fill(id).map(|(_, site)| turn(waves, site));
        turns.chain(empty).min().map(|(_, site)| site)
    }

    /// The sites whose turn comes later, by name.
    pub(crate) fn later_waves(&self, id: &WorkloadId) -> BTreeSet<&str> {
        let now = self.wave(id);
        let sites = self.left(id).map(|held| held.node().spec.site.as_str());
        sites.filter(|site| now.is_some_and(|now| now != *site)).collect()
    }

    /// Whether a workload's rollouts go site by site.
    pub(crate) fn goes_by_sites(&self, id: &WorkloadId) -> bool {
        self.waves_of(id).is_some()
    }

    /// The place of a site among the turns of a workload.
    pub(crate) fn turn_of<'s>(&self, id: &WorkloadId, site: &'s str) -> Turn<'s> {
        turn(self.waves_of(id).unwrap_or_default(), site)
    }

    /// Places successors beside at most `count` of these instances, each at its site; whether any was placed, and whether there
    /// was room for all. Their place in the evenness is that of whom they replace.
    pub(super) fn renew_at_sites(&mut self, id: &WorkloadId, chosen: &[&(u32, u64)], count: usize) -> (bool, bool) {
        let (mut placed, mut missing) = (0, false);
        let mut nodes = BTreeMap::new();
        for (slot, old) in chosen {
            if placed == count {
                break;
            }
            if self.placements_left == 0 {
                self.cluster.touched.workloads.insert(id.clone());
                break;
            }
            let Some(site) = self.cluster.held(*old).map(|held| held.node().spec.site.clone()) else { continue };
            self.cluster.set_counted(*old, false);
            let there = nodes.entry(site).or_insert_with_key(|site| self.nodes_at(site));
            let Some(seat) = self.seat_on_one_of(id, there) else {
                self.cluster.set_counted(*old, true);
                missing = true;
                continue;
            };
            let new = self.commit_to(id, *slot, &seat);
            self.tell_replaced(*old, new, Why::Earlier);
            placed += 1;
        }
        if placed > 0 {
            // Once more, to see whether it is steady then.
            self.cluster.touched.workloads.insert(id.clone());
        }
        (placed > 0, !missing)
    }

    /// Ends an instance to make room for its successor, which goes to the same site if the rollout goes by sites.
    pub(super) fn retire_for_successor(&mut self, id: &WorkloadId, old: u64) {
        let held = self.cluster.held(old).filter(|_| self.goes_by_sites(id));
        let place = held.map(|held| (held.slot(), held.node().spec.site.clone()));
        if let (Some((slot, site)), Some(entry)) = (place, self.cluster.rollouts.get_mut(id)) {
            entry.sites.insert(slot, site);
        }
        self.retire(old);
    }

    /// The slots whose next instance goes to a certain site, and that site.
    pub(crate) fn sites_to_fill(&self, id: &WorkloadId) -> impl Iterator<Item = (u32, &str)> {
        let sites = self.cluster.rollouts.get(id).into_iter().flat_map(|entry| &entry.sites);
        sites.map(|(slot, site)| (*slot, site.as_str()))
    }

    /// Fills those of the `wanted` slots that have a site, there; whether there was room. A site of which nothing is heard
    /// any more is not waited for.
    pub(super) fn fill_at_sites(
        &mut self,
        id: &WorkloadId,
        wanted: &mut Vec<u32>,
        slots: &BTreeMap<u32, Slot>,
    ) -> bool {
        let Some(entry) = self.cluster.rollouts.get_mut(id) else { return true };
        entry.sites.retain(|slot, _| wanted.contains(slot) || slots.get(slot).is_some_and(|slot| !slot.is_held()));
        let sites = entry.sites.clone();
        let mut room = true;
        for (slot, site) in sites.into_iter().filter(|(slot, _)| wanted.contains(slot)).collect::<Vec<_>>() {
            let there = self.nodes_at(&site);
            let is_heard = there.iter().any(|node| self.cluster.nodes.at(*node).is_some_and(|node| node.is_ready()));
            let seat = self.seat_on_one_of(id, &there);
            room &= seat.is_some() || !is_heard;
            if let Some(seat) = &seat {
                self.fill_slot(id, slot, seat, slots);
                self.cluster.touched.workloads.insert(id.clone());
            }
            if seat.is_some() || is_heard {
                wanted.retain(|other| *other != slot);
            }
            if let Some(entry) = self.cluster.rollouts.get_mut(id).filter(|_| seat.is_some() || !is_heard) {
                entry.sites.remove(&slot);
            }
        }
        room
    }

    /// Whether a node at the site of an instance takes one more of its workload.
    pub(super) fn fits_at_site_of(&self, held: Held<'_>) -> bool {
        let Some(entry) = self.cluster.workloads.get(held.workload()) else { return false };
        let there = self.cluster.nodes.values().filter(|node| node.spec.site == held.node().spec.site);
        there.into_iter().any(|node| check(&self.cluster, node, entry.spec()).is_ok())
    }

    /// Those instances of earlier revisions that count for the evenness of a workload that is rolled out by sites: their successors
    /// will be at the same places. Without that each site would wait for the others.
    pub(crate) fn counted_for_successors(&self, id: &WorkloadId) -> BTreeSet<u64> {
        let Some(entry) = self.cluster.workloads.get(id).filter(|_| self.goes_by_sites(id)) else {
            return BTreeSet::new();
        };
        let there = || self.cluster.instances_of(id).filter(|held| held.is_wanted());
        let renewed: BTreeSet<u32> = there().filter(|held| is_current(*held, entry)).map(|held| held.slot()).collect();
        let old = there().filter(|held| self.is_of_earlier(*held, entry) && !renewed.contains(&held.slot()));
        old.map(|held| held.number).collect()
    }

    /// The nodes at a site, by index.
    fn nodes_at(&self, site: &str) -> Vec<u32> {
        let there = self.cluster.nodes.indexed().filter(|(_, node)| node.spec.site == site);
        there.map(|(index, _)| index).collect()
    }

    /// Takes a place on the best of these nodes.
    fn seat_on_one_of(&mut self, id: &WorkloadId, nodes: &[u32]) -> Option<Seat> {
        let best = rank::best_of(&self.cluster, self.cluster.workloads.get(id)?.spec(), nodes)?;
        self.cluster.reserve_on(id, best)
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

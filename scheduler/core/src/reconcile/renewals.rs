//! Rolls out a changed spec: a few instances of an earlier revision at a time get successors, beside them or instead of them.

use std::cell::LazyCell;

use api_types::id::WorkloadId;

use crate::{
    machine::Scheduler,
    placement,
    reconcile::slots::{Why, is_stop_first},
};

/// So many instances of an earlier revision are looked at for one whose end makes room for its successor.
const LOOKS_MAX: usize = 1000;

impl Scheduler {
    /// Begins to replace at most `count` instances of an earlier revision; whether there was room. Those that do not work
    /// go first.
    pub(crate) fn renew(&mut self, id: &WorkloadId, renewals: &[(u32, u64)], count: usize) -> bool {
        let Some(entry) = self.cluster.workloads.get(id) else { return true };
        let (stop_first, by_sites) = (is_stop_first(entry), self.goes_by_sites(id));
        let mut chosen: Vec<&(u32, u64)> =
            renewals.iter().filter(|(_, old)| !stop_first || self.is_heard(*old)).collect();
        self.keep_to_wave(id, &mut chosen, |(_, old)| *old);
        chosen.sort_by_key(|(slot, old)| (self.serves(*old), *slot));
        if stop_first {
            return self.stop_to_renew(id, &chosen, count);
        }
        let (begun, enough) =
            if by_sites { self.renew_at_sites(id, &chosen, count) } else { self.renew_anywhere(id, &chosen, count) };
        if begun || enough {
            return true;
        }
        // No room beside the old ones: one makes room whose end is enough, which need not be the first.
        let anywhere = LazyCell::new(|| self.fits_somewhere(id));
        let mut looked_at = chosen.iter().map(|(_, old)| *old).take(LOOKS_MAX);
        match looked_at.find(|old| self.has_room_after(id, *old, || *anywhere)) {
            Some(old) => self.retire_for_successor(id, old),
            None => {
                if !self.end_what_never_worked(id, chosen.iter().map(|(_, old)| *old), count) {
                    self.displace(id, 1, None);
                }
                return false;
            }
        }
        true
    }

    /// Places successors beside at most `count` of these instances, wherever they fit best; whether any was placed, and whether
    /// there was room for all.
    fn renew_anywhere(&mut self, id: &WorkloadId, chosen: &[&(u32, u64)], count: usize) -> (bool, bool) {
        let numbers: Vec<u32> = chosen.iter().take(count).map(|(number, _)| *number).collect();
        let (picks, enough) = self.pick(id, &numbers);
        let begun = !picks.is_empty();
        for ((number, seat), (_, old)) in picks.into_iter().zip(chosen) {
            let placed = self.commit_to(id, number, &seat);
            self.tell_replaced(*old, placed, Why::Earlier);
        }
        (begun, enough)
    }

    /// Stops at most `count` instances so that their successors can be placed; whether there was room for all of them. One
    /// whose data is where no room is holds up none of the others.
    fn stop_to_renew(&mut self, id: &WorkloadId, chosen: &[&(u32, u64)], count: usize) -> bool {
        let anywhere = LazyCell::new(|| self.fits_somewhere(id));
        let fit = chosen.iter().map(|(_, old)| *old).filter(|old| self.has_room_after(id, *old, || *anywhere));
        let fit: Vec<u64> = fit.take(count).collect();
        fit.iter().for_each(|old| self.retire_for_successor(id, *old));
        let wanted = chosen.len().min(count);
        if fit.len() < wanted {
            let others = chosen.iter().map(|(_, old)| *old).filter(|old| !fit.contains(old));
            self.end_what_never_worked(id, others, wanted - fit.len());
        }
        fit.len() == wanted
    }

    /// Whether a node takes an instance of the workload once this one is gone: that of its data if it has any, else any.
    /// Nothing that works is stopped for a successor that fits nowhere.
    fn has_room_after(&self, id: &WorkloadId, old: u64, anywhere: impl FnOnce() -> bool) -> bool {
        let (Some(entry), Some(held)) = (self.cluster.workloads.get(id), self.cluster.held(old)) else {
            return false;
        };
        let fits_instead = || placement::check_instead_of(&self.cluster, held, entry.spec()).is_ok();
        if !self.has_data(id, held.slot()) {
            return fits_instead() || if self.goes_by_sites(id) { self.fits_at_site_of(held) } else { anywhere() };
        }
        // What runs may be of a time when its workload had no volume, and be elsewhere than the data.
        let Some(home) = self.only_home(id, held.slot()) else { return false };
        if home == held.node_index() {
            return fits_instead();
        }
        self.cluster.nodes.at(home).is_some_and(|node| placement::check(&self.cluster, node, entry.spec()).is_ok())
    }

    /// Whether a node takes one more instance of a workload as it is wanted.
    pub(crate) fn fits_somewhere(&self, id: &WorkloadId) -> bool {
        let Some(entry) = self.cluster.workloads.get(id) else { return false };
        self.cluster.nodes.values().any(|node| placement::check(&self.cluster, node, entry.spec()).is_ok())
    }
}

//! Which slots go when fewer are wanted: those that do not work, then old ones, then from where most are.

use std::collections::BTreeMap;

use api_types::id::WorkloadId;

use crate::{machine::Scheduler, placement::score::spread_of, reconcile::slots::Slot};

/// A slot that may go.
#[derive(Debug)]
struct Victim {
    number: u32,
    serves: bool,
    is_current: bool,
    site: usize,
    node: usize,
}

impl Scheduler {
    /// Ends the instances of as many slots as are too many, and takes these slots out of `slots`.
    pub(crate) fn scale_down(&mut self, id: &WorkloadId, replicas: u32, slots: &mut BTreeMap<u32, Slot>) {
        let held = slots.values().filter(|slot| slot.is_held()).count();
        let surplus = held.saturating_sub(replicas as usize);
        if surplus == 0 {
            return;
        }
        for number in self.victims(id, slots, surplus) {
            let Some(slot) = slots.get_mut(&number) else { continue };
            let slot = std::mem::take(slot);
            for instance in slot.targets.iter().chain(slot.stale.iter().map(|(instance, _)| instance)) {
                self.retire(*instance);
            }
        }
    }

    fn victims(&self, id: &WorkloadId, slots: &BTreeMap<u32, Slot>, count: usize) -> Vec<u32> {
        let Some(entry) = self.cluster.workloads.get(id) else { return Vec::new() };
        let (mut site_names, mut node_names) = (BTreeMap::new(), BTreeMap::new());
        let mut candidates: Vec<Victim> = Vec::new();
        for (number, slot) in slots.iter().filter(|(_, slot)| slot.is_held()) {
            let main = slot.targets.first().or_else(|| slot.stale.first().map(|(instance, _)| instance));
            let Some(held) = main.and_then(|instance| self.cluster.held(*instance)) else { continue };
            let site = held.node().spec.site.as_str();
            let (sites, nodes) = (site_names.len(), node_names.len());
            candidates.push(Victim {
                number: *number,
                serves: held.is_serving(),
                is_current: !slot.targets.is_empty(),
                site: *site_names.entry(site).or_insert(sites),
                node: *node_names.entry(held.node_index()).or_insert(nodes),
            });
        }
        let (mut at_site, mut on_node) = (vec![0_u32; site_names.len()], vec![0_u32; node_names.len()]);
        for victim in &candidates {
            at_site[victim.site] += 1;
            on_node[victim.node] += 1;
        }
        let mut chosen = Vec::new();
        while chosen.len() < count {
            let worth = |victim: &Victim| {
                let spread = spread_of(entry.spec(), at_site[victim.site], on_node[victim.node]);
                (!victim.serves, !victim.is_current, spread, victim.number)
            };
            let Some((index, _)) = candidates.iter().enumerate().max_by_key(|(_, victim)| worth(victim)) else { break };
            let victim = candidates.swap_remove(index);
            at_site[victim.site] -= 1;
            on_node[victim.node] -= 1;
            chosen.push(victim.number);
        }
        chosen
    }
}

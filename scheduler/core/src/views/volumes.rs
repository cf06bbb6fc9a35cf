//! Data that stays on its node, seen from outside.

use api_types::{node::Liveness, relay::VolumeSlot, view::VolumeView};

use crate::machine::Scheduler;

impl Scheduler {
    /// All data that stays on its node, by workload, slot and volume.
    #[must_use]
    pub fn volume_views(&self) -> Vec<VolumeView> {
        let homes = self.cluster.homes.iter();
        let homes = homes.flat_map(|(workload, homes)| homes.iter().map(move |home| (workload, home)));
        let views = homes.map(|(workload, ((slot, volume), node))| {
            let mut here = self.cluster.instances_of(workload).filter(|held| held.node_id() == node);
            let liveness = self.cluster.nodes.get(node).map(|entry| entry.liveness);
            let which = VolumeSlot { workload: workload.clone(), volume: volume.clone(), slot: *slot };
            VolumeView {
                used_bytes: self.cluster.measured.get(&which).map(|measured| measured.bytes),
                size_bytes: self.cluster.volume_size(&which),
                workload: workload.clone(),
                volume: volume.clone(),
                slot: *slot,
                node: node.clone(),
                instance: here.find(|held| held.slot() == *slot && held.is_wanted()).map(|held| held.id()),
                reason: match liveness {
                    Some(Liveness::Ready) | None => String::new(),
                    Some(Liveness::Unreachable) => format!("{node} is unreachable"),
                    Some(Liveness::Lost) => format!("{node} is lost"),
                },
            }
        });
        views.collect()
    }
}

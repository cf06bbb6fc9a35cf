//! How much the volumes hold, as their nodes measured it. It decides nothing: people are told.

use std::collections::BTreeMap;

use api_types::{counter::SessionId, id::NodeId, relay::VolumeSlot};

use crate::{cluster::volumes::Measured, history::Subject, machine::Scheduler, placement::explain::memory};

impl Scheduler {
    /// Takes what a node measured. Of data whose home is elsewhere, or was given up, it says nothing that counts.
    pub(crate) fn volumes_measured(&mut self, node: &NodeId, session: SessionId, volumes: BTreeMap<VolumeSlot, u64>) {
        if !self.heard(node, session) {
            return;
        }
        for (slot, bytes) in volumes {
            if self.cluster.home_of(&slot) != Some(node) {
                continue;
            }
            let size = self.cluster.volume_size(&slot);
            let is_over = size.is_some_and(|size| bytes > size);
            let before = self.cluster.measured.get(&slot).copied();
            let was_over = before.is_some_and(|before| before.is_over);
            if let Some(size) = size.filter(|_| is_over && !was_over) {
                let (holds, size) = (memory(bytes), memory(size));
                let message = format!("{slot} on {node} holds {holds}, and its size is {size}: nothing stops it");
                self.history.add(self.now, Subject::Workload(&slot.workload), "volume-over-size", message);
            } else if was_over && !is_over {
                let message = format!("{slot} on {node} holds {}", memory(bytes));
                self.history.add(self.now, Subject::Workload(&slot.workload), "volume-within-size", message);
            }
            self.cluster.note_measured(slot, Measured { bytes, is_over });
        }
    }
}

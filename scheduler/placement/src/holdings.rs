//! What few nodes have: ports that are held, and devices with what is used of each.

use crate::{
    demand::Port,
    device::{self, Grant, Slot},
    fleet::{Fleet, NodeIndex},
};

impl Fleet {
    /// Gives up a port that a node holds for one instance.
    pub(crate) fn free_port(&mut self, node: NodeIndex, port: Port) {
        let Some(holders) = self.ports.get_mut(&port) else { return };
        if let Some(count) = holders.get_mut(&node) {
            *count -= 1;
            if *count == 0 {
                holders.remove(&node);
            }
        }
        if holders.is_empty() {
            self.ports.remove(&port);
        }
    }

    /// Changes how many shares of a node's devices are used.
    pub(crate) fn change_devices(&mut self, node: NodeIndex, grants: &[Grant], change: impl Fn(u32, u32) -> u32) {
        if grants.is_empty() {
            return;
        }
        let Some(mut slots) = self.devices.get(&node).cloned() else { return };
        for grant in grants {
            if let Some(slot) = slots.get_mut(grant.slot as usize) {
                slot.used = change(slot.used, grant.shares);
            }
        }
        self.set_devices(node, slots);
    }

    /// Replaces a node's devices.
    pub(crate) fn set_devices(&mut self, node: NodeIndex, slots: Box<[Slot]>) {
        for slot in self.devices.remove(&node).iter().flatten() {
            if let Some(open) = self.open_devices.get_mut(&slot.kind) {
                open.remove(&node);
                if open.is_empty() {
                    self.open_devices.remove(&slot.kind);
                }
            }
        }
        for kind in device::open_kinds(&slots) {
            self.open_devices.entry(kind).or_default().insert(node);
        }
        if !slots.is_empty() {
            self.devices.insert(node, slots);
        }
    }
}

//! What nodes are like: their labels and their devices, which somebody unplugs and plugs in again.

use std::collections::BTreeMap;

use agent_core::input::Input;
use api_types::{device::Device, node::NodeFacts, time::Timestamp};

use crate::{
    event::{Event, NodeIndex, Up},
    node::SimNode,
    world::World,
};

/// Milliseconds between two looks of an agent for its devices.
const LOOKS_EVERY_MS: u64 = 10_000;

/// The labels of a node of the simulation.
#[must_use]
pub fn labels_of(node: NodeIndex) -> BTreeMap<String, String> {
    let disk = if node.is_multiple_of(3) { "ssd" } else { "sd" };
    BTreeMap::from([
        ("disk".to_owned(), disk.to_owned()),
        ("rack".to_owned(), format!("rack-{}", node % 7)),
        ("tier".to_owned(), (node % 4).to_string()),
    ])
}

/// The devices that a node's configuration names, sorted by name: some have cameras for one each, some a GPU for four.
#[must_use]
pub fn devices_of(node: NodeIndex) -> Vec<Device> {
    let device = |name: &str, kind: &str, model: &str, shares| Device {
        name: name.to_owned(),
        kind: kind.to_owned(),
        model: model.to_owned(),
        shares,
    };
    let mut devices = Vec::new();
    if node % 4 == 1 {
        devices.push(device("door", "camera", "c920", 1));
    }
    if node % 5 == 2 {
        devices.push(device("gpu", "gpu", "t4", 4));
    }
    if node % 8 == 1 {
        devices.push(device("yard", "camera", "c920", 1));
    }
    devices
}

impl SimNode {
    /// What it says it is, with the devices that its agent saw when it looked last.
    #[must_use]
    pub fn said(&self) -> NodeFacts {
        NodeFacts { devices: self.last_look.clone().unwrap_or_default(), ..self.facts.clone() }
    }

    /// Which of its devices are missing now, by the way an agent looks: one that was exchanged is missing once.
    ///
    /// Nobody can tell then whether a process that began since the last look has the device of before or the new one: it is
    /// as if it had been away until now.
    fn missing(&mut self, now: Timestamp) -> BTreeMap<String, String> {
        let mut missing: BTreeMap<String, String> =
            self.unplugged.iter().map(|name| (name.clone(), "it is not there".to_owned())).collect();
        for name in std::mem::take(&mut self.exchanged) {
            self.away_at.insert(name.clone(), now);
            missing.entry(name).or_insert_with(|| "it was exchanged".to_owned());
        }
        missing
    }
}

impl World {
    /// Somebody unplugs a device, and plugs it in again after a while.
    pub(crate) fn unplug(&mut self, index: NodeIndex, number: u64, for_ms: u64) {
        let devices = devices_of(index);
        let Some(chosen) = usize::try_from(number).unwrap_or(0).checked_rem(devices.len()) else { return };
        let name = devices[chosen].name.clone();
        self.nodes[index].away_at.insert(name.clone(), self.now);
        self.nodes[index].unplugged.insert(name.clone());
        self.after(for_ms, Event::Plugged { node: index, device: name });
    }

    /// A device is there again; the kernel may know it as another one.
    pub(crate) fn plugged(&mut self, index: NodeIndex, device: &str) {
        let sim = &mut self.nodes[index];
        if sim.unplugged.remove(device) {
            sim.away_at.insert(device.to_owned(), self.now);
            if sim.random.per_mille(500) {
                sim.exchanged.insert(device.to_owned());
            }
        }
    }

    /// An agent that starts looks for its devices soon, if its configuration names any.
    pub(crate) fn look_for_devices_first(&mut self, index: NodeIndex) {
        if devices_of(index).is_empty() {
            return;
        }
        let life = self.nodes[index].life;
        let pause = self.nodes[index].random.between(1, 50);
        self.after(pause, Event::LookForDevices { node: index, life });
    }

    /// The agent looks for its devices, as it does again and again, and tells everybody what it found.
    pub(crate) fn look_for_devices(&mut self, index: NodeIndex, life: u64) {
        if self.nodes[index].life != life {
            return;
        }
        self.after(LOOKS_EVERY_MS, Event::LookForDevices { node: index, life });
        let now = self.now;
        let sim = &mut self.nodes[index];
        let missing = sim.missing(now);
        let offered: Vec<Device> =
            devices_of(index).into_iter().filter(|device| !missing.contains_key(&device.name)).collect();
        let changed = sim.last_look.as_ref() != Some(&offered);
        sim.last_look = Some(offered);
        if !missing.is_empty() || changed {
            self.step_agent(index, Input::DevicesSeen { missing });
        }
        if changed && let Some(id) = self.nodes[index].connection {
            let facts = Box::new(self.nodes[index].said());
            self.send_up(id, Up::Facts(facts));
        }
    }
}

//! What instances hold of their nodes, in names and in the engine's numbers.

use api_types::{
    container::Protocol,
    device::{Device, DeviceGrant, WHOLE_DEVICE_MILLIS},
    resources::Resources,
    workload::WorkloadSpec,
};
use scheduler_placement::{Amount, Grant, Holding, Port};

use crate::cluster::{held::Held, nodes::NodeEntry};

/// What a node takes from an amount of a device: shares, rounded up.
fn shares(device: &Device, millis: u32) -> u32 {
    let shares = (u64::from(millis) * u64::from(device.shares)).div_ceil(WHOLE_DEVICE_MILLIS.into());
    u32::try_from(shares).unwrap_or(device.shares)
}

/// Grants as the engine says them; of devices that are not there (any more) nothing is said.
pub(crate) fn grants(node: &NodeEntry, devices: &[DeviceGrant]) -> Vec<Grant> {
    let there = node.facts.as_ref().map(|facts| facts.devices.as_slice()).unwrap_or_default();
    let slot = |grant: &DeviceGrant| {
        let place = there.iter().position(|device| device.name == grant.device)?;
        let slot = u32::try_from(place).ok()?;
        Some(Grant { slot, shares: shares(&there[place], grant.millis) })
    };
    devices.iter().filter_map(slot).collect()
}

/// Grants as people and agents say them.
pub(crate) fn named(node: &NodeEntry, devices: &[Grant]) -> Vec<DeviceGrant> {
    let there = node.facts.as_ref().map(|facts| facts.devices.as_slice()).unwrap_or_default();
    let name = |grant: &Grant| {
        let device = there.get(grant.slot as usize)?;
        let millis = if grant.shares >= device.shares {
            WHOLE_DEVICE_MILLIS
        } else {
            grant.shares * WHOLE_DEVICE_MILLIS / device.shares
        };
        Some(DeviceGrant { device: device.name.clone(), kind: device.kind.clone(), millis })
    };
    devices.iter().filter_map(name).collect()
}

/// The ports of a node that an instance takes.
pub(crate) fn ports(spec: &WorkloadSpec) -> Vec<Port> {
    let port = |number, protocol| Port {
        number,
        protocol: match protocol {
            Protocol::Tcp => scheduler_placement::Protocol::Tcp,
            Protocol::Udp => scheduler_placement::Protocol::Udp,
        },
    };
    spec.ports.iter().filter_map(|published| Some(port(published.host?, published.protocol))).collect()
}

/// An amount as the engine counts what is asked for.
pub(crate) fn request(amount: Resources) -> Amount {
    Amount::request(amount.cpu_millis, amount.memory_bytes)
}

/// What an instance takes of its node, for the engine to read.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) amount: Amount,
    pub(crate) ports: Vec<Port>,
    pub(crate) devices: Vec<Grant>,
    pub(crate) counted: bool,
}

impl Taken {
    /// What an instance holds.
    pub(crate) fn of(held: Held<'_>) -> Self {
        Self {
            amount: request(held.reserve()),
            ports: ports(held.spec()),
            devices: grants(held.node(), held.devices()),
            counted: held.is_counted(),
        }
    }

    /// The same as the engine reads it.
    pub(crate) fn holding(&self) -> Holding<'_> {
        Holding { amount: self.amount, ports: &self.ports, devices: &self.devices, counted: self.counted }
    }
}

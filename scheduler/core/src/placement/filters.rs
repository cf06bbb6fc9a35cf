//! Why a node does not take an instance, in names: what the engine says in numbers, and what only the tables know.

use api_types::{
    container::Protocol,
    device::DeviceRequest,
    id::WorkloadId,
    node::{Availability, Liveness},
    placement::{Affinity, Constraint, ConstraintKey, Spread},
    resources::Resources,
    workload::WorkloadSpec,
};
use scheduler_placement::{Amount, Port};

use crate::cluster::nodes::NodeEntry;

/// Why a node does not take an instance, in the order in which a node is asked. Resources last: a node that misses only
/// these is the nearest miss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Miss<'s> {
    /// An operator cordoned it.
    Cordoned,
    /// An operator drains it.
    Draining,
    /// It is silent for a short while.
    Unreachable,
    /// It is given up.
    Lost,
    /// It has not said yet what it is.
    Unknown,
    /// Its container runtime does not answer.
    RuntimeAway,
    /// Room is being made on it for a workload of a higher priority than somebody there.
    Claimed,
    /// It is of another architecture or operating system.
    Architecture(&'s Constraint),
    /// It does not meet a constraint.
    Constraint(&'s Constraint),
    /// It has no device of the kind at all.
    NoDevice(&'s DeviceRequest),
    /// An instance of another workload is missing, or in the way.
    Affinity(&'s Affinity),
    /// An instance of this workload, whose rules keep others away, is in the same place.
    AvoidedBy(&'s WorkloadId),
    /// It would be more uneven than a rule allows.
    Spread(&'s Spread),
    /// Another instance holds this port of the node.
    HostPort(u16, Protocol),
    /// It holds as many instances of the workload as it may.
    PerNode(u32),
    /// Not enough of its devices of the kind are free.
    Device(&'s DeviceRequest),
    /// It lacks this much.
    Resources(Resources),
}

/// Why a node takes nothing at all.
pub(crate) fn unavailable(node: &NodeEntry) -> Miss<'static> {
    match node.spec.availability {
        Availability::Active => {}
        Availability::Cordoned => return Miss::Cordoned,
        Availability::Draining => return Miss::Draining,
    }
    match node.liveness {
        Liveness::Ready if node.facts.is_none() => Miss::Unknown,
        Liveness::Ready if node.runtime_trouble().is_some() => Miss::RuntimeAway,
        Liveness::Ready => Miss::Claimed,
        Liveness::Unreachable => Miss::Unreachable,
        Liveness::Lost => Miss::Lost,
    }
}

/// Which rule a node does not meet that is not one of those for this workload.
pub(crate) fn unsuited<'s>(node: &NodeEntry, spec: &'s WorkloadSpec) -> Miss<'s> {
    if let Err(miss) = meets(node, spec) {
        return miss;
    }
    let has = |request: &&DeviceRequest| {
        let devices = node.facts.as_ref().map(|facts| facts.devices.as_slice()).unwrap_or_default();
        devices.iter().any(|device| device.kind == request.kind)
    };
    spec.devices.iter().find(|request| !has(request)).map_or(Miss::Unknown, Miss::NoDevice)
}

/// The port in names.
pub(crate) fn port(port: Port) -> Miss<'static> {
    let protocol = match port.protocol {
        scheduler_placement::Protocol::Tcp => Protocol::Tcp,
        scheduler_placement::Protocol::Udp => Protocol::Udp,
    };
    Miss::HostPort(port.number, protocol)
}

/// What a node lacks, in the engine's units: once that is freed or not asked for, it fits.
pub(crate) fn lack(lack: Amount) -> Resources {
    Resources { cpu_millis: lack.cpu_millis.into(), memory_bytes: u64::from(lack.memory_kib) << 10 }
}

/// Whether a node meets the constraints: on what images must be built for first, then all others.
fn meets<'s>(node: &NodeEntry, spec: &'s WorkloadSpec) -> Result<(), Miss<'s>> {
    let constraints = &spec.placement.constraints;
    for constraint in constraints.iter().filter(|constraint| is_about_images(constraint)) {
        let Some(facts) = &node.facts else { return Err(Miss::Unknown) };
        let value = if constraint.key == ConstraintKey::Arch { &facts.arch } else { &facts.os };
        if !constraint.is_met_by(Some(value.as_str()).filter(|value| !value.is_empty())) {
            return Err(Miss::Architecture(constraint));
        }
    }
    for constraint in constraints.iter().filter(|constraint| !is_about_images(constraint)) {
        let value = match &constraint.key {
            ConstraintKey::Arch | ConstraintKey::Os => None,
            ConstraintKey::Site => Some(node.spec.site.as_str()),
            ConstraintKey::Node => Some(node.spec.id.as_str()),
            ConstraintKey::Label(name) => node.spec.labels.get(name).map(String::as_str),
        };
        if !constraint.is_met_by(value) {
            return Err(Miss::Constraint(constraint));
        }
    }
    Ok(())
}

/// Whether a node is one that the workload's rules mean, be it available or not; `None` while it has not said what it is.
pub(crate) fn is_meant(node: &NodeEntry, spec: &WorkloadSpec) -> Option<bool> {
    match meets(node, spec) {
        Ok(()) => Some(true),
        Err(Miss::Unknown) => None,
        Err(_) => Some(false),
    }
}

/// Whether a constraint is about what an image must be built for.
fn is_about_images(constraint: &Constraint) -> bool {
    match constraint.key {
        ConstraintKey::Arch | ConstraintKey::Os => true,
        ConstraintKey::Site | ConstraintKey::Node | ConstraintKey::Label(_) => false,
    }
}

impl Miss<'_> {
    /// The filter's name, as people see it.
    pub(crate) fn filter(&self) -> &'static str {
        match self {
            Self::Cordoned | Self::Draining | Self::Unreachable | Self::Lost | Self::Unknown | Self::RuntimeAway => {
                "availability"
            }
            Self::Claimed => "priority",
            Self::Architecture(_) => "architecture",
            Self::Constraint(_) => "constraints",
            Self::Affinity(_) | Self::AvoidedBy(_) => "affinity",
            Self::Spread(_) => "spread",
            Self::HostPort(..) => "host_ports",
            Self::PerNode(_) => "per_node",
            Self::NoDevice(_) | Self::Device(_) => "devices",
            Self::Resources(_) => "resources",
        }
    }
}

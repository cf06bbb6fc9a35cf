//! Assignments and changes of their sets.

use api_types::{
    assignment::Assignment,
    counter::{Epoch, Generation, Revision},
    device::DeviceGrant,
    id::SecretId,
    instance::Desired,
    secret::SecretValue,
};

use super::{bounded, known, list, optional, parsed, parsed_list, required, unknown};
use crate::{error::ConvertError, session::Marker, update::AssignmentsUpdate, v1};

impl From<Marker> for v1::Marker {
    fn from(marker: Marker) -> Self {
        Self { epoch: marker.epoch.0, generation: marker.generation.0 }
    }
}

impl From<v1::Marker> for Marker {
    fn from(wire: v1::Marker) -> Self {
        Self { epoch: Epoch(wire.epoch), generation: Generation(wire.generation) }
    }
}

impl From<Assignment> for v1::Assignment {
    fn from(assignment: Assignment) -> Self {
        let desired = match assignment.desired {
            Desired::Run => v1::Desired::Run,
            Desired::Stop => v1::Desired::Stop,
        };
        Self {
            instance: assignment.instance.to_string(),
            workload: assignment.workload.to_string(),
            slot: assignment.slot,
            revision: assignment.revision.0,
            desired: desired.into(),
            container: Some(assignment.container.into()),
            resources: Some(assignment.resources.into()),
            companions: assignment.companions.into_iter().map(Into::into).collect(),
            after: assignment.after.into_iter().map(Into::into).collect(),
            ports: assignment.ports.into_iter().map(Into::into).collect(),
            probe: assignment.probe.map(Into::into),
            devices: assignment.devices.into_iter().map(Into::into).collect(),
            restart: (!assignment.restart.is_default()).then(|| assignment.restart.into()),
            is_judged: assignment.is_judged,
            ipv6: assignment.ipv6,
            secrets: assignment.secrets.into_iter().map(|(name, version)| (name.into(), version)).collect(),
            retries: assignment.retries,
            stop_after_ms: assignment.stop_after_ms,
        }
    }
}

impl TryFrom<v1::Assignment> for Assignment {
    type Error = ConvertError;

    fn try_from(wire: v1::Assignment) -> Result<Self, Self::Error> {
        let desired = match known("desired", wire.desired)? {
            v1::Desired::Unspecified => return Err(unknown("desired", wire.desired)),
            v1::Desired::Run => Desired::Run,
            v1::Desired::Stop => Desired::Stop,
        };
        let version = |(name, version): (String, u64)| Ok::<_, ConvertError>((parsed("secrets", &name)?, version));
        Ok(Self {
            instance: parsed("instance", &wire.instance)?,
            workload: parsed("workload", &wire.workload)?,
            slot: wire.slot,
            revision: Revision(wire.revision),
            desired,
            container: required("container", wire.container)?,
            resources: required("resources", wire.resources)?,
            companions: list("companions", wire.companions)?,
            after: list("after", wire.after)?,
            ports: list("ports", wire.ports)?,
            probe: optional("probe", wire.probe)?,
            devices: list("devices", wire.devices)?,
            restart: optional("restart", wire.restart)?.unwrap_or_default(),
            is_judged: wire.is_judged,
            ipv6: wire.ipv6,
            secrets: wire.secrets.into_iter().map(version).collect::<Result<_, _>>()?,
            retries: wire.retries,
            stop_after_ms: wire.stop_after_ms,
        })
    }
}

impl From<DeviceGrant> for v1::DeviceGrant {
    fn from(grant: DeviceGrant) -> Self {
        Self { device: grant.device, kind: grant.kind, millis: grant.millis }
    }
}

impl TryFrom<v1::DeviceGrant> for DeviceGrant {
    type Error = ConvertError;

    fn try_from(wire: v1::DeviceGrant) -> Result<Self, Self::Error> {
        Ok(Self { device: bounded("device", wire.device)?, kind: bounded("kind", wire.kind)?, millis: wire.millis })
    }
}

impl From<AssignmentsUpdate> for v1::AssignmentsUpdate {
    fn from(update: AssignmentsUpdate) -> Self {
        Self {
            base: update.base.map(Into::into),
            marker: Some(update.marker.into()),
            node: update.node.to_string(),
            subnet: update.subnet.to_string(),
            upserts: update.upserts.into_iter().map(Into::into).collect(),
            removals: update.removals.iter().map(ToString::to_string).collect(),
            secrets: update.secrets.into_iter().map(Into::into).collect(),
            met: update.met.into_iter().map(Into::into).collect(),
            ahead: update.ahead.map(Into::into),
        }
    }
}

impl TryFrom<v1::AssignmentsUpdate> for AssignmentsUpdate {
    type Error = ConvertError;

    fn try_from(wire: v1::AssignmentsUpdate) -> Result<Self, Self::Error> {
        Ok(Self {
            base: wire.base.map(Into::into),
            marker: wire.marker.ok_or_else(|| ConvertError::missing("marker"))?.into(),
            node: parsed("node", &wire.node)?,
            subnet: parsed("subnet", &wire.subnet)?,
            upserts: list("upserts", wire.upserts)?,
            removals: parsed_list("removals", &wire.removals)?,
            secrets: list::<_, (SecretId, SecretValue)>("secrets", wire.secrets)?.into_iter().collect(),
            met: list("met", wire.met)?,
            ahead: wire.ahead.map(|all| list("ahead", all.jobs)).transpose()?,
        })
    }
}

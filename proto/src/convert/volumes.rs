//! How much volumes hold.

use std::collections::BTreeMap;

use api_types::relay::VolumeSlot;

use super::parsed;
use crate::{error::ConvertError, v1};

/// Writes what was measured.
pub(super) fn wire(volumes: BTreeMap<VolumeSlot, u64>) -> v1::VolumesMeasured {
    let volume = |(VolumeSlot { workload, volume, slot }, bytes): (VolumeSlot, u64)| v1::VolumeMeasured {
        workload: workload.to_string(),
        volume: volume.to_string(),
        slot,
        bytes,
    };
    v1::VolumesMeasured { volumes: volumes.into_iter().map(volume).collect() }
}

/// Reads what was measured.
pub(super) fn read(wire: v1::VolumesMeasured) -> Result<BTreeMap<VolumeSlot, u64>, ConvertError> {
    let volume = |wire: v1::VolumeMeasured| {
        let (workload, volume) = (parsed("workload", &wire.workload)?, parsed("volume", &wire.volume)?);
        Ok((VolumeSlot { workload, volume, slot: wire.slot }, wire.bytes))
    };
    wire.volumes.into_iter().map(volume).collect()
}

//! What services that are scaled have to do: a load that stays the same for minutes, then is another one, with noise on it.

use std::collections::BTreeMap;

use api_types::{
    id::{InstanceId, WorkloadId},
    instance::{Desired, InstanceUsage},
    scale::ScaleSpec,
    workload::WorkloadSpec,
};

use crate::{event::NodeIndex, random::Random, world::World};

/// Milliseconds for which a load stays the same.
const LEVEL_MS: u64 = 600_000;

/// Milliseconds for which its noise stays the same: what disturbs one replica disturbs all of them.
const NOISE_MS: u64 = 10_000;

impl World {
    /// What the replicas of services that are scaled use on a node, as its agent says: they share their load evenly.
    pub(crate) fn usage_on(&mut self, index: NodeIndex) -> BTreeMap<InstanceId, InstanceUsage> {
        let mut usage = BTreeMap::new();
        let node = &self.nodes[index];
        if node.runtime.away {
            return usage;
        }
        for ((instance, _), container) in &node.runtime.containers {
            let held = self.scheduler.disk.instances.get(instance).filter(|held| held.node == node.id);
            let shape = held.and_then(|held| self.demand.wanted.get(&held.workload));
            let Some((shape, scaled)) = shape.and_then(|shape| Some((shape, shape.scaled?))) else { continue };
            if container.process.is_some() {
                let spec = shape.spec();
                let noise = self.noise_on(&spec.id, scaled.noise_percent.into());
                let cpu_millis = self.share_of(&spec) * noise / 100;
                let used = InstanceUsage { cpu_millis, memory_bytes: 1 << 20, pids: 1, new_connections_millis: None };
                usage.insert(instance.clone(), used);
            }
        }
        usage
    }

    /// What a service has to do now, in thousandths of a CPU; none if it is not scaled.
    fn load_of(&self, spec: &WorkloadSpec) -> u64 {
        let Some(scale) = &spec.scale else { return 0 };
        let level = self.elapsed().min(self.options.minutes * 60_000) / LEVEL_MS;
        // From too little for the fewest to too much for the most.
        let per_cent = self.chance_of(&spec.id, level).between(u64::from(scale.min) * 30, u64::from(scale.max) * 120);
        target_of(spec, scale) * per_cent / 100
    }

    /// What each replica of a service has to do.
    pub(crate) fn share_of(&self, spec: &WorkloadSpec) -> u64 {
        self.load_of(spec) / self.replicas_placed(&spec.id).max(1)
    }

    /// How many replicas there are to share a load.
    pub(crate) fn replicas_placed(&self, id: &WorkloadId) -> u64 {
        self.scheduler.disk.of(id).filter(|held| held.desired == Desired::Run).count() as u64
    }

    /// Percent of its load that a service has in this moment. There is no noise while all is quiet.
    fn noise_on(&self, id: &WorkloadId, percent: u64) -> u64 {
        if self.is_quiet() {
            return 100;
        }
        self.chance_of(id, u64::MAX - self.elapsed() / NOISE_MS).between(100 - percent, 100 + percent)
    }

    /// Chance that depends on nothing but the seed, the service and a number: so a shorter story has the same loads.
    fn chance_of(&self, id: &WorkloadId, number: u64) -> Random {
        let name = id.name.as_str().bytes().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        Random::new(self.options.seed ^ name.wrapping_mul(0xD6E8_FEB8_6659_FD93) ^ number)
    }
}

/// What one replica shall use, in thousandths of a CPU.
pub(crate) fn target_of(spec: &WorkloadSpec, scale: &ScaleSpec) -> u64 {
    spec.resources.reserve.cpu_millis * u64::from(scale.cpu_percent.unwrap_or_default()) / 100
}

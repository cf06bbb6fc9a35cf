//! The numbers behind a wish: whose count, and which are missing.

use std::collections::BTreeMap;

use api_types::{
    id::{InstanceId, NodeId, WorkloadId},
    instance::InstanceUsage,
    scale::{Metric, ScaleSpec},
    time::Timestamp,
};

use crate::{
    autoscale::{Load, wish::Reading},
    cluster::held::Held,
    machine::Scheduler,
};

/// Numbers older than this are not known any more, in milliseconds: three samples of an agent.
const STALE_MS: u64 = 30_000;
/// How long an instance must have served when it was sampled, in milliseconds, so that what it did to start is not counted as
/// what it has to do: a sample says what was used since the one before.
const STARTING_MS: u64 = 20_000;

/// What an instance used last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    at: Timestamp,
    cpu_millis: u64,
    memory_bytes: u64,
    new_connections_millis: Option<u64>,
    /// Of which attempt it is.
    restarts: u32,
    /// Since when this attempt was seen serving at every sample.
    serves_since: Option<Timestamp>,
}

/// The requests that a node's listeners shared out to instances of one service.
#[derive(Clone, Debug, Default)]
pub(super) struct Shared {
    at: Timestamp,
    /// By the instance's number, in thousandths of requests each second; none for those who got none.
    rates: BTreeMap<u64, u64>,
}

impl Scheduler {
    /// Takes what an instance used.
    pub(super) fn note_usage(&mut self, id: &InstanceId, usage: &InstanceUsage) {
        let Some(held) = self.cluster.held_by_id(id) else { return };
        let workload = held.workload();
        if !self.cluster.scaled.contains(workload) {
            return;
        }
        let (number, workload, now) = (held.number, workload.clone(), self.now);
        let restarts = held.observation().map_or(0, |observation| observation.restarts);
        let serves = held.is_serving();
        let samples = &mut self.scaling.entry(workload).or_default().samples;
        let before = samples.get(&number).filter(|sample| sample.restarts == restarts);
        let since = before.and_then(|sample| sample.serves_since);
        samples.insert(
            number,
            Sample {
                at: now,
                cpu_millis: usage.cpu_millis,
                memory_bytes: usage.memory_bytes,
                new_connections_millis: usage.new_connections_millis,
                restarts,
                serves_since: serves.then(|| since.unwrap_or(now)),
            },
        );
    }

    /// Takes the requests that a node's listeners shared out. Who is not named got none.
    pub(super) fn note_shared(&mut self, node: &NodeId, requests: BTreeMap<InstanceId, u64>) {
        let now = self.now;
        for shared in self.scaling.values_mut().filter_map(|scaling| scaling.shared.get_mut(node)) {
            *shared = Shared { at: now, rates: BTreeMap::new() };
        }
        for (id, rate) in requests {
            let Some((number, workload)) = self.cluster.held_by_id(&id).map(|held| (held.number, held.workload()))
            else {
                continue;
            };
            if self.cluster.scaled.contains(workload) {
                let scaling = self.scaling.entry(workload.clone()).or_default();
                let shared = scaling.shared.entry(node.clone()).or_default();
                shared.at = now;
                shared.rates.insert(number, rate);
            }
        }
    }

    /// Forgets what instances and nodes said that are gone.
    pub(super) fn forget_old_loads(&mut self, id: &WorkloadId) {
        let (cluster, scaling) = (&self.cluster, self.scaling.entry(id.clone()).or_default());
        scaling.samples.retain(|number, _| cluster.held(*number).is_some());
        scaling.shared.retain(|node, _| cluster.nodes.get(node).is_some());
    }

    /// What one metric says, for each site where each is looked at for itself, with how many instances are there.
    pub(super) fn readings(
        &self,
        id: &WorkloadId,
        scale: &ScaleSpec,
        metric: Metric,
        target: u32,
    ) -> Vec<(Reading, u32)> {
        let Some(entry) = self.cluster.workloads.get(id) else { return Vec::new() };
        let reserve = entry.spec().resources.reserve;
        let whole = match metric {
            Metric::Cpu => u128::from(reserve.cpu_millis),
            Metric::Memory => u128::from(reserve.memory_bytes),
            // In thousandths of one; a hundredth part of that for each percent.
            Metric::Requests | Metric::NewConnections => 100_000,
        };
        let empty = Reading { target: (whole * u128::from(target) / 100).max(1), ..Reading::default() };
        let mut parts: BTreeMap<&str, (Reading, u32)> = BTreeMap::new();
        for held in self.cluster.instances_of(id).filter(|held| held.is_wanted()) {
            let site = if scale.per_site { held.node().spec.site.as_str() } else { "" };
            let (reading, there) = parts.entry(site).or_insert((empty, 0));
            *there += 1;
            let load = self.measured(held).and_then(|sample| match metric {
                Metric::Cpu => Some(u128::from(sample.cpu_millis)),
                Metric::Memory => Some(u128::from(sample.memory_bytes)),
                Metric::Requests => Some(self.rate_of(id, held.number)),
                Metric::NewConnections => sample.new_connections_millis.map(u128::from),
            });
            match load {
                Some(load) => {
                    reading.measured += 1;
                    reading.load += load;
                }
                None => reading.unready += 1,
            }
        }
        parts.into_values().collect()
    }

    /// The last sample of an instance, if it is fresh and says what the instance has to do.
    fn measured(&self, held: Held<'_>) -> Option<Sample> {
        let sample = self.scaling.get(held.workload())?.samples.get(&held.number)?;
        let is_fresh = self.now.since(sample.at) <= STALE_MS;
        let is_settled = sample.serves_since.is_some_and(|since| sample.at.since(since) >= STARTING_MS);
        (is_fresh && is_settled && held.is_serving()).then_some(*sample)
    }

    /// The requests each second that an instance gets of all nodes, in thousandths.
    fn rate_of(&self, id: &WorkloadId, number: u64) -> u128 {
        let shared = self.scaling.get(id).into_iter().flat_map(|scaling| scaling.shared.values());
        let fresh = shared.filter(|shared| self.now.since(shared.at) <= STALE_MS);
        fresh.filter_map(|shared| shared.rates.get(&number)).map(|rate| u128::from(*rate)).sum()
    }

    /// Why a service must not shrink now, whatever its numbers say.
    pub(super) fn keeps_from_shrinking(&self, id: &WorkloadId, loads: &[Load]) -> Option<String> {
        if self.is_rolling_out(id) {
            return Some("a change is being rolled out".to_owned());
        }
        if let Some(load) = loads.iter().find(|load| load.wish.is_none()) {
            return Some(format!("nobody's {} is known", load.metric.as_str()));
        }
        let scaling = self.scaling.get(id)?;
        for held in self.cluster.instances_of(id).filter(|held| held.is_wanted()) {
            if !held.node().is_ready() || !held.node().synced {
                return Some(format!("{} on {} is not heard of", held.id(), held.node_id()));
            }
            let sample = scaling.samples.get(&held.number).filter(|_| held.is_serving());
            if let Some(sample) = sample.filter(|sample| self.now.since(sample.at) > STALE_MS) {
                let seconds = self.now.since(sample.at) / 1_000;
                return Some(format!("what {} uses is not known for {seconds} s", held.id()));
            }
        }
        let is_silent = |shared: &Shared| !shared.rates.is_empty() && self.now.since(shared.at) > STALE_MS;
        let silent = scaling.shared.iter().find(|(_, shared)| is_silent(shared));
        silent.map(|(node, _)| format!("what {node} shares out is not known"))
    }
}

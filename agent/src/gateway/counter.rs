//! How many requests each second this node's listeners share out to instances of services that are scaled by that.

use std::{collections::BTreeMap, net::SocketAddrV4, time::Duration};

use agent_core::effect::Balancing;
use api_types::id::InstanceId;
use tokio::time::Instant;

use super::place;

/// How often rates are made of the counts, as often as use is sampled.
const EVERY: Duration = Duration::from_secs(10);

/// Who is counted, and since when. Where nobody asks, nobody is.
#[derive(Debug, Default)]
pub(super) struct Counter {
    /// Who is asked where.
    counted: BTreeMap<SocketAddrV4, InstanceId>,
    since: Option<Instant>,
}

impl Counter {
    /// Takes over who is counted; whether that begins or ends with it.
    pub(super) fn follow(&mut self, wanted: Option<&Balancing>) -> bool {
        let services = wanted.into_iter().flat_map(|wanted| &wanted.services);
        let detours = wanted.map(|wanted| &wanted.tunnels.detours);
        self.counted.clear();
        let mut is_asked = false;
        for service in services.filter(|service| service.counts_requests) {
            is_asked = true;
            for port in service.ports.iter().filter(|port| port.http && port.publish.is_some()) {
                let places = service
                    .endpoints
                    .iter()
                    .filter_map(|endpoint| Some((place(endpoint, port, detours?), endpoint.instance.clone())));
                self.counted.extend(places);
            }
        }
        let differs = is_asked != self.since.is_some();
        if differs {
            self.since = is_asked.then(Instant::now);
        }
        differs
    }

    /// When rates are to be made; `None` = nobody is counted.
    pub(super) fn due(&self) -> Option<Instant> {
        self.since.map(|since| since + EVERY)
    }

    /// Makes rates of what was counted since the last time, in thousandths of a request each second.
    pub(super) fn rates(&mut self, requests: &BTreeMap<SocketAddrV4, u64>) -> BTreeMap<InstanceId, u64> {
        let now = Instant::now();
        let Some(since) = self.since.replace(now) else { return BTreeMap::new() };
        let elapsed_ms = u64::try_from((now - since).as_millis()).unwrap_or(u64::MAX).max(1);
        let mut rates = BTreeMap::new();
        for (place, count) in requests.iter().filter(|(_, count)| **count > 0) {
            if let Some(instance) = self.counted.get(place) {
                *rates.entry(instance.clone()).or_default() += count.saturating_mul(1_000_000) / elapsed_ms;
            }
        }
        rates
    }
}

//! What must hold at any moment: the scheduler's own invariants, acknowledged wishes, endpoints that are alive.

use api_types::workload::WorkloadSpec;
use scheduler_core::effect::{Record, RecordKey};

use crate::{
    event::{NodeIndex, Wish},
    world::World,
};

/// Milliseconds for which a dead process may stay an endpoint: silence is noticed, a table is made, and arrives.
const DEAD_ENDPOINT_MS: u64 = 12_000;

/// Of steps that decided nothing, every so-many-th is checked.
const QUIET_STEPS: u64 = 256;

impl World {
    /// Checks the scheduler after a step; all steps that decided something, and some of the others.
    pub fn check_scheduler(&mut self, decided: bool) {
        if !decided && !self.steps.is_multiple_of(QUIET_STEPS) {
            return;
        }
        let Some(core) = &self.scheduler.core else { return };
        if let Err(broken) = core.check_invariants() {
            self.fail(format!("scheduler: {broken}"));
        }
    }

    /// Checks, once a scheduler started, that nothing was forgotten that a person was told is done.
    pub fn check_acknowledged(&mut self) {
        let in_flight = match &self.demand.asked {
            Some((_, Wish::Apply(spec))) => Some(spec.id.clone()),
            Some((_, Wish::Scale(workload, _) | Wish::Delete(workload))) => Some(workload.clone()),
            Some((_, Wish::Admit(_) | Wish::Remove(_) | Wish::Availability(..))) | None => None,
        };
        let wanted: Vec<WorkloadSpec> = self.demand.wanted.values().cloned().collect();
        for spec in wanted.into_iter().filter(|spec| Some(&spec.id) != in_flight.as_ref()) {
            let held = self.scheduler.records.get(&RecordKey::Workload(spec.id.clone()));
            if !matches!(held, Some(Record::Workload(held)) if held.spec == spec) {
                self.fail(format!("{} was acknowledged, and a restart forgot it", spec.id));
            }
        }
    }

    /// Checks what is too much for every step.
    pub fn sweep(&mut self) {
        self.note_silence();
        let warm = self.scheduler.settings.warm_up_ms + DEAD_ENDPOINT_MS;
        if self.scheduler.core.is_none() || self.now.since(self.scheduler.up_since) < warm {
            return;
        }
        // A sample: every node is looked at again and again.
        for _ in 0..self.nodes.len().min(20) {
            let index = self.random.index(self.nodes.len());
            self.check_endpoints(index);
        }
    }

    /// A node that hears the scheduler does not balance to what has been dead for long.
    fn check_endpoints(&mut self, index: NodeIndex) {
        let node = &self.nodes[index];
        let hears = node.session_since.is_some_and(|since| self.now.since(since) >= DEAD_ENDPOINT_MS)
            && node.connection.and_then(|id| self.connections.get(&id)).is_some_and(|held| !held.broken);
        if !hears || node.cut_up || node.cut_down || self.now < self.scheduler.slow_until + DEAD_ENDPOINT_MS {
            return;
        }
        let services = node.balancing.iter().flat_map(|balancing| &balancing.services);
        let dead = services.flat_map(|service| &service.endpoints).find(|endpoint| {
            let died_at = self.died_at.get(&endpoint.instance);
            died_at.is_some_and(|at| self.now.since(*at) > DEAD_ENDPOINT_MS)
        });
        if let Some(endpoint) = dead {
            let what =
                format!("{} balances to {} on {}, which is dead for long", node.id, endpoint.instance, endpoint.node);
            self.fail(what);
        }
    }
}

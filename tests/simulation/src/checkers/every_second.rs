//! What must hold at any moment: the scheduler's own invariants, acknowledged wishes, endpoints that are alive.

use std::{collections::BTreeSet, sync::Arc};

use api_types::{service::Service, workload::WorkloadSpec};

use crate::{
    event::{NodeIndex, Wish},
    shape::Shape,
    world::World,
};

/// Milliseconds for which a dead process may stay an endpoint: silence is noticed, a table is made, and arrives.
const DEAD_ENDPOINT_MS: u64 = 12_000;

/// Of steps that decided nothing, every so-many-th is checked.
const QUIET_STEPS: u64 = 256;

/// In a world with more nodes, a rebuild of everything after each step would take all the time there is.
const CHECKED_NODES_MAX: usize = 50;

/// There every so-many-th of the steps that decided something is checked.
const LARGE_STEPS: u64 = 64;

impl World {
    /// Checks the scheduler after a step; all steps that decided something, and some of the others.
    pub fn check_scheduler(&mut self, decided: bool) {
        let every = match (decided, self.nodes.len() > CHECKED_NODES_MAX) {
            (true, false) => 1,
            (true, true) => LARGE_STEPS,
            (false, false) => QUIET_STEPS,
            (false, true) => QUIET_STEPS * LARGE_STEPS,
        };
        if !self.steps.is_multiple_of(every) {
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
            Some((_, Wish::Apply(shape))) => Some(shape.id()),
            Some((_, Wish::Scale(workload, _) | Wish::Delete(workload))) => Some(workload.clone()),
            Some((_, Wish::Admit(_) | Wish::Remove(_) | Wish::Availability(..))) => None,
            Some((_, Wish::ForgetVolume(..) | Wish::Resume(_) | Wish::Rebalance | Wish::TryAgain(_))) | None => None,
        };
        let wanted: Vec<WorkloadSpec> = self.demand.wanted.values().map(Shape::spec).collect();
        // What did not work may have been taken back since.
        let wanted: Vec<WorkloadSpec> = wanted.into_iter().map(|spec| self.scheduler.disk.wanted(spec)).collect();
        for spec in wanted.into_iter().filter(|spec| Some(&spec.id) != in_flight.as_ref()) {
            if self.scheduler.disk.workload(&spec.id).is_none_or(|held| held.spec != spec) {
                self.fail(format!("{} was acknowledged, and a restart forgot it", spec.id));
            }
        }
    }

    /// Checks what is too much for every step.
    pub fn sweep(&mut self) {
        self.note_silence();
        self.note_unable();
        self.note_missed();
        let warm = self.scheduler.settings.warm_up_ms + DEAD_ENDPOINT_MS;
        if self.scheduler.core.is_none() || self.now.since(self.scheduler.up_since) < warm {
            return;
        }
        // Nodes that balance alike share a service: who is found alive there is looked up once.
        let mut alive = BTreeSet::new();
        // A sample: every node is looked at again and again.
        for _ in 0..self.nodes.len().min(20) {
            let index = self.random.index(self.nodes.len());
            self.check_endpoints(index, &mut alive);
        }
    }

    /// A node that hears the scheduler does not balance to what has been dead for long.
    fn check_endpoints(&mut self, index: NodeIndex, alive: &mut BTreeSet<*const Service>) {
        let node = &self.nodes[index];
        let hears = node.session_since.is_some_and(|since| self.now.since(since) >= DEAD_ENDPOINT_MS)
            && node.connection.and_then(|id| self.connections.get(&id)).is_some_and(|held| !held.broken);
        let stands_still = node.frozen.is_some() || self.now < node.stood_still_until + DEAD_ENDPOINT_MS;
        let is_slow = self.scheduler.frozen.is_some() || self.now < self.scheduler.slow_until + DEAD_ENDPOINT_MS;
        if !hears || node.cut_up || node.cut_down || stands_still || is_slow {
            return;
        }
        let services = node.balancing.iter().flat_map(|balancing| &balancing.services);
        let dead = services.filter(|service| alive.insert(Arc::as_ptr(service))).find_map(|service| {
            service.endpoints.iter().find(|endpoint| {
                let died_at = self.died_at.get(&endpoint.instance);
                died_at.is_some_and(|at| self.now.since(*at) > DEAD_ENDPOINT_MS)
            })
        });
        if let Some(endpoint) = dead {
            let what =
                format!("{} balances to {} on {}, which is dead for long", node.id, endpoint.instance, endpoint.node);
            self.fail(what);
        }
    }
}

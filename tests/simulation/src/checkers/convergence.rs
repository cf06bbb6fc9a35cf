//! What must hold at the end: everything wanted runs, exactly once; nothing else is there; everybody knows the same.

use std::collections::{BTreeMap, BTreeSet};

use api_types::{
    id::{InstanceId, WorkloadId},
    instance::Desired,
    service::Service,
    workload::{WorkloadKind, WorkloadSpec},
};

use crate::{
    checkers::oracle::{self, More},
    node::SimNode,
    shape::Shape,
    world::World,
};

/// A process that runs somewhere.
struct Running<'a> {
    node: &'a SimNode,
    instance: &'a InstanceId,
    image: &'a str,
}

impl World {
    /// Says what is not yet as it must be in the end.
    ///
    /// # Errors
    /// The first thing that is not.
    pub fn check_converged(&self) -> Result<(), String> {
        if self.demand.asked.is_some() || !self.demand.queue.is_empty() {
            return Err(format!("a wish is not granted: {:?}", self.demand.asked));
        }
        if let Some(leaving) = self.scheduler.disk.instances.values().find(|held| held.desired == Desired::Stop) {
            return Err(format!("{} shall end, and is still on the books", leaving.id));
        }
        let is_heard = |node: &&SimNode| {
            let connection = node.connection.and_then(|id| self.connections.get(&id));
            connection.is_some_and(|connection| !connection.broken && connection.session.is_some())
        };
        if let Some(node) = self.nodes.iter().find(|node| !is_heard(node)) {
            return Err(format!("{} is not connected", node.id));
        }
        let by_workload = self.running()?;
        for (id, shape) in &self.demand.wanted {
            self.check_workload(shape, by_workload.get(id).map_or(&[], Vec::as_slice))?;
        }
        if let Some(surplus) = by_workload.keys().find(|id| !self.demand.wanted.contains_key(*id)) {
            return Err(format!("{surplus} is not wanted and runs"));
        }
        self.check_tables(&by_workload)
    }

    /// Adds to the trace what the scheduler itself says of whoever waits: for whoever reads a failure.
    pub(crate) fn note_who_waits(&mut self) {
        for id in self.demand.wanted.keys().cloned().collect::<Vec<_>>() {
            let why = self.scheduler.core.as_ref().and_then(|core| core.explain(&id, false).ok());
            let summary = why.map(|why| why.summary).unwrap_or_default();
            if !summary.is_empty() {
                self.note(&format!("scheduler: {id}: {summary}"));
            }
        }
    }

    /// Everything that runs, by workload; nothing runs twice, nothing dead lies about.
    fn running(&self) -> Result<BTreeMap<WorkloadId, Vec<Running<'_>>>, String> {
        let mut by_workload: BTreeMap<WorkloadId, Vec<Running<'_>>> = BTreeMap::new();
        for node in &self.nodes {
            let mut instances = BTreeSet::new();
            for ((instance, attempt), container) in &node.runtime.containers {
                let Some(held) = self.scheduler.disk.instances.get(instance) else {
                    return Err(format!("{}: {instance} is on nobody's books", node.id));
                };
                if held.node != node.id {
                    return Err(format!("{}: {instance} belongs to {}", node.id, held.node));
                }
                if container.process.is_none() {
                    return Err(format!("{}: {instance} attempt {attempt} lies about", node.id));
                }
                if !instances.insert(instance) {
                    return Err(format!("{}: {instance} runs twice", node.id));
                }
                let running = Running { node, instance, image: &container.image };
                by_workload.entry(held.workload.clone()).or_default().push(running);
            }
            self.check_sidecars(node)?;
            if !node.runtime.networks.keys().eq(instances) {
                return Err(format!("{}: networks are not those of its instances", node.id));
            }
        }
        Ok(by_workload)
    }

    fn check_workload(&self, shape: &Shape, running: &[Running<'_>]) -> Result<(), String> {
        let spec = &self.scheduler.disk.wanted(shape.spec());
        if let Some(work) = shape.work {
            return self.check_job(spec, work, running.len());
        }
        // It may be the only one of its slot, and is taken back at its deadline.
        let is_judged = self.scheduler.disk.rollout(&spec.id).is_some_and(scheduler_core::effect::Rollout::is_judged);
        if shape.bad.is_some() && is_judged {
            return Err(format!("{} is judged, and never works", spec.id));
        }
        // What works is not ended for a successor that has no room, not even in its place.
        let must_go = |old: &&Running<'_>| {
            let in_its_place = self.check_room(old.node, spec, More::InsteadOf(old.instance));
            in_its_place.is_ok() || (!shape.volume && self.node_with_room(spec).is_some())
        };
        let mut outdated = running.iter().filter(|running| running.image != spec.container.image);
        if let Some(old) = outdated.find(must_go) {
            return Err(format!(
                "{} on {} runs {}, not {}",
                old.instance, old.node.id, old.image, spec.container.image
            ));
        }
        if let Some(misplaced) = running.iter().find(|running| !oracle::meets_constraints(running.node, spec)) {
            return Err(format!("{} is on {}, against a constraint", misplaced.instance, misplaced.node.id));
        }
        self.check_scaled(spec)?;
        let expected = match self.scheduler.disk.kind_of(spec) {
            WorkloadKind::Service { replicas } => u64::from(replicas),
            // It was looked at above.
            WorkloadKind::Job(_) => 0,
            WorkloadKind::Daemon => {
                self.nodes.iter().filter(|node| oracle::meets_constraints(node, spec)).count() as u64
            }
        };
        let count = running.len() as u64;
        let placed = self.scheduler.disk.of(&spec.id).count() as u64;
        if count != placed {
            return Err(format!("{}: {count} run, {placed} are placed", spec.id));
        }
        if count > expected {
            return Err(format!("{}: {count} run, {expected} are wanted", spec.id));
        }
        if count < expected {
            self.check_missing(spec, count, expected)?;
        }
        let nodes: BTreeSet<_> = running.iter().map(|running| &running.node.id).collect();
        if spec.kind == WorkloadKind::Daemon && nodes.len() as u64 != count {
            return Err(format!("{} runs twice on one node", spec.id));
        }
        Ok(())
    }

    /// The oracle: something is missing only if there is no room for it, and it is said why.
    pub(super) fn check_missing(&self, spec: &WorkloadSpec, count: u64, expected: u64) -> Result<(), String> {
        if let Some(node) = self.node_for_empty_slots(spec, expected - count) {
            return Err(format!("{}: {count} run, {expected} are wanted, and {node} has room", spec.id));
        }
        let Some(core) = &self.scheduler.core else { return Err("there is no scheduler".to_owned()) };
        let why = core.explain(&spec.id, false).map_err(|refusal| format!("{}: {refusal}", spec.id))?;
        let asked: u64 = why.counts.values().map(|count| u64::from(*count)).sum();
        let data = spec.container.mounts.len() as u64;
        // A daemon fits where it is: only the nodes without it say why.
        let content = if spec.kind == WorkloadKind::Daemon { count } else { 0 };
        if why.summary.is_empty() || (asked + content != self.nodes.len() as u64 && data == 0) {
            return Err(format!(
                "{}: {} nodes, {asked} of them said why not: {}",
                spec.id,
                self.nodes.len(),
                why.summary
            ));
        }
        Ok(())
    }

    /// Every service balances to exactly what runs, in the scheduler's table and in every kernel.
    fn check_tables(&self, by_workload: &BTreeMap<WorkloadId, Vec<Running<'_>>>) -> Result<(), String> {
        let Some(core) = &self.scheduler.core else { return Err("there is no scheduler".to_owned()) };
        let Some(table) = core.service_table() else { return Err("there is no service table".to_owned()) };
        let with_ports = self.demand.wanted.values().filter(|shape| shape.replicas.is_some()).count();
        if table.services.len() != with_ports {
            return Err(format!("{} services in the table, {with_ports} are wanted", table.services.len()));
        }
        for service in &table.services {
            check_service(service, by_workload.get(&service.id).map_or(&[], Vec::as_slice))?;
        }
        for node in &self.nodes {
            let Some(agent) = &node.agent else { return Err(format!("{} has no agent", node.id)) };
            let set = core.assignment_set(&node.id).map(|set| (set.epoch, set.generation));
            if agent.held() != (set, Some((table.epoch, table.generation))) {
                return Err(format!("{} holds {:?}, not the latest ({set:?})", node.id, agent.held()));
            }
            let Some(balancing) = &node.balancing else { return Err(format!("{} does not balance", node.id)) };
            if balancing.services != table.services {
                return Err(format!("{} balances otherwise than the table says", node.id));
            }
            let ports: BTreeSet<_> = balancing.host_ports.iter().map(|port| (port.host, Some(port.address))).collect();
            if ports != self.host_ports_of(node, by_workload) {
                return Err(format!("{}: its host ports lead to {ports:?}", node.id));
            }
            if balancing.peers.len() + 1 != self.nodes.len() {
                return Err(format!("{} knows {} peers", node.id, balancing.peers.len()));
            }
        }
        Ok(())
    }

    /// Which ports of a node shall lead to which address.
    fn host_ports_of(
        &self,
        node: &SimNode,
        by_workload: &BTreeMap<WorkloadId, Vec<Running<'_>>>,
    ) -> BTreeSet<(u16, Option<std::net::Ipv4Addr>)> {
        let mut ports = BTreeSet::new();
        for (id, shape) in &self.demand.wanted {
            let Some(port) = shape.host_port else { continue };
            let here = by_workload.get(id).into_iter().flatten().filter(|running| running.node.id == node.id);
            for running in here {
                let address = node.runtime.networks.get(running.instance).copied();
                ports.insert((port, address));
            }
        }
        ports
    }
}

fn check_service(service: &Service, running: &[Running<'_>]) -> Result<(), String> {
    let endpoints =
        service.endpoints.iter().map(|endpoint| (&endpoint.instance, &endpoint.node, Some(endpoint.address)));
    let endpoints: BTreeSet<_> = endpoints.collect();
    let address = |running: &Running<'_>| running.node.runtime.networks.get(running.instance).copied();
    let expected: BTreeSet<_> =
        running.iter().map(|running| (running.instance, &running.node.id, address(running))).collect();
    if endpoints != expected {
        let wrong = endpoints.symmetric_difference(&expected).next();
        return Err(format!(
            "{}: {} endpoints, {} run; for one, {wrong:?}",
            service.id,
            endpoints.len(),
            expected.len()
        ));
    }
    Ok(())
}

//! What must hold at the end: everything wanted runs, exactly once; nothing else is there; everybody knows the same.

use std::collections::{BTreeMap, BTreeSet};

use api_types::{
    id::{InstanceId, WorkloadId},
    instance::Desired,
    placement::ConstraintKey,
    service::Service,
    workload::{WorkloadKind, WorkloadSpec},
};
use scheduler_core::effect::{Record, RecordKey};

use crate::{node::SimNode, world::World};

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
        let leaving = self.scheduler.records.values().find_map(|record| match record {
            Record::Instance(held) => (held.desired == Desired::Stop).then_some(&held.id),
            Record::Counters(_) | Record::Node(_) | Record::Workload(_) => None,
            Record::Revision(_) | Record::ServiceAddress { .. } => None,
        });
        if let Some(leaving) = leaving {
            return Err(format!("{leaving} shall end, and is still on the books"));
        }
        let by_workload = self.running()?;
        for (id, spec) in &self.demand.wanted {
            self.check_workload(spec, by_workload.get(id).map_or(&[], Vec::as_slice))?;
        }
        if let Some(surplus) = by_workload.keys().find(|id| !self.demand.wanted.contains_key(*id)) {
            return Err(format!("{surplus} is not wanted and runs"));
        }
        self.check_tables(&by_workload)
    }

    /// Everything that runs, by workload; nothing runs twice, nothing dead lies about.
    fn running(&self) -> Result<BTreeMap<WorkloadId, Vec<Running<'_>>>, String> {
        let mut by_workload: BTreeMap<WorkloadId, Vec<Running<'_>>> = BTreeMap::new();
        for node in &self.nodes {
            let mut instances = BTreeSet::new();
            for ((instance, attempt), container) in &node.runtime.containers {
                let Some(Record::Instance(held)) = self.scheduler.records.get(&RecordKey::Instance(instance.clone()))
                else {
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
            if !node.runtime.networks.keys().eq(instances) {
                return Err(format!("{}: networks are not those of its instances", node.id));
            }
        }
        Ok(by_workload)
    }

    fn check_workload(&self, spec: &WorkloadSpec, running: &[Running<'_>]) -> Result<(), String> {
        if let Some(old) = running.iter().find(|running| running.image != spec.container.image) {
            return Err(format!(
                "{} on {} runs {}, not {}",
                old.instance, old.node.id, old.image, spec.container.image
            ));
        }
        if let Some(misplaced) = running.iter().find(|running| !matches(running.node, spec)) {
            return Err(format!("{} is on {}, against a constraint", misplaced.instance, misplaced.node.id));
        }
        let expected = match spec.kind {
            WorkloadKind::Service { replicas } => {
                let has_host_port = spec.ports.iter().any(|port| port.host.is_some());
                let per_node = if has_host_port { Some(1) } else { spec.placement.per_node_max };
                let eligible = self.nodes.iter().filter(|node| matches(node, spec)).count() as u64;
                let room = per_node.map_or(u64::MAX, |limit| eligible.saturating_mul(u64::from(limit)));
                room.min(u64::from(replicas))
            }
            WorkloadKind::Daemon => self.nodes.iter().filter(|node| matches(node, spec)).count() as u64,
        };
        if running.len() as u64 != expected {
            return Err(format!("{}: {} run, {expected} are wanted", spec.id, running.len()));
        }
        let nodes: BTreeSet<_> = running.iter().map(|running| &running.node.id).collect();
        if spec.kind == WorkloadKind::Daemon && nodes.len() as u64 != expected {
            return Err(format!("{} runs twice on one node", spec.id));
        }
        Ok(())
    }

    /// Every service balances to exactly what runs, in the scheduler's table and in every kernel.
    fn check_tables(&self, by_workload: &BTreeMap<WorkloadId, Vec<Running<'_>>>) -> Result<(), String> {
        let Some(core) = &self.scheduler.core else { return Err("there is no scheduler".to_owned()) };
        let Some(table) = core.service_table() else { return Err("there is no service table".to_owned()) };
        let with_ports = self.demand.wanted.values().filter(|spec| !spec.ports.is_empty()).count();
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
        for (id, spec) in &self.demand.wanted {
            let here = by_workload.get(id).into_iter().flatten().filter(|running| running.node.id == node.id);
            for running in here {
                let address = node.runtime.networks.get(running.instance).copied();
                ports.extend(spec.ports.iter().filter_map(|port| Some((port.host?, address))));
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

/// Whether the node meets the constraints that the simulation uses.
fn matches(node: &SimNode, spec: &WorkloadSpec) -> bool {
    spec.placement.constraints.iter().all(|constraint| {
        let disk = if node.id.as_str()["edge-".len()..].parse::<usize>().is_ok_and(|index| index.is_multiple_of(3)) {
            "ssd"
        } else {
            "sd"
        };
        let value = match &constraint.key {
            ConstraintKey::Arch => Some(node.facts.arch.as_str()),
            ConstraintKey::Os => Some(node.facts.os.as_str()),
            ConstraintKey::Node => Some(node.id.as_str()),
            ConstraintKey::Label(name) => (name == "disk").then_some(disk),
            ConstraintKey::Site => None,
        };
        constraint.is_met_by(value)
    })
}

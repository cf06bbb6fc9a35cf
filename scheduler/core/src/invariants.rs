//! What must hold after every step: used by debug builds, tests and the simulation.

use std::collections::{BTreeMap, BTreeSet};

use api_types::{
    id::{NodeId, WorkloadId},
    instance::Desired,
    resources::Resources,
    workload::WorkloadKind,
};

use crate::{
    cluster::{held::Held, nodes::NodeEntry, workloads::has_address},
    endpoints,
    machine::Scheduler,
    reconcile::slots::LIVE_PER_SLOT_MAX,
};

impl Scheduler {
    /// Checks what must hold after every step.
    ///
    /// # Errors
    /// The first thing that does not hold, in one line.
    pub fn check_invariants(&self) -> Result<(), String> {
        self.check_nodes()?;
        self.check_indexes()?;
        self.check_counts()?;
        self.check_addresses()?;
        self.check_endpoints()?;
        self.check_barriers()?;
        self.check_trials()?;
        self.check_scales()?;
        self.cluster.check_dependencies()?;
        self.cluster.check_ledger()
    }

    /// Every node is found by its name and has what the table of instances says.
    fn check_nodes(&self) -> Result<(), String> {
        let mut by_node: BTreeMap<&NodeId, Vec<Held<'_>>> = BTreeMap::new();
        for held in self.cluster.instances() {
            by_node.entry(held.node_id()).or_default().push(held);
        }
        for (id, node) in &self.cluster.nodes {
            check_node(id, node, &by_node.remove(id).unwrap_or_default())?;
        }
        match by_node.first_key_value() {
            Some((id, _)) => Err(format!("{id}: has instances, and is not found by its name")),
            None => Ok(()),
        }
    }

    fn check_indexes(&self) -> Result<(), String> {
        let mut siblings: BTreeMap<&WorkloadId, Vec<u64>> = BTreeMap::new();
        let mut runs: BTreeMap<_, usize> = BTreeMap::new();
        for held in self.cluster.instances() {
            siblings.entry(held.workload()).or_default().push(held.number);
            let run = (held.workload().clone(), held.runs_since());
            let current = self.cluster.workloads.get(held.workload());
            let is_earlier = current.is_none_or(|entry| entry.run.since != held.runs_since());
            if is_earlier && !self.cluster.earlier_runs.contains_key(&run) {
                return Err(format!("{}: what it runs is not kept", held.id()));
            }
            if self.cluster.held_by_id(&held.id()).map(|found| found.number) != Some(held.number) {
                return Err(format!("{}: its id does not lead to it", held.id()));
            }
            *runs.entry(run).or_default() += 1;
        }
        if !siblings.iter().map(|(id, set)| (*id, set)).eq(self.cluster.by_workload.iter()) {
            return Err("the index of instances by workload differs from a rebuild".to_owned());
        }
        if self.cluster.nodes.values().all(|node| node.synced) != self.cluster.nodes.are_synced() {
            return Err("the count of synced nodes differs from a rebuild".to_owned());
        }
        for (key, earlier) in &self.cluster.earlier_runs {
            if runs.get(key) != Some(&earlier.instances) {
                return Err(format!("{} since revision {}: a wrong count of instances", key.0, key.1));
            }
        }
        Ok(())
    }

    /// Never more live instances than wanted and on their way to be replaced.
    fn check_counts(&self) -> Result<(), String> {
        for (id, entry) in &self.cluster.workloads {
            let (mut slots, mut nodes): (BTreeMap<u32, usize>, BTreeMap<&NodeId, usize>) = Default::default();
            for held in self.cluster.instances_of(id).filter(|held| held.is_wanted()) {
                *slots.entry(held.slot()).or_default() += 1;
                *nodes.entry(held.node_id()).or_default() += 1;
            }
            match entry.kind() {
                WorkloadKind::Service { replicas } => {
                    if self.is_warming_up() || self.cluster.touched.workloads.contains(id) {
                        continue;
                    }
                    if let Some((slot, count)) = slots.iter().find(|(_, count)| **count > LIVE_PER_SLOT_MAX) {
                        return Err(format!("{id}: {count} live instances in slot {slot}"));
                    }
                    if slots.len() > replicas as usize {
                        return Err(format!("{id}: {} slots are held, {replicas} are wanted", slots.len()));
                    }
                }
                WorkloadKind::Daemon => {
                    if let Some((node, count)) = nodes.iter().find(|(_, count)| **count > 1) {
                        return Err(format!("{id}: {count} live instances on {node}"));
                    }
                }
                WorkloadKind::Job(_) => {
                    if self.is_warming_up() || self.cluster.touched.workloads.contains(id) {
                        continue;
                    }
                    self.check_job(id)?;
                }
            }
        }
        Ok(())
    }

    /// What ended by itself is kept with a run, so that a restart finds it ended; what runs is of an active run, alone in a slot
    /// that is not done.
    fn check_job(&self, id: &WorkloadId) -> Result<(), String> {
        let job = self.cluster.jobs.get(id);
        let kept: BTreeSet<u64> = job.into_iter().flat_map(|job| job.finished()).collect();
        let mut taken = BTreeSet::new();
        for held in self.cluster.instances_of(id).filter(|held| held.desired() == Desired::Run) {
            if held.is_finished() != kept.contains(&held.number) {
                return Err(format!("{}: whether it ended is told in two ways", held.id()));
            }
            if !held.is_wanted() {
                continue;
            }
            let run = job.and_then(|job| Some((job.run_of(held.number)?, job)));
            let Some((number, job)) = run else { return Err(format!("{}: it is of no active run", held.id())) };
            if job.active_run(number).is_some_and(|run| run.done.contains_key(&held.slot())) {
                return Err(format!("{}: its slot is done", held.id()));
            }
            if !taken.insert((number, held.slot())) {
                return Err(format!("{}: another one lives in slot {} of run {number}", held.id(), held.slot()));
            }
        }
        Ok(())
    }

    /// A service is scaled, within its bounds, if its spec says so.
    fn check_scales(&self) -> Result<(), String> {
        for (id, entry) in &self.cluster.workloads {
            let is_within = match (&entry.spec().scale, entry.scaled) {
                (Some(scale), Some(replicas)) => (scale.min..=scale.max).contains(&replicas),
                (None, None) => true,
                (Some(_), None) | (None, Some(_)) => false,
            };
            if !is_within || entry.scaled.is_some() != self.cluster.scaled.contains(id) {
                return Err(format!("{id}: scaled to {:?}", entry.scaled));
            }
        }
        let unknown = self.cluster.scaled.iter().find(|id| !self.cluster.workloads.contains_key(*id));
        unknown.map_or(Ok(()), |id| Err(format!("{id} is scaled, and not wanted")))
    }

    /// Who must still show that it works is looked at by its workload's rollout, and nobody else is.
    fn check_trials(&self) -> Result<(), String> {
        let tried = |id: &WorkloadId, number: u64| {
            self.cluster.rollouts.get(id).is_some_and(|entry| entry.trials.contains_key(&number))
        };
        let mut wanted = self.cluster.instances().filter(|held| held.is_wanted());
        if let Some(held) = wanted.find(|held| held.is_on_trial() != tried(held.workload(), held.number)) {
            return Err(format!("{}: whether it is on trial is told in two ways", held.id()));
        }
        for (id, entry) in &self.cluster.rollouts {
            let current = self.cluster.workloads.get(id).map(|entry| entry.spec());
            if current != Some(&entry.rollout.current().spec) {
                return Err(format!("{id}: what is kept as its current revision is not what is wanted"));
            }
        }
        Ok(())
    }

    fn check_addresses(&self) -> Result<(), String> {
        let taken: BTreeSet<_> = self.cluster.nodes.values().map(|node| node.spec.subnet).collect();
        if taken != *self.cluster.nodes.subnets() {
            return Err("the index of subnets differs from a rebuild".to_owned());
        }
        let mut subnets: Vec<_> = self.cluster.nodes.values().map(|node| (node.spec.subnet, &node.spec.id)).collect();
        subnets.sort_unstable();
        if let Some(pair) = subnets.windows(2).find(|pair| pair[0].0.overlaps(pair[1].0)) {
            return Err(format!("{} and {} share addresses", pair[0].1, pair[1].1));
        }
        let mut owners = BTreeMap::new();
        for (id, address) in &self.cluster.addresses {
            if let Some(other) = owners.insert(address, id) {
                return Err(format!("{id} and {other} share the virtual address {address}"));
            }
        }
        Ok(())
    }

    /// Every endpoint is a running healthy instance on a ready node, and every such instance is an endpoint; where there is
    /// none, those that run are.
    fn check_endpoints(&self) -> Result<(), String> {
        if self.is_warming_up() {
            return Ok(());
        }
        for service in self.balancing.services() {
            if service.endpoints != endpoints::choice::endpoints(&self.cluster, &service.id) {
                return Err(format!("{}: its endpoints are not its serving instances", service.id));
            }
        }
        for id in self.cluster.addresses.keys() {
            if self.balancing.service(id).is_none() {
                return Err(format!("{id}: has a virtual address but is not in the table"));
            }
        }
        for (id, entry) in self.cluster.workloads.iter() {
            let by_ports_only = entry.spec().is_balanced() && !has_address(entry.spec());
            if by_ports_only && self.balancing.service(id).is_none_or(|service| !service.is_published_only()) {
                return Err(format!("{id}: ports of the nodes lead to it, but the table does not say so"));
            }
        }
        let table = self.balancing.table(&self.settings, self.epoch).ok_or("no service table was made")?;
        if !table.services.iter().map(|service| &**service).eq(self.balancing.services()) {
            return Err("the service table differs from the services".to_owned());
        }
        Ok(())
    }
}

/// The indexes of a node equal a rebuild, and nothing is promised twice.
fn check_node(id: &NodeId, node: &NodeEntry, here: &[Held<'_>]) -> Result<(), String> {
    if !here.iter().map(|held| held.number).eq(node.instances.iter().copied()) {
        return Err(format!("{id}: the index of its instances differs from a rebuild"));
    }
    let mut ports = BTreeMap::new();
    let mut promised = Resources::default();
    for held in here {
        promised = promised.checked_add(held.reserve()).ok_or_else(|| format!("{id}: promised without bound"))?;
        for port in held.host_ports() {
            if let Some(other) = ports.insert(port, held.number) {
                return Err(format!("{id}: instance {other} and {} both hold port {}", held.id(), port.0));
            }
        }
    }
    if promised != node.allocated || ports != node.host_ports {
        return Err(format!("{id}: what it gave away differs from a rebuild"));
    }
    if node.allocatable_when_placed.is_some_and(|most| !most.fits(promised)) {
        return Err(format!("{id}: sold {promised:?} of {:?}", node.allocatable_when_placed));
    }
    Ok(())
}

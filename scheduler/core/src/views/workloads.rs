//! Workloads, seen from outside.

use api_types::{
    id::NodeId,
    instance::InstanceState,
    view::WorkloadView,
    workload::{WorkloadKind, WorkloadSpec},
};

use crate::{
    admission::kind_name,
    cluster::workloads::WorkloadEntry,
    endpoints,
    machine::Scheduler,
    reconcile::{slots::is_current, volumes::WAITING_FOR_DATA},
    views::ports::{TakenPorts, together},
};

/// Why nothing is placed just after a restart.
pub(crate) const WARMING_UP: &str = "the scheduler has just started and waits for the nodes to report";

impl Scheduler {
    pub(crate) fn workload_view(&self, entry: &WorkloadEntry, taken: &TakenPorts<'_>) -> WorkloadView {
        let (spec, workload) = (entry.spec(), &entry.workload);
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let (mut running, mut ready, mut old) = (0, 0, 0);
        for held in self.cluster.instances_of(&spec.id).filter(|held| held.is_wanted()) {
            let runs = held.observed().is_some_and(|observed| observed.state() == InstanceState::Running);
            running += usize::from(runs && held.node().is_ready());
            let current = is_current(held, entry);
            ready += usize::from(current && held.is_serving());
            old += usize::from(!current);
        }
        let (wanted, pending) = match entry.kind() {
            WorkloadKind::Service { replicas } => {
                let held = self.slots_of(&spec.id).values().filter(|slot| slot.is_held()).count();
                (replicas as usize, (replicas as usize).saturating_sub(held))
            }
            WorkloadKind::Daemon => {
                let missing = self.daemon_nodes_without(entry);
                let there = self.cluster.instances_of(&spec.id).filter(|held| held.is_wanted()).count();
                (there + missing, missing)
            }
            WorkloadKind::Job(_) => (self.wanted_by_run(&spec.id), self.open_slots(&spec.id).len()),
        };
        let endpoints = self.cluster.instances_of(&spec.id).filter(|held| endpoints::is_endpoint(*held)).count();
        WorkloadView {
            name: spec.id.clone(),
            kind: kind_name(&spec.kind).to_owned(),
            image: spec.container.image.clone(),
            revision: workload.revision,
            wanted: number(wanted),
            running: number(running),
            ready: number(ready),
            pending: number(pending),
            address: self.cluster.addresses.get(&spec.id).copied(),
            ports: endpoints::ports(spec),
            endpoints: number(if spec.is_balanced() { endpoints } else { 0 }),
            reason: together(self.workload_reason(entry, wanted, pending, ready, old), self.closed_ports(spec, taken)),
            rollout: self.rollout_news(&spec.id, number(ready), number(wanted)),
            scale: self.scale_view(entry),
            job: self.job_view(entry),
            applied_at: workload.applied_at,
            spec: spec.clone(),
        }
    }

    /// Ports of the nodes that do not lead to a workload, as somebody else holds them; empty when there are none.
    pub(crate) fn closed_ports(&self, spec: &WorkloadSpec, taken: &TakenPorts<'_>) -> String {
        let on_node_of_an_instance =
            |node: &NodeId| self.cluster.instances_of(&spec.id).any(|held| held.is_wanted() && held.node_id() == node);
        let ports = spec.ports.iter().flat_map(|port| {
            let published = port.publish.and_then(|number| taken.told((port.protocol, number), |_| true));
            let own = port.host.and_then(|number| taken.told((port.protocol, number), on_node_of_an_instance));
            [published, own]
        });
        ports.flatten().collect::<Vec<_>>().join("; ")
    }

    /// Why not all instances have the node they should; `None` = they have.
    pub(crate) fn parked_reason(&self, entry: &WorkloadEntry) -> Option<String> {
        let noted = entry.parked.as_ref()?;
        Some(match entry.kind() {
            // What was noted when it was parked says nothing of later changes that did not help.
            WorkloadKind::Service { replicas } => {
                self.waits_for_data(entry, replicas).unwrap_or_else(|| self.waits_for_room(entry))
            }
            WorkloadKind::Daemon => noted.clone(),
            WorkloadKind::Job(_) => self.runs_wait_for_data(entry.spec()).unwrap_or_else(|| self.waits_for_room(entry)),
        })
    }

    /// The same with how long it may be so, where that has a limit.
    pub(crate) fn parked_told(&self, entry: &WorkloadEntry) -> Option<String> {
        let reason = self.parked_reason(entry)?;
        Some(match self.room_limit(&entry.spec().id) {
            Some(limit) => format!("{reason}; {limit}"),
            None => reason,
        })
    }

    /// What keeps a workload from being as wanted, the most telling first; empty when it is.
    fn workload_reason(
        &self,
        entry: &WorkloadEntry,
        wanted: usize,
        pending: usize,
        ready: usize,
        old: usize,
    ) -> String {
        if self.is_warming_up() {
            return WARMING_UP.to_owned();
        }
        if ready >= wanted && old == 0 && entry.parked.is_none() {
            return self.job_trouble(entry);
        }
        let mut parts = Vec::new();
        if old > 0 {
            parts.push(format!("revision {}: {ready} of {wanted} replaced", entry.workload.revision));
        }
        match self.parked_told(entry) {
            Some(reason) if reason.starts_with(WAITING_FOR_DATA) => parts.push(reason),
            Some(reason) if pending > 0 => parts.push(format!("{pending} wait for room: {reason}")),
            Some(reason) => parts.push(format!("waits for room: {reason}")),
            None => {}
        }
        let troubled = self
            .cluster
            .instances_of(&entry.spec().id)
            .filter(|held| held.is_wanted())
            .find(|held| !held.is_serving() && (old == 0 || is_current(*held, entry)));
        if let Some(held) = troubled {
            let view = self.instance_view(held);
            let said = if view.reason.is_empty() { view.state.as_str().to_owned() } else { view.reason };
            parts.push(format!("{}: {said}", view.name));
        }
        parts.join("; ")
    }
}

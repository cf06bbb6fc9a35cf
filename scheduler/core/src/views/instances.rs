//! Instances, seen from outside, with those that have no node yet.

use api_types::{
    instance::{Desired, Findings, Health, InstanceState, InstanceUsage},
    node::{Availability, Liveness},
    view::InstanceView,
    workload::WorkloadKind,
};

use crate::{
    cluster::{held::Held, nodes::NodeEntry, rows::Observation, workloads::WorkloadEntry},
    machine::Scheduler,
    reconcile::slots::is_current,
    views::workloads::WARMING_UP,
};

impl Scheduler {
    pub(super) fn instance_view(&self, held: Held<'_>) -> InstanceView {
        let said = held.observation();
        let status = said.as_ref();
        let is_well = held.is_well();
        let unheard = if held.is_finished() { InstanceState::Completed } else { InstanceState::Assigned };
        let observed = status.map_or(unheard, |status| status.state);
        let state = if held.node().liveness == Liveness::Lost && !held.is_finished() {
            InstanceState::Lost
        } else if held.desired() == Desired::Stop && !observed.is_final() {
            InstanceState::Stopping
        } else {
            observed
        };
        let health = status.map_or(Health::Unknown, |status| status.health);
        InstanceView {
            name: held.id().to_string(),
            workload: held.workload().clone(),
            slot: held.slot(),
            revision: held.revision(),
            node: Some(held.node_id().clone()),
            state,
            health: if is_well && state == InstanceState::Running { Health::Healthy } else { health },
            address: status.and_then(|status| status.address),
            pid: status.and_then(|status| status.pid),
            restarts: status.map_or(0, |status| status.restarts),
            last_exit: status.and_then(|status| status.last_exit.clone()),
            reason: self.instance_reason(held, status),
            since: status.map_or(held.placed_at(), |status| status.since),
            usage: held.usage(),
            reserve: held.reserve(),
            findings: said.map(|said| said.findings).unwrap_or_default(),
        }
    }

    /// The instances that are wanted and have no node.
    pub(super) fn pending_views(&self, entry: &WorkloadEntry) -> Vec<InstanceView> {
        let id = &entry.spec().id;
        let slots = self.slots_of(id);
        let pending = match entry.kind() {
            WorkloadKind::Service { replicas } => {
                let held = slots.values().filter(|slot| slot.is_held()).count();
                self.free_slots(id, &slots, (replicas as usize).saturating_sub(held))
            }
            WorkloadKind::Daemon => self.free_slots(id, &slots, self.daemon_nodes_without(entry)),
            WorkloadKind::Job(_) => self.open_slots(id),
        };
        let reason = if self.is_warming_up() {
            WARMING_UP.to_owned()
        } else {
            let before = || "waits for the end of the instance before it".to_owned();
            self.parked_reason(entry).unwrap_or_else(before)
        };
        let views = pending.into_iter().map(|slot| InstanceView {
            name: format!("{}-{slot}", id.name),
            workload: id.clone(),
            slot,
            revision: entry.workload.revision,
            node: None,
            state: InstanceState::Pending,
            health: Health::Unknown,
            address: None,
            pid: None,
            restarts: 0,
            last_exit: None,
            reason: reason.clone(),
            since: entry.workload.applied_at,
            usage: InstanceUsage::default(),
            reserve: entry.spec().reserve(),
            findings: Findings::default(),
        });
        views.collect()
    }

    /// How many nodes shall have an instance of a daemon and have none that shall go on.
    pub(crate) fn daemon_nodes_without(&self, entry: &WorkloadEntry) -> usize {
        let id = &entry.spec().id;
        let there: std::collections::BTreeSet<_> =
            self.cluster.instances_of(id).filter(|held| held.is_wanted()).map(|held| held.node_index()).collect();
        let nodes = self.cluster.nodes.indexed().filter(|(index, node)| {
            !there.contains(index) && self.is_meant_for(id, node) && self.could_take_daemon(node)
        });
        nodes.count()
    }

    /// Whether it is the node's lack of room, not its absence or an operator's wish, that would keep a daemon away.
    fn could_take_daemon(&self, node: &NodeEntry) -> bool {
        node.is_ready() && node.spec.availability == Availability::Active && node.facts.is_some()
    }

    fn instance_reason(&self, held: Held<'_>, status: Option<&Observation>) -> String {
        let (name, node) = (held.node_id(), held.node());
        let silent = match node.liveness {
            Liveness::Ready => None,
            Liveness::Unreachable if self.is_warming_up() => Some("has not reported yet"),
            Liveness::Unreachable => Some("is unreachable"),
            Liveness::Lost => Some("is lost"),
        };
        let said = status.map(|status| status.reason.as_str()).filter(|reason| !reason.is_empty());
        if let Some(silent) = silent {
            let then = if self.frozen.contains(name) {
                "; too many nodes of its site fell silent at once: nothing is replaced"
            } else if held.desired() == Desired::Stop {
                "; it ends when the node returns"
            } else if self.is_queued(held) {
                "; many nodes of its site are silent: it waits for its turn to be replaced"
            } else {
                ""
            };
            return format!("{name} {silent}{then}");
        }
        if held.leaves_at().is_some() {
            return "left the balancers, stops when every node knows".to_owned();
        }
        if held.desired() == Desired::Stop {
            return "asked to stop".to_owned();
        }
        if let Some(said) = said {
            let rest =
                if held.is_used_up() { "; its restarts are used up: another node with room shall try" } else { "" };
            return format!("{said}{rest}");
        }
        if held.is_finished() {
            return String::new();
        }
        if status.is_none() {
            return format!("{name} has not answered yet");
        }
        if held.has_ended() {
            return "ended for good, is replaced in a moment".to_owned();
        }
        if let Some(step) = status.and_then(|status| step_of(held, status)) {
            return step;
        }
        if node.spec.availability == Availability::Draining {
            return if self.has_data(held.workload(), held.slot()) {
                format!("{name} is being drained, but its data is there: give it up with `wherry volume forget`")
            } else {
                format!("{name} is being drained, waits for its successor")
            };
        }
        match self.cluster.workloads.get(held.workload()) {
            Some(entry) if !is_current(held, entry) => {
                format!("runs revision {}, is to be replaced", held.revision())
            }
            Some(_) | None => String::new(),
        }
    }
}

/// What an instance that is not well waits for, while nothing went wrong; `None` = for nothing.
fn step_of(held: Held<'_>, status: &Observation) -> Option<String> {
    let spec = held.spec();
    match status.state {
        // Both are got side by side.
        InstanceState::Preparing => Some(format!("getting image {} and its network ready", spec.container.image)),
        InstanceState::Starting => Some("its process is being started".to_owned()),
        InstanceState::Running if spec.probe.is_some() || spec.restart.startup.is_some() => match status.health {
            Health::Unknown => Some("its probe has not answered yet".to_owned()),
            Health::Unhealthy => Some("its probe does not answer".to_owned()),
            Health::Healthy => None,
        },
        InstanceState::Running | InstanceState::Pending | InstanceState::Assigned | InstanceState::Stopping => None,
        InstanceState::Completed | InstanceState::Failed | InstanceState::Stopped | InstanceState::Lost => None,
    }
}

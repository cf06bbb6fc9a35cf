//! The table of instances: each is placed once, and kept until nothing of it is left.

use api_types::{
    container::Protocol,
    id::{InstanceId, NodeId, WorkloadId},
    instance::{Desired, Health, Instance, InstanceState, InstanceStatus, InstanceUsage},
    resources::Resources,
    time::Timestamp,
};

use crate::{
    cluster::{Cluster, workloads::Run},
    effect::{Record, RecordKey},
};

/// The longest part of an id that comes from the workload's name: thirteen digits in base 36 hold any counter.
const NAME_PART_BYTES_MAX: usize = 63 - 1 - 13;

/// A placed instance and all that is known of it.
#[derive(Clone, Debug)]
pub(crate) struct InstanceEntry {
    /// As placed; durable.
    pub(crate) instance: Instance,
    /// What it runs.
    pub(crate) run: Run,
    /// What its node said of it; `None` = nothing yet.
    pub(crate) status: Option<InstanceStatus>,
    /// What it uses.
    pub(crate) usage: InstanceUsage,
    /// It left the service table and is told to stop at this time.
    pub(crate) leaves_at: Option<Timestamp>,
    /// When its node said that it ended for good.
    pub(crate) ended_at: Option<Timestamp>,
}

impl InstanceEntry {
    /// Makes an entry of which nothing was heard yet.
    pub(crate) fn new(instance: Instance, run: Run) -> Self {
        Self { instance, run, status: None, usage: InstanceUsage::default(), leaves_at: None, ended_at: None }
    }

    /// Whether it shall go on.
    pub(crate) fn is_wanted(&self) -> bool {
        self.instance.desired == Desired::Run && self.leaves_at.is_none()
    }

    /// Whether it ended for good.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended_at.is_some()
    }

    /// What it was promised.
    pub(crate) fn reserve(&self) -> Resources {
        self.run.spec.resources.reserve
    }

    /// The ports of its node that lead to it.
    pub(crate) fn host_ports(&self) -> impl Iterator<Item = (u16, Protocol)> {
        self.run.spec.ports.iter().filter_map(|port| Some((port.host?, port.protocol)))
    }

    /// Whether it runs and its probes, if any, are content.
    pub(crate) fn is_well(&self) -> bool {
        self.status.as_ref().is_some_and(|status| {
            status.state == InstanceState::Running
                && (self.run.spec.probe.is_none() || status.health == Health::Healthy)
        })
    }
}

impl Cluster {
    /// Whether an instance does its work, as far as anybody can know now.
    pub(crate) fn is_serving(&self, held: &InstanceEntry) -> bool {
        held.is_well() && self.nodes.get(&held.instance.node).is_some_and(|node| node.is_ready() && node.synced)
    }

    /// Places a new instance. The caller has checked that the node takes it.
    pub(crate) fn place(&mut self, workload: &WorkloadId, slot: u32, node: &NodeId, now: Timestamp) -> InstanceId {
        let entry = self.workloads.get(workload).expect("only instances of known workloads are placed");
        let number = self.counters.next_instance;
        let instance = Instance {
            id: instance_id(workload, number),
            workload: workload.clone(),
            slot,
            revision: entry.workload.revision,
            node: node.clone(),
            devices: Vec::new(),
            desired: Desired::Run,
            placed_at: now,
        };
        let held = InstanceEntry::new(instance.clone(), entry.run.clone());
        self.counters.next_instance += 1;
        self.counted = true;
        self.persist(Record::Instance(instance.clone()));
        self.touched.sets.insert(node.clone());
        self.touched.seen = true;
        self.insert(held);
        instance.id
    }

    /// Puts an instance into the table and its indexes.
    pub(crate) fn insert(&mut self, held: InstanceEntry) {
        let id = held.instance.id.clone();
        if let Some(node) = self.nodes.get_mut(&held.instance.node) {
            node.instances.insert(id.clone());
            node.allocated = node.allocated.checked_add(held.reserve()).expect("admission bounds what is reserved");
            for port in held.host_ports() {
                node.host_ports.insert(port, id.clone());
            }
        }
        self.by_workload.entry(held.instance.workload.clone()).or_default().insert(id.clone());
        self.instances.insert(id, held);
    }

    /// Takes an instance out of the service table, to be told to stop at `at`.
    pub(crate) fn leave(&mut self, id: &InstanceId, at: Timestamp) {
        let Some(held) = self.instances.get_mut(id) else { return };
        held.leaves_at = Some(at);
        self.touched.endpoints.insert((held.instance.workload.clone(), id.clone()));
        self.touched.workloads.insert(held.instance.workload.clone());
        self.touched.seen = true;
    }

    /// Tells an instance to stop.
    pub(crate) fn stop(&mut self, id: &InstanceId) {
        let Some(held) = self.instances.get_mut(id).filter(|held| held.instance.desired == Desired::Run) else {
            return;
        };
        held.instance.desired = Desired::Stop;
        held.leaves_at = None;
        let instance = held.instance.clone();
        self.touched.endpoints.insert((instance.workload.clone(), id.clone()));
        self.touched.workloads.insert(instance.workload.clone());
        self.touched.sets.insert(instance.node.clone());
        self.touched.seen = true;
        self.persist(Record::Instance(instance));
    }

    /// Forgets an instance of which nothing is left.
    pub(crate) fn forget(&mut self, id: &InstanceId) -> Option<InstanceEntry> {
        let held = self.instances.remove(id)?;
        if let Some(node) = self.nodes.get_mut(&held.instance.node) {
            node.instances.remove(id);
            node.allocated = node.allocated.saturating_sub(held.reserve());
            node.host_ports.retain(|_, holder| holder != id);
        }
        if let Some(siblings) = self.by_workload.get_mut(&held.instance.workload) {
            siblings.remove(id);
            if siblings.is_empty() {
                self.by_workload.remove(&held.instance.workload);
            }
        }
        self.release_run(&held.instance.workload, held.run.since);
        self.unpersist(RecordKey::Instance(id.clone()));
        self.touched.endpoints.insert((held.instance.workload.clone(), id.clone()));
        self.touched.workloads.insert(held.instance.workload.clone());
        self.touched.sets.insert(held.instance.node.clone());
        self.touched.room.insert(held.instance.node.clone());
        self.touched.seen = true;
        Some(held)
    }

    /// Takes over what a node said of an instance; gives what was known before.
    pub(crate) fn observe(
        &mut self,
        id: &InstanceId,
        status: Option<InstanceStatus>,
        now: Timestamp,
    ) -> Option<InstanceStatus> {
        let held = self.instances.get_mut(id)?;
        let ended = status.as_ref().is_some_and(|status| status.state.is_final());
        let address = |status: &Option<InstanceStatus>| status.as_ref().and_then(|status| status.address);
        let before = (held.is_well(), held.has_ended(), address(&held.status));
        held.ended_at = if ended { held.ended_at.or(Some(now)) } else { None };
        self.touched.seen |= held.status != status;
        let earlier = std::mem::replace(&mut held.status, status);
        if before != (held.is_well(), held.has_ended(), address(&held.status)) {
            let steady = self.workloads.get(&held.instance.workload).is_some_and(|entry| entry.is_steady);
            if !steady || before.1 != held.has_ended() {
                self.touched.workloads.insert(held.instance.workload.clone());
            }
            self.touched.endpoints.insert((held.instance.workload.clone(), id.clone()));
        }
        earlier
    }
}

/// The id of the instance with this number; unique, because the number is and comes last.
fn instance_id(workload: &WorkloadId, number: u64) -> InstanceId {
    let name = workload.name.as_str();
    let cut = name.get(..NAME_PART_BYTES_MAX).unwrap_or(name).trim_end_matches('-');
    InstanceId::new(&format!("{cut}-{}", base36(number))).expect("a cut name, a hyphen and digits are a name")
}

fn base36(mut number: u64) -> String {
    let mut digits = Vec::new();
    loop {
        digits.push(b"0123456789abcdefghijklmnopqrstuvwxyz"[usize::try_from(number % 36).expect("below 36")]);
        number /= 36;
        if number == 0 {
            digits.reverse();
            return String::from_utf8(digits).expect("digits and letters");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_names_whatever_the_workload_is_called() {
        let long = "a".repeat(48) + &"-".repeat(14) + "b";
        let workload: WorkloadId = long.parse().unwrap();

        assert_eq!(instance_id(&"web".parse().unwrap(), 4_461).as_str(), "web-3fx");
        assert_eq!(instance_id(&workload, u64::MAX).as_str(), format!("{}-3w5e11264sgsf", "a".repeat(48)));
        assert_eq!(base36(0), "0");
    }
}

//! One instance, looked at.

use api_types::{
    container::Protocol,
    counter::Revision,
    device::DeviceGrant,
    id::{InstanceId, NodeId, WorkloadId},
    instance::{Desired, Health, Instance, InstanceState, InstanceUsage},
    resources::Resources,
    time::Timestamp,
    workload::WorkloadSpec,
};

use crate::cluster::{
    Cluster,
    editions::Edition,
    ids::{instance_id, is_named_after, number_in},
    nodes::NodeEntry,
    rows::{COUNTED, ENDED, FINISHED, LEAVING, Observation, Observed, Row, STOPPING, TRIAL},
};

/// A placed instance and all that is known of it: a view that is made when somebody looks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held<'c> {
    /// Its number: the older, the smaller.
    pub(crate) number: u64,
    cluster: &'c Cluster,
    row: &'c Row,
    observed: Option<&'c Observed>,
    edition: &'c Edition,
    node: &'c NodeEntry,
}

impl<'c> Held<'c> {
    /// Its id; made from its workload's name and its number.
    pub(crate) fn id(&self) -> InstanceId {
        instance_id(self.workload(), self.number)
    }

    /// The whole of it, as people and agents name things.
    pub(crate) fn instance(&self) -> Instance {
        Instance {
            id: self.id(),
            workload: self.workload().clone(),
            slot: self.slot(),
            revision: self.revision(),
            node: self.node_id().clone(),
            devices: self.devices().to_vec(),
            desired: self.desired(),
            placed_at: self.placed_at(),
        }
    }

    /// Whose it is.
    pub(crate) fn workload(&self) -> &'c WorkloadId {
        &self.edition.workload
    }

    /// The revision at which it was placed.
    pub(crate) fn revision(&self) -> Revision {
        self.edition.revision
    }

    /// The revision at which what it runs began.
    pub(crate) fn runs_since(&self) -> Revision {
        self.edition.run.since
    }

    /// The spec that it runs.
    pub(crate) fn spec(&self) -> &'c WorkloadSpec {
        &self.edition.run.spec
    }

    /// How often the texts of its files changed.
    pub(crate) fn texts(&self) -> u64 {
        self.edition.run.texts
    }

    /// Its slot.
    pub(crate) fn slot(&self) -> u32 {
        self.row.slot
    }

    /// The node it is on, and was from the beginning.
    pub(crate) fn node(&self) -> &'c NodeEntry {
        self.node
    }

    /// The name of its node.
    pub(crate) fn node_id(&self) -> &'c NodeId {
        &self.node.spec.id
    }

    /// The index of its node.
    pub(crate) fn node_index(&self) -> u32 {
        self.row.node
    }

    /// When it was placed.
    pub(crate) fn placed_at(&self) -> Timestamp {
        self.row.placed_at
    }

    /// What is wanted of it.
    pub(crate) fn desired(&self) -> Desired {
        if self.row.flags & STOPPING == 0 { Desired::Run } else { Desired::Stop }
    }

    /// The devices it was given.
    pub(crate) fn devices(&self) -> &'c [DeviceGrant] {
        self.cluster.rows.rare(self.number).map_or(&[], |rare| &rare.devices)
    }

    /// Whether it shall go on.
    pub(crate) fn is_wanted(&self) -> bool {
        self.row.flags & (STOPPING | LEAVING | FINISHED) == 0
    }

    /// Whether it is one of a job, and its end is booked.
    pub(crate) fn is_finished(&self) -> bool {
        self.row.flags & FINISHED != 0
    }

    /// It left the service table and is told to stop at this time.
    pub(crate) fn leaves_at(&self) -> Option<Timestamp> {
        if self.row.flags & LEAVING == 0 { None } else { self.cluster.rows.rare(self.number)?.leaves_at }
    }

    /// When its node said that it ended for good.
    pub(crate) fn ended_at(&self) -> Option<Timestamp> {
        if self.row.flags & ENDED == 0 { None } else { self.cluster.rows.rare(self.number)?.ended_at }
    }

    /// Whether it counts for its workload's evenness, as was looked at last.
    pub(crate) fn is_counted(&self) -> bool {
        self.row.flags & COUNTED != 0
    }

    /// Whether it ended for good.
    pub(crate) fn has_ended(&self) -> bool {
        self.row.flags & ENDED != 0
    }

    /// The regular part of what its node said of it; `None` = nothing yet.
    pub(crate) fn observed(&self) -> Option<&'c Observed> {
        self.observed
    }

    /// All that its node said of it; `None` = nothing yet.
    pub(crate) fn observation(&self) -> Option<Observation> {
        self.cluster.rows.observation(self.number)
    }

    /// What it uses.
    pub(crate) fn usage(&self) -> InstanceUsage {
        self.cluster.rows.usage(self.number)
    }

    /// What it was promised, and holds.
    pub(crate) fn reserve(&self) -> Resources {
        if self.is_finished() { Resources::default() } else { self.spec().reserve() }
    }

    /// The ports of its node that lead to it.
    pub(crate) fn host_ports(&self) -> impl Iterator<Item = (u16, Protocol)> + use<'c> {
        self.spec().ports.iter().filter_map(|port| Some((port.host?, port.protocol)))
    }

    /// Whether it must show that it works before it counts.
    pub(crate) fn is_on_trial(&self) -> bool {
        self.row.flags & TRIAL != 0
    }

    /// Whether its process runs, as far as its node said.
    pub(crate) fn runs(&self) -> bool {
        self.observed.is_some_and(|observed| observed.state() == InstanceState::Running)
    }

    /// Whether it runs, its probes, if any, are content, and it is not on trial.
    pub(crate) fn is_well(&self) -> bool {
        !self.is_on_trial() && self.looks_well()
    }

    /// Whether it runs and its probes, if any, are content.
    pub(crate) fn looks_well(&self) -> bool {
        self.observed.is_some_and(|observed| {
            observed.state() == InstanceState::Running && (!self.is_asked() || observed.health() == Health::Healthy)
        })
    }

    /// Whether its node must find it healthy before it gets connections.
    pub(crate) fn is_asked(&self) -> bool {
        let spec = self.spec();
        spec.probe.is_some() || spec.restart.startup.is_some()
    }

    /// Whether it was restarted as often in a row as its spec allows.
    pub(crate) fn is_used_up(&self) -> bool {
        self.spec().restart.max_restarts.is_some() && self.observed.is_some_and(Observed::used_up)
    }

    /// Whether it runs and was found unhealthy.
    pub(crate) fn fails_its_probe(&self) -> bool {
        self.observed.is_some_and(|observed| {
            observed.state() == InstanceState::Running && observed.health() == Health::Unhealthy
        })
    }

    /// Whether it does its work, as far as anybody can know now.
    pub(crate) fn is_serving(&self) -> bool {
        self.is_well() && self.node.is_ready() && self.node.synced
    }
}

impl Cluster {
    /// The instance with this number.
    pub(crate) fn held(&self, number: u64) -> Option<Held<'_>> {
        self.look(number, self.rows.get(number)?)
    }

    /// The instances with these numbers.
    pub(crate) fn held_of<'c>(&'c self, numbers: impl IntoIterator<Item = u64>) -> impl Iterator<Item = Held<'c>> {
        let mut reader = self.rows.reader();
        numbers.into_iter().filter_map(move |number| self.look(number, reader.get(number)?))
    }

    fn look<'c>(&'c self, number: u64, (row, observed): (&'c Row, Option<&'c Observed>)) -> Option<Held<'c>> {
        Some(Held {
            number,
            cluster: self,
            row,
            observed,
            edition: self.editions.at(row.edition),
            // A node stays as long as an instance is on it.
            node: self.nodes.at(row.node)?,
        })
    }

    /// The instance with this id.
    pub(crate) fn held_by_id(&self, id: &InstanceId) -> Option<Held<'_>> {
        self.held(number_in(id)?).filter(|held| is_named_after(id, held.workload()))
    }
}

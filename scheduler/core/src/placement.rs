//! Choosing a node, by the engine of `scheduler/placement`; or saying why none takes an instance.
//!
//! [`ledger`] keeps the engine in step with the tables, [`catalog`] turns names into its numbers, [`compile`] specs into its
//! demands. Planner, committer and people ask one question, the engine's check; [`filters`] gives the answer in names.

pub(crate) mod catalog;
pub(crate) mod compile;
pub(crate) mod displaceable;
pub(crate) mod explain;
pub(crate) mod filters;
pub(crate) mod holdings;
pub(crate) mod ledger;
pub(crate) mod rank;

use api_types::{id::WorkloadId, workload::WorkloadSpec};
use scheduler_placement::{Count, Credit, Grant, Intake, Miss as EngineMiss, NodeIndex, NodeShape};

use crate::{
    cluster::{Cluster, held::Held, nodes::NodeEntry},
    placement::{filters::Miss, holdings::Taken},
};

/// A place that was taken for an instance that is about to be put into the table.
#[derive(Clone, Debug)]
pub(crate) struct Seat {
    /// The index of the node.
    pub(crate) node: u32,
    /// The devices it gets.
    pub(crate) devices: Vec<Grant>,
}

impl Cluster {
    /// Takes places for up to `count` more instances of a workload, the best first; fewer when not all have room.
    pub(crate) fn reserve(&mut self, id: &WorkloadId, count: usize) -> Vec<Seat> {
        let Some(group) = self.ledger.group(id) else { return Vec::new() };
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let runs = self.ledger.engine.place(group, count);
        let seats = runs.into_iter().flat_map(|run| {
            let seat = Seat { node: run.node.0, devices: run.devices };
            std::iter::repeat_n(seat, run.count as usize)
        });
        seats.collect()
    }

    /// Takes a place on one node, if it takes one more instance.
    pub(crate) fn reserve_on(&mut self, id: &WorkloadId, node: u32) -> Option<Seat> {
        let (group, place) = (self.ledger.group(id)?, NodeIndex(node));
        self.ledger.engine.check(place, group).ok()?;
        let devices = self.ledger.engine.grant(place, group).ok()?;
        let demand = self.ledger.engine.group(group)?.demand();
        let taken = Taken { amount: demand.amount, ports: demand.ports.clone(), devices, counted: true };
        self.ledger.engine.take(place, group, taken.holding());
        Some(Seat { node, devices: taken.devices })
    }

    /// Takes a place for one more instance of a workload, on any node but this one.
    pub(crate) fn reserve_elsewhere(&mut self, id: &WorkloadId, node: u32) -> Option<Seat> {
        let shape = self.ledger.engine.fleet().shape(NodeIndex(node));
        if let Some(shape) = shape {
            self.ledger.engine.set_shape(NodeIndex(node), NodeShape { intake: Intake::Held, ..shape });
        }
        let seat = self.reserve(id, 1).pop();
        if let Some(shape) = shape {
            self.ledger.engine.set_shape(NodeIndex(node), shape);
        }
        seat
    }

    /// What a node holds of a workload.
    pub(crate) fn count_on(&self, node: &NodeEntry, id: &WorkloadId) -> Count {
        let index = self.nodes.index_of(&node.spec.id);
        let found = index.zip(self.ledger.group(id));
        found.map(|(index, group)| self.ledger.engine.count(NodeIndex(index), group)).unwrap_or_default()
    }
}

/// Whether `node` takes one more instance of a workload that is wanted with this spec.
pub(crate) fn check<'s>(cluster: &'s Cluster, node: &NodeEntry, spec: &'s WorkloadSpec) -> Result<(), Miss<'s>> {
    check_with(cluster, node, spec, &Credit::default())
}

/// Whether the node of `held` would take one more instance of `spec` if `held` were not there.
pub(crate) fn check_instead_of<'s>(
    cluster: &'s Cluster,
    held: Held<'_>,
    spec: &'s WorkloadSpec,
) -> Result<(), Miss<'s>> {
    check_with(cluster, held.node(), spec, &credit(cluster, [held]))
}

/// What would be free on a node if instances of it were not there.
pub(crate) fn credit<'c>(cluster: &Cluster, gone: impl IntoIterator<Item = Held<'c>>) -> Credit {
    let mut credit = Credit::default();
    for held in gone {
        let taken = Taken::of(held);
        credit.amount = credit.amount.saturating_add(taken.amount);
        credit.ports.extend(taken.ports);
        credit.devices.extend(taken.devices);
        let count = Count { counted: u32::from(taken.counted), total: 1 };
        credit.groups.extend(cluster.ledger.group(held.workload()).map(|group| (group, count)));
    }
    credit
}

/// Whether `node` takes one more instance if what `credit` says were free.
pub(crate) fn check_with<'s>(
    cluster: &'s Cluster,
    node: &NodeEntry,
    spec: &'s WorkloadSpec,
    credit: &Credit,
) -> Result<(), Miss<'s>> {
    let place = cluster.nodes.index_of(&node.spec.id).map(NodeIndex);
    let Some((place, group)) = place.zip(cluster.ledger.group(&spec.id)) else { return Err(Miss::Lost) };
    cluster.ledger.engine.check_with(place, group, credit).map_err(|miss| match miss {
        EngineMiss::Unavailable => filters::unavailable(node),
        EngineMiss::Class | EngineMiss::Node => filters::unsuited(node, spec),
        EngineMiss::Affinity(rule) => Miss::Affinity(&spec.placement.affinities[rule]),
        EngineMiss::AvoidedBy(other) => cluster.ledger.name(other).map_or(Miss::Lost, Miss::AvoidedBy),
        EngineMiss::Spread(rule) => Miss::Spread(&spec.placement.spread[rule]),
        EngineMiss::Port(port) => filters::port(port),
        EngineMiss::PerNode(limit) => Miss::PerNode(limit),
        EngineMiss::Device(request) => Miss::Device(&spec.devices[request]),
        EngineMiss::Resources(lack) => Miss::Resources(filters::lack(lack)),
    })
}

/// How many instances of the workload a node holds.
pub(crate) fn instances_there(cluster: &Cluster, node: &NodeEntry, spec: &WorkloadSpec) -> u32 {
    cluster.count_on(node, &spec.id).total
}

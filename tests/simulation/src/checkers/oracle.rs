//! A slow, obvious placement beside the real one, from what is durable and what the nodes are: where is room?

use std::collections::BTreeSet;

use api_types::{
    id::{InstanceId, NodeId},
    instance::{Desired, Instance},
    node::Availability,
    placement::ConstraintKey,
    resources::Resources,
    workload::{WorkloadKind, WorkloadSpec},
};
use scheduler_core::effect::Effect;

use crate::{equipment::labels_of, node::SimNode, world::World};

/// Milliseconds of silence after which nothing may be placed on a node, however late the scheduler looks.
pub(super) const SILENT_MS: u64 = 10_000;

/// What shall be on a node beside what is there.
#[derive(Clone, Copy, Debug)]
pub(super) enum More<'a> {
    /// Nothing.
    None,
    /// One more instance.
    One,
    /// One in the place of this one.
    InsteadOf(&'a InstanceId),
}

impl More<'_> {
    fn count(self) -> usize {
        match self {
            Self::None => 0,
            Self::One | Self::InsteadOf(_) => 1,
        }
    }

    pub(super) fn replaces(self, id: &InstanceId) -> bool {
        matches!(self, Self::InsteadOf(gone) if gone == id)
    }
}

impl World {
    /// The first node that could take one more instance of a workload, by the records alone.
    #[must_use]
    pub fn node_with_room(&self, spec: &WorkloadSpec) -> Option<&NodeId> {
        self.nodes.iter().find(|node| self.check_room(node, spec, More::One).is_ok()).map(|node| &node.id)
    }

    /// Whether an instance of a workload as it is wanted now would find room: anywhere, or in the place of one that is there.
    pub(crate) fn has_room_for(&self, spec: &WorkloadSpec) -> bool {
        let in_place_of = |held: &Instance| {
            let node = self.node_of(&held.node);
            node.is_some_and(|node| self.check_room(node, spec, More::InsteadOf(&held.id)).is_ok())
        };
        self.node_with_room(spec).is_some() || self.scheduler.decided.of(&spec.id).any(in_place_of)
    }

    /// Everything that a step places is where it may be, judged when all of the step is done.
    pub fn check_placements(&mut self, effects: &[Effect]) {
        let placed: Vec<Instance> =
            effects.iter().flat_map(|effect| self.scheduler.decided.placed_by(effect)).collect();
        for effect in effects {
            self.scheduler.decided.write(effect.clone());
        }
        self.note_missed_after(effects);
        for instance in placed {
            self.note_placed(&instance);
            if let Err(wrong) = self.check_placement(&instance) {
                self.fail(format!("{} is placed on {}: {wrong}", instance.id, instance.node));
                return;
            }
        }
    }

    fn check_placement(&self, instance: &Instance) -> Result<(), String> {
        let workload = self.scheduler.decided.run_of(instance).ok_or("nobody knows what it shall run")?;
        let index = self.index.get(&instance.node).ok_or("there is no such node")?;
        let node = &self.nodes[*index];
        let judged_since = self.scheduler.up_since.max(self.scheduler.slow_until) + SILENT_MS;
        if self.now.since(node.last_heard) > SILENT_MS && self.now > judged_since + SILENT_MS {
            return Err("it is silent".to_owned());
        }
        let spec = &workload.spec;
        self.check_room(node, spec, More::None)?;
        self.check_home(instance, spec)?;
        self.check_grants(node, instance, spec)?;
        self.check_work(instance, spec)?;
        self.check_still_even(node, spec)
    }

    /// Whether a node may hold what it does and what may come.
    pub(super) fn check_room(&self, node: &SimNode, spec: &WorkloadSpec, more: More<'_>) -> Result<(), String> {
        let decided = &self.scheduler.decided;
        let registered = decided.node(&node.id).ok_or("it is not registered")?;
        if registered.availability != Availability::Active {
            return Err(format!("it is {:?}", registered.availability));
        }
        if !meets_constraints(node, spec) {
            return Err("it does not meet a constraint".to_owned());
        }
        let here: Vec<&Instance> = decided.on(&node.id).filter(|held| !more.replaces(&held.id)).collect();
        let runs = |held: &&&Instance| held.workload == spec.id && (more.count() > 0 || held.desired == Desired::Run);
        let siblings = here.iter().filter(runs).count() + more.count();
        let most = match spec.kind {
            WorkloadKind::Daemon => 1,
            WorkloadKind::Service { .. } | WorkloadKind::Job(_) => {
                spec.placement.per_node_max.map_or(usize::MAX, |most| most as usize)
            }
        };
        if siblings > most {
            return Err(format!("it has {siblings} of at most {most}"));
        }
        let held = here.iter().filter_map(|held| Some(&decided.run_of(held)?.spec));
        let all: Vec<&WorkloadSpec> = held.chain(std::iter::repeat_n(spec, more.count())).collect();
        if let Some(port) = port_held_twice(&all) {
            return Err(format!("port {port} is held twice"));
        }
        let given = all.iter().map(|held| held.reserve()).fold(Resources::default(), add);
        let told = node.told.as_ref().ok_or("it never said what it is")?;
        let whole = self.scheduler.settings.system_reserve.allocatable(told.capacity);
        if !whole.fits(given) {
            return Err(format!("it gave away {given:?} of {whole:?}"));
        }
        self.check_company(node, spec)?;
        if more.count() > 0 {
            self.check_devices(node, spec, more)?;
            self.check_evenness(node, spec)?;
        }
        Ok(())
    }
}

/// Whether a node has what the constraints of a workload ask for.
#[must_use]
pub fn meets_constraints(node: &SimNode, spec: &WorkloadSpec) -> bool {
    let labels = labels_of(node.index);
    let facts = node.told.as_ref().unwrap_or(&node.facts);
    let site = format!("site-{}", node.site);
    spec.placement.constraints.iter().all(|constraint| {
        let value = match &constraint.key {
            ConstraintKey::Arch => Some(facts.arch.as_str()),
            ConstraintKey::Os => Some(facts.os.as_str()),
            ConstraintKey::Node => Some(node.id.as_str()),
            ConstraintKey::Label(name) => labels.get(name).map(String::as_str),
            ConstraintKey::Site => Some(site.as_str()),
        };
        constraint.is_met_by(value)
    })
}

fn port_held_twice(held: &[&WorkloadSpec]) -> Option<u16> {
    let mut taken = BTreeSet::new();
    let ports = held.iter().flat_map(|spec| &spec.ports).filter_map(|port| Some((port.host?, port.protocol)));
    ports.into_iter().find(|port| !taken.insert(*port)).map(|(port, _)| port)
}

fn add(one: Resources, other: Resources) -> Resources {
    Resources { cpu_millis: one.cpu_millis + other.cpu_millis, memory_bytes: one.memory_bytes + other.memory_bytes }
}

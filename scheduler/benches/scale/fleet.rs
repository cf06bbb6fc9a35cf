//! A made-up fleet in the engine, and a plain bookkeeping beside it that every answer is held to.

use std::collections::BTreeMap;

use scheduler::replay::{
    synthetic::{self, Mix},
    trace::{Shape, Trace},
};
use scheduler_placement::{
    Amount, ClassId, Demand, DomainKey, Engine, GroupIndex, Intake, NodeIndex, NodeShape, Over, Port, Run, Selection,
    Spread,
};

use crate::Result;

/// What the engine is told of, and what it was told.
#[derive(Clone)]
pub(crate) struct Fleet {
    pub(crate) engine: Engine,
    pub(crate) trace: Trace,
    /// By index of the trace.
    pub(crate) nodes: Vec<NodeIndex>,
    pub(crate) shapes: Vec<NodeShape>,
    /// The zone of each node, dense; one for all where there are none.
    pub(crate) zones: Vec<usize>,
    pub(crate) zone_count: usize,
    classes: Vec<(ClassId, BTreeMap<String, String>)>,
}

impl Fleet {
    /// Makes up a fleet of that mix; with a single zone its nodes have none at all.
    pub(crate) fn new(mix: &Mix) -> Result<Self> {
        let trace = synthetic::trace(mix);
        let mut engine = Engine::default();
        let mut known: BTreeMap<(u32, BTreeMap<String, String>), ClassId> = BTreeMap::new();
        let (mut nodes, mut shapes, mut zones) = (Vec::new(), Vec::new(), Vec::new());
        let mut zone_names: BTreeMap<String, usize> = BTreeMap::new();
        for (order, node) in (0..).zip(&trace.nodes) {
            let mut facts = node.facts.clone();
            let name = facts.remove("zone").unwrap_or_default();
            let next = zone_names.len();
            let zone = *zone_names.entry(name).or_insert(next);
            // Zero is the value of those without a zone.
            let value = if mix.zones == 1 { 0 } else { u32::try_from(zone + 1)? };
            let class = *known.entry((value, facts)).or_insert_with(|| engine.add_class(&[value]));
            let capacity = Amount::capacity(u64::from(node.cpu_millis), u64::from(node.memory_mib) << 20);
            let shape = NodeShape { class, capacity, order, intake: Intake::Open };
            nodes.push(engine.add_node(shape));
            shapes.push(shape);
            zones.push(zone);
        }
        let classes = known.into_iter().map(|((_, facts), class)| (class, facts)).collect();
        Ok(Self { engine, trace, nodes, shapes, zones, zone_count: zone_names.len(), classes })
    }

    /// Compiles what one replica of a shape asks for, without rules of evenness.
    pub(crate) fn demand(&mut self, shape: usize) -> Demand {
        let asked = &self.trace.shapes[shape];
        let meant = self.classes.iter().filter(|(_, facts)| is_met(asked, facts));
        let selection: Selection = meant.map(|(class, _)| *class).collect();
        Demand { amount: amount(asked), selection: self.engine.add_selection(selection), ..Demand::default() }
    }

    /// Adds a group for each shape with what is asked for of it, all even by the same rules, in the trace's order.
    pub(crate) fn add_groups(&mut self, spread: &[Spread]) -> Vec<GroupIndex> {
        let mut wanted = vec![0; self.trace.shapes.len()];
        self.trace.requests.iter().for_each(|request| wanted[request.shape] += request.count);
        let mut groups = Vec::with_capacity(wanted.len());
        for (shape, wanted) in wanted.into_iter().enumerate() {
            let demand = Demand { spread: spread.to_vec(), ..self.demand(shape) };
            groups.push(self.engine.add_group(demand, wanted));
        }
        groups
    }
}

/// Even over zones, then over nodes.
pub(crate) fn even(zone_skew_max: Option<u32>) -> Vec<Spread> {
    vec![
        Spread { over: Over::Domain(DomainKey(0)), skew_max: zone_skew_max },
        Spread { over: Over::Node, skew_max: None },
    ]
}

fn amount(shape: &Shape) -> Amount {
    Amount::request(u64::from(shape.cpu_millis), u64::from(shape.memory_mib) << 20)
}

fn is_met(shape: &Shape, facts: &BTreeMap<String, String>) -> bool {
    shape.require.iter().all(|requirement| requirement.is_met(facts))
}

/// What every answer is held to: counted by other code than the engine's, node by node.
pub(crate) struct Books<'f> {
    fleet: &'f Fleet,
    places: BTreeMap<NodeIndex, usize>,
    free: Vec<Amount>,
    /// Nodes that are away.
    away: Vec<bool>,
    /// For each shape and zone, how many replicas.
    by_zone: Vec<Vec<u32>>,
    /// For each shape, on which nodes, where that matters.
    by_node: BTreeMap<usize, BTreeMap<usize, u32>>,
    pub(crate) placed: u64,
}

impl<'f> Books<'f> {
    /// Nothing is placed yet.
    pub(crate) fn new(fleet: &'f Fleet) -> Self {
        Self {
            fleet,
            places: fleet.nodes.iter().enumerate().map(|(index, node)| (*node, index)).collect(),
            free: fleet.shapes.iter().map(|shape| shape.capacity).collect(),
            away: vec![false; fleet.nodes.len()],
            by_zone: vec![vec![0; fleet.zone_count]; fleet.trace.shapes.len()],
            by_node: BTreeMap::new(),
            placed: 0,
        }
    }

    /// The place of a node in the trace.
    pub(crate) fn place_of(&self, node: NodeIndex) -> Result<usize> {
        Ok(*self.places.get(&node).ok_or("the engine named a node that is not there")?)
    }

    /// Notes what the engine placed of a shape; fails if it does not fit.
    pub(crate) fn enter(&mut self, shape: usize, runs: &[Run]) -> Result<()> {
        let asked = &self.fleet.trace.shapes[shape];
        let wanted = amount(asked);
        for run in runs {
            let index = self.place_of(run.node)?;
            if self.away[index] {
                return Err(format!("shape {shape} was placed on node {index}, which is away").into());
            }
            if !is_met(asked, &self.fleet.trace.nodes[index].facts) {
                return Err(format!("shape {shape} may not be on node {index}").into());
            }
            for _ in 0..run.count {
                if !self.free[index].fits(wanted) {
                    return Err(format!("node {index} was given more than it has").into());
                }
                self.free[index] = self.free[index].saturating_sub(wanted);
            }
            self.by_zone[shape][self.fleet.zones[index]] += run.count;
            self.placed += u64::from(run.count);
            if let Some(nodes) = self.by_node.get_mut(&shape) {
                *nodes.entry(index).or_default() += run.count;
            }
        }
        Ok(())
    }

    /// From now on it is noted on which nodes a shape is.
    pub(crate) fn watch(&mut self, shape: usize) {
        self.by_node.entry(shape).or_default();
    }

    /// Fails if a node holds two of a watched shape.
    pub(crate) fn check_one_per_node(&self, shape: usize) -> Result<()> {
        match self.by_node[&shape].iter().find(|(_, count)| **count > 1) {
            Some((node, count)) => Err(format!("node {node} holds {count} of shape {shape}, at most 1 may").into()),
            None => Ok(()),
        }
    }

    /// Fails if a node holds both of two watched shapes.
    pub(crate) fn check_apart(&self, one: usize, other: usize) -> Result<()> {
        let others = &self.by_node[&other];
        match self.by_node[&one].keys().find(|node| others.contains_key(node)) {
            Some(node) => Err(format!("node {node} holds shapes {one} and {other}, which keep apart").into()),
            None => Ok(()),
        }
    }

    /// Takes a node away with all that is on it; `runs` is what the bench knows to be there, by shape.
    pub(crate) fn take_away(&mut self, index: usize, runs: &[(usize, u32)]) {
        self.away[index] = true;
        for (shape, count) in runs {
            self.by_zone[*shape][self.fleet.zones[index]] -= count;
            self.placed -= u64::from(*count);
        }
    }

    /// By how many the fullest zone exceeds the emptiest of those that could still take a replica of a shape.
    pub(crate) fn skew(&self, shape: usize) -> u32 {
        let roomy = self.roomy_zones(shape, |fits, meant| fits && meant);
        let counts = &self.by_zone[shape];
        let fullest = counts.iter().copied().max().unwrap_or(0);
        let emptiest = roomy.iter().zip(counts).filter(|(roomy, _)| **roomy).map(|(_, count)| *count).min();
        emptiest.map_or(0, |emptiest| fullest.saturating_sub(emptiest))
    }

    /// The same over all zones that have a node that is meant, with room or not.
    pub(crate) fn hard_skew(&self, shape: usize) -> u32 {
        let counts = self.zone_counts(shape);
        counts.iter().max().unwrap_or(&0) - counts.iter().min().unwrap_or(&0)
    }

    /// How many of a shape are in each zone that has a node that is meant, and those of other zones.
    pub(crate) fn zone_counts(&self, shape: usize) -> Vec<u32> {
        let meant = self.roomy_zones(shape, |_, meant| meant);
        self.by_zone[shape].iter().zip(meant).filter(|(_, meant)| *meant).map(|(count, _)| *count).collect()
    }

    /// Notes that one replica of a shape is no longer on a node.
    pub(crate) fn leave(&mut self, shape: usize, index: usize) {
        self.by_zone[shape][self.fleet.zones[index]] -= 1;
        self.free[index] = self.free[index].saturating_add(amount(&self.fleet.trace.shapes[shape]));
        self.placed -= 1;
    }

    /// Whether a look at each node finds room for one more replica of a shape.
    pub(crate) fn has_room(&self, shape: usize) -> bool {
        self.roomy_zones(shape, |fits, meant| fits && meant).contains(&true)
    }

    /// Which zones have a node for which `rule` holds: that it has room, and that it is meant.
    fn roomy_zones(&self, shape: usize, rule: impl Fn(bool, bool) -> bool) -> Vec<bool> {
        let asked = &self.fleet.trace.shapes[shape];
        let wanted = amount(asked);
        let mut zones = vec![false; self.fleet.zone_count];
        for (index, node) in self.fleet.trace.nodes.iter().enumerate() {
            let zone = &mut zones[self.fleet.zones[index]];
            let holds = || rule(self.free[index].fits(wanted), is_met(asked, &node.facts));
            *zone = *zone || (!self.away[index] && holds());
        }
        zones
    }
}

/// A port for each service that wants one.
pub(crate) fn port(number: usize) -> Result<Port> {
    Ok(Port { number: u16::try_from(number)?, protocol: scheduler_placement::Protocol::Tcp })
}

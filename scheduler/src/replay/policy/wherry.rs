//! The scheduler's own placement engine, told what the scheduler would know at each moment: the nodes, what is asked for
//! by then, and what is placed. It never hears of a request before it arrives.

use std::collections::BTreeMap;

use scheduler_placement::{
    Amount, ClassId, Demand, DeviceAmount, DeviceAsk, Engine, Grant, GroupIndex, Holding, Intake, NodeIndex, NodeShape,
    Selection, Slot,
};

use crate::replay::{
    ledger::Taken,
    policy::Placer,
    trace::{GPU_WHOLE, Gpu, Shape, Trace},
};

/// The kind of all devices here.
const GPU: u32 = 0;

/// The engine, and what it calls things.
pub(crate) struct Wherry {
    engine: Engine,
    shapes: Vec<Known>,
    /// By index of the trace.
    nodes: Vec<NodeIndex>,
    /// By index of the engine.
    indices: Vec<usize>,
    classes: Vec<(ClassId, BTreeMap<String, String>)>,
    requests: Vec<Shape>,
}

/// What the engine knows of a shape: nothing until it is first asked for.
#[derive(Clone, Debug, Default)]
struct Known {
    group: Option<GroupIndex>,
    demand: Demand,
    /// How many replicas are asked for now: those that are placed and those that wait.
    wanted: u32,
}

impl Wherry {
    /// Tells a new engine of all nodes.
    pub(crate) fn new(trace: &Trace) -> Self {
        let mut engine = Engine::default();
        let mut zones: BTreeMap<&str, u32> = BTreeMap::new();
        let mut known: BTreeMap<BTreeMap<String, String>, ClassId> = BTreeMap::new();
        let asked = |key: &str| trace.shapes.iter().flat_map(|shape| &shape.require).any(|it| it.key == key);
        let mut mentioned: BTreeMap<&str, bool> = BTreeMap::from([("zone", true)]);
        let mut nodes = Vec::with_capacity(trace.nodes.len());
        for (order, node) in (0..).zip(&trace.nodes) {
            let mut facts = BTreeMap::new();
            for (key, value) in &node.facts {
                if *mentioned.entry(key).or_insert_with(|| asked(key)) {
                    facts.insert(key.clone(), value.clone());
                }
            }
            let zone = node.facts.get("zone").map_or(0, |zone| {
                let next = u32::try_from(zones.len() + 1).expect("no more zones than nodes");
                *zones.entry(zone).or_insert(next)
            });
            let class = *known.entry(facts).or_insert_with(|| engine.add_class(&[zone]));
            let capacity = Amount::capacity(u64::from(node.cpu_millis), u64::from(node.memory_mib) << 20);
            let index = engine.add_node(NodeShape { class, capacity, order, intake: Intake::Open });
            if node.gpus > 0 {
                let slot = Slot { kind: GPU, model: 0, shares: GPU_WHOLE, used: 0 };
                engine.set_devices(index, vec![slot; usize::try_from(node.gpus).expect("few GPUs")]);
            }
            nodes.push(index);
        }
        let mut indices = vec![usize::MAX; nodes.len()];
        for (index, node) in nodes.iter().enumerate() {
            let place = usize::try_from(node.0).expect("an index fits in memory");
            if indices.len() <= place {
                indices.resize(place + 1, usize::MAX);
            }
            indices[place] = index;
        }
        Self {
            engine,
            shapes: vec![Known::default(); trace.shapes.len()],
            nodes,
            indices,
            classes: known.into_iter().map(|(facts, class)| (class, facts)).collect(),
            requests: trace.shapes.clone(),
        }
    }

    /// Compiles what a shape asks for, as the scheduler does when a workload is applied.
    fn demand(&mut self, shape: usize) -> Demand {
        let shape = &self.requests[shape];
        let allowed = |facts: &BTreeMap<String, String>| shape.require.iter().all(|it| it.is_met(facts));
        let selection: Selection =
            self.classes.iter().filter(|(_, facts)| allowed(facts)).map(|(class, _)| *class).collect();
        let amount = match shape.gpu {
            Gpu::None => None,
            Gpu::Part(millis) => Some(DeviceAmount::Millis(millis)),
            Gpu::Whole(count) => Some(DeviceAmount::Whole(count)),
        };
        Demand {
            amount: Amount::request(u64::from(shape.cpu_millis), u64::from(shape.memory_mib) << 20),
            devices: amount.map(|amount| DeviceAsk { kind: GPU, model: None, amount }).into_iter().collect(),
            selection: self.engine.add_selection(selection),
            ..Demand::default()
        }
    }

    /// Tells the engine how many replicas of a shape are asked for.
    fn want(&mut self, shape: usize, wanted: u32) {
        let known = &self.shapes[shape];
        match known.group {
            Some(group) => self.engine.set_demand(group, known.demand.clone(), wanted),
            None => {
                let demand = self.demand(shape);
                let group = self.engine.add_group(demand.clone(), wanted);
                self.shapes[shape] = Known { group: Some(group), demand, wanted };
            }
        }
        self.shapes[shape].wanted = wanted;
    }
}

impl Placer for Wherry {
    fn arrive(&mut self, shape: usize, count: u32) {
        self.want(shape, self.shapes[shape].wanted.saturating_add(count));
    }

    fn place(&mut self, shape: usize, count: u32, taken: &mut Vec<Taken>) {
        let group = self.shapes[shape].group.expect("what is placed has arrived");
        for run in self.engine.place(group, count) {
            let node = self.indices[usize::try_from(run.node.0).expect("an index fits in memory")];
            let gpus = run.devices.iter().fold(0, |bits, grant| bits | 1 << grant.slot);
            taken.extend((0..run.count).map(|_| Taken { node, shape, gpus }));
        }
    }

    fn give_back(&mut self, taken: Taken) {
        let known = &self.shapes[taken.shape];
        let group = known.group.expect("what goes has been placed");
        let shares = match self.requests[taken.shape].gpu {
            Gpu::Part(millis) => millis,
            Gpu::None | Gpu::Whole(_) => GPU_WHOLE,
        };
        let slots = (0..u64::BITS).filter(|slot| taken.gpus & (1 << slot) != 0);
        let devices: Vec<Grant> = slots.map(|slot| Grant { slot, shares }).collect();
        let holding = Holding { amount: known.demand.amount, ports: &[], devices: &devices, counted: true };
        let wanted = known.wanted.saturating_sub(1);
        self.engine.give_back(self.nodes[taken.node], group, holding);
        self.want(taken.shape, wanted);
    }

    fn give_up(&mut self, shape: usize, count: u32) {
        self.want(shape, self.shapes[shape].wanted.saturating_sub(count));
    }
}

//! A random fleet with random demands, and random things that happen to it.

use scheduler_placement::{
    Affinity, Amount, ClassId, Demand, DeviceAmount, DeviceAsk, DomainKey, Engine, GroupIndex, Holding, Intake,
    NodeIndex, NodeShape, Over, Port, Protocol, Relation, Selection, Slot, Spread,
};

use crate::{
    slow::{Instance, Slow, name},
    xorshift::Xorshift,
};

pub(crate) const ZONE: DomainKey = DomainKey(0);
pub(crate) const RACK: DomainKey = DomainKey(1);
const GIB: u32 = 1 << 20;

/// The engine beside the list of instances.
pub(crate) struct Story {
    pub(crate) engine: Engine,
    pub(crate) instances: Vec<Instance>,
    pub(crate) groups: Vec<GroupIndex>,
    pub(crate) random: Xorshift,
    orders: u32,
}

impl Story {
    /// A fleet of up to `nodes` nodes, and groups. `plain` leaves out what keeps a demand from being placed in one go.
    pub(crate) fn new(seed: u64, nodes: u32, plain: bool) -> Self {
        let mut this = Self {
            engine: Engine::default(),
            instances: Vec::new(),
            groups: Vec::new(),
            random: Xorshift::new(seed),
            orders: 0,
        };
        let (zones, racks) = (1 + this.random.below(4), 1 + this.random.below(3));
        for _ in 0..1 + this.random.below(8) {
            let (zone, rack) = (this.random.below(zones), this.random.below(racks));
            this.engine.add_class(&[zone, rack]);
        }
        for _ in 0..1 + this.random.below(nodes) {
            this.add_node();
        }
        for _ in 0..1 + this.random.below(4) {
            let demand = this.demand(plain);
            let wanted = this.random.below(30);
            let group = this.engine.add_group(demand, wanted);
            this.groups.push(group);
        }
        this
    }

    fn class(&mut self) -> ClassId {
        ClassId(self.random.below(self.engine.fleet().class_count()))
    }

    fn shape(&mut self, open: u32) -> NodeShape {
        let cpus = self.random.one_of(&[1, 2, 4, 8]);
        let memory = self.random.one_of(&[1, 4, 8, 32]);
        // Each order once, and not in the order of the numbers.
        self.orders += 1;
        NodeShape {
            class: self.class(),
            capacity: Amount { cpu_millis: cpus * 1_000, memory_kib: memory * GIB },
            order: self.orders.reverse_bits(),
            intake: match (self.random.percent(open), self.random.percent(50)) {
                (true, _) => Intake::Open,
                (false, true) => Intake::Held,
                (false, false) => Intake::Shut,
            },
        }
    }

    fn add_node(&mut self) -> NodeIndex {
        let shape = self.shape(90);
        let node = self.engine.add_node(shape);
        let count = self.random.below(4);
        let slots = (0..count).map(|_| Slot {
            kind: self.random.below(2),
            model: self.random.below(2),
            shares: self.random.one_of(&[1, 2, 3]),
            used: 0,
        });
        let slots = slots.collect();
        self.engine.set_devices(node, slots);
        node
    }

    fn demand(&mut self, plain: bool) -> Demand {
        let selection: Selection =
            (0..self.engine.fleet().class_count()).map(ClassId).filter(|_| self.random.percent(80)).collect();
        let cpu_millis = self.random.one_of(&[0, 100, 300, 500, 1_000]);
        let memory_kib = self.random.one_of(&[1, GIB / 4, GIB / 2, GIB]);
        let mut demand = Demand {
            amount: Amount { cpu_millis, memory_kib },
            selection: self.engine.add_selection(selection),
            spread: self.spread(),
            per_node_max: self.random.percent(25).then(|| 1 + self.random.below(3)),
            ..Demand::default()
        };
        if self.random.percent(15) {
            demand.ports = vec![Port {
                number: 80 + u16::try_from(self.random.below(2)).expect("it is there"),
                protocol: Protocol::Tcp,
            }];
        }
        if plain {
            return demand;
        }
        if self.random.percent(20) {
            let nodes: Vec<NodeIndex> = self.engine.fleet().nodes().collect();
            demand.nodes = Some(nodes.into_iter().filter(|_| self.random.percent(40)).collect());
        }
        for group in self.groups.clone() {
            if self.random.percent(25) {
                demand.affinities.push(Affinity {
                    group,
                    within: self.random.one_of(&[Over::Node, Over::Domain(ZONE), Over::Domain(RACK)]),
                    relation: self.random.one_of(&[Relation::With, Relation::Without, Relation::Without]),
                });
            }
        }
        if self.random.percent(25) {
            let amount =
                [DeviceAmount::Whole(1), DeviceAmount::Whole(2), DeviceAmount::Millis(400), DeviceAmount::Share];
            demand.devices.push(DeviceAsk {
                kind: self.random.below(2),
                model: self.random.percent(40).then(|| self.random.below(2)),
                amount: self.random.one_of(&amount),
            });
        }
        demand
    }

    fn spread(&mut self) -> Vec<Spread> {
        let (zone, rack, node) = (Over::Domain(ZONE), Over::Domain(RACK), Over::Node);
        let shapes: [&[Over]; 9] = [
            &[zone, node],
            &[zone, node],
            &[node],
            &[zone],
            &[],
            &[rack, zone, node],
            &[node, zone],
            &[rack, node],
            &[zone, rack],
        ];
        let shape = self.random.one_of(&shapes);
        let skew = |random: &mut Xorshift| random.percent(25).then(|| 1 + random.below(2));
        shape.iter().map(|over| Spread { over: *over, skew_max: skew(&mut self.random) }).collect()
    }

    pub(crate) fn slow(&self) -> Slow<'_> {
        Slow { engine: &self.engine, instances: &self.instances }
    }

    /// Places one instance as the engine picks, after comparing every answer with the slow ones.
    pub(crate) fn place_one(&mut self, group: GroupIndex, seed: u64) -> bool {
        for node in self.engine.fleet().nodes() {
            let fast = self.engine.check(node, group).map_err(name);
            assert_eq!(fast, self.slow().check(node, group), "seed {seed}: {node:?} for {group:?}");
        }
        let expected = self.slow().pick(group);
        let picked = self.engine.pick(group);
        assert_eq!(picked, expected, "seed {seed}: {:?}", self.engine.group(group).map(|group| group.demand()));
        let Some(node) = picked else { return false };
        let devices = self.engine.grant(node, group).expect("the check passed");
        let demand = self.engine.group(group).expect("it is there").demand().clone();
        let instance = Instance { group, node, amount: demand.amount, ports: demand.ports, devices, counted: true };
        let Self { engine, instances, .. } = self;
        engine.take(node, group, holding(&instance));
        instances.push(instance);
        true
    }

    pub(crate) fn give_back(&mut self, index: usize) {
        let instance = self.instances.swap_remove(index);
        self.engine.give_back(instance.node, instance.group, holding(&instance));
    }

    /// Something other than placing.
    pub(crate) fn happen(&mut self) {
        let nodes: Vec<NodeIndex> = self.engine.fleet().nodes().collect();
        let count = u32::try_from(self.instances.len()).expect("it is there");
        match self.random.below(6) {
            0 | 1 if count > 0 => {
                let index = self.random.below(count) as usize;
                self.give_back(index);
            }
            2 if count > 0 => {
                let index = self.random.below(count) as usize;
                let instance = &mut self.instances[index];
                instance.counted = !instance.counted;
                self.engine.set_counted(instance.node, instance.group, instance.counted);
            }
            3 if nodes.len() > 1 => {
                let node = self.random.one_of(&nodes);
                while let Some(index) = self.instances.iter().position(|instance| instance.node == node) {
                    self.give_back(index);
                }
                self.engine.remove_node(node);
                self.add_node();
            }
            4 if !nodes.is_empty() => {
                let (node, shape) = (self.random.one_of(&nodes), self.shape(80));
                self.engine.set_shape(node, shape);
            }
            _ => {
                let group = self.random.one_of(&self.groups);
                let mut demand = self.engine.group(group).expect("it is there").demand().clone();
                demand.spread = self.spread();
                demand.amount.cpu_millis += 50;
                let wanted = self.random.below(30);
                self.engine.set_demand(group, demand, wanted);
            }
        }
    }

    pub(crate) fn compare(&self, seed: u64) {
        let all = self.instances.iter().map(|instance| (instance.node, instance.group, holding(instance)));
        assert_eq!(self.engine.compare(all), Ok(()), "seed {seed}");
    }
}

pub(crate) fn holding(instance: &Instance) -> Holding<'_> {
    Holding { amount: instance.amount, ports: &instance.ports, devices: &instance.devices, counted: instance.counted }
}

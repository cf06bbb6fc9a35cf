//! Placement again, slow and obvious: a list of instances, counted anew for every question.

use scheduler_placement::{
    Amount, DeviceAmount, DomainKey, Engine, Grant, GroupIndex, Intake, Miss, NodeIndex, Over, Relation, Slot,
};

/// An instance as the test keeps it.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    pub(crate) group: GroupIndex,
    pub(crate) node: NodeIndex,
    pub(crate) amount: Amount,
    pub(crate) ports: Vec<scheduler_placement::Port>,
    pub(crate) devices: Vec<Grant>,
    pub(crate) counted: bool,
}

/// What is so: the engine's nodes, classes and demands, and the test's own instances.
pub(crate) struct Slow<'t> {
    pub(crate) engine: &'t Engine,
    pub(crate) instances: &'t [Instance],
}

impl Slow<'_> {
    fn value(&self, node: NodeIndex, key: DomainKey) -> Option<u32> {
        let fleet = self.engine.fleet();
        Some(fleet.value(fleet.shape(node)?.class, key))
    }

    fn is_same_place(&self, a: NodeIndex, b: NodeIndex, over: Over) -> bool {
        match over {
            Over::Node => a == b,
            Over::Domain(key) => self.value(a, key) == self.value(b, key),
        }
    }

    fn there(&self, node: NodeIndex, group: GroupIndex, over: Over) -> impl Iterator<Item = &Instance> {
        let siblings = self.instances.iter().filter(move |instance| instance.group == group);
        siblings.filter(move |instance| self.is_same_place(instance.node, node, over))
    }

    fn counted(&self, node: NodeIndex, group: GroupIndex, over: Over) -> u32 {
        u32::try_from(self.there(node, group, over).filter(|instance| instance.counted).count()).expect("it is there")
    }

    fn is_meant(&self, node: NodeIndex, group: GroupIndex) -> bool {
        let demand = self.engine.group(group).expect("it is there").demand();
        let Some(shape) = self.engine.fleet().shape(node).filter(|shape| shape.intake != Intake::Shut) else {
            return false;
        };
        let allowed = self.engine.selection(demand.selection).expect("it is there").allows(shape.class);
        allowed && demand.nodes.as_ref().is_none_or(|nodes| nodes.contains(&node))
    }

    fn free(&self, node: NodeIndex) -> (u64, u64) {
        let capacity = self.engine.fleet().shape(node).expect("it is there").capacity;
        let here = || self.instances.iter().filter(|instance| instance.node == node);
        let cpu: u64 = here().map(|instance| u64::from(instance.amount.cpu_millis)).sum();
        let memory: u64 = here().map(|instance| u64::from(instance.amount.memory_kib)).sum();
        (u64::from(capacity.cpu_millis).saturating_sub(cpu), u64::from(capacity.memory_kib).saturating_sub(memory))
    }

    /// The kind of the first rule that a node breaks, in the documented order.
    pub(crate) fn check(&self, node: NodeIndex, group: GroupIndex) -> Result<(), &'static str> {
        let demand = self.engine.group(group).expect("it is there").demand();
        let Some(shape) = self.engine.fleet().shape(node).filter(|shape| shape.intake == Intake::Open) else {
            return Err("unavailable");
        };
        if !self.engine.selection(demand.selection).expect("it is there").allows(shape.class) {
            return Err("class");
        }
        if demand.nodes.as_ref().is_some_and(|nodes| !nodes.contains(&node)) {
            return Err("node");
        }
        for rule in &demand.affinities {
            let beside = self.there(node, rule.group, rule.within).next().is_some();
            if beside != (rule.relation == Relation::With) {
                return Err("affinity");
            }
        }
        for (other, theirs) in self.engine.groups() {
            let against = theirs.demand().affinities.iter().filter(|rule| rule.relation == Relation::Without);
            for rule in against.filter(|rule| rule.group == group) {
                if self.there(node, other, rule.within).next().is_some() {
                    return Err("avoided");
                }
            }
        }
        for rule in &demand.spread {
            let meant = self.engine.fleet().nodes().filter(|other| self.is_meant(*other, group));
            let lowest = meant.map(|other| self.counted(other, group, rule.over)).min().expect("it is there");
            if rule.skew_max.is_some_and(|skew| self.counted(node, group, rule.over) + 1 > lowest + skew) {
                return Err("spread");
            }
        }
        let mut here = self.instances.iter().filter(|instance| instance.node == node);
        if here.any(|instance| instance.ports.iter().any(|port| demand.ports.contains(port))) {
            return Err("port");
        }
        if demand.per_node_max.is_some_and(|most| self.there(node, group, Over::Node).count() >= most as usize) {
            return Err("per_node");
        }
        if !demand.devices.is_empty() && !self.has_devices(node, group) {
            return Err("device");
        }
        let (cpu, memory) = self.free(node);
        let fits = u64::from(demand.amount.cpu_millis) <= cpu && u64::from(demand.amount.memory_kib) <= memory;
        if fits { Ok(()) } else { Err("resources") }
    }

    /// The test's demands ask for one kind each, so trying each device in turn is enough.
    fn has_devices(&self, node: NodeIndex, group: GroupIndex) -> bool {
        let asks = &self.engine.group(group).expect("it is there").demand().devices;
        let free = |slot: &Slot, index: u32| {
            let here = self.instances.iter().filter(|instance| instance.node == node);
            let used: u32 =
                here.flat_map(|held| &held.devices).filter(|held| held.slot == index).map(|held| held.shares).sum();
            slot.shares - used
        };
        let slots = self.engine.fleet().devices(node);
        asks.iter().all(|ask| {
            let suits = |slot: &&Slot| slot.kind == ask.kind && ask.model.is_none_or(|model| slot.model == model);
            let able = (0..).zip(slots).filter(|(_, slot)| suits(slot)).filter(|(index, slot)| match ask.amount {
                DeviceAmount::Whole(_) => free(slot, *index) == slot.shares,
                DeviceAmount::Millis(millis) => (1..=slot.shares)
                    .any(|shares| shares * 1_000 >= millis * slot.shares && shares <= free(slot, *index)),
                DeviceAmount::Share => free(slot, *index) > 0,
            });
            let wanted = if let DeviceAmount::Whole(count) = ask.amount { count } else { 1 };
            able.count() >= wanted as usize
        })
    }

    /// How much each class is sought after, in 1,024ths of a whole, times 0.3.
    fn scarcity(&self, class: scheduler_placement::ClassId) -> u64 {
        let mut selections: Vec<_> = self.engine.groups().map(|(_, group)| group.demand().selection).collect();
        selections.sort_unstable();
        selections.dedup();
        let weight = |selection| {
            let classes = self.engine.selection(selection).expect("it is there");
            let groups = self.engine.groups().filter(|(_, group)| group.demand().selection == selection);
            let (mut cpu, mut memory, mut all_cpu, mut all_memory) = (0_u64, 0_u64, 0_u64, 0_u64);
            for (_, group) in groups {
                cpu += u64::from(group.demand().amount.cpu_millis) * u64::from(group.wanted());
                memory += u64::from(group.demand().amount.memory_kib) * u64::from(group.wanted());
            }
            for node in self.engine.fleet().nodes() {
                let shape = self.engine.fleet().shape(node).expect("it is there");
                if classes.allows(shape.class) {
                    all_cpu += u64::from(shape.capacity.cpu_millis);
                    all_memory += u64::from(shape.capacity.memory_kib);
                }
            }
            let ratio = |wanted: u64, all: u64| (wanted * 1_024 / all.max(1)).min(3 * 1_024);
            (ratio(cpu, all_cpu) + ratio(memory, all_memory)) / 2 * 300 / 1_000
        };
        let allowing =
            selections.into_iter().filter(|id| self.engine.selection(*id).expect("it is there").allows(class));
        allowing.map(weight).sum()
    }

    /// The counts of the rules, the coarse gap of the free shares with scarcity, what is used, and the order.
    fn score(&self, node: NodeIndex, group: GroupIndex) -> (Vec<u32>, u64, u64, u32) {
        let demand = self.engine.group(group).expect("it is there").demand();
        let counts = demand.spread.iter().map(|rule| self.counted(node, group, rule.over)).collect();
        let shape = self.engine.fleet().shape(node).expect("it is there");
        let (cpu, memory) = self.free(node);
        let most = u64::from(u32::MAX);
        let cpu = (cpu - u64::from(demand.amount.cpu_millis)) * (most / u64::from(shape.capacity.cpu_millis).max(1));
        let memory = (memory - u64::from(demand.amount.memory_kib)) / 256;
        let memory = memory * (most / (u64::from(shape.capacity.memory_kib) / 256).max(1));
        let gap = (cpu >> 22).abs_diff(memory >> 22) + self.scarcity(shape.class).min(3 * 1_024);
        let used = (most - cpu / 2 - memory / 2) >> 12;
        (counts, gap / 16, used, shape.order)
    }

    /// The best node of all, asked one by one.
    pub(crate) fn pick(&self, group: GroupIndex) -> Option<NodeIndex> {
        let fits = self.engine.fleet().nodes().filter(|node| self.check(*node, group).is_ok());
        fits.min_by_key(|node| self.score(*node, group))
    }
}

/// The name of a miss as [`Slow::check`] says it.
pub(crate) fn name(miss: Miss) -> &'static str {
    match miss {
        Miss::Unavailable => "unavailable",
        Miss::Class => "class",
        Miss::Node => "node",
        Miss::Affinity(_) => "affinity",
        Miss::AvoidedBy(_) => "avoided",
        Miss::Spread(_) => "spread",
        Miss::Port(_) => "port",
        Miss::PerNode(_) => "per_node",
        Miss::Device(_) => "device",
        Miss::Resources(_) => "resources",
    }
}

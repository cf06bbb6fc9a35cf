//! Who gives way: against every other choice on small fleets.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use scheduler_placement::{
    Affinity, Amount, ClassId, Count, Credit, Demand, Displaceable, DomainKey, Engine, GroupIndex, Holding, Intake,
    NodeIndex, NodeShape, Over, Port, Preemption, Protocol, Relation, Selection, SelectionId, Victim, preempt,
};

const PORT: Port = Port { number: 9_000, protocol: Protocol::Tcp };

/// An instance of the test's fleet.
#[derive(Clone, Debug)]
struct Placed {
    key: u64,
    node: NodeIndex,
    group: GroupIndex,
    priority: u8,
    amount: Amount,
    ports: Vec<Port>,
    leaves: bool,
}

#[derive(Debug, Default)]
struct Fleet {
    engine: Engine,
    displaceable: Displaceable,
    placed: Vec<Placed>,
    selection: SelectionId,
    class: ClassId,
}

impl Fleet {
    fn new() -> Self {
        let mut engine = Engine::default();
        let class = engine.add_class(&[1]);
        let selection = engine.add_selection(Selection::from_iter([class]));
        Self { engine, class, selection, ..Self::default() }
    }

    fn node(&mut self, cpu_millis: u32, memory_kib: u32) -> NodeIndex {
        let order = u32::try_from(self.engine.fleet().len()).unwrap();
        let capacity = Amount { cpu_millis, memory_kib };
        self.engine.add_node(NodeShape { class: self.class, capacity, order, intake: Intake::Open })
    }

    fn group(&mut self, priority: u8, cpu_millis: u32, memory_kib: u32) -> GroupIndex {
        self.group_with(Demand { priority, amount: Amount { cpu_millis, memory_kib }, ..Demand::default() })
    }

    fn group_with(&mut self, demand: Demand) -> GroupIndex {
        self.engine.add_group(Demand { selection: self.selection, ..demand }, 1)
    }

    fn place(&mut self, group: GroupIndex, node: NodeIndex) {
        let demand = self.engine.group(group).unwrap().demand().clone();
        let key = u64::try_from(self.placed.len()).unwrap();
        let (priority, amount, ports) = (demand.priority, demand.amount, demand.ports);
        let holding = Holding { amount, ports: &ports, devices: &[], counted: true };
        self.engine.take(node, group, holding);
        self.displaceable.add(node, priority, amount);
        self.placed.push(Placed { key, node, group, priority, amount, ports, leaves: false });
    }

    fn victims_on(&self, node: NodeIndex) -> Vec<Victim> {
        let here = self.placed.iter().filter(|placed| placed.node == node);
        here.map(|placed| Victim {
            key: placed.key,
            group: placed.group,
            priority: placed.priority,
            amount: placed.amount,
            ports: placed.ports.clone(),
            devices: Vec::new(),
            counted: true,
            leaves: placed.leaves,
        })
        .collect()
    }

    fn preempt(&self, group: GroupIndex) -> Option<Preemption> {
        preempt(&self.engine, &self.displaceable, group, |node| self.victims_on(node))
    }

    /// What is freed when these go, with all that leaves anyway.
    fn credit(&self, node: NodeIndex, priority: u8, keys: &[u64]) -> Credit {
        let mut credit = Credit::default();
        for placed in self.placed.iter().filter(|placed| placed.node == node) {
            if keys.contains(&placed.key) || (placed.leaves && placed.priority < priority) {
                credit.amount = credit.amount.saturating_add(placed.amount);
                credit.ports.extend(&placed.ports);
                credit.groups.push((placed.group, Count { counted: 1, total: 1 }));
            }
        }
        credit
    }

    /// How many of each priority, the highest first, and how much: what is compared.
    fn cost(&self, keys: &[u64]) -> ([usize; 3], u64) {
        let victims: Vec<_> = self.placed.iter().filter(|placed| keys.contains(&placed.key)).collect();
        let count = |priority| victims.iter().filter(|placed| placed.priority == priority).count();
        let weight = |amount: Amount| u64::from(amount.cpu_millis) * ((4 << 20) / 1_000) + u64::from(amount.memory_kib);
        ([count(2), count(1), count(0)], victims.iter().map(|placed| weight(placed.amount)).sum())
    }

    /// The cheapest of all sets on all nodes, by trying every one.
    fn cheapest(&self, group: GroupIndex) -> Option<([usize; 3], u64)> {
        let demand = self.engine.group(group)?.demand();
        let company: Vec<GroupIndex> = demand.affinities.iter().map(|rule| rule.group).collect();
        let with = demand.affinities.first().is_some_and(|rule| rule.relation == Relation::With);
        let mut best = None;
        for node in self.engine.fleet().nodes() {
            let keys: Vec<u64> = self
                .placed
                .iter()
                .filter(|placed| placed.node == node && placed.priority < demand.priority && !placed.leaves)
                .filter(|placed| !(with && company.contains(&placed.group)))
                .map(|placed| placed.key)
                .collect();
            for set in 0_u32..1 << keys.len() {
                let chosen: Vec<u64> =
                    keys.iter().enumerate().filter(|(bit, _)| set >> bit & 1 == 1).map(|(_, key)| *key).collect();
                let credit = self.credit(node, demand.priority, &chosen);
                if self.engine.check_with(node, group, &credit).is_ok() {
                    let cost = self.cost(&chosen);
                    best = best.into_iter().chain([cost]).min();
                }
            }
        }
        best
    }
}

/// A small generator of numbers (xorshift64*), so that a failing seed fails again.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % end
    }

    fn amount(&mut self, end: u64) -> u32 {
        u32::try_from(self.below(end)).unwrap()
    }
}

#[test]
fn no_other_choice_is_cheaper() {
    let (mut found, mut none) = (0, 0);
    for seed in 1..=600 {
        let (fleet, wanted) = random_fleet(&mut Random(seed * 7_919));
        if fleet.engine.fleet().nodes().any(|node| fleet.engine.check(node, wanted).is_ok()) {
            continue;
        }

        let plan = fleet.preempt(wanted);

        let cost = plan.as_ref().map(|plan| fleet.cost(&plan.victims));
        assert_eq!(cost, fleet.cheapest(wanted), "seed {seed}: {plan:?}");
        found += u32::from(plan.is_some());
        none += u32::from(plan.is_none());
        let Some(plan) = plan else { continue };
        let demand = fleet.engine.group(wanted).unwrap().demand();
        let credit = fleet.credit(plan.node, demand.priority, &plan.victims);
        assert_eq!(fleet.engine.check_with(plan.node, wanted, &credit), Ok(()), "seed {seed}: to no gain");
        for key in &plan.victims {
            let victim = fleet.placed.iter().find(|placed| placed.key == *key).unwrap();
            assert!(victim.node == plan.node && victim.priority < demand.priority, "seed {seed}: {victim:?}");
            let spared: Vec<u64> = plan.victims.iter().copied().filter(|other| other != key).collect();
            let credit = fleet.credit(plan.node, demand.priority, &spared);
            assert!(fleet.engine.check_with(plan.node, wanted, &credit).is_err(), "seed {seed}: {key} in vain");
        }
    }
    assert!(found > 100 && none > 20, "the fleets are not mixed: {found} plans, {none} without");
}

/// Up to five nodes with up to eight instances each, and a group that wants room.
fn random_fleet(random: &mut Random) -> (Fleet, GroupIndex) {
    let mut fleet = Fleet::new();
    let nodes: Vec<NodeIndex> =
        (0..=random.below(5)).map(|_| fleet.node(2_000 + random.amount(2_000), 2_000 + random.amount(2_000))).collect();
    let mut groups = Vec::new();
    for _ in 0..4 + random.below(4) {
        let priority = u8::try_from(random.below(4)).unwrap();
        let amount = Amount { cpu_millis: 100 + random.amount(900), memory_kib: 100 + random.amount(900) };
        let ports = if random.below(5) == 0 { vec![PORT] } else { Vec::new() };
        let affinities = match (random.below(6), groups.last()) {
            (0, Some(group)) => vec![Affinity { group: *group, within: Over::Node, relation: Relation::Without }],
            _ => Vec::new(),
        };
        let demand = Demand { priority, amount, ports, affinities, ..Demand::default() };
        groups.push(fleet.group_with(demand));
    }
    for node in nodes {
        for _ in 0..random.below(9) {
            let group = groups[usize::try_from(random.below(u64::try_from(groups.len()).unwrap())).unwrap()];
            if fleet.engine.check(node, group).is_ok() {
                fleet.place(group, node);
            }
        }
    }
    for placed in &mut fleet.placed {
        placed.leaves = random.below(10) == 0;
        if placed.leaves {
            fleet.displaceable.leave(placed.node, placed.priority, placed.amount);
        }
    }
    let relation = if random.below(2) == 0 { Relation::With } else { Relation::Without };
    let affinities = match random.below(4) {
        0 => vec![Affinity { group: groups[0], within: Over::Node, relation }],
        _ => Vec::new(),
    };
    let wanted = fleet.group_with(Demand {
        priority: 1 + u8::try_from(random.below(3)).unwrap(),
        amount: Amount { cpu_millis: 500 + random.amount(2_500), memory_kib: 500 + random.amount(2_500) },
        ports: if random.below(3) == 0 { vec![PORT] } else { Vec::new() },
        affinities,
        ..Demand::default()
    });
    (fleet, wanted)
}

#[test]
fn the_lowest_priority_goes_before_the_fewest() {
    let mut fleet = Fleet::new();
    let (one, other) = (fleet.node(1_000, 1_000), fleet.node(1_000, 1_000));
    let (small, large) = (fleet.group(0, 500, 500), fleet.group(1, 1_000, 1_000));
    fleet.place(large, one);
    fleet.place(small, other);
    fleet.place(small, other);
    let urgent = fleet.group(2, 1_000, 1_000);

    let plan = fleet.preempt(urgent);

    assert_eq!(plan, Some(Preemption { node: other, victims: vec![2, 1] }));
}

#[test]
fn whom_a_rule_keeps_off_a_site_displaces_nobody_for_it() {
    for (within, found) in [(Over::Node, true), (Over::Domain(DomainKey(0)), false)] {
        let mut fleet = Fleet::new();
        let (one, _) = (fleet.node(1_000, 1_000), fleet.node(1_000, 1_000));
        let low = fleet.group(0, 600, 600);
        fleet.place(low, one);
        let rule = Affinity { group: low, within, relation: Relation::Without };
        let large = fleet.group(3, 500, 500);
        fleet.place(large, NodeIndex(1));
        let amount = Amount { cpu_millis: 600, memory_kib: 600 };
        let urgent = fleet.group_with(Demand { priority: 2, amount, affinities: vec![rule], ..Demand::default() });

        let plan = fleet.preempt(urgent);

        let expected = Preemption { node: one, victims: vec![0] };
        assert_eq!(plan, found.then_some(expected), "it would come back beside the urgent one");
    }
}

#[test]
fn equals_and_betters_stay() {
    let mut fleet = Fleet::new();
    let node = fleet.node(1_000, 1_000);
    let holder = fleet.group(2, 1_000, 1_000);
    fleet.place(holder, node);

    for priority in 0..=2 {
        let wanted = fleet.group(priority, 1_000, 1_000);
        assert_eq!(fleet.preempt(wanted), None, "priority {priority}");
    }
    let critical = fleet.group(3, 1_000, 1_000);
    assert!(fleet.preempt(critical).is_some());
}

#[test]
fn who_leaves_anyway_is_waited_for() {
    let mut fleet = Fleet::new();
    let (one, other) = (fleet.node(1_000, 1_000), fleet.node(1_000, 1_000));
    let low = fleet.group(0, 1_000, 1_000);
    fleet.place(low, one);
    fleet.place(low, other);
    fleet.placed[1].leaves = true;
    fleet.displaceable.leave(other, 0, fleet.placed[1].amount);
    let urgent = fleet.group(1, 1_000, 1_000);

    assert_eq!(fleet.preempt(urgent), Some(Preemption { node: other, victims: Vec::new() }));
}

#[test]
fn nobody_goes_where_that_is_not_enough() {
    let mut fleet = Fleet::new();
    let node = fleet.node(1_000, 1_000);
    let (low, high) = (fleet.group(0, 100, 100), fleet.group(2, 800, 800));
    fleet.place(low, node);
    fleet.place(high, node);
    let urgent = fleet.group(2, 500, 500);

    assert_eq!(fleet.preempt(urgent), None);
}

#[test]
fn of_equal_ones_the_youngest_goes() {
    let mut fleet = Fleet::new();
    let node = fleet.node(1_000, 1_000);
    let low = fleet.group(0, 250, 250);
    (0..4).for_each(|_| fleet.place(low, node));
    let urgent = fleet.group(1, 500, 500);

    assert_eq!(fleet.preempt(urgent), Some(Preemption { node, victims: vec![3, 2] }));
}

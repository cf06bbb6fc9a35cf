//! Fleets so large that one decision compares a window of the equally even nodes only: evenness is exact all the same.

use scheduler_placement::{
    Amount, ClassId, Demand, DomainKey, Engine, GroupIndex, Intake, NodeIndex, NodeShape, Over, Selection, Spread,
};

const ZONES: u32 = 3;
const NODES_PER_ZONE: u32 = 800;
const EVEN: [Spread; 2] =
    [Spread { over: Over::Domain(DomainKey(0)), skew_max: None }, Spread { over: Over::Node, skew_max: None }];

/// A fleet of like nodes, and a group that has none of them yet.
fn fleet(demand: Demand) -> (Engine, GroupIndex) {
    let mut engine = Engine::default();
    let classes: Vec<ClassId> = (1..=ZONES).map(|zone| engine.add_class(&[zone])).collect();
    let selection = engine.add_selection(Selection::from_iter(classes.iter().copied()));
    let capacity = Amount { cpu_millis: 4_000, memory_kib: 1 << 20 };
    for order in 0..ZONES * NODES_PER_ZONE {
        let class = classes[(order % ZONES) as usize];
        engine.add_node(NodeShape { class, capacity, order, intake: Intake::Open });
    }
    let amount = Amount { cpu_millis: 100, memory_kib: 1 << 10 };
    let group = engine.add_group(Demand { amount, selection, ..demand }, ZONES * NODES_PER_ZONE);
    (engine, group)
}

/// How many nodes hold how many of a group: the fewest and the most.
fn least_and_most(engine: &Engine, group: GroupIndex) -> (u32, u32) {
    let counts = || (0..ZONES * NODES_PER_ZONE).map(|node| engine.count(NodeIndex(node), group).total);
    (counts().min().unwrap_or_default(), counts().max().unwrap_or_default())
}

#[test]
fn no_node_gets_a_second_while_another_has_none() {
    let (mut engine, group) = fleet(Demand { spread: EVEN.to_vec(), ..Demand::default() });

    for full in 1..=2 {
        for _ in 0..ZONES * NODES_PER_ZONE {
            assert_eq!(engine.place(group, 1).len(), 1);
        }

        assert_eq!(least_and_most(&engine, group), (full, full));
    }
}

#[test]
fn a_limit_per_node_holds_where_siblings_are_few() {
    let (mut engine, group) = fleet(Demand { per_node_max: Some(1), ..Demand::default() });

    for _ in 0..300 {
        assert_eq!(engine.place(group, 1).len(), 1);
    }

    assert_eq!(least_and_most(&engine, group), (0, 1));
    assert_eq!(
        engine.compare(engine.group(group).into_iter().flat_map(|held| {
            let amount = held.demand().amount;
            held.nodes().map(move |(node, _)| {
                (node, group, scheduler_placement::Holding { amount, counted: true, ..Default::default() })
            })
        })),
        Ok(())
    );
}

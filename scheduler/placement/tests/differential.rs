//! The engine beside a slow and obvious placement, over thousands of small random fleets from fixed seeds.

use std::collections::BTreeMap;

use scheduler_placement::{GroupIndex, NodeIndex};

#[path = "oracle/slow.rs"]
mod slow;
#[path = "oracle/story.rs"]
mod story;
#[path = "oracle/xorshift.rs"]
mod xorshift;

use slow::Instance;
use story::Story;

#[test]
fn each_pick_and_each_check_is_what_the_slow_way_says() {
    for seed in 0..2_000 {
        let mut story = Story::new(seed, 24, false);

        for _ in 0..30 {
            let group = story.random.one_of(&story.groups);
            story.place_one(group, seed);
            if story.random.percent(30) {
                story.happen();
            }
        }

        story.compare(seed);
    }
}

#[test]
fn a_batch_is_what_one_after_the_other_gives() {
    for seed in 0..3_000 {
        let mut story = Story::new(seed, 30, seed % 2 == 0);
        let groups = story.groups.clone();
        for group in &groups {
            for _ in 0..story.random.below(6) {
                story.place_one(*group, seed);
            }
            if story.random.percent(30) {
                story.happen();
            }
        }
        let group = story.random.one_of(&groups);
        let count = 32 + story.random.below(100);
        let mut single = story.engine.clone();

        let runs = story.engine.place(group, count);

        let batch: BTreeMap<NodeIndex, u32> = runs.iter().fold(BTreeMap::new(), |mut sum, run| {
            *sum.entry(run.node).or_default() += run.count;
            sum
        });
        let expected = one_by_one(&mut single, group, count);
        let demand = single.group(group).map(|group| group.demand());
        assert_eq!(batch, expected, "seed {seed}: {count} of {demand:?}");
        let demand = demand.expect("it is there").clone();
        for run in runs {
            let instance = Instance {
                group,
                node: run.node,
                amount: demand.amount,
                ports: demand.ports.clone(),
                devices: run.devices,
                counted: true,
            };
            story.instances.extend((0..run.count).map(|_| instance.clone()));
        }
        story.compare(seed);
    }
}

#[test]
fn giving_back_undoes_taking_exactly() {
    for seed in 0..300 {
        let mut story = Story::new(seed, 24, false);
        let before = story.engine.clone();
        for _ in 0..40 {
            let group = story.random.one_of(&story.groups);
            story.place_one(group, seed);
        }

        while !story.instances.is_empty() {
            let index = story.random.below(u32::try_from(story.instances.len()).unwrap()) as usize;
            story.give_back(index);
        }

        story.compare(seed);
        assert_eq!(before.compare([]), Ok(()), "seed {seed}");
    }
}

/// Picks and takes one after the other.
fn one_by_one(engine: &mut scheduler_placement::Engine, group: GroupIndex, count: u32) -> BTreeMap<NodeIndex, u32> {
    let mut nodes = BTreeMap::new();
    for _ in 0..count {
        let Some(node) = engine.pick(group) else { break };
        let devices = engine.grant(node, group).expect("the check passed");
        let demand = engine.group(group).expect("it is there").demand().clone();
        let holding = scheduler_placement::Holding {
            amount: demand.amount,
            ports: &demand.ports,
            devices: &devices,
            counted: true,
        };
        engine.take(node, group, holding);
        *nodes.entry(node).or_default() += 1;
    }
    nodes
}

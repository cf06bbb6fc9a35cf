//! Made-up fleets and requests of a mixed edge: the same for the same seed on every machine.
//!
//! Nodes have 2, 4, 8, 16 or 64 CPUs (25, 35, 25, 10 and 5 % of them), 2 GiB a CPU (a third) or 4 GiB (two thirds), of which 6 % of
//! the CPUs and 256 MiB + 3 % of the memory stay with the system. Small ones are mostly arm64, large ones amd64, so that arm64 has a quarter of the CPUs; 3 % of those
//! to 8 CPUs and 40 % of the larger ones have a GPU; each is of one of four tiers. Zones hold equally many nodes.
//!
//! A shape takes 0.05 to 2.6 CPUs and 1 to 8 GiB a CPU, each octave equally likely; then all CPU is scaled so that what is asked
//! for is the load, and where more memory than that would be asked for, all memory too. 20 % may be on arm64 only, 20 % on
//! amd64 only, 10 % on one tier only, 3 % only where a GPU is. All shapes have equally many replicas.

use std::collections::BTreeMap;

use crate::replay::{
    seeded::Random,
    trace::{Gpu, Node, Request, Requirement, Shape, Trace},
};

/// CPUs, how many of a hundred nodes, how many of a hundred of those are arm64, and have a GPU.
const SIZES: &[(u32, u32, u32, u32)] =
    &[(2, 25, 70, 3), (4, 35, 50, 3), (8, 25, 30, 3), (16, 10, 20, 40), (64, 5, 10, 40)];
/// The bounds of a shape's CPU in thousandths, and how likely each step is: as wide as its logarithm.
const CPU_STEPS: &[(u32, u32, u32)] =
    &[(50, 100, 10), (100, 200, 10), (200, 400, 10), (400, 800, 10), (800, 1_600, 10), (1_600, 2_600, 7)];
/// The same of MiB a CPU.
const MEMORY_STEPS: &[(u32, u32, u32)] = &[(1_024, 2_048, 1), (2_048, 4_096, 1), (4_096, 8_192, 1)];

/// How many of what to make up.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    /// How many nodes, at least one.
    pub nodes: u32,
    /// How many zones, at least one and no more than nodes.
    pub zones: u32,
    /// How many replicas in all.
    pub replicas: u32,
    /// How many shapes, at least one.
    pub shapes: u32,
    /// What the replicas ask for of all CPUs, and at most of all memory, in percent.
    pub load_pct: u32,
    /// In which order they come.
    pub order: Order,
    /// The same seed makes the same.
    pub seed: u64,
}

/// In which order replicas come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Each by itself, in random order.
    Mixed,
    /// All of one shape at once.
    ByService,
}

/// Makes up a trace.
#[must_use]
pub fn trace(mix: &Mix) -> Trace {
    let mut random = Random::new(mix.seed);
    let nodes: Vec<Node> = (0..mix.nodes).map(|index| node(mix, index, &mut random)).collect();
    let mut shapes: Vec<Shape> = (0..mix.shapes).map(|_| shape(&mut random)).collect();
    let counts: Vec<u32> = (0..mix.shapes).map(|shape| share_of(mix.replicas, shape, mix.shapes)).collect();
    scale(&nodes, &mut shapes, &counts, mix.load_pct);
    let groups = counts.iter().enumerate().filter(|(_, count)| **count > 0);
    let one = |shape, count| Request { shape, count, arrive: 0, depart: None };
    let requests = match mix.order {
        Order::ByService => groups.map(|(shape, count)| one(shape, *count)).collect(),
        Order::Mixed => {
            let mut requests: Vec<Request> =
                groups.flat_map(|(shape, count)| (0..*count).map(move |_| one(shape, 1))).collect();
            for last in (1..mix.replicas).rev() {
                requests.swap(last as usize, random.below(last + 1) as usize);
            }
            requests
        }
    };
    Trace { nodes, shapes, requests }
}

/// What of a total falls to one of many, in whole numbers that add up.
fn share_of(total: u32, index: u32, many: u32) -> u32 {
    let until = |index: u32| u64::from(total) * u64::from(index) / u64::from(many);
    u32::try_from(until(index + 1) - until(index)).unwrap_or(total)
}

fn node(mix: &Mix, index: u32, random: &mut Random) -> Node {
    let mut draw = random.below(100);
    let fallback = SIZES[0];
    let size = SIZES.iter().find(|(_, percent, ..)| {
        let found = draw < *percent;
        draw = draw.saturating_sub(*percent);
        found
    });
    let (cpus, _, arm_percent, gpu_percent) = *size.unwrap_or(&fallback);
    let memory_mib = cpus * if random.below(3) == 0 { 2_048 } else { 4_096 };
    let arch = if random.percent(arm_percent) { "arm64" } else { "amd64" };
    let zone = u64::from(index) * u64::from(mix.zones) / u64::from(mix.nodes);
    let mut facts = BTreeMap::from([
        ("arch".to_owned(), arch.to_owned()),
        ("zone".to_owned(), format!("zone-{zone}")),
        ("tier".to_owned(), random.below(4).to_string()),
    ]);
    if random.percent(gpu_percent) {
        facts.insert("gpu".to_owned(), "yes".to_owned());
    }
    Node {
        name: format!("node-{index}"),
        cpu_millis: cpus * 940,
        memory_mib: memory_mib * 97 / 100 - 256,
        gpus: 0,
        facts,
    }
}

/// A shape before its CPU is scaled; its memory is still MiB a CPU.
fn shape(random: &mut Random) -> Shape {
    let require = match random.below(100) {
        0..20 => Some(("arch", "arm64".to_owned())),
        20..40 => Some(("arch", "amd64".to_owned())),
        40..50 => Some(("tier", random.below(4).to_string())),
        50..53 => Some(("gpu", "yes".to_owned())),
        _ => None,
    };
    let require = require.map(|(key, value)| Requirement { key: key.to_owned(), values: vec![value], wanted: true });
    Shape {
        cpu_millis: step(CPU_STEPS, random),
        memory_mib: step(MEMORY_STEPS, random),
        gpu: Gpu::None,
        require: require.into_iter().collect(),
    }
}

fn step(steps: &[(u32, u32, u32)], random: &mut Random) -> u32 {
    let mut draw = random.below(steps.iter().map(|(.., weight)| weight).sum());
    for (low, high, weight) in steps {
        if draw < *weight {
            return low + random.below(high - low);
        }
        draw -= weight;
    }
    steps[0].0
}

/// Brings what all replicas ask for to so many percent of all CPUs, and of all memory to no more.
fn scale(nodes: &[Node], shapes: &mut [Shape], counts: &[u32], load_pct: u32) {
    let percent = |total: u128| total * u128::from(load_pct) / 100;
    let asked = |shapes: &[Shape], amount: fn(&Shape) -> u32| -> u128 {
        shapes.iter().zip(counts).map(|(shape, count)| u128::from(amount(shape)) * u128::from(*count)).sum()
    };
    let scaled = |amount: u32, wanted: u128, asked: u128| {
        u32::try_from(u128::from(amount) * wanted / asked.max(1)).unwrap_or(u32::MAX).max(1)
    };
    let cpu_wanted = percent(nodes.iter().map(|node| u128::from(node.cpu_millis)).sum());
    let cpu_asked = asked(shapes, |shape| shape.cpu_millis);
    for shape in shapes.iter_mut() {
        shape.cpu_millis = scaled(shape.cpu_millis, cpu_wanted, cpu_asked);
        shape.memory_mib = scaled(shape.cpu_millis, u128::from(shape.memory_mib), 1_000);
    }
    let memory_wanted = percent(nodes.iter().map(|node| u128::from(node.memory_mib)).sum());
    let memory_asked = asked(shapes, |shape| shape.memory_mib);
    if memory_asked > memory_wanted {
        for shape in shapes {
            shape.memory_mib = scaled(shape.memory_mib, memory_wanted, memory_asked);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::trace::Totals;

    fn mix(seed: u64) -> Mix {
        Mix { nodes: 2_000, zones: 50, replicas: 20_000, shapes: 1_000, load_pct: 95, order: Order::Mixed, seed }
    }

    #[test]
    fn the_same_seed_makes_the_same_on_every_machine() {
        let (first, again, other) = (trace(&mix(1)), trace(&mix(1)), trace(&mix(2)));

        assert_eq!((&first.nodes, &first.shapes, &first.requests), (&again.nodes, &again.shapes, &again.requests));
        assert_ne!(first.shapes, other.shapes);
        let amount = |totals: Totals| (totals.cpu_millis, totals.memory_mib);
        assert_eq!(
            (amount(first.capacity()), amount(first.demand())),
            ((15_675_440, 54_395_486), (14_881_580, 51_665_800))
        );
    }

    #[test]
    fn the_load_is_what_was_asked_for() {
        let trace = trace(&mix(3));

        let (demand, capacity) = (trace.demand(), trace.capacity());
        let thousandths = demand.cpu_millis * 1_000 / capacity.cpu_millis;
        assert!((945..=950).contains(&thousandths), "{demand:?} of {capacity:?}");
        assert!(demand.memory_mib * 100 <= capacity.memory_mib * 95, "{demand:?} of {capacity:?}");
    }

    #[test]
    fn the_order_changes_no_amount() {
        let mixed = trace(&mix(4));
        let by_service = trace(&Mix { order: Order::ByService, ..mix(4) });

        assert_eq!(mixed.demand(), by_service.demand());
        assert_eq!(mixed.requests.len(), 20_000);
        assert_eq!(by_service.requests.len(), 1_000);
        assert!(by_service.requests.iter().all(|request| request.count == 20));
    }
}

//! What is left of each node: the plain bookkeeping that every answer is held to, and that comparison policies look at.

use std::collections::BTreeMap;

use crate::replay::trace::{GPU_WHOLE, Gpu, Trace};

/// What is left of each node of a trace.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    pub(crate) nodes: Vec<Left>,
    /// What each shape asks for.
    wants: Vec<Want>,
    /// For each shape, by class of nodes, whether such a node may ever take it.
    allowed: Vec<Vec<bool>>,
}

/// One node: thousandths of a CPU, KiB, thousandths of each GPU.
#[derive(Clone, Debug)]
pub(crate) struct Left {
    pub(crate) cpu: u32,
    pub(crate) memory: u32,
    pub(crate) cpu_whole: u32,
    pub(crate) memory_whole: u32,
    pub(crate) gpus: Vec<u32>,
    class: usize,
}

/// What one replica of a shape asks for. Like in the engine it is at least one KiB.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Want {
    pub(crate) cpu: u32,
    pub(crate) memory: u32,
    pub(crate) gpu: Gpu,
}

/// What one replica got, to be given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) node: usize,
    pub(crate) shape: usize,
    /// One bit for each GPU of the node that it is on.
    pub(crate) gpus: u64,
}

/// A node was given more than it has, or something that it may not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Overcommitted;

impl Ledger {
    /// All nodes, empty.
    pub(crate) fn new(trace: &Trace) -> Self {
        // Nodes that look alike to every requirement are one class.
        let asked = |key: &str| trace.shapes.iter().flat_map(|shape| &shape.require).any(|it| it.key == key);
        let mut keys: BTreeMap<&str, bool> = BTreeMap::new();
        let mut classes: BTreeMap<BTreeMap<String, String>, usize> = BTreeMap::new();
        let mut nodes = Vec::with_capacity(trace.nodes.len());
        for node in &trace.nodes {
            let mut facts = BTreeMap::new();
            for (key, value) in &node.facts {
                if *keys.entry(key).or_insert_with(|| asked(key)) {
                    facts.insert(key.clone(), value.clone());
                }
            }
            let next = classes.len();
            nodes.push(Left {
                cpu: node.cpu_millis,
                memory: node.memory_mib << 10,
                cpu_whole: node.cpu_millis,
                memory_whole: node.memory_mib << 10,
                gpus: vec![GPU_WHOLE; usize::try_from(node.gpus).expect("few GPUs")],
                class: *classes.entry(facts).or_insert(next),
            });
        }
        let mut by_class = vec![BTreeMap::new(); classes.len()];
        for (facts, class) in classes {
            by_class[class] = facts;
        }
        let allowed = trace.shapes.iter().map(|shape| {
            by_class.iter().map(|facts| shape.require.iter().all(|requirement| requirement.is_met(facts))).collect()
        });
        let wants = trace.shapes.iter();
        Self {
            allowed: allowed.collect(),
            wants: wants.map(|s| Want { cpu: s.cpu_millis, memory: (s.memory_mib << 10).max(1), gpu: s.gpu }).collect(),
            nodes,
        }
    }

    /// What one replica of a shape asks for.
    pub(crate) fn want(&self, shape: usize) -> Want {
        self.wants[shape]
    }

    /// Whether a node takes one more replica of a shape.
    pub(crate) fn fits(&self, shape: usize, node: usize) -> bool {
        let (want, left) = (self.wants[shape], &self.nodes[node]);
        left.cpu >= want.cpu
            && left.memory >= want.memory
            && self.allowed[shape][left.class]
            && match want.gpu {
                Gpu::None => true,
                Gpu::Part(millis) => left.gpus.iter().any(|free| *free >= millis),
                Gpu::Whole(count) => left.whole_gpus() >= count,
            }
    }

    /// The nodes that take one more replica of a shape, in the order of their list.
    pub(crate) fn fitting(&self, shape: usize) -> impl Iterator<Item = (usize, &Left)> {
        self.nodes.iter().enumerate().filter(move |(index, _)| self.fits(shape, *index))
    }

    /// What a node would give to one replica; `None` if it does not fit. A part of a GPU comes from the fullest GPU that has
    /// it, so that whole ones stay whole.
    pub(crate) fn offer(&self, shape: usize, node: usize) -> Option<Taken> {
        if !self.fits(shape, node) {
            return None;
        }
        let gpus = self.nodes[node].gpus.iter().copied().enumerate();
        let gpus = match self.wants[shape].gpu {
            Gpu::None => 0,
            Gpu::Part(millis) => {
                let (fullest, _) = gpus.filter(|(_, free)| *free >= millis).min_by_key(|(_, free)| *free)?;
                1 << fullest
            }
            Gpu::Whole(count) => {
                let whole = gpus.filter(|(_, free)| *free == GPU_WHOLE);
                whole.take(usize::try_from(count).ok()?).fold(0, |bits, (index, _)| bits | 1 << index)
            }
        };
        Some(Taken { node, shape, gpus })
    }

    /// Gives a node's room to one replica.
    ///
    /// # Errors
    /// If there is not that room; then nothing changes.
    pub(crate) fn take(&mut self, taken: Taken) -> Result<(), Overcommitted> {
        let want = self.wants[taken.shape];
        let each = want.each_gpu();
        let left = self.nodes.get_mut(taken.node).ok_or(Overcommitted)?;
        let named = |index: usize| index < 64 && taken.gpus & (1 << index) != 0;
        let enough = left.gpus.iter().enumerate().all(|(index, free)| !named(index) || *free >= each);
        let outside = left.gpus.len() < 64 && taken.gpus >> left.gpus.len() != 0;
        let known = self.allowed[taken.shape][left.class] && taken.gpus.count_ones() == want.gpu_count();
        if left.cpu < want.cpu || left.memory < want.memory || !enough || outside || !known {
            return Err(Overcommitted);
        }
        left.cpu -= want.cpu;
        left.memory -= want.memory;
        for (_, free) in left.gpus.iter_mut().enumerate().filter(|(index, _)| named(*index)) {
            *free -= each;
        }
        Ok(())
    }

    /// Takes back what a replica got.
    pub(crate) fn give_back(&mut self, taken: Taken) {
        let want = self.wants[taken.shape];
        let left = &mut self.nodes[taken.node];
        left.cpu += want.cpu;
        left.memory += want.memory;
        for (index, free) in left.gpus.iter_mut().enumerate() {
            if taken.gpus & (1 << index) != 0 {
                *free += want.each_gpu();
            }
        }
    }
}

impl Want {
    /// On how many GPUs it is.
    fn gpu_count(self) -> u32 {
        match self.gpu {
            Gpu::None => 0,
            Gpu::Part(_) => 1,
            Gpu::Whole(count) => count,
        }
    }

    /// How many thousandths of each.
    fn each_gpu(self) -> u32 {
        match self.gpu {
            Gpu::None => 0,
            Gpu::Part(millis) => millis,
            Gpu::Whole(_) => GPU_WHOLE,
        }
    }
}

impl Left {
    /// A node without GPUs of which so much is left.
    #[cfg(test)]
    pub(crate) fn new(cpu: u32, memory: u32, cpu_whole: u32, memory_whole: u32) -> Self {
        Self { cpu, memory, cpu_whole, memory_whole, gpus: Vec::new(), class: 0 }
    }

    /// How many GPUs nobody uses.
    pub(crate) fn whole_gpus(&self) -> u32 {
        self.gpus.iter().map(|free| u32::from(*free == GPU_WHOLE)).sum()
    }

    /// Thousandths of GPUs left in all.
    pub(crate) fn gpu_millis(&self) -> u32 {
        self.gpus.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::trace::{Node, Shape};

    fn ledger(gpus: u32, wants: &[Gpu]) -> Ledger {
        let node = Node { name: "a".to_owned(), cpu_millis: 9_000, memory_mib: 9_000, gpus, facts: BTreeMap::new() };
        let shapes = wants.iter().map(|gpu| Shape { cpu_millis: 1_000, memory_mib: 1_000, gpu: *gpu, require: vec![] });
        Ledger::new(&Trace { nodes: vec![node], shapes: shapes.collect(), requests: vec![] })
    }

    #[test]
    fn a_part_of_a_gpu_comes_from_the_fullest_that_has_it() {
        let mut ledger = ledger(2, &[Gpu::Part(600), Gpu::Part(300), Gpu::Whole(1)]);

        for shape in [0, 1] {
            ledger.take(ledger.offer(shape, 0).unwrap()).unwrap();
        }

        assert_eq!(ledger.nodes[0].gpus, [100, 1_000]);
        assert!(ledger.fits(2, 0), "the other is still whole");
        ledger.take(ledger.offer(1, 0).unwrap()).unwrap();
        assert!(!ledger.fits(2, 0));
        assert!(ledger.offer(2, 0).is_none());
    }

    #[test]
    fn more_than_there_is_cannot_be_taken() {
        let mut ledger = ledger(2, &[Gpu::Part(600), Gpu::Whole(1)]);
        let first = ledger.offer(0, 0).unwrap();
        ledger.take(first).unwrap();

        assert_eq!(ledger.take(first), Err(Overcommitted), "the same GPU has not that much left");
        assert_eq!(ledger.take(Taken { gpus: 0b100, ..first }), Err(Overcommitted), "there is no third GPU");
        assert_eq!(ledger.take(Taken { gpus: 0b01, shape: 1, node: 0 }), Err(Overcommitted), "it is not whole");
        assert_eq!(ledger.take(Taken { gpus: 0b00, shape: 1, node: 0 }), Err(Overcommitted), "one is needed");
        assert_eq!(ledger.take(Taken { gpus: 0b10, shape: 1, node: 0 }), Ok(()));
    }

    #[test]
    fn what_is_given_back_is_there_again() {
        let mut ledger = ledger(4, &[Gpu::Whole(3), Gpu::Part(1)]);
        let before = format!("{:?}", ledger.nodes);
        let first = ledger.offer(1, 0).unwrap();
        ledger.take(first).unwrap();
        let second = ledger.offer(0, 0).unwrap();
        ledger.take(second).unwrap();
        assert!(!ledger.fits(0, 0));

        ledger.give_back(first);
        ledger.give_back(second);

        assert_eq!(format!("{:?}", ledger.nodes), before);
    }
}

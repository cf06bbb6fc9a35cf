//! What is replayed: nodes, and requests for room on them in their order. Plain values, whatever they came from.

use std::collections::BTreeMap;

/// The most GPUs that one node may have.
pub const GPUS_MAX: u32 = 64;
/// The most memory of one node or replica in MiB: just under 4 TiB, as much as the engine's columns count.
pub const MEMORY_MIB_MAX: u32 = (1 << 22) - 1;
/// A whole GPU, in thousandths.
pub const GPU_WHOLE: u32 = 1_000;

/// A list of nodes and a list of requests.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// The nodes, in the order of their list.
    pub nodes: Vec<Node>,
    /// What requests ask for, each once. Requests of one service have one shape.
    pub shapes: Vec<Shape>,
    /// The requests, in the order in which they are placed.
    pub requests: Vec<Request>,
}

/// One machine, empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Unique among nodes.
    pub name: String,
    /// Thousandths of a CPU that may be given away.
    pub cpu_millis: u32,
    /// MiB that may be given away.
    pub memory_mib: u32,
    /// How many GPUs, at most [`GPUS_MAX`], all of one model.
    pub gpus: u32,
    /// What constraints may ask for: labels, and `zone`, `arch` and `gpu_model` where they are known.
    pub facts: BTreeMap<String, String>,
}

/// What one replica asks for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shape {
    /// Thousandths of a CPU.
    pub cpu_millis: u32,
    /// MiB.
    pub memory_mib: u32,
    /// GPUs or a part of one.
    pub gpu: Gpu,
    /// What the node must be, all of it.
    pub require: Vec<Requirement>,
}

/// What one replica asks of a node's GPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gpu {
    /// Nothing.
    None,
    /// A part of one GPU that it may share with others: 1 to 999 thousandths.
    Part(u32),
    /// So many whole ones.
    Whole(u32),
}

impl Gpu {
    /// Thousandths of a GPU in all.
    #[must_use]
    pub fn millis(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Part(millis) => millis,
            Self::Whole(count) => count * GPU_WHOLE,
        }
    }
}

/// One thing that a node must be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Requirement {
    /// The fact it is about.
    pub key: String,
    /// The values that are meant.
    pub values: Vec<String>,
    /// Whether the node must have one of the values, or must have none of them.
    pub wanted: bool,
}

impl Requirement {
    /// Whether a node with these facts is meant. A node without the fact has none of the values.
    #[must_use]
    pub fn is_met(&self, facts: &BTreeMap<String, String>) -> bool {
        facts.get(&self.key).is_some_and(|value| self.values.contains(value)) == self.wanted
    }
}

/// So many replicas of one shape, asked for at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Index of its shape.
    pub shape: usize,
    /// How many replicas.
    pub count: u32,
    /// When it comes, in the unit of the list; zero where the list does not say.
    pub arrive: u64,
    /// When its replicas go; never where the list does not say.
    pub depart: Option<u64>,
}

/// CPU, memory and GPU added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Thousandths of a CPU.
    pub cpu_millis: u128,
    /// MiB.
    pub memory_mib: u128,
    /// Thousandths of a GPU.
    pub gpu_millis: u128,
}

impl Totals {
    /// Adds `count` replicas of a shape.
    pub fn add(&mut self, shape: &Shape, count: u32) {
        let count = u128::from(count);
        self.cpu_millis += count * u128::from(shape.cpu_millis);
        self.memory_mib += count * u128::from(shape.memory_mib);
        self.gpu_millis += count * u128::from(shape.gpu.millis());
    }
}

impl Trace {
    /// What all nodes have.
    #[must_use]
    pub fn capacity(&self) -> Totals {
        let mut totals = Totals::default();
        for node in &self.nodes {
            totals.cpu_millis += u128::from(node.cpu_millis);
            totals.memory_mib += u128::from(node.memory_mib);
            totals.gpu_millis += u128::from(node.gpus * GPU_WHOLE);
        }
        totals
    }

    /// What all requests ask for.
    #[must_use]
    pub fn demand(&self) -> Totals {
        let mut totals = Totals::default();
        for request in &self.requests {
            totals.add(&self.shapes[request.shape], request.count);
        }
        totals
    }
}

//! Fragmentation: how much of what is left is of no use to the requests of the trace.
//!
//! Of one request, what a node has left is of no use if the node cannot take it; of GPUs also what is left on those of
//! the node that are too full. The figure is the mean over the requests, as often as they ask, of that share of all
//! that is left. For GPUs only requests that ask for some count. After "Beware of Fragmentation: Scheduling
//! GPU-Sharing Workloads with Fragmentation Gradient Descent" (Weng et al., USENIX ATC 2023), where it is a sum for each node.

use crate::replay::{
    ledger::Ledger,
    trace::{GPU_WHOLE, Gpu, Trace},
};

/// How many requests stand for all.
const SAMPLE: u64 = 200;

/// Shares from 0 to 1; `None` where nothing is left, or nobody asks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Unusable {
    /// Of the CPU that is left.
    pub cpu: Option<f64>,
    /// Of the memory.
    pub memory: Option<f64>,
    /// Of the GPUs.
    pub gpu: Option<f64>,
}

/// Measures what a ledger has left.
pub(crate) fn measure(trace: &Trace, ledger: &Ledger) -> Unusable {
    let (mut cpu, mut memory, mut gpu) = (Mean::default(), Mean::default(), Mean::default());
    for shape in sample(trace) {
        let asks = ledger.want(shape).gpu;
        for (index, left) in ledger.nodes.iter().enumerate() {
            let fits = ledger.fits(shape, index);
            cpu.add(left.cpu, if fits { 0 } else { left.cpu });
            memory.add(left.memory, if fits { 0 } else { left.memory });
            let needed = match asks {
                Gpu::None => continue,
                Gpu::Part(millis) => millis,
                Gpu::Whole(_) => GPU_WHOLE,
            };
            let too_full = left.gpus.iter().filter(|free| !fits || **free < needed).sum();
            gpu.add(left.gpu_millis(), too_full);
        }
    }
    Unusable { cpu: cpu.share(), memory: memory.share(), gpu: gpu.share() }
}

/// The shapes of requests at even distances of the list of replicas.
fn sample(trace: &Trace) -> Vec<usize> {
    let replicas: u64 = trace.requests.iter().map(|request| u64::from(request.count)).sum();
    let wanted = replicas.min(SAMPLE);
    let (mut shapes, mut passed) = (Vec::new(), 0);
    for request in &trace.requests {
        passed += u64::from(request.count);
        // The n-th of the sample is the replica in the middle of the n-th part of the list.
        while let next = shapes.len() as u64
            && next < wanted
            && (2 * next + 1) * replicas / (2 * wanted) < passed
        {
            shapes.push(request.shape);
        }
    }
    shapes
}

#[derive(Clone, Copy, Debug, Default)]
struct Mean {
    left: u128,
    lost: u128,
}

impl Mean {
    fn add(&mut self, left: u32, lost: u32) {
        self.left += u128::from(left);
        self.lost += u128::from(lost);
    }

    fn share(self) -> Option<f64> {
        (self.left > 0).then(|| super::report::ratio(self.lost, self.left))
    }
}

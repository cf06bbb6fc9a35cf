//! Ways to choose a node: the scheduler's own, and those that it is compared with.
//!
//! Those others stand here plain: every node that fits is looked at and scored by the published formula, and of equal
//! nodes the first of the list is taken. That is more than their programs do (they look at a sample of the nodes) and so
//! never to their harm; what their programs add to the formula for images, spread or affinity has no meaning here.

mod best_fit;
mod kubernetes;
mod nomad;
mod wherry;

use clap::ValueEnum;

use crate::replay::{
    ledger::{Ledger, Left, Taken, Want},
    seeded::Random,
    trace::Trace,
};

/// Which way to choose a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Policy {
    /// The scheduler's own placement engine
    Wherry,
    /// The node on which least is left, of CPU, memory and GPU as shares of what all nodes have
    BestFit,
    /// Kubernetes' default: LeastAllocated and BalancedAllocation over CPU and memory, equal weights
    Kubernetes,
    /// Nomad's bin-packing: 20 - 10^(free CPU) - 10^(free memory), free as a share of the node
    Nomad,
    /// The first node of the list that fits
    FirstFit,
    /// Any node that fits, by `--seed`
    Random,
}

impl Policy {
    /// The name it has on the command line.
    #[must_use]
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// The policy before its first decision.
    pub(crate) fn begin(self, trace: &Trace, seed: u64) -> Box<dyn Placer> {
        let scan = |score: Score| Box::new(Scan { ledger: Ledger::new(trace), score });
        match self {
            Self::Wherry => Box::new(wherry::Wherry::new(trace)),
            Self::BestFit => scan(Box::new(best_fit::score(trace.capacity()))),
            Self::Kubernetes => scan(Box::new(kubernetes::score)),
            Self::Nomad => scan(Box::new(nomad::score)),
            Self::FirstFit => Box::new(FirstFit { ledger: Ledger::new(trace) }),
            Self::Random => {
                let mut random = Random::new(seed);
                scan(Box::new(move |_, _| random.share()))
            }
        }
    }
}

/// Decides where replicas go. It hears of everything that happens, and keeps its own books.
pub(crate) trait Placer {
    /// `count` replicas of a shape have come to be asked for.
    fn arrive(&mut self, _shape: usize, _count: u32) {}

    /// Finds places for up to `count` replicas that have arrived, takes them, and adds them to `taken`.
    fn place(&mut self, shape: usize, count: u32, taken: &mut Vec<Taken>);

    /// A replica that had a place has gone.
    fn give_back(&mut self, taken: Taken);

    /// `count` replicas that still waited are asked for no more.
    fn give_up(&mut self, _shape: usize, _count: u32) {}
}

/// How good a node that fits is for one replica; higher is better.
type Score = Box<dyn FnMut(&Left, Want) -> f64>;

/// Looks at every node that fits and takes the one with the highest score, of equals the first.
struct Scan {
    ledger: Ledger,
    score: Score,
}

impl Placer for Scan {
    fn place(&mut self, shape: usize, count: u32, taken: &mut Vec<Taken>) {
        let want = self.ledger.want(shape);
        for _ in 0..count {
            let mut best: Option<(f64, usize)> = None;
            for (node, left) in self.ledger.fitting(shape) {
                let score = (self.score)(left, want);
                if best.is_none_or(|(highest, _)| score > highest) {
                    best = Some((score, node));
                }
            }
            let Some((_, node)) = best else { return };
            taken.push(settle(&mut self.ledger, shape, node));
        }
    }

    fn give_back(&mut self, taken: Taken) {
        self.ledger.give_back(taken);
    }
}

/// Takes the first node that fits.
struct FirstFit {
    ledger: Ledger,
}

impl Placer for FirstFit {
    fn place(&mut self, shape: usize, count: u32, taken: &mut Vec<Taken>) {
        for _ in 0..count {
            let first = self.ledger.fitting(shape).next().map(|(node, _)| node);
            let Some(node) = first else { return };
            taken.push(settle(&mut self.ledger, shape, node));
        }
    }

    fn give_back(&mut self, taken: Taken) {
        self.ledger.give_back(taken);
    }
}

/// Takes room on a node that was found to fit.
fn settle(ledger: &mut Ledger, shape: usize, node: usize) -> Taken {
    let taken = ledger.offer(shape, node).expect("it was found to fit");
    ledger.take(taken).expect("what is offered is there");
    taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::trace::Gpu;

    /// An empty part of a node of 4 CPUs and 4,000 MiB.
    pub(crate) fn left(cpu: u32, memory: u32) -> Left {
        Left::new(cpu, memory, 4_000, 4_000)
    }

    pub(crate) fn want(cpu: u32, memory: u32) -> Want {
        Want { cpu, memory, gpu: Gpu::None }
    }
}

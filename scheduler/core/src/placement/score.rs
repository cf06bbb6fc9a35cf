//! Which of the nodes that fit is best: integers, compared one after the other, lower is better. Never random.

use api_types::{placement::Domain, view::ScorePart, workload::WorkloadSpec};

use crate::{cluster::nodes::NodeEntry, placement::filters::Offer};

/// Shares are counted in thousandths.
const WHOLE: u64 = 1_000;

/// How far the free shares of CPU and memory may lie apart before it counts, in thousandths. Below it the node with more
/// room wins; above it small replicas would strand what is left.
const IMBALANCE_STEP: u64 = 100;

/// A node's score for one more instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Score {
    /// How many instances are at the first and the second thing to spread over.
    spread: [u32; 2],
    /// How far apart the free shares would lie, in coarse steps.
    imbalance: u64,
    /// What would be used, as the sum of both shares.
    used: u64,
}

impl Score {
    /// Scores a node that fits.
    pub(crate) fn new(spec: &WorkloadSpec, offer: &Offer<'_>, at_site: u32, on_node: u32) -> Self {
        let left = offer.free.saturating_sub(spec.resources.reserve);
        let whole = offer.node.allocatable;
        let cpu = share(left.cpu_millis, whole.cpu_millis);
        let memory = share(left.memory_bytes, whole.memory_bytes);
        Self {
            spread: spread_of(spec, at_site, on_node),
            imbalance: cpu.abs_diff(memory) / IMBALANCE_STEP,
            used: 2 * WHOLE - cpu - memory,
        }
    }

    /// What is compared, the most important first, also in words.
    pub(crate) fn parts(&self, spec: &WorkloadSpec, node: &NodeEntry) -> Vec<ScorePart> {
        let part = |name: &str, value: u64, words: String| ScorePart { name: name.to_owned(), value, words };
        let mut parts = Vec::new();
        for (count, rule) in self.spread.iter().zip(&spec.placement.spread) {
            let place = match &rule.over {
                Domain::Site => format!("at site {}", node.spec.site),
                Domain::Node => "on it".to_owned(),
                Domain::Label(_) => continue,
            };
            parts.push(part("spread", (*count).into(), format!("{count} {place}")));
        }
        parts.push(part(
            "balance",
            self.imbalance,
            format!("free CPU and memory {} % apart", self.imbalance * IMBALANCE_STEP / 10),
        ));
        parts.push(part("use", self.used, format!("{} % used", self.used / 20)));
        parts
    }
}

/// The counts that matter to a workload, the most important first.
pub(crate) fn spread_of(spec: &WorkloadSpec, at_site: u32, on_node: u32) -> [u32; 2] {
    let mut counts = [0; 2];
    for (count, key) in counts.iter_mut().zip(&spec.placement.spread) {
        *count = match key.over {
            Domain::Site => at_site,
            Domain::Node => on_node,
            Domain::Label(_) => 0,
        };
    }
    counts
}

fn share(part: u64, whole: u64) -> u64 {
    let share = u128::from(part) * u128::from(WHOLE) / u128::from(whole.max(1));
    u64::try_from(share).unwrap_or(WHOLE).min(WHOLE)
}

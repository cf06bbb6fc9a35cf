//! What kube-scheduler does with its default plug-ins where only resources matter.
//!
//! `NodeResourcesFit` with `LeastAllocated` and `NodeResourcesBalancedAllocation`, each of weight 1, both over CPU and memory
//! of weight 1 (kubernetes `pkg/scheduler/framework/plugins/noderesources`: `least_allocated.go`, `balanced_allocation.go`).
//! Extended resources such as GPUs are only a condition there, no part of the score. Scores are whole numbers to 100.

use crate::replay::ledger::{Left, Want};

/// A full score.
const WHOLE: u64 = 100;

/// Higher is better.
pub(crate) fn score(left: &Left, want: Want) -> f64 {
    let resources = [(left.cpu - want.cpu, left.cpu_whole), (left.memory - want.memory, left.memory_whole)];
    let least =
        resources.map(|(free, whole)| u64::from(free) * WHOLE / u64::from(whole.max(1))).iter().sum::<u64>() / 2;
    let used = resources.map(|(free, whole)| 1.0 - f64::from(free) / f64::from(whole.max(1)));
    let deviation = ((used[0] - used[1]) / 2.0).abs();
    let balanced = ((1.0 - deviation) * 100.0).floor();
    balanced + f64::from(u32::try_from(least).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::policy::tests::{left, want};

    #[test]
    fn an_emptier_and_a_more_even_node_win() {
        let (empty, half, lopsided) = (left(4_000, 4_000), left(2_000, 2_000), left(4_000, 1_000));

        // Least allocated (75 + 75) / 2, balanced 100.
        assert_eq!(score(&empty, want(1_000, 1_000)), 175.0);
        assert_eq!(score(&half, want(1_000, 1_000)), 125.0);
        // Left are 75 % and 0 %: least allocated 37 (rounded down), deviation 0.375, balanced 62.
        assert_eq!(score(&lopsided, want(1_000, 1_000)), 99.0);
    }
}

//! Nomad's bin-packing (nomad `nomad/structs/funcs.go`, `ScoreFitBinPack`, its default scheduler algorithm).
//!
//! After "BestFit v3" of Google's work on data centre scheduling: 20 - (10^free CPU + 10^free memory), where free is what
//! would be left as a share of the node, held to 0 to 18. Devices are only a condition.

use crate::replay::ledger::{Left, Want};

/// Higher is better.
pub(crate) fn score(left: &Left, want: Want) -> f64 {
    let free = |left: u32, want: u32, whole: u32| f64::from(left - want) / f64::from(whole.max(1));
    let cpu = free(left.cpu, want.cpu, left.cpu_whole);
    let memory = free(left.memory, want.memory, left.memory_whole);
    (20.0 - 10_f64.powf(cpu) - 10_f64.powf(memory)).clamp(0.0, 18.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::policy::tests::{left, want};

    #[test]
    fn a_full_node_scores_eighteen_and_an_empty_one_nothing() {
        assert_eq!(score(&left(1_000, 1_000), want(1_000, 1_000)), 18.0);
        assert_eq!(score(&left(4_000, 4_000), want(0, 0)), 0.0);
        // Half of both is left: 20 - 2 x 10^0.5.
        assert!((score(&left(4_000, 4_000), want(2_000, 2_000)) - 13.675).abs() < 0.001);
    }
}

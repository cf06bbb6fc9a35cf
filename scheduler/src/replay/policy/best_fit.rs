//! Best fit by what is left over, not by shares of the node.
//!
//! CPU, memory and GPU are made comparable by what all nodes have of each, so the smallest node that takes a replica is
//! best. This is the textbook's best fit for several resources, and a poor one where nodes differ.

use crate::replay::{
    ledger::{Left, Want},
    trace::Totals,
};

/// A score by what all nodes have; higher is better.
pub(crate) fn score(capacity: Totals) -> impl FnMut(&Left, Want) -> f64 {
    let weight = |total: u128| {
        #[expect(clippy::cast_precision_loss, reason = "a weight needs no more than 52 bits")]
        let total = total.max(1) as f64;
        1.0 / total
    };
    let (cpu, memory, gpu) =
        (weight(capacity.cpu_millis), weight(capacity.memory_mib << 10), weight(capacity.gpu_millis));
    move |left, want| {
        let gpu_left = left.gpu_millis() - want.gpu.millis();
        -(f64::from(left.cpu - want.cpu) * cpu
            + f64::from(left.memory - want.memory) * memory
            + f64::from(gpu_left) * gpu)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::policy::tests::{left, want};

    #[test]
    fn the_node_on_which_less_is_left_wins() {
        let capacity = Totals { cpu_millis: 8_000, memory_mib: 4, gpu_millis: 0 };
        let mut score = score(capacity);

        let (tight, roomy, lopsided) = (left(1_000, 1_000), left(4_000, 4_000), left(1_000, 3_000));

        assert!(score(&tight, want(500, 500)) > score(&roomy, want(500, 500)));
        assert!(score(&lopsided, want(500, 500)) < score(&tight, want(500, 500)));
        assert_eq!(score(&tight, want(1_000, 1_000)), 0.0);
    }
}

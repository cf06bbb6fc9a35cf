//! The partition contract: what becomes of an instance whose node and the scheduler do not hear each other.

use serde::{Deserialize, Serialize};

use crate::workload::WorkloadSpec;

/// Milliseconds that a fence takes at most beyond an instance's own graces: the agent's look at its clock, and containerd's work.
const FENCE_MARGIN_MS: u64 = 5_000;
/// Two clocks count the same time with a difference of less than one part in so many.
const CLOCK_PARTS: u64 = 1_000;

/// What happens to an instance whose node falls silent.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DisconnectPolicy {
    /// Milliseconds of silence after which it is replaced elsewhere; `None` = never.
    pub replace_after_ms: Option<u64>,
    /// Milliseconds after which a node that is not sure to be heard ends its copy itself; `None` = never. Then no two
    /// instances of a slot run at the same time: see [`WorkloadSpec::is_exclusive`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_after_ms: Option<u64>,
    /// Who stays when its node returns while its replacement is there; `None` = who serves already, the replacement first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_return: Option<OnReturn>,
}

/// Who stays of an instance whose node returned and its replacement. The other one goes when that one serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnReturn {
    /// The one that was there first.
    KeepOriginal,
    /// The one that took its place.
    KeepReplacement,
}

impl OnReturn {
    /// As manifests write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::KeepOriginal => "keep-original",
            Self::KeepReplacement => "keep-replacement",
        }
    }
}

impl Default for DisconnectPolicy {
    fn default() -> Self {
        Self { replace_after_ms: Some(10_000), stop_after_ms: None, on_return: None }
    }
}

impl WorkloadSpec {
    /// Whether no two instances of a slot may run at the same time, whatever happens to links, as long as agents and their
    /// containerds do their work: its nodes end it before it is replaced, and changes, drains and moves end it first.
    #[must_use]
    pub fn is_exclusive(&self) -> bool {
        self.disconnect.stop_after_ms.is_some()
    }

    /// Milliseconds of silence after which surely nothing of an instance runs any more on the node that fell silent, `None` =
    /// that is never sure: `stop_after`, then the graces of its main container and of those beside it, and a margin.
    #[must_use]
    pub fn fenced_after_ms(&self) -> Option<u64> {
        let stop_after_ms = self.disconnect.stop_after_ms?;
        let beside_ms = self.companions.iter().map(|companion| companion.container.stop_grace_ms).max().unwrap_or(0);
        let graces_ms = self.container.stop_grace_ms.saturating_add(beside_ms);
        let drift_ms = stop_after_ms.div_ceil(CLOCK_PARTS);
        Some(stop_after_ms.saturating_add(graces_ms).saturating_add(drift_ms).saturating_add(FENCE_MARGIN_MS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_takes_the_wait_the_graces_what_clocks_differ_and_a_margin() {
        let mut spec = WorkloadSpec::service("db".parse().expect("a name"), "db:1", 1);
        spec.container.stop_grace_ms = 3_000;
        let without = (spec.is_exclusive(), spec.fenced_after_ms());

        spec.disconnect.stop_after_ms = Some(20_000);

        assert_eq!(without, (false, None));
        assert_eq!((spec.is_exclusive(), spec.fenced_after_ms()), (true, Some(20_000 + 3_000 + 20 + 5_000)));
        spec.disconnect.stop_after_ms = Some(u64::MAX);
        assert_eq!(spec.fenced_after_ms(), Some(u64::MAX));
    }
}

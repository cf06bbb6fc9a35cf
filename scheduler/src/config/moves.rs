//! How fast lost nodes are given up, and whether instances are moved to better nodes.

use serde::{Deserialize, Serialize};

/// `[mass_loss]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MassLossConfig {
    /// Lost nodes of one site that are given up at once, at least 1; of a site of more than 50 nodes, as many for each 50.
    pub at_once: u64,
    /// Milliseconds between two more of them, 1 to 3,600,000.
    pub interval_ms: u64,
    /// The same while more than a fifth of the site is silent; not shorter than `interval_ms`.
    pub slow_interval_ms: u64,
}

/// `[rebalance]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RebalanceConfig {
    /// Whether instances are moved to better nodes without anybody asking.
    pub automatic: bool,
    /// Seconds between two looks whether something would be better elsewhere, 10 to 604,800.
    pub pause_s: u64,
    /// Most instances on their way at once, 1 to 100.
    pub moves_max: u64,
    /// A node of which more than this is given away, in percent of its CPU or its memory, hands some on, 1 to 100.
    pub use_max_percent: u64,
}

impl Default for MassLossConfig {
    fn default() -> Self {
        Self { at_once: 3, interval_ms: 5_000, slow_interval_ms: 30_000 }
    }
}

impl Default for RebalanceConfig {
    fn default() -> Self {
        Self { automatic: false, pause_s: 600, moves_max: 2, use_max_percent: 90 }
    }
}

impl MassLossConfig {
    /// The first key that is out of its range, with its value and what it must be.
    pub(super) fn fault(&self) -> Option<(&'static str, u64, String)> {
        let slow = self.interval_ms..=3_600_000;
        if self.at_once == 0 {
            return Some(("mass_loss.at_once", 0, "at least 1".to_owned()));
        }
        if !(1..=3_600_000).contains(&self.interval_ms) {
            return Some(("mass_loss.interval_ms", self.interval_ms, "1 to 3600000".to_owned()));
        }
        let must = || format!("{} (mass_loss.interval_ms) to 3600000", self.interval_ms);
        (!slow.contains(&self.slow_interval_ms)).then(|| ("mass_loss.slow_interval_ms", self.slow_interval_ms, must()))
    }
}

impl RebalanceConfig {
    /// The first key that is out of its range, with its value and what it must be.
    pub(super) fn fault(&self) -> Option<(&'static str, u64, String)> {
        let ranges = [
            ("rebalance.pause_s", self.pause_s, 10, 604_800),
            ("rebalance.moves_max", self.moves_max, 1, 100),
            ("rebalance.use_max_percent", self.use_max_percent, 1, 100),
        ];
        let found = ranges.into_iter().find(|(_, value, least, most)| !(*least..=*most).contains(value));
        found.map(|(key, value, least, most)| (key, value, format!("{least} to {most}")))
    }
}

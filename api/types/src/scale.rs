//! Autoscaling: how many replicas a service has is decided by what they use and serve.

use serde::{Deserialize, Serialize};

use crate::rollout::Share;

/// Percent by which a load may miss its target without any change, where nothing else is said.
pub const TOLERANCE_PERCENT: u32 = 10;
/// Milliseconds over which the highest wish counts before a service shrinks, where nothing else is said.
pub const WINDOW_MS: u64 = 300_000;
/// Milliseconds after a change in which nothing is taken away, where nothing else is said.
pub const COOLDOWN_MS: u64 = 60_000;
/// How many replicas are added at once, where nothing else is said: as many as there are.
pub const STEP_UP: Share = Share::Percent(100);
/// How many replicas are taken away at once, where nothing else is said.
pub const STEP_DOWN: Share = Share::Percent(50);

/// Between which numbers of replicas a service is scaled, and by what. At least one of the four targets is there.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScaleSpec {
    /// The fewest replicas, at least 1.
    pub min: u32,
    /// The most replicas.
    pub max: u32,
    /// The CPU that a replica shall use, in percent of what it is promised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_percent: Option<u32>,
    /// The memory that a replica shall use, in percent of what it is promised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_percent: Option<u32>,
    /// The requests that a replica shall answer each second: those that the nodes' listeners of HTTP ports shared out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<u32>,
    /// The TCP connections that shall be opened to a replica each second, whichever way they come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_connections: Option<u32>,
    /// Percent by which the mean load may miss its target without any change.
    pub tolerance_percent: u32,
    /// Milliseconds over which the highest wish counts before the service shrinks.
    pub window_ms: u64,
    /// Milliseconds after a change in which nothing is taken away.
    pub cooldown_ms: u64,
    /// The most that is added by one change, of what there is.
    pub step_up: Share,
    /// The most that is taken away by one change, of what there is.
    pub step_down: Share,
    /// Whether each site is looked at for itself: the busiest says how many replicas every site has.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub per_site: bool,
}

impl ScaleSpec {
    /// Between these numbers, by nothing yet; all else is the default.
    #[must_use]
    pub fn between(min: u32, max: u32) -> Self {
        Self {
            min,
            max,
            cpu_percent: None,
            memory_percent: None,
            requests: None,
            new_connections: None,
            tolerance_percent: TOLERANCE_PERCENT,
            window_ms: WINDOW_MS,
            cooldown_ms: COOLDOWN_MS,
            step_up: STEP_UP,
            step_down: STEP_DOWN,
            per_site: false,
        }
    }

    /// What the service is scaled by, with its target in the metric's own unit.
    pub fn targets(&self) -> impl Iterator<Item = (Metric, u32)> {
        let targets = [
            (Metric::Cpu, self.cpu_percent),
            (Metric::Memory, self.memory_percent),
            (Metric::Requests, self.requests),
            (Metric::NewConnections, self.new_connections),
        ];
        targets.into_iter().filter_map(|(metric, target)| Some((metric, target?)))
    }
}

/// By what a service is scaled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// CPU, in percent of what is promised.
    Cpu,
    /// Memory, in percent of what is promised.
    Memory,
    /// Requests each second.
    Requests,
    /// New TCP connections each second.
    NewConnections,
}

impl Metric {
    /// One or two words for people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Requests => "requests",
            Self::NewConnections => "new connections",
        }
    }

    /// An amount in its own unit, for people: `73%`, `40/s`.
    #[must_use]
    pub fn show(self, amount: u64) -> String {
        match self {
            Self::Cpu | Self::Memory => format!("{amount}%"),
            Self::Requests | Self::NewConnections => format!("{amount}/s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_those_that_were_given() {
        let scale = ScaleSpec { cpu_percent: Some(70), requests: Some(40), ..ScaleSpec::between(1, 4) };

        let targets: Vec<_> = scale.targets().collect();

        assert_eq!(targets, [(Metric::Cpu, 70), (Metric::Requests, 40)]);
        assert_eq!((Metric::Cpu.show(70), Metric::Requests.show(40)), ("70%".to_owned(), "40/s".to_owned()));
    }
}

//! What an operator may tune of the core.

use std::net::Ipv4Addr;

use api_types::{
    net::{Cidr, Ipv6Prefix},
    resources::Resources,
    service::WatchKey,
};

/// What an operator may tune of the core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Milliseconds between two heartbeats of a node.
    pub heartbeat_interval_ms: u64,
    /// Heartbeats that may be missed in a row before a node counts as unreachable.
    pub heartbeats_missed_max: u64,
    /// Milliseconds after the start in which nobody is declared silent and nothing is placed, unless every node has
    /// reported before.
    pub warm_up_ms: u64,
    /// Milliseconds of silence after which a node is shown as lost.
    pub lost_after_ms: u64,
    /// Lost nodes of one site that are given up at once; of a site of more than 50 nodes, as many for each 50.
    pub give_up_at_once: u64,
    /// Milliseconds between two more of them, and in a site of more than 50 nodes a part of it: as many for each 50.
    pub give_up_interval_ms: u64,
    /// The same while more than a fifth of the site is silent.
    pub give_up_slow_interval_ms: u64,
    /// Milliseconds for which an instance that left the service table, or came in, waits for nodes to say that they know.
    pub barrier_timeout_ms: u64,
    /// The range of all instances' addresses.
    pub cluster_range: Cidr,
    /// The range of all virtual addresses.
    pub service_range: Cidr,
    /// Where both ranges are embedded in IPv6; `None` = nowhere.
    pub ipv6_prefix: Option<Ipv6Prefix>,
    /// Whether workloads admit only those of their own namespace, unless they say otherwise.
    pub isolate_namespaces: bool,
    /// Length of the prefix of each node's part of the cluster range.
    pub node_prefix: u8,
    /// What of each node is kept for its system.
    pub system_reserve: SystemReserve,
    /// Most placements in one step, or a quarter of what a service has already, if that is more; the rest waits for the
    /// next tick.
    pub placements_per_step_max: usize,
    /// Whether somebody who would be better elsewhere is moved without being asked.
    pub rebalance_automatic: bool,
    /// Milliseconds between two looks whether that is so.
    pub rebalance_pause_ms: u64,
    /// Most instances on their way to better nodes at once, at least 1.
    pub rebalance_moves_max: usize,
    /// A node of which more than this is given away, in thousandths of its CPU or its memory, hands some on when
    /// somebody rebalances; 1,000 = none does.
    pub rebalance_use_max_per_mille: u32,
    /// Most instances on their way from one draining node to others at once.
    pub drain_moves_max: usize,
    /// With what nodes sign what they tell each other of being alive until a node is removed; `None` = they tell nothing.
    pub watch_key: Option<WatchKey>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            heartbeat_interval_ms: 1_000,
            heartbeats_missed_max: 3,
            warm_up_ms: 12_000,
            lost_after_ms: 10_000,
            give_up_at_once: 3,
            give_up_interval_ms: 5_000,
            give_up_slow_interval_ms: 30_000,
            barrier_timeout_ms: 10_000,
            cluster_range: Cidr { address: Ipv4Addr::new(10, 42, 0, 0), prefix: 16 },
            service_range: Cidr { address: Ipv4Addr::new(10, 43, 0, 0), prefix: 16 },
            ipv6_prefix: None,
            isolate_namespaces: false,
            node_prefix: 24,
            system_reserve: SystemReserve::default(),
            placements_per_step_max: 1_000,
            rebalance_automatic: false,
            rebalance_pause_ms: 600_000,
            rebalance_moves_max: 2,
            rebalance_use_max_per_mille: 900,
            drain_moves_max: 4,
            watch_key: None,
        }
    }
}

impl Settings {
    /// Milliseconds of silence after which a node is unreachable.
    #[must_use]
    pub fn unreachable_after_ms(&self) -> u64 {
        self.heartbeat_interval_ms.saturating_mul(self.heartbeats_missed_max).max(1)
    }

    /// Milliseconds of silence before which nobody is replaced: one heartbeat more than it takes to see who else fell silent, as
    /// until then a cut link looks like one dead node.
    #[must_use]
    pub fn least_silence_ms(&self) -> u64 {
        self.unreachable_after_ms().saturating_add(self.heartbeat_interval_ms)
    }
}

/// How fast the lost nodes of a site are given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    /// So many at once, at least 1.
    pub(crate) at_once: u64,
    /// Milliseconds between two more, at least 1.
    pub(crate) interval_ms: u64,
}

/// What of a node is kept for its system: agent, containerd, kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SystemReserve {
    /// Percent of the CPU.
    pub cpu_percent: u64,
    /// Bytes of memory, whatever the node has.
    pub memory_bytes: u64,
    /// Percent of the memory, on top.
    pub memory_percent: u64,
}

impl Default for SystemReserve {
    fn default() -> Self {
        Self { cpu_percent: 5, memory_bytes: 128 << 20, memory_percent: 3 }
    }
}

impl SystemReserve {
    /// What placement may give away of a node with this capacity.
    #[must_use]
    pub fn allocatable(&self, capacity: Resources) -> Resources {
        let percent = |whole: u64, part: u64| whole / 100 * part + whole % 100 * part / 100;
        capacity.saturating_sub(Resources {
            cpu_millis: percent(capacity.cpu_millis, self.cpu_percent.min(100)),
            memory_bytes: percent(capacity.memory_bytes, self.memory_percent.min(100))
                .saturating_add(self.memory_bytes),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_keeps_something_for_its_system() {
        let capacity = Resources { cpu_millis: 2_000, memory_bytes: 1 << 30 };

        let free = SystemReserve::default().allocatable(capacity);

        assert_eq!(free, Resources { cpu_millis: 1_900, memory_bytes: (1 << 30) - (128 << 20) - 32_212_254 });
        assert_eq!(SystemReserve::default().allocatable(Resources::default()), Resources::default());
    }
}

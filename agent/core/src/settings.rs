//! What an operator, or a test, tunes.

use std::net::Ipv4Addr;

use api_types::id::NodeId;

/// How an agent behaves. Times in milliseconds.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The node this is.
    pub node: NodeId,
    /// Where the node itself is reached, and with it what runs in its own network; `None` where nothing does.
    pub node_address: Option<Ipv4Addr>,
    /// The pause before the second try of anything that failed.
    pub restart_backoff_min_ms: u64,
    /// The longest pause between two tries.
    pub restart_backoff_max_ms: u64,
    /// A process that ran this long is forgiven its earlier exits.
    pub stable_after_ms: u64,
    /// A process that ran shorter than this counts as crashing.
    pub quick_exit_ms: u64,
    /// How long an address stays out of use.
    pub address_quarantine_ms: u64,
    /// How long a session has to bring a later set than the one from disk, before what that does not name is removed.
    pub leftover_patience_ms: u64,
    /// The grace of a container that nobody assigned.
    pub leftover_grace_ms: u64,
    /// How long beyond its grace a stop may take before the container is removed as it is.
    pub stop_overdue_ms: u64,
    /// What became known more recently than this may be missing from a list that was taken before.
    pub list_delay_ms: u64,
    /// How long a session that finds no assignment set here may take to bring one, before it gets a report.
    pub first_set_ms: u64,
    /// For how long after a session began its tables may have been made without this node's first report.
    pub first_tables_ms: u64,
    /// How long the signal to a process that shall end waits for the kernel to send it no new connections.
    pub farewell_ms: u64,
    /// How long it waits then for connections that are being opened.
    pub lull_ms: u64,
    /// How often its open connections are counted after that.
    pub count_interval_ms: u64,
    /// How long, while the scheduler is away, an instance waits for workloads before it is started all the same.
    pub dependency_limit_ms: u64,
}

impl Settings {
    /// The defaults.
    #[must_use]
    pub fn new(node: NodeId) -> Self {
        Self {
            node,
            node_address: None,
            restart_backoff_min_ms: 1000,
            restart_backoff_max_ms: 60_000,
            stable_after_ms: 60_000,
            quick_exit_ms: 10_000,
            address_quarantine_ms: 60_000,
            leftover_patience_ms: 10_000,
            leftover_grace_ms: 10_000,
            stop_overdue_ms: 10_000,
            list_delay_ms: 5000,
            first_set_ms: 5000,
            first_tables_ms: 5000,
            farewell_ms: 2000,
            lull_ms: 250,
            count_interval_ms: 500,
            dependency_limit_ms: 60_000,
        }
    }
}

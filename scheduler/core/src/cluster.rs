//! The state: nodes, workloads and instances with their indexes. The only module whose methods change it.
//!
//! Each change notes what is to become durable (`journal`) and whom it concerns (`touched`); nothing is decided here.

pub(crate) mod addresses;
pub(crate) mod awaited;
pub(crate) mod content;
pub(crate) mod dependencies;
pub(crate) mod editions;
pub(crate) mod held;
pub(crate) mod ids;
pub(crate) mod instances;
pub(crate) mod jobs;
pub(crate) mod nodes;
pub(crate) mod rollouts;
pub(crate) mod rows;
mod scales;
mod sites;
pub(crate) mod volumes;
pub(crate) mod workloads;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use api_types::{
    counter::Revision,
    id::{NodeId, SecretId, WorkloadId},
    relay::VolumeSlot,
    service::WatchKey,
    site::SiteSpec,
};

use crate::{
    cluster::{
        awaited::Awaited,
        dependencies::Dependencies,
        editions::Editions,
        nodes::Nodes,
        rollouts::RolloutEntry,
        rows::Rows,
        volumes::{Homes, Measured},
        workloads::{EarlierRun, WorkloadEntry},
    },
    effect::{Counters, Effect, Effects, Job, Record, RecordKey, SecretRecord},
    placement::ledger::Ledger,
    schedule::Zone,
};

/// Every table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cluster {
    /// The registered nodes.
    pub(crate) nodes: Nodes,
    /// The workloads that are wanted.
    pub(crate) workloads: BTreeMap<WorkloadId, WorkloadEntry>,
    /// The placed instances by number, until nothing of them is left.
    pub(crate) rows: Rows,
    /// What these run.
    pub(crate) editions: Editions,
    /// Index: the numbers of each workload's instances in order, deleted workloads included.
    pub(crate) by_workload: BTreeMap<WorkloadId, Vec<u64>>,
    /// What instances run that were placed before their workload last changed.
    pub(crate) earlier_runs: BTreeMap<(WorkloadId, Revision), EarlierRun>,
    /// Index: the services that are scaled by what they use and serve.
    pub(crate) scaled: BTreeSet<WorkloadId>,
    /// How workloads change, and whom they try.
    pub(crate) rollouts: BTreeMap<WorkloadId, RolloutEntry>,
    /// The runs of jobs.
    pub(crate) jobs: BTreeMap<WorkloadId, Job>,
    /// How the clocks of time zones go, as far as somebody asked.
    pub(crate) zones: BTreeMap<String, Zone>,
    /// What placement knows of all this, kept in step.
    pub(crate) ledger: Ledger,
    /// What operators said of sites; the others are as [`SiteSpec::of`] makes them.
    pub(crate) sites: BTreeMap<String, SiteSpec>,
    /// The services' virtual addresses.
    pub(crate) addresses: BTreeMap<WorkloadId, Ipv4Addr>,
    /// Where data is that stays on its node.
    pub(crate) homes: Homes,
    /// The slots with data that were given up because fewer instances were wanted.
    pub(crate) slots_given_up: BTreeSet<(WorkloadId, u32)>,
    /// How much of that its nodes last measured.
    pub(crate) measured: BTreeMap<VolumeSlot, Measured>,
    /// Index: which tables the kernels of those nodes hold that are waited for.
    pub(crate) awaited: Awaited,
    /// What workloads wait for.
    pub(crate) dependencies: Dependencies,
    /// The newest version of each secret, sealed.
    pub(crate) secrets: BTreeMap<SecretId, SecretRecord>,
    /// Counters that must not repeat.
    pub(crate) counters: Counters,
    /// Whether the counters moved since they were last made durable.
    pub(crate) counted: bool,
    /// What is to become durable or be forgotten, in order.
    pub(crate) journal: Effects,
    /// The pages of instances that are to become durable, or be forgotten when they are empty.
    pub(crate) pages: BTreeSet<u64>,
    /// Whom the changes concern.
    pub(crate) touched: Touched,
    /// With what nodes sign what they tell each other of being alive, since a node was removed.
    pub(crate) watch_key: Option<WatchKey>,
    /// Whether the service table names all instances, not only those that are balanced to.
    pub(crate) follows_all: bool,
}

/// Whom changes concern: it only saves work, everything could be looked at anew at any time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Touched {
    /// Workloads whose instances may not be as wanted.
    pub(crate) workloads: BTreeSet<WorkloadId>,
    /// Nodes whose assignment set may differ, by index.
    pub(crate) sets: BTreeSet<u32>,
    /// Workloads whose entry in the service table may differ.
    pub(crate) services: BTreeSet<WorkloadId>,
    /// Workloads that others wait for and that may be farther, or less far, than before.
    pub(crate) awaited: BTreeSet<WorkloadId>,
    /// Single endpoints that may differ.
    pub(crate) endpoints: BTreeSet<(WorkloadId, u64)>,
    /// Whether the list of peers may differ.
    pub(crate) peers: bool,
    /// Nodes that may take more than before, by index.
    pub(crate) room: BTreeSet<u32>,
    /// Whether a node was removed: then reasons may differ that speak of all nodes.
    pub(crate) fewer_nodes: bool,
    /// Whether nodes fell silent or returned.
    pub(crate) liveness: bool,
    /// Whether a reader could see something new.
    pub(crate) seen: bool,
}

impl Cluster {
    /// Notes something to be made durable.
    pub(crate) fn persist(&mut self, record: Record) {
        self.journal.push(Effect::Persist(Box::new(record)));
    }

    /// Notes something durable to be forgotten.
    pub(crate) fn unpersist(&mut self, key: RecordKey) {
        self.journal.push(Effect::Forget(key));
    }

    /// Notes that what runs on a node may count for more or less than before.
    pub(crate) fn touch_instances_on(&mut self, node: &NodeId) {
        let Some(entry) = self.nodes.get(node) else { return };
        let instances: Vec<_> = self.instances_on(entry).map(|held| (held.number, held.workload().clone())).collect();
        for (number, workload) in instances {
            self.touched.workloads.insert(workload.clone());
            self.touch_endpoint(workload, number);
        }
    }
}

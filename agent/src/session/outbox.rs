//! What waits to be told to the scheduler: always the latest of each thing, so it never grows beyond the node itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv6Addr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use agent_core::Followed;
use api_types::{
    device::Device,
    id::InstanceId,
    instance::{InstanceStatus, InstanceUsage},
    node::{Condition, NodeFacts, NodeUsage, TAKEN_PORTS_MAX, TakenPort},
    relay::VolumeSlot,
};
use proto::{
    network::NetworkInspected,
    session::{FromAgent, ImageLoaded, Marker, NodeReport, Report},
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

/// How long what belongs together may take to gather.
const GATHER: Duration = Duration::from_millis(100);
/// More answers about archives than this are a mistake of the other side.
const LOADED_MAX: usize = 64;
/// The most answers about the network that wait.
const INSPECTED_MAX: usize = 8;

/// Filled by the parts of the agent, emptied by the session.
#[derive(Debug)]
pub(crate) struct Outbox {
    waiting: Mutex<Waiting>,
    changed: Notify,
    /// Whether something runs here by a lease.
    leased: AtomicBool,
}

#[derive(Debug, Default)]
struct Waiting {
    /// What this node did by its own clock: told before the complete report.
    alone: Option<Arc<Followed>>,
    report: Option<Gathered>,
    conditions: BTreeMap<&'static str, Condition>,
    facts: NodeFacts,
    usage: NodeUsage,
    instances: BTreeMap<InstanceId, InstanceUsage>,
    requests: BTreeMap<InstanceId, u64>,
    conditions_changed: bool,
    facts_changed: bool,
    usage_changed: bool,
    loaded: Vec<ImageLoaded>,
    inspected: Vec<NetworkInspected>,
    volumes: BTreeMap<VolumeSlot, u64>,
    volumes_changed: bool,
    /// The table that the kernel balances by: instances wait for this word, so it does not gather.
    table: Option<Marker>,
    /// Since when something waits, as far as anybody looked.
    since: Option<Instant>,
}

#[derive(Debug, Default)]
struct Gathered {
    statuses: BTreeMap<InstanceId, InstanceStatus>,
    gone: BTreeSet<InstanceId>,
    complete: bool,
}

impl Outbox {
    /// Starts with what the node is.
    pub(crate) fn new(facts: NodeFacts) -> Self {
        Self {
            waiting: Mutex::new(Waiting { facts, ..Waiting::default() }),
            changed: Notify::new(),
            leased: AtomicBool::new(false),
        }
    }

    /// A session began: what waited for an earlier one is void; the node is described anew.
    pub(crate) fn begin(&self) {
        let mut waiting = self.lock();
        waiting.alone = None;
        waiting.report = None;
        waiting.loaded.clear();
        waiting.inspected.clear();
        waiting.table = None;
        waiting.conditions_changed = true;
        waiting.usage_changed = true;
        waiting.volumes_changed = !waiting.volumes.is_empty();
        drop(waiting);
        self.changed.notify_one();
    }

    /// Notes what this node did by its own clock, before the complete report that follows.
    pub(crate) fn alone(&self, followed: Arc<Followed>) {
        self.lock().alone = Some(followed);
        self.changed.notify_one();
    }

    /// Adds what the core wants told; a complete report replaces what waits.
    pub(crate) fn report(&self, report: agent_core::effect::Report) {
        let mut waiting = self.lock();
        if report.complete {
            waiting.report = Some(Gathered { complete: true, ..Gathered::default() });
        }
        let gathered = waiting.report.get_or_insert_default();
        for status in report.statuses {
            gathered.gone.remove(&status.instance);
            gathered.statuses.insert(status.instance.clone(), status);
        }
        for instance in report.gone {
            gathered.statuses.remove(&instance);
            gathered.gone.insert(instance);
        }
        drop(waiting);
        self.changed.notify_one();
    }

    /// Says whether signs of life shall be answered, as something runs here by a lease.
    pub(crate) fn renew_lease(&self, leased: bool) {
        self.leased.store(leased, Relaxed);
    }

    /// Whether they shall.
    pub(crate) fn renews_lease(&self) -> bool {
        self.leased.load(Relaxed)
    }

    /// Says which table the kernel balances by.
    pub(crate) fn table(&self, table: Marker) {
        self.lock().table = Some(table);
        self.changed.notify_one();
    }

    /// Says how one thing stands that the node checks about itself; logs what changed.
    pub(crate) fn condition(&self, name: &'static str, outcome: Result<String, String>) {
        self.condition_of_ports(name, outcome, Vec::new());
    }

    /// The same, with the ports of the node that somebody else holds.
    pub(crate) fn condition_of_ports(
        &self,
        name: &'static str,
        outcome: Result<String, String>,
        mut taken: Vec<TakenPort>,
    ) {
        taken.truncate(TAKEN_PORTS_MAX);
        let (ok, reason) = match outcome {
            Ok(reason) => (true, reason),
            Err(reason) => (false, reason),
        };
        let condition = Condition { name: name.to_owned(), ok, reason, taken };
        let mut waiting = self.lock();
        if waiting.conditions.get(name) == Some(&condition) {
            return;
        }
        if ok {
            tracing::info!(condition = name, reason = condition.reason, "well");
        } else {
            tracing::warn!(condition = name, reason = condition.reason, "not well");
        }
        waiting.conditions.insert(name, condition);
        waiting.conditions_changed = true;
        drop(waiting);
        self.changed.notify_one();
    }

    /// What the node is.
    pub(crate) fn facts(&self) -> NodeFacts {
        self.lock().facts.clone()
    }

    /// Notes containerd's version; empty while it is away.
    pub(crate) fn runtime_version(&self, version: String) {
        let mut waiting = self.lock();
        if waiting.facts.runtime_version != version {
            waiting.facts.runtime_version = version;
            waiting.facts_changed = true;
            drop(waiting);
            self.changed.notify_one();
        }
    }

    /// Notes the IPv6 address by which other nodes reach this one, if it has one.
    pub(crate) fn set_ipv6_address(&self, address: Option<Ipv6Addr>) {
        let mut waiting = self.lock();
        if waiting.facts.ipv6_address != address {
            waiting.facts.ipv6_address = address;
            waiting.facts_changed = true;
            drop(waiting);
            self.changed.notify_one();
        }
    }

    /// The IPv6 address by which other nodes reach this one, if it has one.
    pub(crate) fn ipv6_address(&self) -> Option<Ipv6Addr> {
        self.lock().facts.ipv6_address
    }

    /// Notes the devices that are there.
    pub(crate) fn devices(&self, devices: Vec<Device>) {
        let mut waiting = self.lock();
        if waiting.facts.devices != devices {
            waiting.facts.devices = devices;
            waiting.facts_changed = true;
            drop(waiting);
            self.changed.notify_one();
        }
    }

    /// Notes what node and instances use.
    pub(crate) fn usage(&self, usage: NodeUsage, instances: BTreeMap<InstanceId, InstanceUsage>) {
        let mut waiting = self.lock();
        (waiting.usage, waiting.instances, waiting.usage_changed) = (usage, instances, true);
        drop(waiting);
        self.changed.notify_one();
    }

    /// Notes the requests each second that this node's listeners shared out, in thousandths. They are told with what the node
    /// uses, so that nothing more is sent for them.
    pub(crate) fn requests(&self, requests: BTreeMap<InstanceId, u64>) {
        self.lock().requests = requests;
    }

    /// Notes what the volumes of this node hold.
    pub(crate) fn volumes(&self, volumes: BTreeMap<VolumeSlot, u64>) {
        let mut waiting = self.lock();
        if waiting.volumes != volumes {
            (waiting.volumes, waiting.volumes_changed) = (volumes, true);
            drop(waiting);
            self.changed.notify_one();
        }
    }

    /// Adds what came of an archive.
    pub(crate) fn image_loaded(&self, loaded: ImageLoaded) {
        let mut waiting = self.lock();
        if waiting.loaded.len() < LOADED_MAX {
            waiting.loaded.push(loaded);
        }
        drop(waiting);
        self.changed.notify_one();
    }

    /// Adds what came of a look at the network.
    pub(crate) fn inspected(&self, found: NetworkInspected) {
        let mut waiting = self.lock();
        if waiting.inspected.len() < INSPECTED_MAX {
            waiting.inspected.push(found);
        }
        drop(waiting);
        self.changed.notify_one();
    }

    /// Waits for something to tell, a moment longer for what belongs to it, and takes it. Cancel-safe: nothing is taken
    /// before it is given.
    pub(crate) async fn next(&self) -> FromAgent {
        loop {
            if let Some(table) = self.lock().table.take() {
                return FromAgent::Programmed(table);
            }
            let Some(since) = self.lock().since() else {
                self.changed.notified().await;
                continue;
            };
            // Both arms are cancel-safe; what is notified meanwhile may not have to wait.
            tokio::select! {
                () = self.changed.notified() => {}
                () = sleep_until(since + GATHER) => {
                    if let Some(message) = self.lock().take() {
                        return message;
                    }
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Since when something waits. Kept here, so that whoever gives up waiting does not make it later.
    fn since(&mut self) -> Option<Instant> {
        let is_answered = !self.loaded.is_empty() || !self.inspected.is_empty();
        let is_something = self.alone.is_some()
            || self.report.is_some()
            || is_answered
            || self.volumes_changed
            || self.is_node_changed();
        if !is_something {
            return None;
        }
        Some(*self.since.get_or_insert_with(Instant::now))
    }

    fn is_node_changed(&self) -> bool {
        self.conditions_changed || self.facts_changed || self.usage_changed
    }

    fn take(&mut self) -> Option<FromAgent> {
        self.since = None;
        if let Some(followed) = self.alone.take() {
            return Some(FromAgent::RanAlone((*followed).clone()));
        }
        if let Some(Gathered { statuses, gone, complete }) = self.report.take() {
            let (statuses, gone) = (statuses.into_values().collect(), gone.into_iter().collect());
            return Some(FromAgent::Report(Report { statuses, gone, complete }));
        }
        if let Some(loaded) = self.loaded.pop() {
            return Some(FromAgent::ImageLoaded(loaded));
        }
        if let Some(found) = self.inspected.pop() {
            return Some(FromAgent::NetworkInspected(found));
        }
        if std::mem::take(&mut self.volumes_changed) {
            return Some(FromAgent::VolumesMeasured(self.volumes.clone()));
        }
        if !self.is_node_changed() {
            return None;
        }
        let conditions = self.conditions_changed.then(|| self.conditions.values().cloned().collect());
        let facts = self.facts_changed.then(|| self.facts.clone());
        (self.conditions_changed, self.facts_changed, self.usage_changed) = (false, false, false);
        let (usage, instances, requests) = (self.usage.clone(), self.instances.clone(), self.requests.clone());
        Some(FromAgent::NodeReport(Box::new(NodeReport { conditions, facts, usage, instances, requests })))
    }
}

#[cfg(test)]
mod tests;

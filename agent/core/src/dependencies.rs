//! What an instance waits for before its first process here: other workloads, by the table and the set that this node holds
//! and what it knows itself.
//!
//! So a node that boots alone keeps the order that it was told. What it cannot know then, it does not wait for without end.

use std::collections::{BTreeMap, BTreeSet};

use api_types::{
    assignment::Assignment,
    dependency::{Awaited, Dependency},
    id::WorkloadId,
    instance::Health,
    time::Timestamp,
};

use crate::{Settings, effect::Balancing, machine::Agent};

/// What is known of other workloads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outlook<'a> {
    /// How this node shares out connections; `None` = it holds no table yet.
    pub(crate) balancing: Option<&'a Balancing>,
    /// What is so, as the set that is held says.
    pub(crate) told: &'a [Dependency],
    /// How far those are that have an instance here.
    pub(crate) here: &'a BTreeMap<WorkloadId, Progress>,
    /// Since when the scheduler is away; `None` while it is there.
    pub(crate) cut_off_since: Option<Timestamp>,
}

/// How far the instances of a workload are that shall run here.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Progress {
    /// The process of one runs.
    has_started: bool,
    /// One is healthy.
    is_healthy: bool,
}

impl Outlook<'_> {
    /// Of a workload with an instance here that one counts: what the set says may be older than this node's last boot.
    fn meets(&self, dependency: &Dependency) -> bool {
        let is_told = || self.told.contains(dependency);
        let here = self.here.get(&dependency.workload);
        match dependency.awaited {
            Awaited::Healthy => {
                self.is_balanced_to(&dependency.workload) || here.map_or_else(is_told, |here| here.is_healthy)
            }
            Awaited::Started => here.map_or_else(is_told, |here| here.has_started),
            Awaited::Completed => is_told(),
        }
    }

    fn is_balanced_to(&self, workload: &WorkloadId) -> bool {
        let Some(balancing) = self.balancing else { return false };
        let found = balancing.services.binary_search_by(|service| service.id.cmp(workload));
        let mut endpoints = found.into_iter().flat_map(|index| &balancing.services[index].endpoints);
        endpoints.any(|endpoint| !endpoint.last_resort)
    }
}

impl Agent {
    /// How far those are that others here wait for and that have an instance here.
    pub(crate) fn awaited_here(&self) -> BTreeMap<WorkloadId, Progress> {
        let waiting = self.instances.values().filter(|instance| !instance.waiting.is_over);
        let awaited = waiting.filter_map(|instance| instance.assignment()).flat_map(|assignment| &assignment.after);
        let awaited: BTreeSet<&WorkloadId> = awaited.map(|dependency| &dependency.workload).collect();
        let mut here: BTreeMap<WorkloadId, Progress> = BTreeMap::new();
        if awaited.is_empty() {
            return here;
        }
        for (id, instance) in self.instances.iter().filter(|(_, instance)| instance.shall_run()) {
            let workload = instance.assignment().map(|assignment| &assignment.workload);
            if let Some(workload) = workload.filter(|workload| awaited.contains(workload)) {
                let progress = here.entry(workload.clone()).or_default();
                progress.has_started |= instance.running().is_some();
                progress.is_healthy |= self.health(id, instance) == Health::Healthy;
            }
        }
        here
    }
}

/// Whether an instance waits for others.
#[derive(Clone, Debug, Default)]
pub(crate) struct Waiting {
    /// Whether it does so no more: for good, as an order of starts is not one of restarts.
    is_over: bool,
    /// Since when it does.
    since: Option<Timestamp>,
    /// When it starts all the same.
    until: Option<Timestamp>,
    /// For whom, for people; empty while it does not.
    reason: String,
}

impl Waiting {
    /// Looks again; whether it goes on.
    pub(crate) fn goes_on(
        &mut self,
        assignment: &Assignment,
        outlook: Outlook<'_>,
        settings: &Settings,
        now: Timestamp,
    ) -> bool {
        let unmet = assignment.after.iter().find(|dependency| !outlook.meets(dependency));
        let Some(unmet) = unmet.filter(|_| !self.is_over) else {
            self.end();
            return false;
        };
        let since = *self.since.get_or_insert(now);
        // Whoever is away says nothing of others: then all is told that there is to wait for.
        self.until = outlook.cut_off_since.map(|cut_off| cut_off.max(since) + settings.dependency_limit_ms);
        if self.until.is_some_and(|until| until <= now) {
            self.end();
            return false;
        }
        self.reason = format!("waits until {unmet}");
        true
    }

    /// A process runs: there is nothing to wait for any more.
    pub(crate) fn end(&mut self) {
        *self = Self { is_over: true, ..Self::default() };
    }

    /// When it starts all the same, and why that is looked at.
    pub(crate) fn deadline(&self) -> Option<(Timestamp, &'static str)> {
        self.until.map(|at| (at, "a start that others were waited for"))
    }

    /// For whom it waits, for people; empty while it does not.
    pub(crate) fn reason(&self) -> &str {
        &self.reason
    }
}

//! What an instance waits for before its first process here: services, by the table that this node holds and what it knows
//! itself.
//!
//! So a node that boots alone keeps the order that it was told. What it cannot know then, it does not wait for without end.

use api_types::{
    assignment::Assignment,
    dependency::{Awaited, Dependency},
    time::Timestamp,
};

use crate::{Settings, effect::Balancing};

/// What is known of other services.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outlook<'a> {
    /// How this node shares out connections; `None` = it holds no table yet.
    pub(crate) balancing: Option<&'a Balancing>,
    /// Since when the scheduler is away; `None` while it is there.
    pub(crate) cut_off_since: Option<Timestamp>,
}

impl Outlook<'_> {
    fn meets(&self, dependency: &Dependency) -> bool {
        let Some(balancing) = self.balancing else { return false };
        let found = balancing.services.binary_search_by(|service| service.id.cmp(&dependency.workload));
        let mut endpoints = found.into_iter().flat_map(|index| &balancing.services[index].endpoints);
        match dependency.awaited {
            Awaited::Healthy => endpoints.any(|endpoint| !endpoint.last_resort),
        }
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

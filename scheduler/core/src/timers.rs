//! Deadlines with their reasons, as part of the state.

use std::collections::BTreeSet;

use api_types::{id::WorkloadId, time::Timestamp};

/// What is due at a time. A timer only makes somebody look; whether there is something to do is decided then.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// The instance with this number waits no longer for nodes to know that it left the service table, or came in.
    Barrier(u64),
    /// An instance of the workload may have to be replaced.
    Look(WorkloadId),
    /// A run of the job may be due by its schedule.
    Due(WorkloadId),
    /// The next lost node of a site may be given up.
    Turn(String),
    /// Something may be better elsewhere.
    Rebalance,
}

impl Timer {
    /// Why, in a few words.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Barrier(_) => "a node does not say which service table it has",
            Self::Look(_) => "an instance may have to be replaced",
            Self::Due(_) => "a run may be due by its schedule",
            Self::Turn(_) => "the next lost node of a site may be given up",
            Self::Rebalance => "something may be better elsewhere",
        }
    }
}

/// All deadlines.
#[derive(Clone, Debug, Default)]
pub(crate) struct Timers(BTreeSet<(Timestamp, Timer)>);

impl Timers {
    /// Sets one more.
    pub(crate) fn set(&mut self, at: Timestamp, timer: Timer) {
        self.0.insert((at, timer));
    }

    /// Drops those that come again and again.
    pub(crate) fn drop_recurring(&mut self) {
        self.0.retain(|(_, timer)| !matches!(timer, Timer::Rebalance | Timer::Due(_)));
    }

    /// The next one.
    pub(crate) fn next(&self) -> Option<(Timestamp, &'static str)> {
        self.0.first().map(|(at, timer)| (*at, timer.reason()))
    }

    /// Takes the next one, if it is due.
    pub(crate) fn take_due(&mut self, now: Timestamp) -> Option<Timer> {
        if self.0.first().is_some_and(|(at, _)| *at <= now) { self.0.pop_first().map(|(_, timer)| timer) } else { None }
    }
}

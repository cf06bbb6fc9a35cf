//! The lease: for how long this node may run what must not run twice, and the end of that when the lease is over.
//!
//! It counts from a moment at which the scheduler surely had heard of this node, which is never later than what the scheduler counts
//! silence from. Over means over: what was fenced never runs again under its id, as somebody else may have its place by then.

use api_types::{
    instance::{Exit, InstanceState},
    job::Tries,
    time::Timestamp,
};

use crate::{
    instances::{Claim, Instance},
    machine::{Agent, Runtime},
};

/// A moment at which the scheduler surely had heard of this node: it may lie before the beginning of this run's time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lease {
    /// When this was known, or corrected.
    known_at: Timestamp,
    /// How long ago the moment was then, in milliseconds.
    age_ms: u64,
}

/// Whether a lease covered an instance since it is on the books.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cover {
    /// Not yet: it is not started, and given up when it takes as long as a lease would last. Since when it waits for one.
    Awaited(Timestamp),
    /// It did, or the disk does not say.
    Given,
}

impl Lease {
    /// When it is older than this.
    fn ends_at(&self, stop_after_ms: u64) -> Timestamp {
        self.known_at + stop_after_ms.saturating_sub(self.age_ms)
    }
}

impl Cover {
    /// Whether a lease is of a moment after that from which it is waited for: an earlier one may be nearly over.
    fn is_given_by(self, lease: Lease) -> bool {
        match self {
            Self::Awaited(since) => lease.known_at.0 >= since.0.saturating_add(lease.age_ms),
            Self::Given => true,
        }
    }

    /// When what it covers is over; `None` = it has been since the machine was started.
    fn ends_at(self, lease: Option<Lease>, stop_after_ms: u64) -> Option<Timestamp> {
        match self {
            Self::Awaited(since) => Some(since + stop_after_ms),
            Self::Given => Some(lease?.ends_at(stop_after_ms)),
        }
    }
}

impl Agent {
    /// The scheduler had heard of this node so long ago. What is older than what is known says nothing.
    pub(crate) fn lease_renewed(&mut self, age_ms: u64, now: Timestamp) {
        // Compared without a difference: a moment may lie before the beginning of time.
        let is_later = |held: Lease| now.0.saturating_add(held.age_ms) > held.known_at.0.saturating_add(age_ms);
        if self.lease.is_none_or(is_later) {
            self.lease = Some(Lease { known_at: now, age_ms });
        }
    }

    /// The machine slept: its processes did, too, and the scheduler did not.
    pub(crate) fn slept(&mut self, ms: u64) {
        if let Some(lease) = &mut self.lease {
            lease.age_ms = lease.age_ms.saturating_add(ms);
        }
    }

    /// Ends for good what runs by a lease that is over. Where no moment is known the machine was started since: nobody knows how long it was off.
    pub(crate) fn fence(&mut self, now: Timestamp) {
        if self.runtime == Runtime::Unseen {
            return;
        }
        let lease = self.lease;
        for instance in self.instances.values_mut() {
            let Some(stop_after_ms) = instance.leased_for_ms() else { continue };
            if lease.is_some_and(|lease| lease.ends_at(stop_after_ms) > now && instance.cover.is_given_by(lease)) {
                instance.cover = Cover::Given;
            } else if instance.cover.ends_at(lease, stop_after_ms).is_none_or(|at| at <= now) {
                instance.fence();
            }
        }
    }

    /// When the first lease is over.
    pub(crate) fn fence_deadline(&self) -> Option<(Timestamp, &'static str)> {
        let leased = self.instances.values().filter(|_| self.runtime != Runtime::Unseen);
        let ends = leased.filter_map(|instance| instance.cover.ends_at(self.lease, instance.leased_for_ms()?));
        Some((ends.min()?, "the end of a lease"))
    }

    /// Whether something here runs by a lease, so that it must be renewed.
    #[must_use]
    pub fn holds_leases(&self) -> bool {
        self.instances.values().any(|instance| instance.leased_for_ms().is_some())
    }
}

impl Instance {
    /// For how many milliseconds it may run on without the scheduler; `None` = as long as it takes, or it shall not run any more.
    fn leased_for_ms(&self) -> Option<u64> {
        let Claim::Run(assignment) = &self.claim else { return None };
        assignment.stop_after_ms.filter(|_| !self.is_fenced())
    }

    /// Whether it waits for a lease before it is started: the one that is held may be from long ago, as none was renewed.
    pub(crate) fn awaits_lease(&self) -> bool {
        self.leased_for_ms().is_some() && matches!(self.cover, Cover::Awaited(_))
    }

    /// Whether it was ended for good because its lease was over.
    pub(crate) fn is_fenced(&self) -> bool {
        self.tries.as_ref().is_some_and(|tries| tries.fenced)
    }

    fn fence(&mut self) {
        let last_exit = self.last_exit.clone().unwrap_or(Exit::Unknown);
        self.tries = Some(Tries { next_attempt: self.attempts.next, failed: 0, last_exit, fenced: true });
    }

    /// Where an instance is that was fenced; `None` = it was not.
    pub(crate) fn fenced_state(&self) -> Option<InstanceState> {
        // Whoever hears of its end may start another: nothing of it is left then.
        let state = if self.has_remains() { InstanceState::Stopping } else { InstanceState::Stopped };
        self.is_fenced().then_some(state)
    }

    /// Why it was fenced, for people; empty if it was not.
    pub(crate) fn fenced_reason(&self) -> String {
        match self.assignment().and_then(|assignment| assignment.stop_after_ms) {
            Some(stop_after_ms) if self.is_fenced() => {
                format!("it ended itself: the scheduler did not hear its node for {} s", stop_after_ms / 1_000)
            }
            Some(_) | None => String::new(),
        }
    }
}

//! The containers of one process that follow each other, be it an instance's main process or one beside it.

use std::collections::BTreeMap;

use api_types::time::Timestamp;

use crate::{Settings, restart::backoff_ms};

/// A container of an instance, by what is known of it.
#[derive(Clone, Debug)]
pub(crate) enum Attempt {
    /// `Start` is in flight.
    Starting,
    /// Its process runs.
    Running {
        /// Process id on the node.
        pid: u32,
        /// When the process was started.
        started_at: Timestamp,
        /// When this program first knew; a list taken shortly before may lack it.
        known_at: Timestamp,
    },
    /// `Stop` is in flight.
    Stopping {
        /// When waiting ends and the container is removed as it is.
        overdue_at: Timestamp,
    },
    /// Its process ended; the rest is to be removed.
    Ended,
    /// `Remove` is in flight.
    Removing {
        /// How often it failed before.
        failures: u32,
    },
    /// `Remove` failed.
    RemovalFailed {
        /// How often.
        failures: u32,
        /// When it is tried again.
        retry_at: Timestamp,
    },
}

impl Attempt {
    /// Whether it has a process, or may get one, that was not asked to end.
    pub(crate) fn is_alive(&self) -> bool {
        matches!(self, Self::Starting | Self::Running { .. })
    }

    /// Begins to ask a process that runs to end, within its grace; true when it is to be asked now. One whose time for that is
    /// over counts as ended.
    pub(crate) fn begin_end(&mut self, grace_ms: u64, settings: &Settings, now: Timestamp) -> bool {
        match *self {
            Self::Running { .. } => {
                *self = Self::Stopping { overdue_at: now + grace_ms + settings.stop_overdue_ms };
                return true;
            }
            Self::Stopping { overdue_at } if overdue_at <= now => *self = Self::Ended,
            Self::Starting | Self::Stopping { .. } | Self::Ended => {}
            Self::Removing { .. } | Self::RemovalFailed { .. } => {}
        }
        false
    }

    /// Begins to remove what is left of it; true when that is to be asked for now.
    pub(crate) fn begin_removal(&mut self, now: Timestamp) -> bool {
        let failures = match *self {
            Self::Ended => 0,
            Self::RemovalFailed { failures, retry_at } if retry_at <= now => failures,
            Self::RemovalFailed { .. } | Self::Removing { .. } => return false,
            Self::Starting | Self::Running { .. } | Self::Stopping { .. } => return false,
        };
        *self = Self::Removing { failures };
        true
    }

    /// Books that a removal failed; gives what people are told of it.
    fn removal_failed(&mut self, settings: &Settings, reason: &str, now: Timestamp) -> String {
        let failures = if let Self::Removing { failures } = *self { failures.saturating_add(1) } else { 1 };
        let delay_ms = backoff_ms(settings, failures);
        *self = Self::RemovalFailed { failures, retry_at: now + delay_ms };
        format!("cannot remove: {reason}; next try in {} s", delay_ms.div_ceil(1000))
    }

    /// When it is to be looked at again, and why.
    pub(crate) fn deadline(&self) -> Option<(Timestamp, &'static str)> {
        match *self {
            Self::Stopping { overdue_at } => Some((overdue_at, "a stop that is overdue")),
            Self::RemovalFailed { retry_at, .. } => Some((retry_at, "the next try to remove a container")),
            Self::Starting | Self::Running { .. } | Self::Ended | Self::Removing { .. } => None,
        }
    }
}

/// All that is known of them, by number. At most one is alive, and none gets the number of another.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attempts {
    /// Those of which something is there, or may be.
    pub(crate) held: BTreeMap<u32, Attempt>,
    /// The number that the next one gets.
    pub(crate) next: u32,
}

/// What it means that the process of an attempt runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// It was started here.
    Started,
    /// It is later than all known ones and taken over; who was alive counts as ended.
    TakenOver,
    /// Nothing new, or nothing that is wanted.
    Nothing,
}

/// How the process of an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// By itself, and since when it ran.
    ByItself(Timestamp),
    /// As it was asked to.
    AsAsked,
}

impl Attempts {
    /// The one that is alive.
    pub(crate) fn alive(&self) -> Option<(u32, &Attempt)> {
        self.held.iter().rev().find(|(_, attempt)| attempt.is_alive()).map(|(&number, attempt)| (number, attempt))
    }

    /// The one whose process runs, and since when.
    pub(crate) fn running_since(&self) -> Option<(u32, Timestamp)> {
        match self.alive()? {
            (number, Attempt::Running { started_at, .. }) => Some((number, *started_at)),
            (_, Attempt::Starting | Attempt::Stopping { .. } | Attempt::Ended)
            | (_, Attempt::Removing { .. } | Attempt::RemovalFailed { .. }) => None,
        }
    }

    /// Whether there was one of that number, or something is there of it.
    pub(crate) fn knows(&self, number: u32) -> bool {
        number < self.next
    }

    /// Begins the next one; its number.
    pub(crate) fn begin(&mut self) -> u32 {
        let attempt = self.next;
        self.held.insert(attempt, Attempt::Starting);
        self.next = attempt.saturating_add(1);
        attempt
    }

    /// The process of one runs, as an answer or a list says.
    pub(crate) fn runs(&mut self, number: u32, pid: u32, started_at: Timestamp, now: Timestamp) -> Found {
        let running = Attempt::Running { pid, started_at, known_at: now };
        match self.held.get_mut(&number) {
            Some(attempt @ Attempt::Starting) => {
                *attempt = running;
                Found::Started
            }
            Some(Attempt::Running { pid: known, .. }) => {
                *known = pid;
                Found::Nothing
            }
            Some(Attempt::Stopping { .. } | Attempt::Ended | Attempt::Removing { .. })
            | Some(Attempt::RemovalFailed { .. }) => Found::Nothing,
            None if number >= self.next => {
                for attempt in self.held.values_mut().filter(|attempt| attempt.is_alive()) {
                    *attempt = Attempt::Ended;
                }
                self.held.insert(number, running);
                self.next = number.saturating_add(1);
                Found::TakenOver
            }
            None => {
                self.held.insert(number, Attempt::Ended);
                Found::Nothing
            }
        }
    }

    /// The process of one ended; `None` = that is known, or there is none.
    pub(crate) fn ended(&mut self, number: u32, now: Timestamp) -> Option<Ended> {
        let attempt = self.held.get_mut(&number)?;
        let ended = match attempt {
            Attempt::Starting => Ended::ByItself(now),
            Attempt::Running { started_at, .. } => Ended::ByItself(*started_at),
            Attempt::Stopping { .. } => Ended::AsAsked,
            Attempt::Ended | Attempt::Removing { .. } | Attempt::RemovalFailed { .. } => return None,
        };
        *attempt = Attempt::Ended;
        Some(ended)
    }

    /// One that is not on the books ended while nobody watched; true if it is later than all known ones.
    pub(crate) fn found_ended(&mut self, number: u32) -> bool {
        self.held.insert(number, Attempt::Ended);
        let is_later = !self.knows(number);
        if is_later {
            self.next = number.saturating_add(1);
        }
        is_later
    }

    /// One could not be started, and nothing of it is left: its number is free again. False if none was being started.
    pub(crate) fn not_started(&mut self, number: u32) -> bool {
        let was_starting = matches!(self.held.get(&number), Some(Attempt::Starting));
        if was_starting {
            self.held.remove(&number);
            if self.next == number.saturating_add(1) {
                self.next = number;
            }
        }
        was_starting
    }

    /// One left nothing behind; false if it was not being removed.
    pub(crate) fn removed(&mut self, number: u32) -> bool {
        let was_removing = matches!(self.held.get(&number), Some(Attempt::Removing { .. }));
        if was_removing {
            self.held.remove(&number);
        }
        was_removing
    }

    /// What is left of one could not be removed; what people are told, if it was being removed.
    pub(crate) fn removal_failed(
        &mut self,
        settings: &Settings,
        number: u32,
        reason: &str,
        now: Timestamp,
    ) -> Option<String> {
        let attempt = self.held.get_mut(&number)?;
        matches!(attempt, Attempt::Removing { .. }).then(|| attempt.removal_failed(settings, reason, now))
    }

    /// What does not hold of them, though it must at all times.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        if self.held.values().filter(|attempt| attempt.is_alive()).count() > 1 {
            return Some("has more than one attempt alive");
        }
        self.held.keys().any(|number| !self.knows(*number)).then_some("would use the number of an attempt twice")
    }
}

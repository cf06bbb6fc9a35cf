//! Time for the core: one reading of the wall clock, advanced by the monotonic one.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use api_types::time::Timestamp;
use tokio::time::Instant;

/// A clock that never goes back, whatever happens to the wall clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    wall: Timestamp,
    started: Instant,
}

impl Clock {
    /// Reads the wall clock, once.
    pub(crate) fn start() -> Self {
        Self { wall: wall_now(), started: Instant::now() }
    }

    /// What time it is.
    pub(crate) fn now(self) -> Timestamp {
        self.wall + milliseconds(self.started.elapsed())
    }

    /// When a deadline is due.
    pub(crate) fn instant_of(self, deadline: Timestamp) -> Instant {
        // A year from now is as good as any later moment, and always representable.
        const YEAR_MS: u64 = 365 * 24 * 60 * 60 * 1000;
        self.started
            + Duration::from_millis(deadline.since(self.wall).min(milliseconds(self.started.elapsed()) + YEAR_MS))
    }
}

/// Reads the wall clock.
pub(crate) fn wall_now() -> Timestamp {
    Timestamp(milliseconds(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()))
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

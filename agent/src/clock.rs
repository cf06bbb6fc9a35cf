//! The one clock of the agent: the wall's time at the start, advanced by the monotonic clock, so it never goes back.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use api_types::time::Timestamp;

/// The agent's clock; a copy is the same clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    wall_ms: u64,
    started: Instant,
}

impl Clock {
    /// Reads the wall clock once.
    pub(crate) fn start() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { wall_ms: milliseconds(wall), started: Instant::now() }
    }

    /// Gives the time.
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp(self.wall_ms + milliseconds(self.started.elapsed()))
    }

    /// How far the wall clock is ahead of this one, in milliseconds.
    pub(crate) fn wall_ahead_ms(&self) -> i64 {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let (wall, own) = (milliseconds(wall), self.now().0);
        i64::try_from(i128::from(wall) - i128::from(own)).unwrap_or_default()
    }

    /// Gives the moment of the runtime's timers that is `at`; a past one for a past `at`.
    pub(crate) fn instant(&self, at: Timestamp) -> tokio::time::Instant {
        (self.started + Duration::from_millis(at.0.saturating_sub(self.wall_ms))).into()
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

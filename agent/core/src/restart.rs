//! When a dead process is started again: at once the first time, then with growing pauses, for ever.

use api_types::{instance::Exit, time::Timestamp};

use crate::Settings;

/// When the next attempt of an instance is due, and why it is not running.
#[derive(Clone, Debug, Default)]
pub(crate) struct Restart {
    /// Exits shortly after the start, since the last long run.
    quick_exits: u32,
    /// Starts that failed in a row.
    failures: u32,
    /// Not before this.
    not_before: Option<Timestamp>,
    /// Why it does not run, for people.
    reason: String,
}

impl Restart {
    /// Books the end of a process that ran for `ran_ms`; `restarts` is the number of the attempt that follows.
    pub(crate) fn exited(&mut self, settings: &Settings, now: Timestamp, ran_ms: u64, exit: &Exit, restarts: u32) {
        if ran_ms >= settings.stable_after_ms {
            self.quick_exits = 0;
        }
        if ran_ms < settings.quick_exit_ms {
            self.quick_exits = self.quick_exits.saturating_add(1);
        }
        let delay_ms = match self.quick_exits {
            0 | 1 => 0,
            exits => backoff_ms(settings, exits - 1),
        };
        self.not_before = Some(now + delay_ms);
        let how = exit.describe();
        self.reason = match delay_ms {
            0 => format!("{how}, restart {restarts}"),
            delay_ms => format!("{how}, restart {restarts} in {} s", delay_ms.div_ceil(1000)),
        };
    }

    /// Books a start that failed.
    pub(crate) fn failed(&mut self, settings: &Settings, now: Timestamp, reason: &str) {
        self.failures = self.failures.saturating_add(1);
        let delay_ms = backoff_ms(settings, self.failures);
        self.not_before = Some(now + delay_ms);
        self.reason = format!("cannot start: {reason}; next try in {} s", delay_ms.div_ceil(1000));
    }

    /// Books a process that runs.
    pub(crate) fn running(&mut self) {
        self.failures = 0;
        self.not_before = None;
        self.reason.clear();
    }

    /// Whether the next attempt may start; a pause that is over is forgotten.
    pub(crate) fn take_due(&mut self, now: Timestamp) -> bool {
        self.not_before = self.not_before.filter(|not_before| *not_before > now);
        self.not_before.is_none()
    }

    /// When the next attempt may start, if there is a pause.
    pub(crate) fn not_before(&self) -> Option<Timestamp> {
        self.not_before
    }

    /// Why it does not run; empty when nothing went wrong.
    pub(crate) fn reason(&self) -> &str {
        &self.reason
    }
}

/// The pause before try number `failures` + 1, in milliseconds: doubled each time, capped.
pub(crate) fn backoff_ms(settings: &Settings, failures: u32) -> u64 {
    let factor = 1_u64.checked_shl(failures.saturating_sub(1)).unwrap_or(u64::MAX);
    settings.restart_backoff_min_ms.saturating_mul(factor).min(settings.restart_backoff_max_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings::new(api_types::id::NodeId::new("edge-1").expect("a name"))
    }

    /// The pauses before each of the next `count` attempts of a process that always runs for `ran_ms`.
    fn pauses(restart: &mut Restart, ran_ms: u64, count: u32) -> Vec<u64> {
        let now = Timestamp(1_000_000);
        (1..=count)
            .map(|number| {
                restart.exited(&settings(), now, ran_ms, &Exit::Code(1), number);
                restart.not_before().expect("an exit sets it").since(now)
            })
            .collect()
    }

    #[test]
    fn a_crash_loop_slows_down_to_the_cap_and_a_long_run_forgives_it() {
        let mut restart = Restart::default();

        let looping = pauses(&mut restart, 100, 9);
        let after_a_long_run = pauses(&mut restart, 60_000, 1);
        let looping_again = pauses(&mut restart, 100, 3);

        assert_eq!(looping, [0, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
        assert_eq!(after_a_long_run, [0]);
        assert_eq!(looping_again, [0, 1000, 2000]);
    }

    #[test]
    fn nothing_starts_before_its_pause_is_over() {
        let (mut restart, now) = (Restart::default(), Timestamp(1_000_000));
        let begun_at_once = restart.take_due(now);
        restart.exited(&settings(), now, 100, &Exit::Code(1), 1);
        let once = restart.take_due(now);

        restart.exited(&settings(), now, 100, &Exit::Code(1), 2);

        assert!(begun_at_once && once);
        assert!(!restart.take_due(now) && !restart.take_due(now + 999));
        assert!(restart.take_due(now + 1000));
    }

    #[test]
    fn the_reason_says_how_it_ended_and_when_it_goes_on() {
        let mut restart = Restart::default();

        pauses(&mut restart, 100, 4);

        assert_eq!(restart.reason(), "exited with code 1, restart 4 in 4 s");
    }

    #[test]
    fn no_number_of_failures_overflows() {
        for failures in [0, 1, 63, 64, 65, u32::MAX] {
            let pause = backoff_ms(&settings(), failures);
            assert!((1000..=60_000).contains(&pause), "{failures} failures give {pause} ms");
        }
    }
}

//! When a process that ended is started again: at once the first time, then with growing pauses, for ever.

use api_types::time::Timestamp;

use crate::Settings;

/// So many exits shortly after the start, none of them forgiven, are a crash loop.
const CRASH_LOOP_EXITS: u32 = 3;

/// When the next attempt of an instance is due, and why it is not running.
#[derive(Clone, Debug, Default)]
pub(crate) struct Restart {
    /// Exits shortly after the start, since the last long run.
    quick_exits: u32,
    /// All exits since the last long run: each is followed by a restart.
    in_a_row: u32,
    /// How it last ended, for people.
    how: String,
    /// Starts that failed in a row.
    failures: u32,
    /// Not before this.
    not_before: Option<Timestamp>,
    /// Why it does not run, for people.
    reason: String,
}

impl Restart {
    /// Books the end of a process that ran well for `ran_ms`; `how` it ended is for people, and `restarts` is the number of
    /// the attempt that follows.
    pub(crate) fn exited(&mut self, settings: &Settings, now: Timestamp, ran_ms: u64, how: String, restarts: u32) {
        if ran_ms >= settings.stable_after_ms {
            self.settled();
        }
        self.in_a_row = self.in_a_row.saturating_add(1);
        if ran_ms < settings.quick_exit_ms {
            self.quick_exits = self.quick_exits.saturating_add(1);
        }
        let delay_ms = match self.quick_exits {
            0 | 1 => 0,
            exits => backoff_ms(settings, exits - 1),
        };
        self.not_before = Some(now + delay_ms);
        let named = if self.is_crash_loop() { "crash loop: " } else { "" };
        self.reason = match delay_ms {
            0 => format!("{named}{how}, restart {restarts}"),
            delay_ms => format!("{named}{how}, restart {restarts} in {} s", delay_ms.div_ceil(1000)),
        };
        self.how = how;
    }

    /// Books a start that failed.
    pub(crate) fn failed(&mut self, settings: &Settings, now: Timestamp, reason: &str) {
        self.failures = self.failures.saturating_add(1);
        let delay_ms = backoff_ms(settings, self.failures);
        self.not_before = Some(now + delay_ms);
        self.reason = format!("cannot start: {reason}; next try in {} s", delay_ms.div_ceil(1000));
    }

    /// Books a process that runs. A crash loop is not over with that.
    pub(crate) fn running(&mut self) {
        self.failures = 0;
        self.not_before = None;
        self.reason.clear();
        if self.is_crash_loop() {
            self.reason = format!("crash loop: the process before {}", self.how);
        }
    }

    /// Forgives the earlier exits of a process that ran long.
    pub(crate) fn settled(&mut self) {
        self.quick_exits = 0;
        self.in_a_row = 0;
        self.reason.clear();
    }

    /// Whether there are exits that are not forgiven.
    pub(crate) fn is_unsettled(&self) -> bool {
        self.in_a_row > 0
    }

    /// Whether it ended again and again shortly after its start.
    pub(crate) fn is_crash_loop(&self) -> bool {
        self.quick_exits >= CRASH_LOOP_EXITS
    }

    /// Whether it ended or could not be started more often in a row than so many times.
    pub(crate) fn is_used_up(&self, restarts_max: Option<u32>) -> bool {
        restarts_max.is_some_and(|restarts_max| self.in_a_row.saturating_add(self.failures) > restarts_max)
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
                restart.exited(&settings(), now, ran_ms, "exited with code 1".to_owned(), number);
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
        restart.exited(&settings(), now, 100, "exited with code 1".to_owned(), 1);
        let once = restart.take_due(now);

        restart.exited(&settings(), now, 100, "exited with code 1".to_owned(), 2);

        assert!(begun_at_once && once);
        assert!(!restart.take_due(now) && !restart.take_due(now + 999));
        assert!(restart.take_due(now + 1000));
    }

    #[test]
    fn the_reason_says_how_it_ended_and_when_it_goes_on() {
        let mut restart = Restart::default();

        pauses(&mut restart, 100, 4);

        assert_eq!(restart.reason(), "crash loop: exited with code 1, restart 4 in 4 s");
    }

    #[test]
    fn three_quick_exits_are_a_crash_loop_until_a_run_is_long() {
        let mut restart = Restart::default();
        pauses(&mut restart, 100, 2);
        let after_two = restart.is_crash_loop();
        pauses(&mut restart, 100, 1);
        let after_three = restart.is_crash_loop();

        restart.running();
        let while_it_runs = restart.reason().to_owned();
        restart.settled();

        assert!(!after_two && after_three);
        assert_eq!(while_it_runs, "crash loop: the process before exited with code 1");
        assert_eq!((restart.is_crash_loop(), restart.reason()), (false, ""));
    }

    #[test]
    fn restarts_are_used_up_when_one_more_is_needed_and_slow_exits_count_as_well() {
        let mut restart = Restart::default();
        pauses(&mut restart, 30_000, 2);
        let after_two = restart.is_used_up(Some(2));

        pauses(&mut restart, 30_000, 1);

        assert!(!after_two && restart.is_used_up(Some(2)));
        assert!(!restart.is_used_up(Some(3)) && !restart.is_used_up(None));
        pauses(&mut restart, 60_000, 1);
        assert!(!restart.is_used_up(Some(2)), "a long run forgives");
    }

    #[test]
    fn starts_that_fail_count_like_ends_until_one_does_not() {
        let mut restart = Restart::default();
        pauses(&mut restart, 100, 1);
        restart.failed(&settings(), Timestamp(1_000_000), "no such device");
        let after_two = restart.is_used_up(Some(2));

        restart.failed(&settings(), Timestamp(1_000_000), "no such device");

        assert!(!after_two && restart.is_used_up(Some(2)));
        restart.running();
        assert!(!restart.is_used_up(Some(2)), "what fails no more is forgotten, the end is not");
        assert!(restart.is_used_up(Some(0)));
    }

    #[test]
    fn no_number_of_failures_overflows() {
        for failures in [0, 1, 63, 64, 65, u32::MAX] {
            let pause = backoff_ms(&settings(), failures);
            assert!((1000..=60_000).contains(&pause), "{failures} failures give {pause} ms");
        }
    }
}

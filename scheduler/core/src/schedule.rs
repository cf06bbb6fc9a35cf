//! When a schedule is due: the calendar, and clocks that are put forward and back. Plain arithmetic with whole seconds.

use api_types::{schedule::Cron, time::Timestamp};

const MINUTE_S: i64 = 60;
const DAY_MINUTES: i64 = 1_440;
/// How far is looked ahead. The rarest day is a 29th of February on a given weekday: at most 40 years.
const DAYS_MAX: i64 = 50 * 366;
/// 1970-01-01 was a Thursday.
const FIRST_WEEKDAY: i64 = 4;

/// UTC.
pub(crate) static UTC: Zone = Zone { offset_s: 0, changes: Vec::new() };

/// The clock of a time zone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Zone {
    /// Seconds that it is ahead of UTC, before all changes.
    pub offset_s: i64,
    /// When it changes, in seconds since 1970 of UTC, and how far it is ahead from then on; sorted by time.
    pub changes: Vec<(i64, i64)>,
}

impl Zone {
    /// The first moment after `after` at which `cron` is due by this clock; `None` = never.
    ///
    /// A minute that matches is due when the clock shows it or a later one for the first time. So one that the clock leaps
    /// over is due at the leap, and one that it shows twice is due once.
    #[must_use]
    pub fn next(&self, cron: &Cron, after: Timestamp) -> Option<Timestamp> {
        let after = i64::try_from(after.0 / 1_000).ok()?;
        let due = self.first_shown(next_match(cron, self.latest_shown(after))?);
        u64::try_from(due).ok()?.checked_mul(1_000).map(Timestamp)
    }

    /// The latest second that the clock showed until `until`.
    fn latest_shown(&self, until: i64) -> i64 {
        let ends = self.changes.iter().map(|(at, _)| at - 1).chain([i64::MAX]);
        let offsets = [self.offset_s].into_iter().chain(self.changes.iter().map(|(_, offset)| *offset));
        let begun = 1 + self.changes.iter().take_while(|(at, _)| *at <= until).count();
        let latest = ends.zip(offsets).take(begun).map(|(end, offset)| end.min(until) + offset).max();
        latest.expect("a clock always shows something")
    }

    /// When the clock first shows this second or a later one.
    fn first_shown(&self, second: i64) -> i64 {
        let mut at = second - self.offset_s;
        for (change, offset) in &self.changes {
            if at < *change {
                break;
            }
            at = (second - offset).max(*change);
        }
        at
    }
}

/// The first minute that matches after this second, both by the same clock, as its first second.
fn next_match(cron: &Cron, after: i64) -> Option<i64> {
    let minute = after.div_euclid(MINUTE_S) + 1;
    let today = minute.div_euclid(DAY_MINUTES);
    for day in today..today + DAYS_MAX {
        let (month, day_of_month) = date(day);
        if !cron.matches_day(month, day_of_month, small((day + FIRST_WEEKDAY).rem_euclid(7))) {
            continue;
        }
        let from = if day == today { small(minute.rem_euclid(DAY_MINUTES)) } else { 0 };
        if let Some(minute) = cron.minute_of_day(from) {
            return Some((day * DAY_MINUTES + i64::from(minute)) * MINUTE_S);
        }
    }
    None
}

/// Month and day of the month, both from 1, of a day since 1970-01-01, by the Gregorian calendar.
///
/// Years are counted from March, so that the leap day is their last; 400 of them have 146,097 days. (Howard Hinnant,
/// "chrono-compatible low-level date algorithms", `civil_from_days`.)
fn date(day: i64) -> (u32, u32) {
    let day_of_era = (day + 719_468).rem_euclid(146_097);
    let year = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (small(month), small(day_of_month))
}

fn small(number: i64) -> u32 {
    u32::try_from(number).expect("a part of a day, a week, a month or a year")
}

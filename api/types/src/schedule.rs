//! Schedules: when a job runs by itself, by the clock of a time zone.

mod ahead;
mod cron;

use serde::{Deserialize, Serialize};

pub use ahead::{AHEAD_MAX, AHEAD_MS, BegunAlone, FollowedAlone, JobAhead};
pub use cron::Cron;

/// The time zone of a schedule that names none.
pub const UTC: &str = "UTC";
/// The longest name of a time zone, in bytes.
pub const TIME_ZONE_BYTES_MAX: usize = 64;
/// Milliseconds after which a run that could not begin at its time counts as missed.
pub const ON_TIME_MS: u64 = 60_000;
/// The longest time back to which a missed run is caught up, in milliseconds: 30 days.
pub const CATCH_UP_MS_MAX: u64 = 30 * 86_400_000;

/// The most runs of one job that are active at once, where that is allowed at all.
pub const RUNS_MAX: usize = 16;

/// When a job runs by itself, and what comes of runs that meet or were missed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleSpec {
    /// When, by the clock of the time zone. A time that the clock leaps over is the first moment after the leap; one that it
    /// shows twice is the first of the two.
    pub cron: Cron,
    /// Whose clock: a name of the tz database, such as `Europe/Berlin`.
    #[serde(default = "utc", skip_serializing_if = "is_utc")]
    pub time_zone: String,
    /// The latest missed run begins late if its time is at most so many milliseconds ago, from [`ON_TIME_MS`] to
    /// [`CATCH_UP_MS_MAX`]; `None` = what was missed is not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catch_up_ms: Option<u64>,
    /// What happens when a run is due while another is active.
    #[serde(default, skip_serializing_if = "Overlap::is_default")]
    pub overlap: Overlap,
    /// Whether nothing begins by itself for now. What would have begun meanwhile is not missed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
}

impl ScheduleSpec {
    /// How late a run may begin, in milliseconds.
    #[must_use]
    pub fn late_ms(&self) -> u64 {
        self.catch_up_ms.unwrap_or(ON_TIME_MS)
    }

    /// By these times in UTC; all else is the default.
    #[must_use]
    pub fn at(cron: Cron) -> Self {
        Self { cron, time_zone: utc(), catch_up_ms: None, overlap: Overlap::default(), suspend: false }
    }
}

/// What happens when a run is due while another is active.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// The active one goes on, the due one is left out.
    #[default]
    Forbid,
    /// The active one is ended, the due one begins.
    Replace,
    /// The due one begins beside the active one, unless [`RUNS_MAX`] are active.
    Allow,
}

impl Overlap {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Forbid, Self::Replace, Self::Allow];

    /// The word of the manifest.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Forbid => "forbid",
            Self::Replace => "replace",
            Self::Allow => "allow",
        }
    }

    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Whether this may be the name of a time zone: words of letters, digits, `_`, `+` and `-`, with slashes between them.
#[must_use]
pub fn is_time_zone_name(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'+' | b'-');
    name.len() <= TIME_ZONE_BYTES_MAX && name.split('/').all(|word| !word.is_empty() && word.bytes().all(is_letter))
}

fn utc() -> String {
    UTC.to_owned()
}

fn is_utc(name: &str) -> bool {
    name == UTC
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_time_zones_are_words_with_slashes() {
        for name in ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+5", "EST5EDT"] {
            assert!(is_time_zone_name(name), "{name}");
        }
        for name in ["", "/etc/localtime", "../x", "Europe/", "Mitteleuropa (Berlin)", &"x".repeat(65)] {
            assert!(!is_time_zone_name(name), "{name}");
        }
    }
}

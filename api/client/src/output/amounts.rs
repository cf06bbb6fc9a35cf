//! Amounts as people read them.

use std::time::SystemTime;

use api_types::time::Timestamp;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// The wall clock of this machine, for ages only.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// `5s`, `3m`, `2h`, `9d`: how long ago.
pub(crate) fn age(then: Timestamp, now: Timestamp) -> String {
    seconds(now.since(then) / 1000)
}

/// One unit, rounded down; two of the smaller one before it says nothing.
pub(crate) fn seconds(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / MINUTE),
        7200..172_800 => format!("{}h", seconds / HOUR),
        _ => format!("{}d", seconds / DAY),
    }
}

/// `800ms`, `2.5s`, `3m`: a span that was not measured but counted.
pub(crate) fn span(milliseconds: u64) -> String {
    match (milliseconds, milliseconds % 1000 / 100) {
        (0, _) => "0s".to_owned(),
        (1..1000, _) => format!("{milliseconds}ms"),
        (1000..120_000, tenths @ 1..) => format!("{}.{tenths}s", milliseconds / 1000),
        _ => seconds(milliseconds / 1000),
    }
}

/// `48MiB`, `1.5GiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    let (unit, factor) = match bytes {
        0..1024 => return format!("{bytes}B"),
        1024..1_048_576 => ("KiB", 1 << 10),
        1_048_576..1_073_741_824 => ("MiB", 1 << 20),
        _ => ("GiB", 1_u64 << 30),
    };
    let tenths = bytes.saturating_mul(10) / factor;
    if tenths >= 100 || tenths.is_multiple_of(10) {
        format!("{}{unit}", tenths / 10)
    } else {
        format!("{}.{}{unit}", tenths / 10, tenths % 10)
    }
}

/// CPUs with two decimals.
pub(crate) fn cpus(millis: u64) -> String {
    format!("{}.{:02}", millis / 1000, millis % 1000 / 10)
}

/// A part of a whole in percent.
pub(crate) fn percent(part: u64, whole: u64) -> String {
    part.saturating_mul(100).checked_div(whole).map_or_else(|| "-".to_owned(), |percent| format!("{percent}%"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_short() {
        assert_eq!([seconds(119), seconds(120), seconds(7200), seconds(400_000)], ["119s", "2m", "2h", "4d"]);
        assert_eq!(
            [span(0), span(800), span(10_000), span(2_540), span(180_000)],
            ["0s", "800ms", "10s", "2.5s", "3m"]
        );
        assert_eq!([bytes(1023), bytes(48 << 20), bytes(3 << 29)], ["1023B", "48MiB", "1.5GiB"]);
        assert_eq!([cpus(50), cpus(1999)], ["0.05", "1.99"]);
        assert_eq!([percent(1, 3), percent(1, 0)], ["33%", "-"]);
    }
}

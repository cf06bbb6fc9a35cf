//! Time zones, from the tz database of this machine. The core computes with what is read here.

use std::collections::{BTreeMap, BTreeSet};

use api_types::{schedule::UTC, workload::WorkloadSpec};
use jiff::{Timestamp, tz};
use scheduler_core::schedule::Zone;

/// How far ahead clocks are known, in seconds: 30 years. A scheduler that runs longer than that without a restart does not
/// see the changes that come later.
const AHEAD_S: i64 = 30 * 366 * 86_400;
/// How far back: longer than any run is caught up.
const BACK_S: i64 = 366 * 86_400;

/// The time zones that schedules name, but for UTC, which needs no database.
pub(crate) fn named<'s>(specs: impl IntoIterator<Item = &'s WorkloadSpec>) -> BTreeSet<String> {
    let names = specs.into_iter().filter_map(|spec| Some(spec.schedule.as_ref()?.time_zone.clone()));
    names.filter(|name| name != UTC).collect()
}

/// Reads how their clocks go around this time; whom the database does not know is left out.
pub(crate) fn read(names: BTreeSet<String>) -> BTreeMap<String, Zone> {
    let now = Timestamp::now().as_second();
    names.into_iter().filter_map(|name| Some((name.clone(), zone(&name, now)?))).collect()
}

fn zone(name: &str, now: i64) -> Option<Zone> {
    let zone = tz::db().get(name).inspect_err(|error| tracing::warn!(name, %error, "no such time zone")).ok()?;
    let begin = Timestamp::from_second(now - BACK_S).ok()?;
    let end = Timestamp::from_second(now + AHEAD_S).ok()?;
    let changes = zone.following(begin).take_while(|change| change.timestamp() < end);
    Some(Zone {
        offset_s: zone.to_offset(begin).seconds().into(),
        changes: changes.map(|change| (change.timestamp().as_second(), change.offset().seconds().into())).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2025-07-01.
    const SUMMER: i64 = 1_751_328_000;

    #[test]
    fn clocks_are_read_with_their_changes() {
        let berlin = zone("Europe/Berlin", SUMMER).expect("the tests need the tz database (package tzdata)");

        assert_eq!(berlin.offset_s, 7_200);
        assert!(berlin.changes.contains(&(1_743_296_400, 7_200)), "{:?}", &berlin.changes[..4]);
        assert!(berlin.changes.contains(&(1_761_440_400, 3_600)), "{:?}", &berlin.changes[..4]);
        assert!(berlin.changes.len() >= 60, "two each year: {}", berlin.changes.len());
        assert_eq!(zone("Asia/Kolkata", SUMMER), Some(Zone { offset_s: 19_800, changes: Vec::new() }));
        assert_eq!(zone("Europe/Atlantis", SUMMER), None);
    }
}

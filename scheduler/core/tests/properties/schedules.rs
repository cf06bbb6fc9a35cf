//! When schedules are due: against an oracle that looks at the clock minute by minute, and as people expect it.

use api_types::{schedule::Cron, time::Timestamp};
use scheduler_core::schedule::Zone;

use crate::walk::Random;

const ROUNDS: u64 = 400;
/// How long the oracle looks at the clock.
const MINUTES: i64 = 8 * 1_440;
/// The days of about a hundred years.
const DAYS: i64 = 36_524;

#[test]
fn a_schedule_is_due_when_a_look_at_the_clock_each_minute_says_so() {
    let calendar = calendar();
    for seed in 0..ROUNDS {
        let mut random = Random(seed);
        let begin = 1_440 * i64::try_from(10 + random.below(u64::try_from(DAYS - 40).unwrap())).unwrap();
        let (cron, zone) = (cron(&mut random), zone(&mut random, begin));

        let mut due = Vec::new();
        let mut after = minute(begin);
        while let Some(next) = zone.next(&cron, after).filter(|next| *next < minute(begin + MINUTES)) {
            due.push(next);
            after = next;
        }

        assert_eq!(due, oracle(&cron, &zone, begin, &calendar), "seed {seed}: {cron} by {zone:?}");
    }
}

#[test]
fn any_moment_has_the_same_next_as_the_last_due_before_it() {
    for seed in 0..ROUNDS {
        let mut random = Random(seed);
        let (cron, zone) = (cron(&mut random), zone(&mut random, 0));
        let Some(first) = zone.next(&cron, minute(0)) else { continue };
        let second = zone.next(&cron, first).expect("what comes once comes again");

        let between = Timestamp(first.0 + random.below(second.0 - first.0));

        assert_eq!(zone.next(&cron, between), Some(second), "seed {seed}: {cron} by {zone:?} after {between}");
    }
}

#[test]
fn the_clock_of_berlin_leaps_over_an_hour_and_shows_one_twice() {
    // 2025-03-30 02:00 becomes 03:00, 2025-10-26 03:00 becomes 02:00; both at 01:00 of UTC.
    let (spring, autumn) = (1_743_296_400, 1_761_440_400);
    let berlin = Zone { offset_s: 3_600, changes: vec![(spring, 7_200), (autumn, 3_600)] };
    let next = |cron: &str, after: i64| {
        let next = berlin.next(&cron.parse().unwrap(), Timestamp(u64::try_from(after * 1_000).unwrap()));
        i64::try_from(next.unwrap().0 / 1_000).unwrap()
    };

    // 02:30 is not there: 03:00 is the first moment after it, once for all times that are not there.
    assert_eq!(next("30 2 * * *", spring - 3_600), spring);
    assert_eq!(next("*/15 2 * * *", spring - 3_600), spring);
    assert_eq!(next("*/15 2 * * *", spring), spring + 86_400 - 3_600);
    // 02:30 is there twice: it is due at the first.
    assert_eq!(next("30 2 * * *", autumn - 7_200), autumn - 1_800);
    assert_eq!(next("30 2 * * *", autumn - 1_800), autumn - 1_800 + 90_000);
    // So what is due each minute rests while the clock shows an hour again.
    assert_eq!(next("* * * * *", autumn - 60), autumn + 3_600);
}

#[test]
fn rare_days_come_in_their_year() {
    let next = |cron: &str, after| Zone::default().next(&cron.parse().unwrap(), after);
    // 2096-02-29 00:00; the next leap year is 2104, as 2100 is none.
    let leap = Timestamp(3_981_312_000_000);

    assert_eq!(next("0 0 29 2 *", leap - 1), Some(leap));
    assert_eq!(next("0 0 29 2 *", leap), Some(leap + 2_921 * 86_400_000));
    assert_eq!(next("0 0 31 4 mon", leap), Some(Timestamp(3_984_163_200_000)), "any Monday of April will do");
}

/// What is due in the time that the oracle looks at, by what the clock shows in each minute.
fn oracle(cron: &Cron, zone: &Zone, begin: i64, calendar: &[(u32, u32)]) -> Vec<Timestamp> {
    let offset = |at: i64| {
        let last = zone.changes.iter().rev().find(|(change, _)| *change <= at * 60);
        last.map_or(zone.offset_s, |(_, offset)| *offset) / 60
    };
    let matches = |shown: i64| {
        let (day, minute) = (shown.div_euclid(1_440), u32::try_from(shown.rem_euclid(1_440)).expect("small"));
        let (month, day_of_month) = calendar[usize::try_from(day).expect("small")];
        let weekday = u32::try_from((day + 4) % 7).expect("small");
        cron.matches_day(month, day_of_month, weekday) && cron.minute_of_day(minute) == Some(minute)
    };
    let mut latest = begin + offset(begin);
    let mut due = Vec::new();
    for at in begin + 1..begin + MINUTES {
        let shown = at + offset(at);
        if (latest + 1..=shown).any(matches) {
            due.push(minute(at));
        }
        latest = latest.max(shown);
    }
    due
}

/// Month and day of each day since 1970-01-01, counted one by one.
fn calendar() -> Vec<(u32, u32)> {
    let mut days = Vec::new();
    for year in 1970..1970 + DAYS / 365 {
        let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let february = if is_leap { 29 } else { 28 };
        for (month, last) in (1..).zip([31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]) {
            days.extend((1..=last).map(|day| (month, day)));
        }
    }
    days
}

fn minute(number: i64) -> Timestamp {
    Timestamp(u64::try_from(number * 60_000).expect("small"))
}

fn cron(random: &mut Random) -> Cron {
    let minutes = ["*", "*/7", "0", "30", "15,45", "10-20"];
    let hours = ["*", "2", "0-6/2", "23", "1,2,3", "*/5"];
    let days = ["*", "*", "1-20", "*/3", "13"];
    let months = ["*", "*", "*", "jan-jun", "2,3,10"];
    let weekdays = ["*", "*", "mon-fri", "sun", "*/2"];
    let fields = [&minutes[..], &hours, &days, &months, &weekdays];
    let text: Vec<&str> = fields.iter().map(|words| random.pick(words).expect("a few words")).collect();
    text.join(" ").parse().expect("a schedule")
}

/// A clock that is put forward and back a few times while the oracle looks at it.
fn zone(random: &mut Random, begin: i64) -> Zone {
    let offsets = [-43_200, -12_600, 0, 3_600, 7_200, 20_700, 50_400];
    let mut offset = random.pick(&offsets).expect("a few");
    let mut zone = Zone { offset_s: offset, changes: Vec::new() };
    let mut at = begin * 60;
    for _ in 0..random.below(4) {
        at += i64::try_from(60 * (300 + random.below(3_000))).expect("small");
        offset += random.pick(&[-7_200, -3_600, -1_800, 1_800, 3_600, 10_800]).expect("small");
        zone.changes.push((at, offset));
    }
    zone
}

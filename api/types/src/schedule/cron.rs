//! The five fields of cron, as POSIX has them (`crontab`), with the names, steps and short words that all crons know.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::error::ValidationError;

/// Which minutes match: minute, hour, day of the month, month, day of the week.
///
/// Where both kinds of day are restricted, a day matches if one of them does, as POSIX says; a field that begins with `*`
/// does not restrict. Days of the week are 0 to 7, where 0 and 7 are Sunday.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cron {
    /// As it was written, with one blank between two fields.
    text: String,
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Whether one kind of day that matches is enough.
    either_day: bool,
}

/// One of the five fields.
struct Field {
    name: &'static str,
    low: u32,
    high: u32,
    /// Words for the numbers from `low` on.
    words: &'static [&'static str],
}

const MONTHS: &[&str] = &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
/// Sunday's second number.
const SUNDAY: u32 = 7;

const FIELDS: [Field; 5] = [
    Field { name: "minute", low: 0, high: 59, words: &[] },
    Field { name: "hour", low: 0, high: 23, words: &[] },
    Field { name: "day of the month", low: 1, high: 31, words: &[] },
    Field { name: "month", low: 1, high: 12, words: MONTHS },
    Field { name: "day of the week", low: 0, high: SUNDAY, words: WEEKDAYS },
];

/// Short words and what they stand for.
const SHORT: &[(&str, &str)] = &[
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

/// How many days each month has at most.
const DAYS_MAX: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

const HOUR_MINUTES: u32 = 60;
const DAY_MINUTES: u32 = 24 * HOUR_MINUTES;

impl Cron {
    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether some minutes of this day match: `month` from 1, `day` from 1, `weekday` from 0, which is Sunday.
    #[must_use]
    pub fn matches_day(&self, month: u32, day: u32, weekday: u32) -> bool {
        let (by_month, by_week) = (has(self.days, day), has(self.weekdays, weekday));
        has(self.months, month) && if self.either_day { by_month || by_week } else { by_month && by_week }
    }

    /// The first minute of a day that matches, counted from midnight, at `from` or later; `None` = none of the rest does.
    #[must_use]
    pub fn minute_of_day(&self, from: u32) -> Option<u32> {
        (from..DAY_MINUTES)
            .find(|minute| has(self.hours, minute / HOUR_MINUTES) && has(self.minutes, minute % HOUR_MINUTES))
    }

    /// Whether any day matches at all: the 31st of April never comes.
    fn has_days(&self) -> bool {
        let comes = |(month, most): (u32, u32)| has(self.months, month) && (1..=most).any(|day| has(self.days, day));
        self.either_day || (1..).zip(DAYS_MAX).any(comes)
    }
}

impl FromStr for Cron {
    type Err = ValidationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = |problem: String| ValidationError::new("schedule", problem);
        let words: Vec<&str> = text.split_whitespace().collect();
        let shown = words.join(" ");
        let fields = match words.as_slice() {
            [short] if short.starts_with('@') => {
                let known = SHORT.iter().find(|(word, _)| word.eq_ignore_ascii_case(short));
                let all = || SHORT.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
                let (_, fields) = known.ok_or_else(|| wrong(format!("`{short}` is none of {}", all())))?;
                fields.split(' ').collect()
            }
            _ => words,
        };
        let [minute, hour, day, month, weekday] = fields.as_slice() else {
            let found = fields.len();
            return Err(wrong(format!("it has {found} fields, not 5: minute, hour, day, month, day of the week")));
        };
        let bits = |text: &str, index: usize| read(text, &FIELDS[index]).map_err(wrong);
        let weekdays = bits(weekday, 4)?;
        let cron = Self {
            minutes: bits(minute, 0)?,
            hours: bits(hour, 1)?,
            days: bits(day, 2)?,
            months: bits(month, 3)?,
            weekdays: weekdays | u64::from(has(weekdays, SUNDAY)),
            either_day: !day.starts_with('*') && !weekday.starts_with('*'),
            text: shown,
        };
        if !cron.has_days() {
            return Err(wrong(format!("day `{day}` never comes in month `{month}`")));
        }
        Ok(cron)
    }
}

impl TryFrom<String> for Cron {
    type Error = ValidationError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Cron> for String {
    fn from(cron: Cron) -> Self {
        cron.text
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn has(bits: u64, number: u32) -> bool {
    bits >> number & 1 == 1
}

/// Reads a field such as `1,10-20,*/15` into a bit for each number.
fn read(text: &str, field: &Field) -> Result<u64, String> {
    let mut bits = 0;
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(step)),
            None => (part, None),
        };
        let (low, high) = bounds(range, field)?;
        let step = match step {
            None => 1,
            Some(_) if low == high => {
                return Err(format!("{}: `{part}` has a step but no range: write `*/n` or `a-b/n`", field.name));
            }
            Some(step) => number(step, &Field { low: 1, high: high - low, words: &[], ..*field })?,
        };
        bits |= (low..=high).step_by(step as usize).fold(0, |bits, number| bits | 1 << number);
    }
    Ok(bits)
}

fn bounds(range: &str, field: &Field) -> Result<(u32, u32), String> {
    if range == "*" {
        // Sunday has two numbers, and a step counts it once.
        let high = if field.high == SUNDAY { SUNDAY - 1 } else { field.high };
        return Ok((field.low, high));
    }
    let Some((low, high)) = range.split_once('-') else {
        let number = number(range, field)?;
        return Ok((number, number));
    };
    let (low, high) = (number(low, field)?, number(high, field)?);
    // A week may end with its Sunday by name.
    let high = if high == 0 && low > 0 && field.high == SUNDAY { SUNDAY } else { high };
    if low >= high {
        return Err(format!("{}: `{range}` does not go upwards", field.name));
    }
    Ok((low, high))
}

fn number(text: &str, field: &Field) -> Result<u32, String> {
    let word = field.words.iter().position(|word| word.eq_ignore_ascii_case(text));
    let word = word.and_then(|index| u32::try_from(index).ok()).map(|index| field.low + index);
    let is_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = word.or_else(|| text.parse().ok().filter(|_| is_digits));
    number.filter(|number| (field.low..=field.high).contains(number)).ok_or_else(|| {
        let names = field.words.first().zip(field.words.last());
        let names = names.map(|(first, last)| format!(" or {first} to {last}")).unwrap_or_default();
        format!("{}: `{}` is not {} to {}{names}", field.name, text.escape_debug(), field.low, field.high)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cron(text: &str) -> Cron {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn numbers(bits: u64) -> Vec<u32> {
        (0..64).filter(|number| has(bits, *number)).collect()
    }

    #[test]
    fn fields_are_numbers_names_ranges_lists_and_steps() {
        let read = cron("*/20  1,5-7 1-31/10 JAN,oct-Dec mon-fri/2");

        assert_eq!(numbers(read.minutes), [0, 20, 40]);
        assert_eq!(numbers(read.hours), [1, 5, 6, 7]);
        assert_eq!(numbers(read.days), [1, 11, 21, 31]);
        assert_eq!(numbers(read.months), [1, 10, 11, 12]);
        assert_eq!(numbers(read.weekdays), [1, 3, 5]);
        assert_eq!(read.as_str(), "*/20 1,5-7 1-31/10 JAN,oct-Dec mon-fri/2");
    }

    #[test]
    fn sunday_is_zero_and_seven() {
        for text in ["0 0 * * 0", "0 0 * * 7", "0 0 * * sun", "@weekly"] {
            assert!(has(cron(text).weekdays, 0), "{text}");
        }
        assert_eq!(numbers(cron("0 0 * * fri-sun").weekdays)[..3], [0, 5, 6]);
        assert_eq!(numbers(cron("0 0 * * */2").weekdays), [0, 2, 4, 6]);
    }

    #[test]
    fn two_restricted_days_are_one_or_the_other() {
        let either = cron("0 0 13 * fri");
        assert!(either.matches_day(1, 13, 1) && either.matches_day(1, 12, 5) && !either.matches_day(1, 12, 1));

        let both = cron("0 0 */2 * fri");
        assert!(both.matches_day(1, 13, 5) && !both.matches_day(1, 13, 1) && !both.matches_day(1, 12, 5));
    }

    #[test]
    fn minutes_of_a_day_are_found_from_any_on() {
        let read = cron("30 8,20 * * *");

        assert_eq!(read.minute_of_day(0), Some(510));
        assert_eq!(read.minute_of_day(510), Some(510));
        assert_eq!(read.minute_of_day(511), Some(1_230));
        assert_eq!(read.minute_of_day(1_231), None);
    }

    #[test]
    fn what_is_no_schedule_is_refused_with_its_field() {
        let refused = |text: &str| text.parse::<Cron>().expect_err(text).problem;

        assert!(refused("* * * *").contains("4 fields"));
        assert!(refused("").contains("0 fields"));
        assert!(refused("60 * * * *").starts_with("minute: `60` is not 0 to 59"));
        assert!(refused("* 24 * * *").starts_with("hour"));
        assert!(refused("* * 0 * *").starts_with("day of the month"));
        assert!(refused("* * * 13 *").contains("or jan to dec"));
        assert!(refused("* * * * 8").starts_with("day of the week"));
        assert!(refused("5/10 * * * *").contains("no range"));
        assert!(refused("*/0 * * * *").starts_with("minute: `0`"));
        assert!(refused("*/90 * * * *").starts_with("minute: `90`"));
        assert!(refused("9-5 * * * *").contains("upwards"));
        assert!(refused("1,,2 * * * *").starts_with("minute: ``"));
        assert!(refused("+5 * * * *").starts_with("minute: `+5`"));
        assert!(refused("0 0 31 apr,jun *").contains("never comes"));
        assert!(refused("@reboot").contains("@hourly"));
    }
}

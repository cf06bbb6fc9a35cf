//! Amounts as people write them: durations, sizes, CPUs, and `reserve .. limit`.

use crate::section::Entry;

const DURATION_UNITS: &[(&str, u64)] = &[("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
const SIZE_UNITS: &[(&str, u64)] = &[("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40), ("B", 1)];
/// Thousandths of a CPU in a CPU.
const MILLIS: u64 = 1000;
/// No machine has more; keeps sums far from overflow.
const CPU_MILLIS_MAX: u64 = 4096 * MILLIS;

/// What is wrong with a text, and what to write instead.
pub(crate) type Wrong = (String, String);

/// Two bounds; which of them must be there is the caller's matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) reserve: u64,
    /// `None` where the text ends in `..`.
    pub(crate) limit: Option<u64>,
}

impl Entry<'_> {
    /// A duration such as `"500ms"` or `"1h30m"`, in milliseconds, within the given bounds.
    pub(crate) fn duration_ms(&self, low: u64, high: u64) -> Option<u64> {
        let text = self.text()?;
        let Some(value) = duration_ms(text) else {
            let message = format!("`{}` is not a duration", text.escape_debug());
            self.invalid("wrong_unit", message, "write a number with ms, s, m, h or d, such as \"10s\"");
            return None;
        };
        if !(low..=high).contains(&value) {
            let message = format!("{text} is not between {} and {}", show_duration(low), show_duration(high));
            self.invalid("out_of_range", message, "");
            return None;
        }
        Some(value)
    }

    /// CPU as `"0.25 .. 1"`, in thousandths of one.
    pub(crate) fn cpu_bounds(&self) -> Option<Bounds> {
        let bounds = self.bounds(&|text| {
            thousandths(text).ok_or_else(|| {
                let help = "write CPUs, in thousandths at the finest, such as \"0.25 .. 1\"";
                (format!("`{}` is not an amount of CPU", text.escape_debug()), help.to_owned())
            })
        })?;
        self.ordered(bounds, 1, CPU_MILLIS_MAX, &|millis| format!("{}", Cpu(millis)))
    }

    /// Memory as `"128MiB .. 256MiB"`, in bytes.
    pub(crate) fn memory_bounds(&self, low: u64, high: u64) -> Option<Bounds> {
        let bounds = self.bounds(&|text| size_bytes(text))?;
        self.ordered(bounds, low, high, &show_size)
    }

    fn bounds(&self, amount: &dyn Fn(&str) -> Result<u64, Wrong>) -> Option<Bounds> {
        let text = self.number_text()?;
        let read =
            |text: &str| amount(text.trim()).map_err(|(message, help)| self.invalid("wrong_unit", message, help)).ok();
        match text.split_once("..") {
            None => {
                let both = read(&text)?;
                Some(Bounds { reserve: both, limit: Some(both) })
            }
            Some((reserve, limit)) if limit.trim().is_empty() => Some(Bounds { reserve: read(reserve)?, limit: None }),
            Some((reserve, limit)) => {
                // Both are read before either is given up: both faults shall be seen.
                let (reserve, limit) = (read(reserve), read(limit));
                Some(Bounds { reserve: reserve?, limit: Some(limit?) })
            }
        }
    }

    fn ordered(&self, bounds: Bounds, low: u64, high: u64, show: &dyn Fn(u64) -> String) -> Option<Bounds> {
        let limit = bounds.limit.unwrap_or(bounds.reserve);
        if bounds.reserve > limit {
            let message = format!("the reserve {} is above the limit {}", show(bounds.reserve), show(limit));
            self.invalid("out_of_range", message, "write the reserve first: \"reserve .. limit\"");
            return None;
        }
        if bounds.reserve < 1 || limit < low || limit > high {
            self.invalid("out_of_range", format!("must be between {} and {}", show(low), show(high)), "");
            return None;
        }
        Some(bounds)
    }
}

/// Milliseconds of `"1h30m"`; `None` when it is not a duration or does not fit.
#[must_use]
pub fn duration_ms(text: &str) -> Option<u64> {
    let (mut rest, mut sum) = (text.trim(), 0_u64);
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|character: char| !character.is_ascii_digit())?;
        let (number, tail) = rest.split_at(digits);
        let end = tail.find(|character: char| !character.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let (_, factor) = DURATION_UNITS.iter().find(|(name, _)| *name == unit)?;
        sum = sum.checked_add(number.parse::<u64>().ok()?.checked_mul(*factor)?)?;
        rest = tail.trim_start();
    }
    Some(sum)
}

/// Bytes of `"64MiB"`.
///
/// # Errors
/// What is wrong, and what to write instead.
pub(crate) fn size_bytes(text: &str) -> Result<u64, Wrong> {
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start();
    if let (Some((_, factor)), Ok(number)) = (SIZE_UNITS.iter().find(|(name, _)| *name == unit), number.parse::<u64>())
    {
        let bytes = number.checked_mul(*factor).filter(|bytes| i64::try_from(*bytes).is_ok());
        return bytes.ok_or_else(|| (format!("`{text}` is more than can be counted"), String::new()));
    }
    let meant = match unit.to_ascii_lowercase().as_str() {
        "" if !number.is_empty() => Some("MiB"),
        "k" | "kb" | "kib" | "ki" => Some("KiB"),
        "m" | "mb" | "mib" | "mi" => Some("MiB"),
        "g" | "gb" | "gib" | "gi" => Some("GiB"),
        "t" | "tb" | "tib" | "ti" => Some("TiB"),
        _ => None,
    };
    let help = match meant.filter(|_| !number.is_empty()) {
        Some(unit) => format!("write a whole number with B, KiB, MiB, GiB or TiB: did you mean \"{number}{unit}\"?"),
        None => "write a whole number with B, KiB, MiB, GiB or TiB, such as \"64MiB\"".to_owned(),
    };
    Err((format!("`{}` is not a size", text.escape_debug()), help))
}

/// Thousandths of `"0.25"`; `None` when it is not a number, or finer than thousandths.
pub(crate) fn thousandths(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 3 {
        return None;
    }
    let fraction: u64 = format!("{fraction:0<3}").parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(MILLIS)?.checked_add(fraction)
}

struct Cpu(u64);

impl std::fmt::Display for Cpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = format!("{}.{:03}", self.0 / MILLIS, self.0 % MILLIS);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

fn show_duration(milliseconds: u64) -> String {
    if milliseconds == 0 {
        return "0s".to_owned();
    }
    let (unit, factor) =
        DURATION_UNITS.iter().rev().find(|(_, factor)| milliseconds.is_multiple_of(*factor)).expect("1 divides all");
    format!("{}{unit}", milliseconds / factor)
}

fn show_size(bytes: u64) -> String {
    let dividing = SIZE_UNITS.iter().filter(|(_, factor)| bytes.is_multiple_of(*factor));
    let (unit, factor) = dividing.max_by_key(|(_, factor)| *factor).expect("1 divides all");
    format!("{}{unit}", bytes / factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        assert_eq!(duration_ms("500ms"), Some(500));
        assert_eq!(duration_ms("1h30m"), Some(5_400_000));
        assert_eq!(duration_ms("1m 30s"), Some(90_000));
        for text in ["", "5", "s", "-5s", "1.5s", "5 sec", "99999999999999999999s", "18446744073709551615d"] {
            assert_eq!(duration_ms(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_are_read_with_binary_units_only() {
        assert_eq!(size_bytes("64MiB"), Ok(64 << 20));
        assert_eq!(size_bytes("2 GiB"), Ok(2 << 30));
        for text in ["", "64", "64MB", "64M", "1.5GiB", "-1MiB", "MiB", "99999999TiB"] {
            assert!(size_bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_are_read_in_thousandths() {
        assert_eq!(thousandths("0.25"), Some(250));
        assert_eq!(thousandths("2"), Some(2000));
        assert_eq!(thousandths("0.001"), Some(1));
        for text in ["", ".5", "1.", "250m", "-1", "0.0001", "1e3", "nan"] {
            assert_eq!(thousandths(text), None, "{text}");
        }
    }

    #[test]
    fn amounts_are_shown_in_the_largest_unit_that_divides_them() {
        assert_eq!((show_duration(90_000), show_duration(3_600_000)), ("90s".to_owned(), "1h".to_owned()));
        assert_eq!((show_size(4 << 20), show_size(1500)), ("4MiB".to_owned(), "1500B".to_owned()));
        assert_eq!(Cpu(1250).to_string(), "1.25");
    }
}

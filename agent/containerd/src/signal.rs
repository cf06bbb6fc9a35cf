//! Names of signals to numbers; pure.

use nix::sys::signal::Signal;

use crate::error::Error;

/// The highest number that Linux knows.
const NUMBER_MAX: u32 = 64;

/// Reads `SIGTERM`, `TERM` or `15`.
pub(crate) fn number(name: &str) -> Result<u32, Error> {
    let unknown = || Error::Signal(name.to_owned());
    if let Ok(number) = name.parse::<u32>() {
        return if (1..=NUMBER_MAX).contains(&number) { Ok(number) } else { Err(unknown()) };
    }
    let upper = name.to_ascii_uppercase();
    let full = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    if let Some(offset) = full.strip_prefix("SIGRTMIN+") {
        let offset: u32 = offset.parse().map_err(|_| unknown())?;
        return (offset <= 30).then(|| 34 + offset).ok_or_else(unknown);
    }
    let signal: Signal = full.parse().map_err(|_| unknown())?;
    u32::try_from(signal as i32).map_err(|_| unknown())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_read_by_name_and_number() {
        for (name, expected) in [("SIGTERM", 15), ("quit", 3), ("9", 9), ("SIGRTMIN+3", 37)] {
            assert_eq!(number(name).expect(name), expected);
        }
        for name in ["", "0", "65", "SIGNOTHING", "SIGRTMIN+99", "-9"] {
            assert!(number(name).is_err(), "{name:?} was accepted");
        }
    }
}

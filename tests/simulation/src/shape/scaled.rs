//! Between which numbers a service of a story is scaled, and how noisy its load is, as a word: fewest, most, percent of noise.

use std::{fmt, str::FromStr};

use api_types::scale::ScaleSpec;

/// Percent of its promised CPU that a replica shall use.
const TARGET_PERCENT: u32 = 70;

/// Milliseconds over which the highest wish counts.
const WINDOW_MS: u64 = 60_000;

/// Between which numbers a service is scaled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scaled {
    /// The fewest replicas.
    pub min: u32,
    /// The most.
    pub max: u32,
    /// By how many percent its load differs from one moment to the next.
    pub noise_percent: u32,
}

impl Scaled {
    /// All that a person would write.
    #[must_use]
    pub fn spec(self) -> ScaleSpec {
        ScaleSpec {
            cpu_percent: Some(TARGET_PERCENT),
            window_ms: WINDOW_MS,
            cooldown_ms: WINDOW_MS / 3,
            ..ScaleSpec::between(self.min, self.max)
        }
    }
}

impl fmt::Display for Scaled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.min, self.max, self.noise_percent)
    }
}

impl FromStr for Scaled {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let numbers: Result<Vec<u32>, _> = text.split(':').map(str::parse).collect();
        match numbers.as_deref() {
            Ok(&[min, max, noise_percent]) => Ok(Self { min, max, noise_percent }),
            Ok(_) | Err(_) => Err(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_reads_the_same_and_nothing_else_does() {
        assert_eq!("2:10:25".parse::<Scaled>().map(|scaled| scaled.to_string()).as_deref(), Ok("2:10:25"));
        for text in ["", "2:10", "2:10:25:1", "2:x:25"] {
            assert_eq!(text.parse::<Scaled>(), Err(()), "{text}");
        }
    }
}

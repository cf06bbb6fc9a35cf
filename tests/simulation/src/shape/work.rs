//! What a job of a story has to do, as a word: completions, parallelism, retries and how many runs are kept, then the deadline.

use std::{fmt, str::FromStr};

use api_types::job::{JobSpec, KeepSpec};

/// What a job has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// How many instances must end well.
    pub completions: u32,
    /// How many run at once at most.
    pub parallelism: u32,
    /// How often a process that failed is followed by another.
    pub retries: u32,
    /// How many runs of each outcome are kept.
    pub keep: u32,
    /// Milliseconds after which a run fails.
    pub deadline_ms: Option<u64>,
}

impl Work {
    /// All that a person would write.
    #[must_use]
    pub fn spec(self) -> JobSpec {
        let Self { completions, parallelism, retries, keep, deadline_ms } = self;
        JobSpec { completions, parallelism, retries, deadline_ms, keep: KeepSpec { succeeded: keep, failed: keep } }
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}:{}", self.completions, self.parallelism, self.retries, self.keep)?;
        self.deadline_ms.map_or(Ok(()), |deadline_ms| write!(f, ":{deadline_ms}"))
    }
}

impl FromStr for Work {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split(':');
        let mut number = || parts.next().and_then(|part| part.parse().ok()).ok_or(());
        let (completions, parallelism, retries, keep) = (number()?, number()?, number()?, number()?);
        let deadline_ms = parts.next().map(|part| part.parse().map_err(|_| ())).transpose()?;
        if parts.next().is_some() {
            return Err(());
        }
        Ok(Self { completions, parallelism, retries, keep, deadline_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_reads_the_same_and_nothing_else_does() {
        for text in ["6:2:1:3", "1:1:0:0:60000"] {
            assert_eq!(text.parse::<Work>().map(|work| work.to_string()).as_deref(), Ok(text));
        }
        for text in ["", "6:2:1", "6:2:1:3:", "6:2:1:3:x", "6:2:1:3:60000:7"] {
            assert_eq!(text.parse::<Work>(), Err(()), "{text}");
        }
    }
}

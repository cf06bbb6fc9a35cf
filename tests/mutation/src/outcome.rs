//! What became of a bug: who noticed it, or nobody.

use std::fmt;

/// How many names of tests are shown.
const SHOWN_MAX: usize = 3;

/// What a run of something said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All is well: the bug was not noticed.
    Passed,
    /// These tests failed, or this line says what was wrong.
    Noticed(Vec<String>),
    /// It did not come to an end in time, which is noticed, too.
    Hung,
    /// It does not compile: the list is wrong.
    Broken(String),
}

impl Verdict {
    /// Reads what `cargo test` or a simulation printed.
    #[must_use]
    pub fn read(success: bool, output: &str) -> Self {
        if success {
            return Self::Passed;
        }
        if let Some(line) =
            output.lines().find(|line| line.starts_with("error[") || line.starts_with("error: could not compile"))
        {
            return Self::Broken(line.to_owned());
        }
        let failed = output.lines().filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"));
        let mut names: Vec<String> = failed.map(str::to_owned).collect();
        if names.is_empty() {
            let wrong = output.lines().find(|line| line.contains("WRONG: "));
            names.extend(wrong.and_then(|line| line.split_once("WRONG: ")).map(|(_, what)| what.to_owned()));
        }
        if names.is_empty() {
            let panicked = output.lines().find(|line| line.contains("panicked at"));
            names.push(panicked.or(output.lines().last()).unwrap_or("it failed without a word").to_owned());
        }
        Self::Noticed(names)
    }

    /// Whether the bug was noticed.
    #[must_use]
    pub fn is_caught(&self) -> bool {
        matches!(self, Self::Noticed(_) | Self::Hung)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => f.write_str("passed"),
            Self::Noticed(names) => {
                let more = names.len().saturating_sub(SHOWN_MAX);
                let shown: Vec<&str> = names.iter().take(SHOWN_MAX).map(String::as_str).collect();
                write!(f, "{}", shown.join(", "))?;
                if more > 0 { write!(f, " and {more} more") } else { Ok(()) }
            }
            Self::Hung => f.write_str("it did not end"),
            Self::Broken(line) => write!(f, "does not compile: {line}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_failed_tests_are_read() {
        let output = "test a::b ... ok\ntest c::d ... FAILED\ntest e ... FAILED\n";

        assert_eq!(Verdict::read(false, output), Verdict::Noticed(vec!["c::d".to_owned(), "e".to_owned()]));
        assert_eq!(Verdict::read(true, output), Verdict::Passed);
    }

    #[test]
    fn a_bug_that_does_not_compile_is_no_success() {
        let verdict = Verdict::read(false, "error[E0308]: mismatched types\n");

        assert!(!verdict.is_caught() && verdict != Verdict::Passed);
    }

    #[test]
    fn what_a_simulation_saw_is_read() {
        let verdict = Verdict::read(false, "seed 1\n  3.0 s  WRONG: a slot has two holders\nmore\n");

        assert_eq!(verdict, Verdict::Noticed(vec!["a slot has two holders".to_owned()]));
    }
}

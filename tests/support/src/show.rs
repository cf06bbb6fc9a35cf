//! What a failed test shows beside its message: all that is left when it failed on a machine that nobody can look at.
#![expect(clippy::print_stderr, reason = "the test runner keeps it, and shows it with a failure")]

/// How many lines of a long text are shown: its end.
const LINES_MAX: usize = 60;

/// Shows the end of `text` below the heading `what`.
pub fn show(what: &str, text: &str) {
    eprintln!("-- {what}\n{}", end_of(text));
}

/// The last lines of a long text.
#[must_use]
pub fn end_of(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES_MAX)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_text_the_end_is_shown() {
        let text: Vec<String> = (1..=100).map(|number| format!("line {number}")).collect();

        let end = end_of(&text.join("\n"));

        assert!(end.starts_with("line 41\n") && end.ends_with("line 100"), "{end}");
        assert_eq!(end_of("short"), "short");
    }
}

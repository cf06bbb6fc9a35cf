//! What happened: the last lines for people, and a hash of all of them, equal for equal seeds.

use std::{collections::VecDeque, fmt::Write as _};

use api_types::time::Timestamp;

use crate::world::START;

/// How many lines are kept for the report of a failure.
const LINES_MAX: usize = 120;

/// Everything that happened, as a hash, and the end of it as text.
#[derive(Clone, Debug)]
pub struct Trace {
    hash: u64,
    count: u64,
    lines: VecDeque<String>,
    /// Lines about something that holds this text are printed as they come.
    watch: Option<String>,
}

impl Trace {
    /// Starts empty; lines that hold the text `watch` are printed.
    #[must_use]
    pub fn new(watch: Option<String>) -> Self {
        Self { hash: 0xCBF2_9CE4_8422_2325, count: 0, lines: VecDeque::new(), watch }
    }

    /// Adds a line.
    pub fn add(&mut self, now: Timestamp, line: &str) {
        let oldest = if self.lines.len() == LINES_MAX { self.lines.pop_front() } else { None };
        // Nearly every line is forgotten: its memory is used again.
        let mut text = oldest.unwrap_or_default();
        text.clear();
        let elapsed_ms = now.since(START);
        write!(text, "{:>5}.{:03} s  {line}", elapsed_ms / 1000, elapsed_ms % 1000).expect("a text takes all");
        // FNV-1a: small, and the same on every machine.
        for byte in text.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3);
        }
        self.count += 1;
        if self.watch.as_ref().is_some_and(|watch| text.contains(watch.as_str())) {
            eprintln_line(&text);
        }
        self.lines.push_back(text);
    }

    /// The hash of all lines.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// How many lines there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The last lines.
    #[must_use]
    pub fn tail(&self) -> String {
        self.lines.iter().map(|line| format!("{line}\n")).collect()
    }
}

#[expect(clippy::print_stderr, reason = "somebody asked to watch")]
fn eprintln_line(line: &str) {
    eprintln!("{line}");
}

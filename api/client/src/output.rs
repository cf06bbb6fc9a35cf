//! The only place that writes to the terminal: data to stdout, talk to stderr, nothing that could steer a terminal.

pub(crate) mod amounts;
pub(crate) mod columns;
pub(crate) mod faults;
pub(crate) mod jobs;
pub(crate) mod live;
pub(crate) mod scale;
pub(crate) mod table;

use std::io::{self, BufRead, IsTerminal, Write};

use crate::failure::code;

/// Where output goes and what it may look like.
#[derive(Debug)]
pub(crate) struct Screen {
    /// Whether stdout is a terminal.
    pub(crate) data_terminal: bool,
    /// How many columns stdout has; `None` where it is not a terminal.
    pub(crate) width: Option<usize>,
    /// Whether stderr is a terminal.
    pub(crate) talk_terminal: bool,
    /// Whether a person can be asked.
    pub(crate) asks: bool,
    /// Whether stderr may have colours.
    pub(crate) color: bool,
}

impl Screen {
    pub(crate) fn of_process() -> Self {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let talk_terminal = io::stderr().is_terminal();
        let force = std::env::var_os("CLICOLOR_FORCE").is_some_and(|value| value != "0" && !value.is_empty());
        let plain = set("NO_COLOR") || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let data_terminal = io::stdout().is_terminal();
        let width = terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| usize::from(width.0));
        Self {
            data_terminal,
            width: width.filter(|_| data_terminal),
            talk_terminal,
            asks: io::stdin().is_terminal() && talk_terminal,
            color: !plain && (talk_terminal || force),
        }
    }

    /// Writes text to stdout. Ends the program quietly when nobody reads it any more, as `| head` does, and with an error
    /// when it cannot be kept: output that is cut off must not look whole.
    pub(crate) fn data(&self, text: &str) {
        self.data_raw(&clean(text));
    }

    /// Writes text that is clean already, or must stay as it is, to stdout.
    pub(crate) fn data_raw(&self, text: &str) {
        let mut stdout = io::stdout().lock();
        let written = stdout.write_all(text.as_bytes()).and_then(|()| match text.ends_with('\n') || text.is_empty() {
            true => Ok(()),
            false => stdout.write_all(b"\n"),
        });
        match written.and_then(|()| stdout.flush()) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
            Err(error) => {
                self.error(&format!("cannot write the output: {error}"), "");
                std::process::exit(code::ERROR.into());
            }
        }
    }

    /// Writes a line of talk to stderr.
    pub(crate) fn say(&self, text: &str) {
        self.say_raw(&format!("{}\n", clean(text)));
    }

    /// Writes text with our own colours or cursor movements to stderr.
    pub(crate) fn say_raw(&self, text: &str) {
        // Nobody can be told that stderr is gone.
        let _ = io::stderr().lock().write_all(text.as_bytes());
    }

    /// Says what failed and what to do next.
    pub(crate) fn error(&self, message: &str, hint: &str) {
        let mark = if self.color { "\u{1b}[1;31merror:\u{1b}[0m" } else { "error:" };
        self.say_raw(&format!("{mark} {}\n", clean(message)));
        if !hint.is_empty() {
            let mark = if self.color { "\u{1b}[36mhint:\u{1b}[0m" } else { "hint:" };
            self.say_raw(&format!("{mark} {}\n", clean(hint)));
        }
    }

    /// Asks a yes-or-no question; anything but yes is no.
    pub(crate) fn confirms(&self, question: &str) -> bool {
        self.say_raw(&format!("{} [y/N] ", clean(question)));
        let mut answer = String::new();
        let read = io::stdin().lock().read_line(&mut answer);
        read.is_ok() && matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
    }
}

/// Takes out what steers a terminal or turns the direction of text: names, reasons and logs come from strangers.
pub(crate) fn clean(text: &str) -> String {
    let steers = |character: char| {
        (character.is_control() && !matches!(character, '\n' | '\t'))
            || matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().filter(|&character| !steers(character)).collect()
}

#[cfg(test)]
mod tests {
    use super::clean;

    #[test]
    fn what_steers_a_terminal_is_taken_out() {
        assert_eq!(clean("a\u{1b}[31mb\u{7}\u{9b}2J\r\n\tc\u{202e}d"), "a[31mb2J\n\tcd");
    }
}

//! Faults of a manifest with the lines they stand in.

use api_types::view::Fault;
use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode};

use crate::output::{Screen, clean};

/// Enough for any message of ours: a terminal wraps what is longer by itself.
const WIDTH: usize = 110;
/// Lines longer than this, in bytes, are not quoted: nobody wrote them by hand.
const QUOTED_BYTES_MAX: usize = 400;

#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct Shown {
    message: String,
    code: String,
    help: String,
    label: LabeledSpan,
    source_code: NamedSource<String>,
}

impl Diagnostic for Shown {
    fn code<'a>(&'a self) -> Option<Box<dyn std::fmt::Display + 'a>> {
        Some(Box::new(&self.code))
    }

    fn help<'a>(&'a self) -> Option<Box<dyn std::fmt::Display + 'a>> {
        (!self.help.is_empty()).then(|| Box::new(&self.help) as Box<dyn std::fmt::Display>)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(std::iter::once(self.label.clone())))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.source_code)
    }
}

/// Shows each fault with its place, the text around it and what to write instead.
pub(crate) fn render(file: &str, text: &str, faults: &[Fault], screen: &Screen) -> String {
    let theme = if screen.color { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let handler = GraphicalReportHandler::new_themed(theme).with_width(WIDTH).with_links(false);
    // The excerpt is shown as it is: nothing in it may steer the terminal, and offsets must stay.
    let shown: String = text.chars().flat_map(harmless).collect();
    let mut rendered = String::new();
    for fault in faults {
        let length = fault.length.min(shown.len().saturating_sub(fault.offset));
        let source_code = NamedSource::new(file, shown.clone());
        let diagnostic = Shown {
            message: clean(&fault.message),
            code: format!("manifest::{}", fault.code),
            help: clean(&fault.help),
            label: LabeledSpan::new(Some("here".to_owned()), fault.offset, length),
            source_code,
        };
        if !is_quotable(&shown, fault.line) || handler.render_report(&mut rendered, &diagnostic).is_err() {
            let help = if fault.help.is_empty() { String::new() } else { format!("\n  help: {}", clean(&fault.help)) };
            rendered += &format!("{file}:{}:{}: {}{help}\n", fault.line, fault.column, clean(&fault.message));
        }
    }
    rendered
}

/// Whether the line, from 1, and those beside it can be read by a person.
fn is_quotable(text: &str, line: usize) -> bool {
    text.lines().skip(line.saturating_sub(2)).take(3).all(|line| line.len() <= QUOTED_BYTES_MAX)
}

/// The character itself, or as many question marks as it has bytes.
fn harmless(character: char) -> impl Iterator<Item = char> {
    let text = character.to_string();
    let keep = clean(&text) == text;
    let (shown, count) = if keep { (character, 1) } else { ('?', character.len_utf8()) };
    std::iter::repeat_n(shown, count)
}

//! Collects faults with their places.

use std::{cell::RefCell, ops::Range};

use api_types::view::Fault;

/// Byte offsets in the text of a manifest.
pub(crate) type Place = Range<usize>;

/// More than these help nobody, and a hostile text could make millions.
const FAULTS_MAX: usize = 100;
/// Brackets may be nested this deep outside of strings and comments.
const NESTING_MAX: u32 = 32;

/// The faults found so far in one text.
pub(crate) struct Faults<'t> {
    text: &'t str,
    found: RefCell<Vec<Fault>>,
}

impl<'t> Faults<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        Self { text, found: RefCell::new(Vec::new()) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.found.borrow().is_empty()
    }

    /// Where some text stands in the given part of the manifest.
    pub(crate) fn find(&self, within: &Place, wanted: &str) -> Option<usize> {
        Some(within.start + self.text.get(within.clone())?.find(wanted)?)
    }

    pub(crate) fn report(&self, code: &str, path: &str, place: Place, message: impl Into<String>) {
        self.report_with_help(code, path, place, message, "");
    }

    pub(crate) fn report_with_help(
        &self,
        code: &str,
        path: &str,
        place: Place,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        let mut found = self.found.borrow_mut();
        if found.len() == FAULTS_MAX {
            return;
        }
        found.push(Fault {
            code: code.to_owned(),
            path: path.to_owned(),
            message: message.into(),
            help: help.into(),
            offset: place.start.min(self.text.len()),
            length: place.len(),
            line: 0,
            column: 0,
        });
    }

    /// Gives the faults in the order of the text, with lines and columns.
    pub(crate) fn into_sorted(self) -> Vec<Fault> {
        let mut found = self.found.into_inner();
        found.sort_by(|a, b| (a.offset, &a.path, &a.code).cmp(&(b.offset, &b.path, &b.code)));
        // One walk over the text for all faults: a long text with many faults must not cost their product.
        let (mut line, mut column, mut faults) = (1, 1, found.iter_mut().peekable());
        for (offset, character) in self.text.char_indices() {
            while let Some(fault) = faults.next_if(|fault| fault.offset <= offset) {
                (fault.line, fault.column) = (line, column);
            }
            if faults.peek().is_none() {
                break;
            }
            (line, column) = if character == '\n' { (line + 1, 1) } else { (line, column + 1) };
        }
        for fault in faults {
            (fault.line, fault.column) = (line, column);
        }
        found
    }
}

/// Checks the nesting of brackets before the real parser sees it: that one recurses, and reports each level.
///
/// # Errors
/// The place of the first bracket too deep.
pub(crate) fn nesting_is_bounded(text: &str) -> Result<(), Place> {
    let bytes = text.as_bytes();
    let (mut depth, mut offset) = (0_u32, 0);
    while let Some(&byte) = bytes.get(offset) {
        match byte {
            b'"' | b'\'' => {
                offset = end_of_string(bytes, offset, byte);
                continue;
            }
            b'#' => {
                offset += bytes[offset..].iter().position(|&byte| byte == b'\n').unwrap_or(bytes.len() - offset);
                continue;
            }
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > NESTING_MAX {
            return Err(offset..offset + 1);
        }
        offset += 1;
    }
    Ok(())
}

/// Where the string that starts at `start` is over; a string that never ends is over at the end of its line.
fn end_of_string(bytes: &[u8], start: usize, quote: u8) -> usize {
    let triple = [quote; 3];
    let long = bytes[start..].starts_with(&triple);
    let mut offset = start + if long { 3 } else { 1 };
    while let Some(&byte) = bytes.get(offset) {
        match byte {
            b'\\' if quote == b'"' => offset += 2,
            b'\n' if !long => return offset,
            _ if long && bytes[offset..].starts_with(&triple) => return offset + 3,
            _ if !long && byte == quote => return offset + 1,
            _ => offset += 1,
        }
    }
    bytes.len()
}

/// The candidate that was probably meant: the nearest spelling, if it is near.
pub(crate) fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let word: String = word.chars().take(64).flat_map(char::to_lowercase).collect();
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len().min(word.len()) / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `did you mean ...?`, or a list of what there is.
pub(crate) fn suggestion(word: &str, candidates: &[&str]) -> String {
    match nearest(word, candidates.iter().copied()) {
        Some(candidate) => format!("did you mean `{candidate}`?"),
        None => format!("known are: {}", candidates.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_lines_and_columns_in_characters() {
        let faults = Faults::new("ä = 1\nöö = 2\n");
        faults.report("b", "", 10..12, "second line");
        faults.report("a", "", 0..2, "first line");
        faults.report("c", "", 99..100, "behind the end");
        let places: Vec<_> = faults.into_sorted().iter().map(|fault| (fault.line, fault.column)).collect();
        assert_eq!(places, [(1, 1), (2, 3), (3, 1)]);
    }

    #[test]
    fn brackets_in_strings_and_comments_do_not_count() {
        let brackets = "[".repeat(1000);
        assert!(nesting_is_bounded(&format!("a = \"{brackets}\"\n# {brackets}\nb = '{brackets}'")).is_ok());
        assert!(nesting_is_bounded(&format!("a = \"\\\"{brackets}\"")).is_ok());
        assert!(nesting_is_bounded(&format!("a = \"\"\"\n\"{brackets}\n\"\"\"")).is_ok());
        assert_eq!(nesting_is_bounded(&format!("a = {brackets}")), Err(36..37));
    }

    #[test]
    fn the_nearest_spelling_is_near() {
        assert_eq!(nearest("replica", ["image", "replicas"]), Some("replicas"));
        assert_eq!(nearest("imgae", ["image", "replicas"]), Some("image"));
        assert_eq!(nearest("colour", ["image", "replicas"]), None);
    }
}

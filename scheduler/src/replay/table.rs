//! Tables as comma-separated values with a header, read line by line; every fault says file, line and what to write.
//!
//! RFC 4180 without line breaks inside of quotes. A byte order mark, `\r\n` and blank lines are passed over.

use std::{
    fmt::Write as _,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

/// How many faults are shown; the rest is counted.
const FAULTS_SHOWN_MAX: usize = 20;

/// One column: its name, the names that public traces give it, and whether it must be there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    pub(crate) name: &'static str,
    pub(crate) aliases: &'static [&'static str],
    pub(crate) required: bool,
}

/// What is wrong with a file, in sentences that begin with `file:line`.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    shown: Vec<String>,
    hidden: usize,
}

impl Faults {
    /// Adds one; of many only the first are kept.
    pub(crate) fn add(&mut self, fault: String) {
        if self.shown.len() < FAULTS_SHOWN_MAX {
            self.shown.push(fault);
        } else {
            self.hidden += 1;
        }
    }

    /// All of them as one text; `None` if there are none.
    pub(crate) fn text(&self) -> Option<String> {
        if self.shown.is_empty() {
            return None;
        }
        let mut text = self.shown.join("\n");
        if self.hidden > 0 {
            write!(text, "\nand {} more of the kind", self.hidden).expect("a String takes everything");
        }
        Some(text)
    }
}

/// A file of rows below a header.
pub(crate) struct Table<R> {
    path: PathBuf,
    reader: R,
    line: usize,
    /// For each known column where it stands in a row.
    positions: Vec<Option<usize>>,
    width: usize,
    columns: &'static [Column],
    /// Nothing more can be read.
    ended: bool,
}

/// One row, with what is needed to say where it is.
pub(crate) struct Row<'t> {
    path: &'t Path,
    pub(crate) line: usize,
    positions: &'t [Option<usize>],
    columns: &'t [Column],
    cells: Vec<String>,
}

impl Table<BufReader<File>> {
    /// Opens a file and reads its header. Columns named in `passed_over` are as if they were not there.
    pub(crate) fn open(path: &Path, columns: &'static [Column], passed_over: &[String]) -> Result<Self, String> {
        let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Self::new(path, BufReader::with_capacity(1 << 16, file), columns, passed_over)
    }
}

impl<R: BufRead> Table<R> {
    /// Reads the header of what comes out of `reader`; `path` is what faults call it.
    pub(crate) fn new(
        path: &Path,
        reader: R,
        columns: &'static [Column],
        passed_over: &[String],
    ) -> Result<Self, String> {
        let (path_owned, positions) = (path.to_owned(), vec![None; columns.len()]);
        let mut table = Self { path: path_owned, reader, line: 0, positions, width: 0, columns, ended: false };
        let names: Vec<&str> = columns.iter().map(|column| column.name).collect();
        let Some(header) = table.next_line()? else {
            return Err(format!("{}: the file is empty; its first line must be `{}`", path.display(), names.join(",")));
        };
        let mut faults = Faults::default();
        for (position, cell) in header.iter().enumerate() {
            if passed_over.iter().any(|name| name == cell) {
                continue;
            }
            let known = columns.iter().position(|c| c.name == cell || c.aliases.contains(&cell.as_str()));
            match known {
                Some(index) => {
                    if table.positions[index].replace(position).is_some() {
                        faults.add(table.at(&format!("the column `{}` is there twice", columns[index].name)));
                    }
                }
                None => faults.add(table.at(&format!(
                    "there is no column `{cell}`{}; `--ignore-column {cell}` passes it over",
                    suggestion(cell, &names)
                ))),
            }
        }
        for (column, _) in columns.iter().zip(&table.positions).filter(|(c, at)| c.required && at.is_none()) {
            faults.add(table.at(&format!("the column `{}` is missing; the header needs it", column.name)));
        }
        table.width = header.len();
        faults.text().map_or(Ok(table), Err)
    }

    /// Whether the header has the column of this index.
    pub(crate) fn has(&self, column: usize) -> bool {
        self.positions[column].is_some()
    }

    /// Gives each row to `take`, which adds what is wrong with it.
    pub(crate) fn each(&mut self, faults: &mut Faults, mut take: impl FnMut(&Row<'_>, &mut Faults)) {
        loop {
            let cells = match self.next_line() {
                Ok(Some(cells)) => cells,
                Ok(None) => return,
                Err(fault) => {
                    faults.add(fault);
                    continue;
                }
            };
            if cells.len() != self.width {
                let (have, want) = (cells.len(), self.width);
                faults.add(self.at(&format!("the row has {have} cells, its header {want}; write one for each column")));
                continue;
            }
            let row =
                Row { path: &self.path, line: self.line, positions: &self.positions, columns: self.columns, cells };
            take(&row, faults);
        }
    }

    /// The cells of the next line that is not blank.
    fn next_line(&mut self) -> Result<Option<Vec<String>>, String> {
        /// No honest line is longer, and a file that is no table at all is not read into memory as one line.
        const LINE_BYTES_MAX: u64 = 1 << 20;
        while !self.ended {
            let mut bytes = Vec::new();
            let read = self.reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes);
            self.line += 1;
            self.ended = match read {
                Ok(0) | Err(_) => true,
                Ok(_) => bytes.last() != Some(&b'\n'),
            };
            match read {
                Ok(0) => break,
                Ok(_) if bytes.last() != Some(&b'\n') && bytes.len() as u64 == LINE_BYTES_MAX => {
                    return Err(self.at("the line is longer than 1 MiB; this is not a table of comma-separated values"));
                }
                Ok(_) => {}
                Err(error) => return Err(self.at(&read_fault(&error))),
            }
            let text =
                String::from_utf8(bytes).map_err(|_| self.at("the line is not UTF-8; save the file as UTF-8"))?;
            let text = text.trim_end_matches(['\n', '\r']);
            let text = if self.line == 1 { text.trim_start_matches('\u{feff}') } else { text };
            if !text.trim().is_empty() {
                return split(text).map(Some).map_err(|fault| self.at(fault));
            }
        }
        Ok(None)
    }

    fn at(&self, fault: &str) -> String {
        format!("{}:{}: {fault}", self.path.display(), self.line)
    }
}

impl Row<'_> {
    /// A sentence about this row.
    pub(crate) fn at(&self, fault: &str) -> String {
        format!("{}:{}: {fault}", self.path.display(), self.line)
    }

    /// The cell in a column; empty where the header does not have it, or where it says `nan` and may be missing: so other
    /// programs write that nothing is known.
    pub(crate) fn text(&self, column: usize) -> &str {
        let cell = self.positions[column].map_or("", |position| self.cells[position].as_str());
        if cell == "nan" && !self.columns[column].required { "" } else { cell }
    }

    /// A whole number of at most `most`; `absent` where the cell is empty and the column may be missing.
    pub(crate) fn number(&self, column: usize, absent: u64, most: u64) -> Result<u64, String> {
        let (text, known) = (self.text(column), &self.columns[column]);
        if text.is_empty() && !known.required {
            return Ok(absent);
        }
        let fault = |what: &str| self.at(&format!("`{}`: {what}", known.name));
        if text.is_empty() {
            return Err(fault("the cell is empty; write a whole number"));
        }
        // Traces written by other programs often say 4.0 where they mean 4.
        let whole = text.split_once('.').filter(|(_, rest)| rest.bytes().all(|b| b == b'0')).map_or(text, |(w, _)| w);
        if whole.is_empty() || !whole.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(fault(&format!("`{text}` is not a whole number; write one from 0 to {most}")));
        }
        match whole.parse::<u64>() {
            Ok(value) if value <= most => Ok(value),
            Ok(_) | Err(_) => Err(fault(&format!("{text} is too much; write at most {most}"))),
        }
    }

    /// The same, as 32 bits.
    pub(crate) fn small(&self, column: usize, absent: u32, most: u32) -> Result<u32, String> {
        let value = self.number(column, u64::from(absent), u64::from(most))?;
        Ok(u32::try_from(value).unwrap_or(most))
    }
}

/// `, did you mean ...?`, or what there is.
fn suggestion(wrong: &str, names: &[&str]) -> String {
    let wrong: String = wrong.chars().take(64).collect();
    let best = names.iter().map(|name| (strsim::damerau_levenshtein(&wrong, name), *name)).min();
    match best {
        Some((distance, name)) if distance <= 1 + wrong.len() / 4 => format!(", did you mean `{name}`?"),
        _ => format!(" (there are {})", names.join(", ")),
    }
}

fn read_fault(error: &io::Error) -> String {
    format!("cannot read on: {error}")
}

/// One line to cells, trimmed unless quoted.
fn split(line: &str) -> Result<Vec<String>, &'static str> {
    let mut cells = Vec::new();
    let mut rest = line;
    loop {
        let begun = rest.trim_start();
        if let Some(quoted) = begun.strip_prefix('"') {
            let (cell, after) = unquote(quoted)?;
            cells.push(cell);
            let after = after.trim_start();
            match after.strip_prefix(',') {
                Some(next) => rest = next,
                None if after.is_empty() => return Ok(cells),
                None => return Err("text follows a closing quote; write a comma there, or \"\" for a quote"),
            }
        } else {
            let (cell, next) = rest.split_once(',').map_or((rest, None), |(cell, next)| (cell, Some(next)));
            cells.push(cell.trim().to_owned());
            match next {
                Some(next) => rest = next,
                None => return Ok(cells),
            }
        }
    }
}

/// The cell up to its closing quote, and what follows.
fn unquote(text: &str) -> Result<(String, &str), &'static str> {
    let mut cell = String::new();
    let mut rest = text;
    loop {
        let (before, after) = rest.split_once('"').ok_or("a quote is not closed on its line; close it")?;
        cell.push_str(before);
        match after.strip_prefix('"') {
            Some(next) => {
                cell.push('"');
                rest = next;
            }
            None => return Ok((cell, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_may_be_quoted() {
        let cells = split(r#"plain, padded ,"a, b","say ""hi""",, last"#).unwrap();

        assert_eq!(cells, ["plain", "padded", "a, b", "say \"hi\"", "", "last"]);
        assert!(split("\"open").unwrap_err().contains("not closed"));
        assert!(split("\"a\"b,c").unwrap_err().contains("follows a closing quote"));
    }
}

//! The committed table of who noticed which bug: `mutations/caught.md`, written anew after each one that was tried.

use std::{collections::BTreeMap, fs, path::PathBuf};

use crate::mutation::Mutation;

const HEAD: &str = "# Who noticed which bug\n\n\
    Written by `cargo mutate`, one row per bug of the lists beside it; a bug without a row was not tried yet.\n\n\
    | bug | what is wrong | noticed by |\n| --- | --- | --- |\n";

/// The rows by the name of their bug: who noticed it.
#[derive(Debug)]
pub struct Record {
    path: PathBuf,
    rows: BTreeMap<String, String>,
}

impl Record {
    /// Reads the table; one that is not there yet is empty.
    #[must_use]
    pub fn read(path: PathBuf) -> Self {
        let text = fs::read_to_string(&path).unwrap_or_default();
        let rows = text.lines().filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.strip_suffix(" |")?.split(" | ");
            let name = cells.next()?.strip_suffix('`')?;
            Some((name.to_owned(), cells.nth(1)?.to_owned()))
        });
        Self { rows: rows.collect(), path }
    }

    /// Whether a bug was noticed when it was tried last.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.rows.contains_key(name)
    }

    /// Notes who noticed a bug, or with `None` that nobody did, and writes the table in the order of the lists.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn note(&mut self, name: &str, noticed_by: Option<String>, all: &[Mutation]) -> Result<(), String> {
        match noticed_by {
            // A bar would end the cell.
            Some(who) => drop(self.rows.insert(name.to_owned(), who.replace('|', "/"))),
            None => drop(self.rows.remove(name)),
        }
        fs::write(&self.path, self.text(all)).map_err(|error| format!("{}: {error}", self.path.display()))
    }

    fn text(&self, all: &[Mutation]) -> String {
        let mut text = HEAD.to_owned();
        for mutation in all {
            if let Some(who) = self.rows.get(&mutation.name) {
                text += &format!("| `{}` | {} | {who} |\n", mutation.name, mutation.what);
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_reads_as_it_was_written_and_forgets_bugs_that_left_the_lists() {
        let list = "== a\nwhat: counts one too many\nfile: a.rs\n-x\n+y\n";
        let all = Mutation::read(list).expect("it is well formed");
        let path = std::env::temp_dir().join(format!("wherry-record-{}.md", std::process::id()));
        let mut record = Record::read(path.clone());

        record.note("gone", Some("b::c".to_owned()), &all).expect("it can be written");
        record.note("a", Some("b::d | e".to_owned()), &all).expect("it can be written");

        let read = Record::read(path.clone());
        assert!(read.has("a") && !read.has("gone"));
        assert_eq!(fs::read_to_string(&path).expect("it is there"), read.text(&all));
        assert!(read.text(&all).ends_with("| `a` | counts one too many | b::d / e |\n"));
        fs::remove_file(path).expect("it is there");
    }

    #[test]
    fn a_bug_that_nobody_noticed_has_no_row() {
        let all = Mutation::read("== a\nwhat: b\nfile: a.rs\n-x\n+y\n").expect("it is well formed");
        let path = std::env::temp_dir().join(format!("wherry-record-none-{}.md", std::process::id()));
        let mut record = Record::read(path.clone());

        record.note("a", Some("b".to_owned()), &all).expect("it can be written");
        record.note("a", None, &all).expect("it can be written");

        assert!(!Record::read(path.clone()).has("a"));
        fs::remove_file(path).expect("it is there");
    }
}

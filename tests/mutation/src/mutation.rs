//! One bug: a place in a file, the text there, and the text that makes it wrong.

use std::{fs, io, path::Path};

/// A bug to be planted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mutation {
    /// A short name, as in `forget-a-reserve`.
    pub name: String,
    /// What is wrong with it, in one line.
    pub what: String,
    /// The file, from the root of the tree.
    pub file: String,
    /// The text that is there now, exactly once.
    pub before: String,
    /// The text in its place.
    pub after: String,
}

impl Mutation {
    /// Reads all lists (`*.mutations`) of a folder, sorted by file name.
    ///
    /// # Errors
    /// Which file cannot be read, or which line of it is wrong.
    pub fn read_all(folder: &Path) -> Result<Vec<Self>, String> {
        let told = |error: io::Error| format!("{}: {error}", folder.display());
        let mut paths = Vec::new();
        for entry in fs::read_dir(folder).map_err(told)? {
            let path = entry.map_err(told)?.path();
            if path.extension().is_some_and(|extension| extension == "mutations") {
                paths.push(path);
            }
        }
        paths.sort();
        let mut all = Vec::new();
        for path in paths {
            let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            all.extend(Self::read(&text).map_err(|wrong| format!("{}: {wrong}", path.display()))?);
        }
        Ok(all)
    }

    /// Reads a list: `== NAME`, `what:` and `file:` lines, then the text before (`-`) and after (`+`), line by line.
    ///
    /// # Errors
    /// Which line is wrong.
    pub fn read(text: &str) -> Result<Vec<Self>, String> {
        let mut all: Vec<Self> = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let wrong = |what: &str| format!("line {}: {what}", number + 1);
            if let Some(name) = line.strip_prefix("== ") {
                let empty = String::new;
                let name = name.trim().to_owned();
                all.push(Self { name, what: empty(), file: empty(), before: empty(), after: empty() });
                continue;
            }
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let mutation = all.last_mut().ok_or_else(|| wrong("a list begins with `== NAME`"))?;
            if let Some(what) = line.strip_prefix("what: ") {
                mutation.what = what.trim().to_owned();
            } else if let Some(file) = line.strip_prefix("file: ") {
                mutation.file = file.trim().to_owned();
            } else if let Some(code) = line.strip_prefix('-') {
                mutation.before += code;
                mutation.before.push('\n');
            } else if let Some(code) = line.strip_prefix('+') {
                mutation.after += code;
                mutation.after.push('\n');
            } else {
                return Err(wrong("neither `==`, `what:`, `file:`, `-` nor `+`"));
            }
        }
        let incomplete =
            all.iter().find(|found| found.what.is_empty() || found.file.is_empty() || found.before.is_empty());
        incomplete.map_or(Ok(all.clone()), |found| Err(format!("`{}` lacks what, file or the text before", found.name)))
    }

    /// The file's text with the bug in it.
    ///
    /// # Errors
    /// When the text before is not there exactly once: then the list is out of date.
    pub fn apply(&self, text: &str) -> Result<String, String> {
        match text.matches(&self.before).count() {
            1 => Ok(text.replacen(&self.before, &self.after, 1)),
            count => Err(format!("`{}`: its text is {count} times in {}, not once", self.name, self.file)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str =
        "# a list\n== off-by-one\nwhat: counts one too many\nfile: a.rs\n-    let x = 1;\n+    let x = 2;\n";

    #[test]
    fn a_list_is_read_and_applied_once() {
        let all = Mutation::read(LIST).expect("it is well formed");

        assert_eq!(all.len(), 1);
        assert_eq!(all[0].apply("a\n    let x = 1;\nb\n"), Ok("a\n    let x = 2;\nb\n".to_owned()));
        assert!(all[0].apply("a\nb\n").is_err_and(|wrong| wrong.contains("0 times")));
        assert!(all[0].apply("    let x = 1;\n    let x = 1;\n").is_err_and(|wrong| wrong.contains("2 times")));
    }

    #[test]
    fn a_list_that_lacks_something_is_refused() {
        assert!(Mutation::read("what: nothing\n").is_err());
        assert!(Mutation::read("== a\nfile: a.rs\n-x\n").is_err());
        assert!(Mutation::read("== a\nwhat: b\nfile: a.rs\nx\n").is_err());
    }
}

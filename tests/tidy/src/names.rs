//! Words that say nothing, or too much, in the names of modules and types.

use std::path::Path;

use crate::tree::Source;

/// The banned words.
const BANNED: &[&str] = &[
    "task",
    "tasks",
    "util",
    "utils",
    "common",
    "helper",
    "helpers",
    "misc",
    "manager",
    "handler",
    "handlers",
    "data",
    "info",
    "infos",
    "master",
    "slave",
    "whitelist",
    "blacklist",
];

/// Where containerd's word `task` may stand: the file that turns it into a process, and the one that keeps tokio's.
const TASK_HOMES: &[&str] = &["process.rs", "supervisor.rs"];

/// One sentence for each module or type with a banned word in its name.
#[must_use]
pub fn check(sources: &[Source]) -> Vec<String> {
    let mut faults = Vec::new();
    for source in sources.iter().filter(|source| source.is_rust()) {
        let file = Path::new(&source.path);
        let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if stem == "mod" {
            faults.push(format!("{}: a module's file carries the module's name, not `mod`", source.path));
        }
        let home = file.file_name().is_some_and(|name| TASK_HOMES.iter().any(|home| name == *home));
        let names = std::iter::once((0, stem)).chain(declared(&source.text));
        for (line, name) in names {
            let words = words(&name);
            let banned = |word: &&String| BANNED.contains(&word.as_str()) && !(home && word.starts_with("task"));
            if let Some(word) = words.iter().find(banned) {
                faults.push(format!("{}:{line}: `{name}` carries the banned word `{word}`", source.path));
            }
        }
    }
    faults
}

/// The names of modules and types that `text` declares, with their lines.
fn declared(text: &str) -> impl Iterator<Item = (usize, String)> + '_ {
    text.lines().enumerate().filter_map(|(index, line)| {
        let mut words = line.split_whitespace().skip_while(|word| word.starts_with("pub") || *word == "unsafe");
        let keyword = words.next()?;
        if !["mod", "struct", "enum", "trait", "type", "union"].contains(&keyword) {
            return None;
        }
        let name: String = words.next()?.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        (!name.is_empty()).then_some((index + 1, name))
    })
}

/// `HttpData` and `http_data` are both `http`, `data`.
fn words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut begin = true;
    for letter in name.chars() {
        if letter == '_' {
            begin = true;
            continue;
        }
        if begin || letter.is_uppercase() {
            words.push(String::new());
        }
        begin = false;
        if let Some(word) = words.last_mut() {
            word.extend(letter.to_lowercase());
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_banned_word_is_found_in_files_modules_and_types() {
        let bad = |path: &str, text: &str| check(&[Source { path: path.to_owned(), text: text.to_owned() }]).len();

        assert_eq!(bad("agent/src/utils.rs", ""), 1);
        assert_eq!(bad("agent/src/a.rs", "pub(crate) struct NodeInfo;"), 1);
        assert_eq!(bad("agent/src/a.rs", "mod helper;\nenum DataKind {}"), 2);
        assert_eq!(bad("agent/src/a.rs", "struct Database;\nlet data = 1;"), 0, "only whole words of names count");
        assert_eq!(bad("agent/containerd/src/process.rs", "struct TaskExit;"), 0, "the word's home");
        assert_eq!(bad("agent/src/mod.rs", ""), 1);
    }
}

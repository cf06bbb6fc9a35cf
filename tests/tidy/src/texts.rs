//! What every file must begin with, how long it may be, and what it must not say.

use std::{collections::BTreeSet, path::Path};

use crate::tree::Source;

/// Lines of a source file at most.
const LINES_MAX: usize = 400;
/// Lines of a file of tests at most.
const TEST_LINES_MAX: usize = 600;
/// The one file that may sleep in tests.
const WAIT: &str = "tests/support/src/wait.rs";
/// Crates with `unsafe` code, each place with its reason.
const UNSAFE_HOMES: &[&str] = &["agent/network/", "agent/containerd/", "agent/logger/", "scheduler/benches/"];

/// Rust files over their length.
#[must_use]
pub fn check_lengths(sources: &[Source]) -> Vec<String> {
    let rust = sources.iter().filter(|source| source.is_rust());
    rust.filter_map(|source| {
        let (lines, limit) = (source.text.lines().count(), if source.is_test() { TEST_LINES_MAX } else { LINES_MAX });
        (lines > limit).then(|| format!("{}: {lines} lines, at most {limit}: split it along a noun", source.path))
    })
    .collect()
}

/// Rust files that do not say in their first line what they are for.
#[must_use]
pub fn check_first_lines(sources: &[Source]) -> Vec<String> {
    let rust = sources.iter().filter(|source| source.is_rust());
    rust.filter(|source| !source.text.lines().next().is_some_and(|line| line.starts_with("//! ") && line.len() > 8))
        .map(|source| format!("{}: the first line is `//! ` and what the file is for", source.path))
        .collect()
}

/// Tests that are switched off, that sleep, and `unsafe` outside its homes.
#[must_use]
pub fn check_tests(sources: &[Source]) -> Vec<String> {
    let (ignore, sleep) = (["#[ign", "ore"].concat(), ["sle", "ep("].concat());
    let mut faults = Vec::new();
    for source in sources.iter().filter(|source| source.is_rust()) {
        let mut in_tests = source.is_test();
        for (index, line) in source.text.lines().enumerate() {
            let at = format!("{}:{}", source.path, index + 1);
            in_tests |= line.starts_with("#[cfg(test)]");
            if line.contains(&ignore) {
                faults.push(format!("{at}: a test is not switched off; assert what is so and say why it is wrong"));
            }
            if in_tests && source.path != WAIT && line.contains(&sleep) {
                faults.push(format!("{at}: a test does not sleep; use wait_until of tests/support"));
            }
            let home = UNSAFE_HOMES.iter().any(|home| source.path.starts_with(home));
            if !home && ["expect(uns", "allow(uns"].iter().any(|word| line.contains(&format!("{word}afe_code"))) {
                faults.push(format!("{at}: unsafe code lives in {}", UNSAFE_HOMES.join(", ")));
            }
        }
    }
    faults
}

/// Paths of the machine on which something was written.
#[must_use]
pub fn check_paths(sources: &[Source]) -> Vec<String> {
    let banned = [["/wo", "rk/"].concat(), ["/ro", "ot/"].concat(), ["/ho", "me/"].concat()];
    let mut faults = Vec::new();
    for source in sources {
        for (index, line) in source.text.lines().enumerate() {
            if let Some(path) = banned.iter().find(|path| starts_a_path(line, path)) {
                faults.push(format!("{}:{}: `{path}` is a path of one machine", source.path, index + 1));
            }
        }
    }
    faults
}

/// Crates' folders without a README of their own or in the folder above.
#[must_use]
pub fn check_readmes(root: &Path, folders: &[&str]) -> Vec<String> {
    let has = |folder: &str| root.join(folder).join("README.md").is_file();
    let missing: BTreeSet<&str> = folders
        .iter()
        .copied()
        .filter(|folder| !has(folder) && !folder.rsplit_once('/').is_some_and(|(above, _)| has(above)))
        .collect();
    missing.into_iter().map(|folder| format!("{folder}: neither it nor the folder above has a README.md")).collect()
}

/// Whether `path` stands in `line` as the beginning of an absolute path, not in the middle of a longer one.
fn starts_a_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '}' | '>' | '.' | '_' | '-' | '*' | ')'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> [Source; 1] {
        [Source { path: path.to_owned(), text: text.to_owned() }]
    }

    #[test]
    fn a_long_or_nameless_file_is_found() {
        let long = "//! What it is for.\n".repeat(LINES_MAX + 1);

        assert_eq!(check_lengths(&source("agent/src/a.rs", &long)).len(), 1);
        assert_eq!(check_lengths(&source("agent/tests/a.rs", &long)).len(), 0, "tests may be longer");
        assert_eq!(check_first_lines(&source("agent/src/a.rs", "use std::fs;\n")).len(), 1);
        assert_eq!(check_first_lines(&source("agent/src/a.rs", "//! What it is for.\n")).len(), 0);
    }

    #[test]
    fn a_sleeping_or_ignored_test_is_found() {
        let sleeping = format!("fn f() {{ {}d); }}", ["sle", "ep("].concat());
        let module = format!("#[cfg(test)]\nmod tests {{\n{sleeping}\n}}");
        let ignored = format!("{}]", ["#[ign", "ore"].concat());

        assert_eq!(check_tests(&source("agent/src/a.rs", &sleeping)).len(), 0, "programs may sleep");
        assert_eq!(check_tests(&source("agent/src/a.rs", &module)).len(), 1);
        assert_eq!(check_tests(&source("agent/tests/a.rs", &sleeping)).len(), 1);
        assert_eq!(check_tests(&source("agent/src/a.rs", &ignored)).len(), 1);
    }

    #[test]
    fn a_path_of_a_machine_is_found_and_a_part_of_another_is_not() {
        let path = ["/ro", "ot/"].concat();

        assert_eq!(check_paths(&source("a.md", &format!("see {path}x"))).len(), 1);
        assert_eq!(check_paths(&source("a.md", &format!("/proc/<pid>{path}x"))).len(), 0);
    }
}

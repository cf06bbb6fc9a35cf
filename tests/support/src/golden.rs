//! Compares what people read with a file; `UPDATE_GOLDEN=1` writes the file instead.

use std::{env, fs, path::Path};

/// Compares `actual` with the file at `path`.
///
/// # Panics
/// If they differ, showing the first line that does; or if the file cannot be read or written.
#[track_caller]
pub fn assert_golden(path: impl AsRef<Path>, actual: &str) {
    let path = path.as_ref();
    if env::var_os("UPDATE_GOLDEN").is_some() {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).unwrap_or_else(|error| panic!("create {}: {error}", parent.display()));
        }
        fs::write(path, actual).unwrap_or_else(|error| panic!("write {}: {error}", path.display()));
        return;
    }
    let expected = fs::read_to_string(path)
        .unwrap_or_else(|error| panic!("read {}: {error}; run once with UPDATE_GOLDEN=1", path.display()));
    if let Some(difference) = first_difference(&expected, actual) {
        panic!(
            "{} differs: {difference}\nUPDATE_GOLDEN=1 takes over what came\n--- whole ---\n{actual}",
            path.display()
        );
    }
}

fn first_difference(expected: &str, actual: &str) -> Option<String> {
    if expected == actual {
        return None;
    }
    let (mut left, mut right) = (expected.lines(), actual.lines());
    for number in 1.. {
        match (left.next(), right.next()) {
            (None, None) => break,
            (a, b) if a == b => {}
            (a, b) => {
                return Some(format!("line {number}\n  expected: {}\n  came:     {}", shown(a), shown(b)));
            }
        }
    }
    Some("only in line ends or the end of the file".to_owned())
}

fn shown(line: Option<&str>) -> String {
    line.map_or_else(|| "(end of file)".to_owned(), |line| format!("{line:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_differs_is_shown() {
        let difference = first_difference("a\nb\n", "a\nc\n").unwrap();

        assert!(difference.contains("line 2") && difference.contains("\"c\""), "{difference}");
        assert!(first_difference("a\n", "a").unwrap().contains("line ends"));
        assert!(first_difference("a\n", "a\n").is_none());
    }
}

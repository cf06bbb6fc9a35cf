//! The files of the tree that people write: everything but what is built, generated or left by a run.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Folders that hold no source, by name.
const NOT_OURS: &[&str] = &["target", ".git", ".demo"];

/// One text file of the tree.
#[derive(Debug)]
pub struct Source {
    /// Its path from the root, with `/` between parts.
    pub path: String,
    /// What it says.
    pub text: String,
}

impl Source {
    /// Whether it is a Rust file.
    #[must_use]
    pub fn is_rust(&self) -> bool {
        Path::new(&self.path).extension().is_some_and(|extension| extension == "rs")
    }

    /// Whether it holds tests only: below a folder `tests`, or named so. Programs and benches of test crates do not.
    #[must_use]
    pub fn is_test(&self) -> bool {
        let program = self.path.contains("/src/bin/") || self.path.contains("/benches/");
        !program && (self.path.split('/').any(|part| part == "tests") || self.path.ends_with("tests.rs"))
    }
}

/// The root of the workspace.
///
/// # Panics
/// Never: this crate lies two folders below the root.
#[must_use]
pub fn root() -> PathBuf {
    let this = Path::new(env!("CARGO_MANIFEST_DIR"));
    this.ancestors().nth(2).expect("this crate lies two folders below the root").to_owned()
}

/// Every text file below `root`, sorted by path. Files that are not UTF-8 are passed over.
///
/// # Errors
/// If a folder cannot be listed or a file cannot be read.
pub fn read(root: &Path) -> io::Result<Vec<Source>> {
    let mut sources = Vec::new();
    walk(root, root, &mut sources)?;
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(sources)
}

fn walk(root: &Path, folder: &Path, sources: &mut Vec<Source>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        if kind.is_dir() {
            if !NOT_OURS.iter().any(|name| entry.file_name() == *name) {
                walk(root, &path, sources)?;
            }
        } else if kind.is_file() {
            let Ok(text) = String::from_utf8(fs::read(&path)?) else { continue };
            let path = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            sources.push(Source { path, text });
        }
    }
    Ok(())
}

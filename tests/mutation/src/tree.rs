//! A copy of the sources with a target directory of its own, outside of the checkout; gone when it is dropped.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::mutation::Mutation;

/// What a build makes or a checkout keeps for itself.
const LEFT_OUT: [&str; 2] = ["target", ".git"];

/// The copy.
#[derive(Debug)]
pub struct Tree {
    root: PathBuf,
}

impl Tree {
    /// Copies the sources to a new folder below the system's temporary one.
    ///
    /// # Errors
    /// What cannot be read or written.
    pub fn copy(sources: &Path) -> io::Result<Self> {
        let root = std::env::temp_dir().join(format!("wherry-mutation-{}", std::process::id()));
        let tree = Self { root };
        copy_folder(sources, &tree.sources())?;
        Ok(tree)
    }

    /// Where the copy's sources are.
    #[must_use]
    pub fn sources(&self) -> PathBuf {
        self.root.join("sources")
    }

    /// Where what is built of it goes.
    #[must_use]
    pub fn target(&self) -> PathBuf {
        self.root.join("target")
    }

    /// Plants a bug, lets something be done with the tree, and takes the bug out again.
    ///
    /// # Errors
    /// When the list is out of date, or the file cannot be read or written.
    pub fn with<T>(&self, mutation: &Mutation, act: impl FnOnce() -> T) -> Result<T, String> {
        let path = self.sources().join(&mutation.file);
        let told = |error: io::Error| format!("{}: {error}", path.display());
        let right = fs::read_to_string(&path).map_err(told)?;
        fs::write(&path, mutation.apply(&right)?).map_err(told)?;
        let done = act();
        fs::write(&path, right).map_err(told)?;
        Ok(done)
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        // What is left lies in the temporary folder.
        fs::remove_dir_all(&self.root).ok();
    }
}

fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if LEFT_OUT.iter().any(|left_out| name == *left_out) {
            continue;
        }
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy_folder(&entry.path(), &to.join(name))?;
        } else if kind.is_file() {
            fs::copy(entry.path(), to.join(name))?;
        }
    }
    Ok(())
}

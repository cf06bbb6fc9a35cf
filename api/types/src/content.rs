//! What an instance is shown beside its image: files of configuration, and secrets.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::id::Name;

/// The most bytes that the texts of all files of one workload have together.
pub const TEXTS_BYTES_MAX: usize = 64 << 10;

/// The most files of one workload.
pub const FILES_MAX: usize = 64;

/// Who may read a file of configuration, unless its spec says otherwise: everybody.
pub const TEXT_MODE: u32 = 0o444;

/// Who may read a secret's file, unless its spec says otherwise: its owner.
pub const SECRET_MODE: u32 = 0o400;

/// The files and secrets that each instance of a workload is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContentSpec {
    /// Read-only files in memory, by their absolute paths inside.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, FileSpec>,
    /// Secrets of the workload's namespace by the variables of the environment that hold them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, Name>,
    /// What an instance is told when what a file holds is another one.
    #[serde(default, skip_serializing_if = "OnChange::is_restart")]
    pub on_change: OnChange,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSpec {
    /// What it holds.
    pub content: FileContent,
    /// Its permission bits.
    pub mode: u32,
    /// Whose it is; `None` = of the user that the process runs as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
}

/// What a file holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum FileContent {
    /// This text.
    Text(String),
    /// The newest version of this secret of the workload's namespace.
    Secret(Name),
}

/// A user and a group by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Owner {
    /// The user.
    pub user: u32,
    /// The group.
    pub group: u32,
}

/// What a running instance is told when what it is shown changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum OnChange {
    /// Nothing: it keeps what it has, and another instance takes its place.
    #[default]
    Restart,
    /// Its files are written anew, then its process gets this signal, by name (`SIGHUP`).
    Signal(String),
    /// Its files are written anew; the process finds out by itself.
    Nothing,
}

impl OnChange {
    /// Whether it is what is meant where nobody said anything.
    #[must_use]
    pub fn is_restart(&self) -> bool {
        *self == Self::Restart
    }
}

impl ContentSpec {
    /// Whether an instance is shown nothing beside its image.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The secrets that an instance is shown, each once.
    #[must_use]
    pub fn secrets(&self) -> BTreeSet<&Name> {
        let in_file = |file| match file {
            &FileSpec { content: FileContent::Secret(ref name), .. } => Some(name),
            FileSpec { content: FileContent::Text(_), .. } => None,
        };
        self.files.values().filter_map(in_file).chain(self.env.values()).collect()
    }

    /// Whether what is shown to an instance that runs may become what `other` shows: it is the same, or only texts differ
    /// and both say that files of running instances are written anew.
    #[must_use]
    pub fn can_become(&self, other: &Self) -> bool {
        let is_live = !self.on_change.is_restart() && !other.on_change.is_restart();
        let shape = |file: &FileSpec| match &file.content {
            FileContent::Text(_) if is_live => FileSpec { content: FileContent::Text(String::new()), ..*file },
            FileContent::Text(_) | FileContent::Secret(_) => file.clone(),
        };
        let same = |((path, file), (other_path, other)): ((&String, &FileSpec), (&String, &FileSpec))| {
            path == other_path && shape(file) == shape(other)
        };
        self.env == other.env && self.files.len() == other.files.len() && self.files.iter().zip(&other.files).all(same)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_may_change_under_an_instance_only_where_both_specs_say_so() {
        let restart = |text| spec(text, TEXT_MODE, OnChange::Restart);
        let live = |text| spec(text, TEXT_MODE, OnChange::Signal("SIGHUP".to_owned()));

        assert!(restart("a").can_become(&restart("a")) && !restart("a").can_become(&restart("b")));
        assert!(live("a").can_become(&live("b")) && live("a").can_become(&spec("b", TEXT_MODE, OnChange::Nothing)));
        assert!(restart("a").can_become(&live("a")) && !restart("a").can_become(&live("b")));
        assert!(!live("a").can_become(&spec("a", 0o400, OnChange::Nothing)), "its mode is of the container");
        assert!(!live("a").can_become(&ContentSpec { files: BTreeMap::new(), ..live("a") }));
    }

    #[test]
    fn each_secret_is_named_once() {
        let name = Name::new("db").expect("a name");
        let file = FileSpec { content: FileContent::Secret(name.clone()), mode: SECRET_MODE, owner: None };
        let spec = ContentSpec {
            files: BTreeMap::from([("/a".to_owned(), file.clone()), ("/b".to_owned(), file)]),
            env: BTreeMap::from([("DB".to_owned(), name.clone())]),
            on_change: OnChange::Restart,
        };

        assert_eq!(spec.secrets(), BTreeSet::from([&name]));
    }

    fn spec(text: &str, mode: u32, on_change: OnChange) -> ContentSpec {
        let file = FileSpec { content: FileContent::Text(text.to_owned()), mode, owner: None };
        ContentSpec { files: BTreeMap::from([("/etc/app".to_owned(), file)]), on_change, ..ContentSpec::default() }
    }
}

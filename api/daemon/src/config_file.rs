//! Configuration: defaults, then the TOML file, then the environment, then flags; a key that nobody knows is an error.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;
use toml::{Table, Value};

/// The prefix of every environment variable that sets a key: `WHERRY_<SECTION>_<KEY>`.
pub const ENVIRONMENT_PREFIX: &str = "WHERRY_";

/// A key that the environment or a flag may set.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Where it stands in the file (`containerd.socket`).
    pub path: &'static str,
    /// How its text is read.
    pub kind: Kind,
}

/// How the text of a variable or flag is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// As it is.
    Text,
    /// As an integer.
    Number,
    /// `true` or `false`.
    Switch,
    /// As texts between commas.
    List,
}

/// Where settings come from besides the defaults.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    /// The file.
    pub file: Option<PathBuf>,
    /// Whether a file that is not there is an error: somebody named it.
    pub file_required: bool,
    /// The environment; what has no [`ENVIRONMENT_PREFIX`] is skipped.
    pub environment: Vec<(String, String)>,
    /// Flags by the path of their key.
    pub flags: Vec<(&'static str, String)>,
}

/// A configuration and where each setting came from.
#[derive(Clone, Debug)]
pub struct Loaded<T> {
    /// The configuration.
    pub config: T,
    settings: Vec<Setting>,
}

#[derive(Clone, Debug)]
struct Setting {
    path: String,
    value: String,
    origin: Origin,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    Default,
    File,
    Environment(String),
    Flag,
}

/// Why there is no configuration.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration {} cannot be read: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not what it must be.
    #[error("{}:{line}:{column}: {problem}{hint}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// What is wrong.
        problem: String,
        /// What was perhaps meant; may be empty.
        hint: String,
    },
    /// A variable or a flag has a value of the wrong kind, or an unfit one.
    #[error("{name}: {problem}")]
    Override {
        /// The variable or flag.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// A variable that begins as ours do and sets nothing.
    #[error("the environment variable {name} sets no key of this program{hint}")]
    Variable {
        /// Which.
        name: String,
        /// What was perhaps meant; may be empty.
        hint: String,
    },
}

impl<T> Loaded<T> {
    /// Whether nobody set this key.
    #[must_use]
    pub fn is_default(&self, path: &str) -> bool {
        !self.settings.iter().any(|setting| setting.path == path && setting.origin != Origin::Default)
    }
}

/// One line for each setting: path, value, where it came from.
impl<T> fmt::Display for Loaded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.settings.iter().map(|setting| setting.path.len() + setting.value.len()).max().unwrap_or(0);
        for Setting { path, value, origin } in &self.settings {
            let pad = " ".repeat(width - path.len() - value.len());
            writeln!(f, "{path} = {value}{pad}  # {origin}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File => f.write_str("file"),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag => f.write_str("flag"),
        }
    }
}

/// Reads the configuration.
///
/// `T` has `#[serde(default, deny_unknown_fields)]`; `keys` are those that variables and flags may set.
///
/// # Errors
/// When a layer cannot be read, holds an unknown key, or a value of the wrong kind.
pub fn load<T>(layers: &Layers, keys: &[Key]) -> Result<Loaded<T>, ConfigError>
where
    T: DeserializeOwned + Serialize + Default,
{
    let mut table = match &layers.file {
        Some(path) => read_file::<T>(path, layers.file_required)?,
        None => Table::new(),
    };
    let mut origins: BTreeMap<String, Origin> =
        leaves(&table).into_iter().map(|(path, _)| (path, Origin::File)).collect();
    for (name, text) in &layers.environment {
        let Some(key) = variable_key(name, keys)? else { continue };
        set::<T>(&mut table, key, name, text)?;
        origins.insert(key.path.to_owned(), Origin::Environment(name.clone()));
    }
    for (path, text) in &layers.flags {
        let Some(key) = keys.iter().find(|key| key.path == *path) else { continue };
        let flag = format!("--{}", path.rsplit('.').next().unwrap_or(path).replace('_', "-"));
        set::<T>(&mut table, key, &flag, text)?;
        origins.insert(key.path.to_owned(), Origin::Flag);
    }
    let whole = |error: toml::de::Error| ConfigError::Override {
        name: "the configuration".to_owned(),
        problem: error.message().to_owned(),
    };
    let config: T = table.try_into().map_err(whole)?;
    let effective = Table::try_from(&config).unwrap_or_default();
    let settings = leaves(&effective).into_iter().map(|(path, value)| {
        let origin = origins.get(&path).cloned().unwrap_or(Origin::Default);
        let value = if path.contains("password") { "\"…\"".to_owned() } else { value };
        Setting { path, value, origin }
    });
    Ok(Loaded { settings: settings.collect(), config })
}

fn read_file<T: DeserializeOwned>(path: &Path, required: bool) -> Result<Table, ConfigError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(source) if source.kind() == io::ErrorKind::NotFound && !required => return Ok(Table::new()),
        Err(source) => return Err(ConfigError::Read { path: path.to_owned(), source }),
    };
    // Once as what it must become, for positions; once as a table, to lay the next layers over it.
    let read = toml::from_str::<T>(&text).and_then(|_| toml::from_str::<Table>(&text));
    read.map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        let before = text.get(..offset).unwrap_or(&text);
        let message = error.message();
        let (problem, hint) = match message.split_once(", expected ") {
            Some((problem, expected)) if message.starts_with("unknown field") => (problem, nearest(problem, expected)),
            _ => (message, String::new()),
        };
        ConfigError::File {
            path: path.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before.chars().rev().take_while(|letter| *letter != '\n').count() + 1,
            problem: problem.replace('\n', " "),
            hint,
        }
    })
}

/// Finds what was perhaps meant in serde's list of what was expected.
fn nearest(problem: &str, expected: &str) -> String {
    let quoted = |text: &str| -> Vec<String> { text.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    let Some(wrong) = quoted(problem).pop() else { return String::new() };
    let names = quoted(expected);
    suggestion(&wrong, names.iter().map(String::as_str))
}

fn suggestion<'a>(wrong: &str, names: impl Iterator<Item = &'a str>) -> String {
    let best = names.map(|name| (strsim::damerau_levenshtein(wrong, name), name)).min();
    match best {
        Some((distance, name)) if distance <= 1 + wrong.len() / 4 => format!(", did you mean `{name}`?"),
        _ => String::new(),
    }
}

/// The key that a variable sets. `None` if it is not ours, an error if it names a section of ours and no key in it.
fn variable_key<'a>(name: &str, keys: &'a [Key]) -> Result<Option<&'a Key>, ConfigError> {
    let variable = |key: &Key| format!("{ENVIRONMENT_PREFIX}{}", key.path.replace('.', "_").to_uppercase());
    if let Some(key) = keys.iter().find(|key| variable(key) == name) {
        return Ok(Some(key));
    }
    let section = |key: &Key| {
        let section = key.path.split_once('.').map_or(key.path, |(section, _)| section);
        format!("{ENVIRONMENT_PREFIX}{}_", section.to_uppercase())
    };
    if !keys.iter().any(|key| name.starts_with(&section(key))) {
        return Ok(None);
    }
    let names: Vec<String> = keys.iter().map(variable).collect();
    Err(ConfigError::Variable { name: name.to_owned(), hint: suggestion(name, names.iter().map(String::as_str)) })
}

fn set<T: DeserializeOwned>(table: &mut Table, key: &Key, name: &str, text: &str) -> Result<(), ConfigError> {
    let wrong = |problem: String| ConfigError::Override { name: name.to_owned(), problem };
    let value = match key.kind {
        Kind::Text => Value::String(text.to_owned()),
        Kind::Number => Value::Integer(text.parse().map_err(|_| wrong(format!("`{text}` is not a whole number")))?),
        Kind::Switch => {
            Value::Boolean(text.parse().map_err(|_| wrong(format!("`{text}` is neither `true` nor `false`")))?)
        }
        Kind::List => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            Value::Array(items.map(|item| Value::String(item.to_owned())).collect())
        }
    };
    let mut place = &mut *table;
    let mut parts = key.path.split('.').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            place.insert(part.to_owned(), value);
            break;
        }
        let below = place.entry(part).or_insert_with(|| Value::Table(Table::new()));
        place = below.as_table_mut().ok_or_else(|| wrong(format!("`{part}` is not a section")))?;
    }
    table.clone().try_into::<T>().map(drop).map_err(|error| wrong(error.message().replace('\n', " ")))
}

/// Every setting of a table by its path, sorted; lists are one setting.
fn leaves(table: &Table) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (name, value) in table {
        match value {
            Value::Table(below) => {
                found.extend(leaves(below).into_iter().map(|(path, value)| (format!("{name}.{path}"), value)));
            }
            Value::Array(items) if items.iter().any(Value::is_table) => {
                for (index, item) in items.iter().enumerate() {
                    let below = item.as_table().map(leaves).unwrap_or_default();
                    found.extend(below.into_iter().map(|(path, value)| (format!("{name}[{index}].{path}"), value)));
                }
            }
            Value::String(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Boolean(_)
            | Value::Datetime(_)
            | Value::Array(_) => found.push((name.clone(), value.to_string())),
        }
    }
    found.sort();
    found
}

#[cfg(test)]
mod tests;

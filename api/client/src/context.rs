//! Where the scheduler is and who asks: flags over environment over the context file.

use std::{
    collections::BTreeMap,
    env, fmt, fs, io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The context of a file that names none as current.
const DEFAULT_CONTEXT: &str = "default";

/// What was wrong with flags, environment or context file.
#[derive(Debug, Error)]
pub enum ContextError {
    /// There is no home directory to look in.
    #[error("there is no HOME to find .config/wherry/config.toml in; say --config or WHERRY_CONFIG")]
    NoHome,
    /// A file cannot be read.
    #[error("cannot read {path}: {reason}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// Others can read the token.
    #[error("{path} is open to others (mode {mode:o}) and holds a token; run `chmod 600 {path}`")]
    OpenToOthers {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The file is not a context file.
    #[error("{path} is not a context file: {reason}")]
    Malformed {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The file has no such context.
    #[error("{path} has no context `{name}`; it has: {known}")]
    Unknown {
        /// Which file.
        path: PathBuf,
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// Nobody said it.
    #[error(
        "nothing says {what}: {path} {state}, and neither {flag} nor {variable} is given; \
             `wherry-scheduler init` writes the file"
    )]
    Missing {
        /// What is not known.
        what: &'static str,
        /// The context file.
        path: PathBuf,
        /// Whether it is there.
        state: &'static str,
        /// The flag that would say it.
        flag: &'static str,
        /// The variable that would say it.
        variable: &'static str,
    },
}

/// The context file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContextFile {
    /// The context that is used unless another is asked for.
    #[serde(default)]
    pub current: Option<String>,
    /// The contexts by name.
    #[serde(default)]
    pub context: BTreeMap<String, Context>,
}

/// One scheduler and one token.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// `host:port`
    #[serde(default)]
    pub server: Option<String>,
    /// `WA1-...`
    #[serde(default)]
    pub token: Option<Secret>,
    /// The cluster's CA as PEM.
    #[serde(default)]
    pub ca: Option<String>,
}

/// A token: printed only on purpose.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// What flags and environment say.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Path of the context file.
    pub config: Option<PathBuf>,
    /// Name of the context.
    pub context: Option<String>,
    /// `host:port`
    pub server: Option<String>,
    /// File that holds the token.
    pub token_file: Option<PathBuf>,
    /// File that holds the CA as PEM.
    pub ca_file: Option<PathBuf>,
}

/// All that is needed to ask, and where each came from.
#[derive(Debug)]
pub struct Resolved {
    /// `host:port`
    pub server: String,
    /// The bearer token.
    pub token: Secret,
    /// The CA as PEM.
    pub ca: String,
    /// Where server, token and CA were found, in this order.
    pub origins: [String; 3],
}

impl ContextFile {
    /// Reads the file; one that is not there is empty.
    ///
    /// # Errors
    /// When it cannot be read, is open to others, or is malformed.
    pub fn load(path: &Path) -> Result<Self, ContextError> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(unreadable(path, &error)),
        };
        refuse_open_to_others(path)?;
        toml::from_str(&text)
            .map_err(|error| ContextError::Malformed { path: path.to_owned(), reason: error.message().to_owned() })
    }

    /// Writes the file anew, whole or not at all, readable by its owner only.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), ContextError> {
        let malformed =
            |error: toml::ser::Error| ContextError::Malformed { path: path.to_owned(), reason: error.to_string() };
        let text = toml::to_string(self).map_err(malformed)?;
        let fresh = path.with_extension("toml.new");
        let written = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&fresh)
            .and_then(|mut file| io::Write::write_all(&mut file, text.as_bytes()).and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(&fresh, path));
        written.map_err(|error| unreadable(path, &error))
    }

    /// The context asked for, or the current one; an empty one where the file has none at all.
    ///
    /// # Errors
    /// When the file has contexts, but not this one.
    pub fn choose(&self, name: Option<&str>, path: &Path) -> Result<(String, Context), ContextError> {
        let name = name.or(self.current.as_deref()).unwrap_or(DEFAULT_CONTEXT);
        match self.context.get(name) {
            Some(context) => Ok((name.to_owned(), context.clone())),
            None if self.context.is_empty() => Ok((name.to_owned(), Context::default())),
            None => Err(ContextError::Unknown {
                path: path.to_owned(),
                name: name.to_owned(),
                known: self.context.keys().cloned().collect::<Vec<_>>().join(", "),
            }),
        }
    }
}

impl Overrides {
    /// The path of the context file.
    ///
    /// # Errors
    /// When nothing says where it is.
    pub fn path(&self) -> Result<PathBuf, ContextError> {
        if let Some(path) = &self.config {
            return Ok(path.clone());
        }
        let home = env::var_os("HOME").filter(|home| !home.is_empty()).ok_or(ContextError::NoHome)?;
        Ok(Path::new(&home).join(".config/wherry/config.toml"))
    }

    /// Puts flags, environment and file together. A token comes from `token_file`, then WHERRY_TOKEN, then the file: on
    /// a command line it would be seen by everybody on the machine.
    ///
    /// # Errors
    /// When something is missing or a file is not as it must be.
    pub fn resolve(&self) -> Result<Resolved, ContextError> {
        let path = self.path()?;
        let (name, context) = ContextFile::load(&path)?.choose(self.context.as_deref(), &path)?;
        let from_file = format!("context `{name}` in {}", path.display());
        let missing = |what, flag, variable| ContextError::Missing {
            what,
            path: path.clone(),
            state: if path.exists() { "does not say it" } else { "is not there" },
            flag,
            variable,
        };
        let said = |value: String| (value, from_file.clone());
        let given = |value: &Option<String>| value.clone().map(|value| (value, "--server or WHERRY_SERVER".to_owned()));
        let (server, server_origin) = given(&self.server)
            .or_else(|| context.server.map(said))
            .ok_or_else(|| missing("where the scheduler is", "--server", "WHERRY_SERVER"))?;
        let token = match &self.token_file {
            Some(file) => {
                refuse_open_to_others(file)?;
                Some((Secret(read(file)?), file.display().to_string()))
            }
            None => env::var("WHERRY_TOKEN")
                .ok()
                .filter(|token| !token.is_empty())
                .map(|token| (Secret(token), "WHERRY_TOKEN".to_owned())),
        };
        let (token, token_origin) = token
            .or_else(|| context.token.map(|token| (token, from_file.clone())))
            .ok_or_else(|| missing("who you are", "--token-file", "WHERRY_TOKEN"))?;
        let ca = self.ca_file.as_ref().map(|file| Ok((read(file)?, file.display().to_string()))).transpose()?;
        let (ca, ca_origin) = ca
            .or_else(|| context.ca.map(said))
            .ok_or_else(|| missing("which CA to trust", "--ca-file", "WHERRY_CA_FILE"))?;
        Ok(Resolved { server, token, ca, origins: [server_origin, token_origin, ca_origin] })
    }
}

fn read(path: &Path) -> Result<String, ContextError> {
    fs::read_to_string(path).map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &io::Error) -> ContextError {
    ContextError::Unreadable { path: path.to_owned(), reason: error.to_string() }
}

fn refuse_open_to_others(path: &Path) -> Result<(), ContextError> {
    let metadata = fs::metadata(path).map_err(|error| unreadable(path, &error))?;
    let mode = metadata.permissions().mode() & 0o7777;
    // Pipes and devices (`--token-file /dev/stdin`) have no mode that matters.
    if metadata.is_file() && mode & 0o077 != 0 {
        return Err(ContextError::OpenToOthers { path: path.to_owned(), mode });
    }
    Ok(())
}

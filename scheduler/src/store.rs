//! Durable records: one SQLite file, one owner, one transaction for each batch; nothing is written while nothing changes.

mod pending;

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use api_types::counter::Epoch;
use rusqlite::{Connection, ErrorCode, FileControl, OpenFlags, params};
use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

pub use pending::{CORE_PREFIX, Pending};

/// The file's name inside the state directory.
const FILE: &str = "scheduler.db";

/// Its name while it is being made.
const DRAFT: &str = "scheduler.db.new";

/// Version of the tables and of the records' meaning, in SQLite's `user_version`.
const SCHEMA: i64 = 3;

/// The key under which the epoch is kept.
const EPOCH_KEY: &str = "epoch";

/// One durable change: a value for a key, or its removal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Which record.
    pub key: String,
    /// Its value; `None` removes it.
    pub value: Option<Vec<u8>>,
}

impl Write {
    /// Sets a record.
    #[must_use]
    pub fn put(key: String, value: &impl Serialize) -> Self {
        let value = serde_json::to_vec(value).expect("records are plain data with text keys");
        Self { key, value: Some(value) }
    }

    /// Removes a record.
    #[must_use]
    pub fn remove(key: String) -> Self {
        Self { key, value: None }
    }
}

/// Why the store cannot be used.
#[derive(Debug, Error)]
pub enum StoreError {
    /// There is none.
    #[error("there is no cluster in {0}: run `wherry-scheduler init` first")]
    Missing(PathBuf),
    /// There is one where none may be.
    #[error(
        "there is a cluster in {0} already: start it with `wherry-scheduler run`, or choose another state directory"
    )]
    Exists(PathBuf),
    /// Another process has it.
    #[error("{0} is in use: another wherry-scheduler runs on this state directory")]
    Locked(PathBuf),
    /// A later version wrote it.
    #[error(
        "{path} was written by a later version (schema {found}, this program knows {SCHEMA}): install that version"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
    },
    /// A record is not what was written.
    #[error("record `{key}` in {path} is damaged: restore the state directory from a backup")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The record.
        key: String,
    },
    /// A record that must be there is not.
    #[error("record `{key}` is missing in {path}: restore the state directory from a backup")]
    Incomplete {
        /// The file.
        path: PathBuf,
        /// The record.
        key: String,
    },
    /// SQLite failed.
    #[error("cannot use {path}")]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What it said.
        #[source]
        source: rusqlite::Error,
    },
    /// The file system failed.
    #[error("cannot prepare {path}")]
    File {
        /// What was prepared.
        path: PathBuf,
        /// What it said.
        #[source]
        source: std::io::Error,
    },
}

/// The open store. It has one owner, which is the control loop.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    path: PathBuf,
}

/// All records, as they were when the store was opened.
#[derive(Debug)]
pub struct Loaded {
    path: PathBuf,
    records: BTreeMap<String, Vec<u8>>,
}

impl Store {
    /// Makes a new store with its first records, all or none.
    ///
    /// # Errors
    /// When there is one already, or the file cannot be written.
    pub fn create(state_dir: &Path, first: &[Write]) -> Result<(), StoreError> {
        let path = state_dir.join(FILE);
        if path.exists() {
            return Err(StoreError::Exists(state_dir.to_owned()));
        }
        let file = |source| StoreError::File { path: state_dir.to_owned(), source };
        fs::create_dir_all(state_dir).map_err(file)?;
        fs::set_permissions(state_dir, fs::Permissions::from_mode(0o700)).map_err(file)?;
        // Made under another name, so that a cluster exists whole or not at all.
        let draft = state_dir.join(DRAFT);
        remove_draft(state_dir).map_err(file)?;
        if let Err(error) = Self::fill(&draft, first) {
            // What stays all the same is removed by the next try.
            remove_draft(state_dir).ok();
            return Err(error);
        }
        fs::File::open(&draft).and_then(|draft| draft.sync_all()).map_err(file)?;
        fs::rename(&draft, &path).map_err(file)?;
        fs::File::open(state_dir).and_then(|directory| directory.sync_all()).map_err(file)
    }

    /// Opens the store and reads every record.
    ///
    /// # Errors
    /// When there is none, another process has it, it is of a later version, or a record is damaged.
    pub fn open(state_dir: &Path) -> Result<(Self, Loaded), StoreError> {
        let path = state_dir.join(FILE);
        if !path.exists() {
            return Err(StoreError::Missing(state_dir.to_owned()));
        }
        let sqlite = |source: rusqlite::Error| match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Locked(path.clone()),
            _ => StoreError::Sqlite { path: path.clone(), source },
        };
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&path, flags).map_err(sqlite)?;
        let store = Self { connection, path: path.clone() };
        let found: i64 = store.connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(sqlite)?;
        if found > SCHEMA {
            return Err(StoreError::Newer { path, found });
        }
        store.set_up().map_err(sqlite)?;
        store.reuse_log().map_err(sqlite)?;
        let records = store.load()?;
        Ok((store, Loaded { path, records }))
    }

    /// Makes a batch durable, all or none. When this returns, a power cut cannot lose it.
    ///
    /// # Errors
    /// When SQLite failed: the outcome is then unknown, and the process must end and load what there is.
    pub fn commit(&mut self, writes: &[Write]) -> Result<(), StoreError> {
        let path = self.path.clone();
        self.write(writes).map_err(|source| StoreError::Sqlite { path, source })
    }

    /// Begins a new run: raises the epoch and makes it durable.
    ///
    /// # Errors
    /// When the epoch cannot be read or made durable.
    pub fn next_epoch(&mut self, loaded: &Loaded) -> Result<Epoch, StoreError> {
        let epoch = loaded.optional::<Epoch>(EPOCH_KEY)?.unwrap_or_default().next();
        self.commit(&[Write::put(EPOCH_KEY.to_owned(), &epoch)])?;
        Ok(epoch)
    }

    /// Makes a file with the first records, and nothing beside it.
    fn fill(draft: &Path, first: &[Write]) -> Result<(), StoreError> {
        let sqlite = |source| StoreError::Sqlite { path: draft.to_owned(), source };
        let mut store = Self { connection: Connection::open(draft).map_err(sqlite)?, path: draft.to_owned() };
        let file = |source| StoreError::File { path: draft.to_owned(), source };
        fs::set_permissions(draft, fs::Permissions::from_mode(0o600)).map_err(file)?;
        store.set_up().map_err(sqlite)?;
        store.commit(first)?;
        // Leaving WAL mode puts everything into the one file that is renamed.
        let back = "PRAGMA journal_mode = DELETE; PRAGMA synchronous = EXTRA;";
        store.connection.execute_batch(back).map_err(sqlite)?;
        store.connection.close().map_err(|(_, source)| sqlite(source))
    }

    fn set_up(&self) -> rusqlite::Result<()> {
        self.connection.busy_timeout(std::time::Duration::ZERO)?;
        // Exclusive before the first use of the WAL: no shared memory file, and a second scheduler is refused.
        self.connection.execute_batch(
            "PRAGMA locking_mode = EXCLUSIVE;
             PRAGMA journal_mode = WAL;
             PRAGMA synchronous = FULL;
             PRAGMA cache_size = -1024;
             PRAGMA temp_store = MEMORY;
             BEGIN IMMEDIATE;
             CREATE TABLE IF NOT EXISTS records (
                 id INTEGER PRIMARY KEY,
                 key TEXT NOT NULL UNIQUE,
                 value BLOB NOT NULL,
                 crc INTEGER NOT NULL
             );
             COMMIT;",
        )?;
        self.connection.pragma_update(None, "user_version", SCHEMA)
    }

    fn reuse_log(&self) -> rusqlite::Result<()> {
        // The WAL file is overwritten from its start, never grown anew: one flush for each commit and no file system journal.
        let mut persist = 1;
        self.connection.file_control(None::<&str>, FileControl::PersistWal(&mut persist))?;
        self.connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(()))
    }

    fn load(&self) -> Result<BTreeMap<String, Vec<u8>>, StoreError> {
        let sqlite = |source| StoreError::Sqlite { path: self.path.clone(), source };
        let mut statement = self.connection.prepare("SELECT key, value, crc FROM records").map_err(sqlite)?;
        let mut rows = statement.query([]).map_err(sqlite)?;
        let mut records = BTreeMap::new();
        while let Some(row) = rows.next().map_err(sqlite)? {
            let key: String = row.get(0).map_err(sqlite)?;
            let value: Vec<u8> = row.get(1).map_err(sqlite)?;
            let crc: u32 = row.get(2).map_err(sqlite)?;
            if crc != checksum(&key, &value) {
                return Err(StoreError::Damaged { path: self.path.clone(), key });
            }
            records.insert(key, value);
        }
        Ok(records)
    }

    fn write(&mut self, writes: &[Write]) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        {
            let mut put = transaction.prepare_cached(
                "INSERT INTO records (key, value, crc) VALUES (?1, ?2, ?3)
                 ON CONFLICT (key) DO UPDATE SET value = excluded.value, crc = excluded.crc",
            )?;
            let mut remove = transaction.prepare_cached("DELETE FROM records WHERE key = ?1")?;
            for Write { key, value } in writes {
                match value {
                    Some(value) => put.execute(params![key, value, checksum(key, value)])?,
                    None => remove.execute(params![key])?,
                };
            }
        }
        transaction.commit()
    }
}

impl Loaded {
    /// Reads a record that must be there.
    ///
    /// # Errors
    /// When it is missing or cannot be read.
    pub fn required<T: DeserializeOwned>(&self, key: &str) -> Result<T, StoreError> {
        let missing = || StoreError::Incomplete { path: self.path.clone(), key: key.to_owned() };
        self.optional(key)?.ok_or_else(missing)
    }

    /// Reads a record that may be there.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn optional<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, StoreError> {
        self.records.get(key).map(|value| self.parse(key, value)).transpose()
    }

    /// Reads all records whose keys begin with `prefix`, by the rest of the key.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn below<T: DeserializeOwned>(&self, prefix: &str) -> Result<BTreeMap<String, T>, StoreError> {
        let inside = self.records.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix));
        inside.map(|(key, value)| Ok((key[prefix.len()..].to_owned(), self.parse(key, value)?))).collect()
    }

    fn parse<T: DeserializeOwned>(&self, key: &str, value: &[u8]) -> Result<T, StoreError> {
        let damaged = |_| StoreError::Damaged { path: self.path.clone(), key: key.to_owned() };
        serde_json::from_slice(value).map_err(damaged)
    }
}

/// Removes what an earlier try left that failed or was killed, with what SQLite keeps beside a file.
fn remove_draft(state_dir: &Path) -> std::io::Result<()> {
    for beside in ["", "-wal", "-journal"] {
        match fs::remove_file(state_dir.join(format!("{DRAFT}{beside}"))) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

fn checksum(key: &str, value: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key.as_bytes());
    hasher.update(value);
    hasher.finalize()
}

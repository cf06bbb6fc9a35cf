//! Files that are whole or not there: written beside, flushed, renamed.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// Only root reads what the agent keeps.
pub(crate) const MODE: u32 = 0o600;

/// Puts `content` at `path`, whole or not at all, also when the power goes.
pub(crate) fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let draft = draft(path, content)?;
    fs::rename(&draft, path)?;
    sync_directory(path)
}

/// Puts `content` at `path`, whole or not at all, for as long as the machine runs.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let (draft, _) = write_beside(path, content)?;
    fs::rename(draft, path)
}

/// Writes `content` beside `path` and flushes it; gives where.
pub(crate) fn draft(path: &Path, content: &[u8]) -> io::Result<PathBuf> {
    let (draft, file) = write_beside(path, content)?;
    file.sync_data()?;
    Ok(draft)
}

fn write_beside(path: &Path, content: &[u8]) -> io::Result<(PathBuf, File)> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".tmp");
    let draft = path.with_file_name(name);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(MODE).open(&draft)?;
    file.write_all(content)?;
    Ok((draft, file))
}

/// Flushes the directory that holds `path`: a rename is durable only after that.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

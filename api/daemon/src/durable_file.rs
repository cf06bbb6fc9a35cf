//! Files that are whole or not there: written beside, flushed, renamed. Only their owner reads them.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// Who may read and write them: daemons keep keys and tokens.
pub const MODE: u32 = 0o600;

/// Puts `content` at `path`, whole or not at all, also when the power goes.
///
/// # Errors
/// When the disk does not take it; then what was there is there.
pub fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let draft = draft(path, content)?;
    fs::rename(&draft, path)?;
    sync_directory(path)
}

/// Puts `content` at `path`, whole or not at all, for as long as the machine runs.
///
/// # Errors
/// When the file system does not take it; then what was there is there.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let (draft, _) = write_beside(path, content)?;
    fs::rename(draft, path)
}

/// Writes `content` beside `path` and flushes it; gives where. A draft that was left there is overwritten.
///
/// # Errors
/// When the disk does not take it.
pub fn draft(path: &Path, content: &[u8]) -> io::Result<PathBuf> {
    let (draft, file) = write_beside(path, content)?;
    file.sync_data()?;
    Ok(draft)
}

fn write_beside(path: &Path, content: &[u8]) -> io::Result<(PathBuf, File)> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".tmp");
    let draft = path.with_file_name(name);
    // Not opened as it is: somebody else may have made it, for others to read.
    fs::remove_file(&draft)
        .or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&draft)?;
    file.write_all(content)?;
    Ok((draft, file))
}

/// Flushes the directory that holds `path`: a rename is durable only after that.
///
/// # Errors
/// When it cannot be opened or flushed.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

//! From files to an archive.

use std::{
    ffi::{CStr, OsStr},
    fs::File,
    io::{self, Read},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use nix::{
    dir::Dir,
    errno::Errno,
    fcntl::{AtFlags, OFlag, openat, readlinkat},
    sys::stat::{FileStat, Mode, SFlag, fstat, fstatat},
};
use tar::{Builder, EntryType, Header};

use super::{Files, Sending};
use crate::error::CopyError;

/// Directories within each other: each is held open while what is below it is read.
const DEPTH_MAX: usize = 128;

/// Writes what is at a path to an archive, whose root gets a name.
pub(super) fn pack(files: &Files, path: &Path, name: &OsStr, sending: Sending) -> Result<(), CopyError> {
    let failed = |source: io::Error| CopyError::at(&path.display().to_string(), source);
    let named = files.open(path, OFlag::O_PATH).map_err(|errno| failed(errno.into()))?;
    let status = fstat(&named).map_err(|errno| failed(errno.into()))?;
    let name = PathBuf::from(name);
    let mut archive = Builder::new(sending);
    // A reader shall see holes as zeros: whoever unpacks may not know them.
    archive.sparse(false);
    match kind(&status) {
        SFlag::S_IFDIR => {
            let directory = files.open(path, OFlag::O_DIRECTORY).map_err(|errno| failed(errno.into()))?;
            append_directory(&mut archive, directory, &status, &name, DEPTH_MAX)?;
        }
        SFlag::S_IFREG => {
            let file = files.open(path, OFlag::O_NONBLOCK).map_err(|errno| failed(errno.into()))?;
            append_file(&mut archive, file, &name)?;
        }
        _ => return Err(failed(io::Error::other("is neither a file nor a directory"))),
    }
    let mut sending = archive.into_inner().map_err(failed)?;
    io::Write::flush(&mut sending).map_err(failed)
}

fn append_directory(
    archive: &mut Builder<Sending>,
    directory: OwnedFd,
    status: &FileStat,
    name: &Path,
    depth: usize,
) -> Result<(), CopyError> {
    let failed = |source: io::Error| CopyError::at(&name.display().to_string(), source);
    if depth == 0 {
        return Err(failed(io::Error::other(format!("more than {DEPTH_MAX} directories are within each other"))));
    }
    let mut header = header(status, EntryType::Directory);
    archive.append_data(&mut header, name, io::empty()).map_err(failed)?;
    let mut listing = Dir::from_fd(directory).map_err(|errno| failed(errno.into()))?;
    let mut entries = Vec::new();
    for entry in listing.iter() {
        let entry = entry.map_err(|errno| failed(errno.into()))?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            entries.push(entry.file_name().to_owned());
        }
    }
    entries.sort();
    for entry in entries {
        append_entry(archive, listing.as_fd(), &entry, &name.join(OsStr::from_bytes(entry.to_bytes())), depth - 1)?;
    }
    Ok(())
}

fn append_entry(
    archive: &mut Builder<Sending>,
    directory: BorrowedFd<'_>,
    entry: &CStr,
    name: &Path,
    depth: usize,
) -> Result<(), CopyError> {
    let failed = |source: io::Error| CopyError::at(&name.display().to_string(), source);
    let open = |flags: OFlag| {
        let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        openat(directory, entry, flags, Mode::empty())
    };
    let status = match fstatat(directory, entry, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(status) => status,
        // It went while its directory was read.
        Err(Errno::ENOENT) => return Ok(()),
        Err(errno) => return Err(failed(errno.into())),
    };
    match kind(&status) {
        SFlag::S_IFDIR => {
            let below = open(OFlag::O_DIRECTORY).map_err(|errno| failed(errno.into()))?;
            append_directory(archive, below, &status, name, depth)
        }
        SFlag::S_IFREG => append_file(archive, open(OFlag::O_RDONLY).map_err(|errno| failed(errno.into()))?, name),
        SFlag::S_IFLNK => {
            let target = readlinkat(directory, entry).map_err(|errno| failed(errno.into()))?;
            let mut header = header(&status, EntryType::Symlink);
            header.set_size(0);
            archive.append_link(&mut header, name, target).map_err(failed)
        }
        // Pipes, sockets and devices mean nothing elsewhere.
        _ => Ok(()),
    }
}

fn append_file(archive: &mut Builder<Sending>, file: OwnedFd, name: &Path) -> Result<(), CopyError> {
    let failed = |source: io::Error| CopyError::at(&name.display().to_string(), source);
    let status = fstat(&file).map_err(|errno| failed(errno.into()))?;
    if kind(&status) != SFlag::S_IFREG {
        return Err(failed(io::Error::other("is not the file that it was")));
    }
    let mut header = header(&status, EntryType::Regular);
    let size = u64::try_from(status.st_size).unwrap_or_default();
    header.set_size(size);
    // The size was said: a file that grows is cut, one that shrinks is filled with zeros.
    let content = File::from(file).chain(io::repeat(0)).take(size);
    archive.append_data(&mut header, name, content).map_err(failed)
}

fn header(status: &FileStat, kind: EntryType) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(status.st_mode & 0o7777);
    header.set_uid(status.st_uid.into());
    header.set_gid(status.st_gid.into());
    header.set_mtime(u64::try_from(status.st_mtime).unwrap_or_default());
    header.set_size(0);
    header
}

fn kind(status: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(status.st_mode & SFlag::S_IFMT.bits())
}

//! From an archive to files.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Component, Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2},
    sys::stat::{Mode, fchmod, mkdirat},
    unistd::{Gid, Uid, UnlinkatFlags, fchown, fchownat, symlinkat, unlinkat},
};
use tar::{Archive, Entry, EntryType, Header};

use super::{Files, Receiving, again};
use crate::{error::CopyError, user::User};

/// Where an archive goes.
struct Place<'a> {
    directory: OwnedFd,
    /// The name that the archive's root gets; `None` = its own.
    name: Option<&'a OsStr>,
    /// Who owns what is written; `None` = whom the archive says, by numbers.
    owner: Option<&'a User>,
}

/// Who an entry belongs to, and who may do what with it.
struct Rights {
    owner: (Uid, Gid),
    mode: Mode,
}

/// Puts what an archive holds at a path.
pub(super) fn unpack(files: &Files, path: &Path, receiving: Receiving) -> Result<(), CopyError> {
    let place = place(files, path)?;
    let malformed = |source: io::Error| CopyError::at("the archive", source);
    let mut archive = Archive::new(receiving);
    let mut entries = 0;
    for entry in archive.entries().map_err(malformed)? {
        place.put(entry.map_err(malformed)?)?;
        entries += 1;
    }
    // An archive has an end of its own: whoever found that of what came instead has a part of one.
    let is_cut = archive.into_inner().is_over;
    let refused = |why: &str| Err(CopyError::Refused(why.to_owned()));
    match (entries, is_cut) {
        (0, _) => refused("nothing came to be copied"),
        (_, true) => refused("the archive is cut: it lacks its end"),
        (_, false) => Ok(()),
    }
}

fn place<'a>(files: &'a Files, path: &'a Path) -> Result<Place<'a>, CopyError> {
    let failed = |path: &Path, errno: Errno| CopyError::at(&path.display().to_string(), errno.into());
    match files.open(path, OFlag::O_DIRECTORY) {
        Ok(directory) => return Ok(Place { directory, name: None, owner: files.owner.as_ref() }),
        // A file is written anew; what is not there is made.
        Err(Errno::ENOENT | Errno::ENOTDIR) => {}
        Err(errno) => return Err(failed(path, errno)),
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(failed(path, Errno::ENOENT)) };
    let directory = files.open(parent, OFlag::O_DIRECTORY).map_err(|errno| failed(parent, errno))?;
    Ok(Place { directory, name: Some(name), owner: files.owner.as_ref() })
}

impl Place<'_> {
    fn put(&self, mut entry: Entry<'_, Receiving>) -> Result<(), CopyError> {
        let said = entry.path().map_err(|source| CopyError::at("the archive", source))?.into_owned();
        let shown = said.display().to_string();
        let failed = |source: io::Error| CopyError::at(&shown, source);
        let refuse = |why: &str| Err(CopyError::Refused(format!("`{shown}` {why}")));
        let Some(path) = self.inside(&said) else { return refuse("leads out of the archive") };
        let rights = self.rights(entry.header());
        let kind = entry.header().entry_type();
        let done = if kind == EntryType::Directory {
            self.directory_at(&path, &rights)
        } else if matches!(kind, EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse) {
            let mut file = self.file_at(&path, &rights).map_err(|errno| failed(errno.into()))?;
            return io::copy(&mut entry, &mut file).map(drop).map_err(failed);
        } else if kind == EntryType::Symlink {
            let target = entry.link_name().map_err(failed)?;
            let Some(target) = target else { return refuse("is a link to nothing") };
            self.link_at(&path, &target, &rights)
        } else {
            return refuse("is neither a file, a directory nor a symbolic link");
        };
        done.map_err(|errno| failed(errno.into()))
    }

    /// The path below the directory; `None` for one that leads elsewhere.
    fn inside(&self, said: &Path) -> Option<PathBuf> {
        let mut parts: Vec<OsString> = Vec::new();
        for part in said.components() {
            match part {
                Component::Normal(name) => parts.push(name.to_owned()),
                Component::CurDir => {}
                Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
            }
        }
        if let (Some(name), Some(root)) = (self.name, parts.first_mut()) {
            *root = name.to_owned();
        }
        (!parts.is_empty()).then(|| parts.iter().collect())
    }

    /// The directory that a path is in, made where it is not there, and the last name. No link is followed.
    fn parent(&self, path: &Path) -> nix::Result<(OwnedFd, OsString)> {
        let name = path.file_name().ok_or(Errno::EINVAL)?.to_owned();
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Ok((self.enter(parent)?, name))
    }

    fn enter(&self, path: &Path) -> nix::Result<OwnedFd> {
        let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS;
        let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        match again(|| openat2(&self.directory, path, OpenHow::new().flags(flags).resolve(resolve))) {
            // An archive may leave out the directories of its files.
            Err(Errno::ENOENT) if path != Path::new(".") => {
                let nobody = (Uid::from_raw(0), Gid::from_raw(0));
                let owner = self.owner.map_or(nobody, numbers);
                self.directory_at(path, &Rights { owner, mode: Mode::from_bits_truncate(0o755) })?;
                again(|| openat2(&self.directory, path, OpenHow::new().flags(flags).resolve(resolve)))
            }
            done => done,
        }
    }

    fn directory_at(&self, path: &Path, rights: &Rights) -> nix::Result<()> {
        let (parent, name) = self.parent(path)?;
        match mkdirat(&parent, name.as_os_str(), Mode::S_IRWXU) {
            Ok(()) => {}
            // A directory that is there keeps owner and mode.
            Err(Errno::EEXIST) => return open_directory(&parent, &name).map(drop),
            Err(errno) => return Err(errno),
        }
        rights.give(&open_directory(&parent, &name)?)
    }

    /// A new file in place of whatever had the name: what others hold open, or share by another name, stays as it is.
    fn file_at(&self, path: &Path, rights: &Rights) -> nix::Result<File> {
        let (parent, name) = self.parent(path)?;
        unlink(&parent, &name)?;
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = openat(&parent, name.as_os_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR)?;
        rights.give(&file)?;
        Ok(File::from(file))
    }

    fn link_at(&self, path: &Path, target: &Path, rights: &Rights) -> nix::Result<()> {
        let (parent, name) = self.parent(path)?;
        unlink(&parent, &name)?;
        symlinkat(target, &parent, name.as_os_str())?;
        let (uid, gid) = rights.owner;
        fchownat(&parent, name.as_os_str(), Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)
    }

    /// The bits that make a program run as its owner are kept only where the owner is.
    fn rights(&self, header: &Header) -> Rights {
        let number = |number: io::Result<u64>| number.ok().and_then(|number| u32::try_from(number).ok());
        let mode = header.mode().unwrap_or(0o644);
        match self.owner {
            Some(owner) => Rights { owner: numbers(owner), mode: Mode::from_bits_truncate(mode & 0o777) },
            None => {
                let owner = (number(header.uid()).unwrap_or_default(), number(header.gid()).unwrap_or_default());
                let owner = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
                Rights { owner, mode: Mode::from_bits_truncate(mode & 0o7777) }
            }
        }
    }
}

impl Rights {
    /// The owner first: to change it takes away bits of the mode.
    fn give(&self, new: &impl AsFd) -> nix::Result<()> {
        let (uid, gid) = self.owner;
        fchown(new, Some(uid), Some(gid))?;
        fchmod(new, self.mode)
    }
}

fn numbers(owner: &User) -> (Uid, Gid) {
    (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid))
}

fn open_directory(parent: &OwnedFd, name: &OsStr) -> nix::Result<OwnedFd> {
    openat(parent, name, OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())
}

fn unlink(parent: &OwnedFd, name: &OsStr) -> nix::Result<()> {
    match unlinkat(parent, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}

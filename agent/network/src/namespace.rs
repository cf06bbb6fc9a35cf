//! Network namespaces that outlive the agent: each is pinned to a file. Threads that enter one end there.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::Path,
    thread,
};

use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
    sys::statfs::statfs,
};

use crate::Error;

/// What the kernel's file system of namespaces calls itself.
const NSFS_MAGIC: u64 = 0x6e73_6673;
/// The namespace of the calling thread.
const OWN: &str = "/proc/thread-self/ns/net";

/// Whether a namespace is pinned there; a file from before a reboot is just a file.
pub(crate) fn exists(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| u64::try_from(found.filesystem_type().0).is_ok_and(|magic| magic == NSFS_MAGIC))
}

/// Whether what is pinned there is the namespace of the calling thread.
pub(crate) fn is_own(path: &Path) -> bool {
    let (Ok(pinned), Ok(own)) = (fs::metadata(path), fs::metadata(OWN)) else { return false };
    (pinned.dev(), pinned.ino()) == (own.dev(), own.ino())
}

/// Pins the namespace of the calling thread under another name. The caller has looked that none is there.
pub(crate) fn pin_own(path: &Path) -> Result<(), Error> {
    make_file(path)?;
    pin(path)
}

/// Makes a namespace and pins it. The caller has looked that none is there.
pub(crate) fn create(path: &Path) -> Result<(), Error> {
    make_file(path)?;
    in_thread(|| {
        let failed = |errno: Errno| failure("make a network namespace for", path)(errno.into());
        unshare(CloneFlags::CLONE_NEWNET).map_err(failed)?;
        pin(path)
    })
}

fn make_file(path: &Path) -> Result<(), Error> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(failure("make the directory of", path))?;
    }
    File::create(path).map_err(failure("make the file of the namespace", path)).map(drop)
}

fn pin(path: &Path) -> Result<(), Error> {
    mount(Some(OWN), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .map_err(|errno| failure("pin the network namespace to", path)(errno.into()))
}

fn failure(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::File { what, path: path.to_owned(), source }
}

/// Unpins a namespace and removes its file; without processes in it, the kernel then removes it with all its links.
pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    let failed = |what, source| Error::File { what, path: path.to_owned(), source };
    match umount2(path, MntFlags::MNT_DETACH) {
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
        Err(errno) => return Err(failed("unpin the network namespace", errno.into())),
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove the namespace's file", error)),
        _ => Ok(()),
    }
}

/// Opens a pinned namespace.
pub(crate) fn open(path: &Path) -> Result<File, Error> {
    File::open(path).map_err(|source| Error::File { what: "open the network namespace", path: path.to_owned(), source })
}

/// Runs something inside a namespace: sockets made there belong to it for ever, from whatever thread they are used.
pub(crate) fn inside<T: Send>(namespace: &File, run: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, Error> {
    in_thread(|| {
        setns(namespace, CloneFlags::CLONE_NEWNET)
            .map_err(|errno| Error::refused("enter a network namespace", errno.into()))?;
        run()
    })
}

/// A thread that has changed its namespace must never serve anybody else.
fn in_thread<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| scope.spawn(run).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

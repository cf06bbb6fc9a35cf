//! What the standard library does not offer: inherited descriptors, waiting for several, files beneath a directory.
#![expect(unsafe_code, reason = "system calls that the standard library does not wrap; no other crate, to stay small")]

use std::{
    ffi::{CStr, CString},
    fs::File,
    io,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

/// The descriptors by containerd's convention: stdout, stderr, "ready".
const INHERITED: [RawFd; 3] = [3, 4, 5];
const FILE_MODE: libc::c_uint = 0o640;

/// Stays through everything that asks a process to end: its end would be the container's.
pub(crate) fn ignore_signals() {
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGPIPE, libc::SIGXFSZ] {
        // SAFETY: SIG_IGN is no function of ours, and no other thread runs yet.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// Takes the three descriptors; `None` when this was not started by a shim.
pub(crate) fn inherited() -> Option<[OwnedFd; 3]> {
    // SAFETY: F_GETFD only asks whether the number is open.
    let is_open = |fd: &RawFd| unsafe { libc::fcntl(*fd, libc::F_GETFD) } >= 0;
    if !INHERITED.iter().all(is_open) {
        return None;
    }
    // SAFETY: they are open, were given to this process by its starter, and nothing else here owns them.
    Some(INHERITED.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// Waits until one of them can be read or has ended, and gives those.
pub(crate) fn wait_readable(descriptors: &[&OwnedFd]) -> Vec<RawFd> {
    let entry = |fd: &&OwnedFd| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let mut entries: Vec<libc::pollfd> = descriptors.iter().map(entry).collect();
    let count = libc::nfds_t::try_from(entries.len()).expect("two at most");
    // SAFETY: the pointer and the count describe the vector, which outlives the call.
    let ready = unsafe { libc::poll(entries.as_mut_ptr(), count, -1) };
    if ready <= 0 {
        return Vec::new();
    }
    entries.into_iter().filter(|entry| entry.revents != 0).map(|entry| entry.fd).collect()
}

/// Opens the directory itself, not one that a link leads to.
pub(crate) fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)?;
    let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    // SAFETY: the string ends with NUL and outlives the call.
    owned(unsafe { libc::open(path.as_ptr(), flags) })
}

/// Opens a file in the directory to append, making it where it is missing; never through a link.
pub(crate) fn open_to_append(directory: &OwnedFd, name: &CStr) -> io::Result<File> {
    let flags = libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT | libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
    // SAFETY: the descriptor is open, the string ends with NUL, and both outlive the call.
    let file = File::from(owned(unsafe { libc::openat(directory.as_raw_fd(), name.as_ptr(), flags, FILE_MODE) })?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

/// Removes a file from the directory.
pub(crate) fn remove(directory: &OwnedFd, name: &CStr) -> io::Result<()> {
    // SAFETY: the descriptor is open, the string ends with NUL, and both outlive the call.
    match unsafe { libc::unlinkat(directory.as_raw_fd(), name.as_ptr(), 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Lists the numbers of the files `NUMBER.log` in the directory.
pub(crate) fn list(directory: &OwnedFd) -> io::Result<Vec<u64>> {
    let entries = std::fs::read_dir(format!("/proc/self/fd/{}", directory.as_raw_fd()))?;
    let number = |entry: std::fs::DirEntry| entry.file_name().to_str()?.strip_suffix(".log")?.parse().ok();
    Ok(entries.flatten().filter_map(number).collect())
}

fn owned(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the system just gave us this descriptor, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

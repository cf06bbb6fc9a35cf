//! What the standard library does not offer: inherited descriptors, waiting for several, files beneath a directory.
#![expect(unsafe_code, reason = "system calls that the standard library does not wrap; no other crate, to stay small")]

use std::{
    ffi::{CStr, CString},
    fs::File,
    io,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
        unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    },
    path::Path,
    time::Duration,
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

/// Waits until one of them can be read or has ended, and gives those; none when `limit` is over.
pub(crate) fn wait_readable(descriptors: &[&OwnedFd], limit: Option<Duration>) -> Vec<RawFd> {
    let entry = |fd: &&OwnedFd| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let mut entries: Vec<libc::pollfd> = descriptors.iter().map(entry).collect();
    let count = libc::nfds_t::try_from(entries.len()).expect("a few");
    let limit = limit.map_or(-1, |limit| libc::c_int::try_from(limit.as_millis()).unwrap_or(libc::c_int::MAX));
    // SAFETY: the pointer and the count describe the vector, which outlives the call.
    let ready = unsafe { libc::poll(entries.as_mut_ptr(), count, limit) };
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

/// Takes the lock on a directory, which goes with the last copy of its descriptor; `false` when another holds it.
pub(crate) fn lock(directory: &OwnedFd) -> io::Result<bool> {
    // SAFETY: the descriptor is open.
    match unsafe { libc::flock(directory.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } {
        0 => Ok(true),
        _ => match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            error => Err(error),
        },
    }
}

/// Opens a named pipe of the directory to read, without waiting for who writes; `None` when it is not there.
pub(crate) fn open_pipe(directory: &OwnedFd, name: &CStr) -> io::Result<Option<OwnedFd>> {
    let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    // SAFETY: the descriptor is open, the string ends with NUL, and both outlive the call.
    match owned(unsafe { libc::openat(directory.as_raw_fd(), name.as_ptr(), flags) }) {
        Ok(pipe) => Ok(Some(pipe)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a file has no name any more.
pub(crate) fn is_unlinked(descriptor: &OwnedFd) -> bool {
    let file = descriptor.try_clone().map(File::from);
    file.and_then(|file| file.metadata()).is_ok_and(|status| status.nlink() == 0)
}

/// Makes a socket of packets in the directory that others can connect to.
pub(crate) fn listen(directory: &OwnedFd, name: &CStr) -> io::Result<OwnedFd> {
    const WAITING_MAX: libc::c_int = 8;
    match remove(directory, name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: takes no pointers.
    let socket = owned(unsafe { libc::socket(libc::AF_UNIX, kind, 0) })?;
    // By the directory's descriptor: the address of a socket is shorter than paths may be.
    let path = format!("/proc/self/fd/{}/{}", directory.as_raw_fd(), name.to_string_lossy());
    // SAFETY: a structure of plain numbers, for which all zero is a value.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::sa_family_t::try_from(libc::AF_UNIX).map_err(io::Error::other)?;
    for (to, from) in address.sun_path.iter_mut().zip(path.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    let length = libc::socklen_t::try_from(size_of::<libc::sockaddr_un>()).map_err(io::Error::other)?;
    // SAFETY: the pointer and the length describe the structure, which outlives the call.
    if unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open.
    match unsafe { libc::listen(socket.as_raw_fd(), WAITING_MAX) } {
        0 => Ok(socket),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Takes in who waits to be connected.
pub(crate) fn accept(listener: &OwnedFd) -> io::Result<OwnedFd> {
    let (nobody, no_length) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: no address is asked for.
    owned(unsafe { libc::accept4(listener.as_raw_fd(), nobody, no_length, libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC) })
}

/// Sends a packet whole, or not at all: it never waits.
pub(crate) fn send(socket: &OwnedFd, packet: &[u8]) -> io::Result<()> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the pointer and the length describe the slice, which outlives the call.
    match unsafe { libc::send(socket.as_raw_fd(), packet.as_ptr().cast(), packet.len(), flags) } {
        ..0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Leaves whoever started this: `true` in the process that goes on, with no terminal and nothing of its starter's open.
pub(crate) fn detach() -> io::Result<bool> {
    let nothing = File::options().read(true).write(true).open("/dev/null")?;
    // SAFETY: no other thread runs, so the copy is whole.
    match unsafe { libc::fork() } {
        0 => {
            // SAFETY: takes no pointers; it fails only for who leads already.
            unsafe { libc::setsid() };
            for fd in [libc::STDIN_FILENO, libc::STDOUT_FILENO, libc::STDERR_FILENO] {
                // SAFETY: both descriptors are open, and nothing here owns the second.
                unsafe { libc::dup2(nothing.as_raw_fd(), fd) };
            }
            Ok(true)
        }
        ..0 => Err(io::Error::last_os_error()),
        _ => Ok(false),
    }
}

fn owned(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the system just gave us this descriptor, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

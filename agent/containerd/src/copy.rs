//! Files of a running container, or a volume, as a tar archive, either way; it needs no program in the container.
//!
//! All paths are resolved in the container's own view of files: through its mounts, with its root as the end of all links and
//! of all `..`. Below the path that a person names, no link is followed at all.

mod pack;
mod unpack;
mod volume;

use std::{
    ffi::OsStr,
    io::{self, Read, Write},
    os::fd::OwnedFd,
    path::Path,
};

use api_types::id::InstanceId;
use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2},
    sys::stat::Mode,
};
use serde_json::Value;
use tokio::{sync::mpsc, task::spawn_blocking};

use crate::{Containerd, error::CopyError, exec::Running, user::User};

/// The size of a piece of an archive, in bytes.
const PIECE_BYTES: usize = 32 << 10;

/// The files of a running container, or of a volume.
struct Files {
    root: OwnedFd,
    /// Who owns what is put there: the container's process; `None` = whom the archive says.
    owner: Option<User>,
}

/// Writes pieces to a channel, and waits while it is full.
struct Sending {
    pieces: mpsc::Sender<Vec<u8>>,
    held: Vec<u8>,
}

/// Reads pieces from a channel.
struct Receiving {
    pieces: mpsc::Receiver<Vec<u8>>,
    piece: Vec<u8>,
    read: usize,
    /// Whether nothing comes any more.
    is_over: bool,
}

impl Receiving {
    fn new(pieces: mpsc::Receiver<Vec<u8>>) -> Self {
        Self { pieces, piece: Vec::new(), read: 0, is_over: false }
    }
}

impl Containerd {
    /// Sends what is at an absolute path in the instance as a tar archive; its root is named as the path's last part. Of what
    /// is neither file, directory nor link nothing is sent.
    ///
    /// # Errors
    /// When the instance does not run here, or something cannot be read.
    pub async fn copy_from(
        &self,
        instance: &InstanceId,
        path: &str,
        pieces: mpsc::Sender<Vec<u8>>,
    ) -> Result<(), CopyError> {
        let (files, path) = (self.files(instance).await?, path.to_owned());
        let sending = Sending { pieces, held: Vec::with_capacity(PIECE_BYTES) };
        let packed = spawn_blocking(move || {
            let path = Path::new(&path);
            pack::pack(&files, path, path.file_name().unwrap_or(OsStr::new("root")), sending)
        });
        packed.await.expect("packing does not panic")
    }

    /// Puts what a tar archive holds at an absolute path in the instance. An existing directory takes the archive's root under
    /// its name; else the root gets the path as its name. All belongs to the user of the instance's process.
    ///
    /// # Errors
    /// When the instance does not run here, the archive is none or leads out of its root, or something cannot be written. What
    /// was written before stays.
    pub async fn copy_to(
        &self,
        instance: &InstanceId,
        path: &str,
        pieces: mpsc::Receiver<Vec<u8>>,
    ) -> Result<(), CopyError> {
        let (files, path) = (self.files(instance).await?, path.to_owned());
        let receiving = Receiving::new(pieces);
        let unpacked = spawn_blocking(move || unpack::unpack(&files, Path::new(&path), receiving));
        unpacked.await.expect("unpacking does not panic")
    }

    async fn files(&self, instance: &InstanceId) -> Result<Files, CopyError> {
        let Running { pid, container, .. } = self.running(instance).await?;
        let root = format!("/proc/{pid}/root");
        let opened = open(root.as_str(), OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty());
        let root = opened.map_err(|errno| CopyError::at("the instance's files", errno.into()))?;
        // The number of a process that ended could be another's by now.
        if self.running_pid(&container.id).await.map_err(crate::error::ExecError::from)? != Some(pid) {
            return Err(crate::error::ExecError::NotRunning(instance.to_string()).into());
        }
        let spec = container.spec.map(|spec| spec.value).unwrap_or_default();
        let spec: Value = serde_json::from_slice(&spec).unwrap_or_default();
        let number = |name: &str| {
            let number = spec["process"]["user"][name].as_u64().unwrap_or_default();
            u32::try_from(number).unwrap_or_default()
        };
        Ok(Files { root, owner: Some(User { uid: number("uid"), gid: number("gid"), groups: Vec::new() }) })
    }
}

impl Files {
    /// Opens a path as the container's process would: links may lead anywhere within the container, but not by way of `/proc`.
    fn open(&self, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
        let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        again(|| openat2(&self.root, path, OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve)))
    }
}

/// The kernel asks to try again when something was renamed meanwhile.
fn again<T>(mut call: impl FnMut() -> nix::Result<T>) -> nix::Result<T> {
    for _ in 0..16 {
        match call() {
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            done => return done,
        }
    }
    call()
}

impl Write for Sending {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE_BYTES - self.held.len());
        self.held.extend_from_slice(&bytes[..taken]);
        if self.held.len() == PIECE_BYTES {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.held.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.held, Vec::with_capacity(PIECE_BYTES));
        self.pieces.blocking_send(piece).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Read for Receiving {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.read == self.piece.len() {
            let Some(piece) = self.pieces.blocking_recv() else {
                self.is_over = true;
                return Ok(0);
            };
            (self.piece, self.read) = (piece, 0);
        }
        let taken = into.len().min(self.piece.len() - self.read);
        into[..taken].copy_from_slice(&self.piece[self.read..self.read + taken]);
        self.read += taken;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests;

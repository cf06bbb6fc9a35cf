//! The directory of a container that people may be attached to: its pipes, and the socket of those who look on.
//!
//! The agent makes the named pipes `out` and, without a terminal, `err`; containerd's shim writes to them and holds both of
//! their ends, so that nobody but this program ever waits for a reader. Whoever serves the directory holds a lock on it.

use std::{io, os::fd::OwnedFd, path::Path};

use crate::{descriptors, pipe::Pipe, watchers::Watchers};

/// What is served there.
pub(crate) struct Place {
    pub(crate) pipes: Vec<Pipe>,
    pub(crate) watchers: Watchers,
    /// Held for its lock.
    _directory: OwnedFd,
}

impl Place {
    /// Opens the directory; `None` when another of these programs serves it.
    pub(crate) fn open(path: &Path) -> io::Result<Option<Self>> {
        let directory = descriptors::open_directory(path)?;
        if !descriptors::lock(&directory)? {
            return Ok(None);
        }
        let stdout = descriptors::open_pipe(&directory, c"out")?.ok_or(io::ErrorKind::NotFound)?;
        let stderr = descriptors::open_pipe(&directory, c"err")?;
        let is_terminal = stderr.is_none();
        let watchers = Watchers::new(descriptors::listen(&directory, c"watch")?, is_terminal);
        let mut pipes = vec![Pipe::new('o', stdout)];
        pipes.extend(stderr.map(|stderr| Pipe::new('e', stderr)));
        if is_terminal {
            pipes.iter_mut().for_each(Pipe::write_lines_of_a_terminal);
        }
        Ok(Some(Self { pipes, watchers, _directory: directory }))
    }
}

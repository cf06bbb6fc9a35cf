//! Those who look on while the container writes: each gets what it writes as it does, and holds nobody up.
//!
//! They connect to a socket of packets. Each packet begins with a mark: `o` or `e` for bytes of stdout or stderr, `n` for words
//! of this program, `x` where there are too many already. Who does not take its packets misses them, and is told how many bytes.

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsRawFd as _, OwnedFd, RawFd},
};

use crate::descriptors;

/// Those who may look on at once.
const WATCHERS_MAX: usize = 8;
/// What is kept of a terminal for those who come later, in bytes.
const RECENT_BYTES_MAX: usize = 16 << 10;

/// The socket, and who is connected.
pub(crate) struct Watchers {
    listener: OwnedFd,
    connected: Vec<Watcher>,
    /// The last that a terminal showed; `None` = the container has none.
    recent: Option<Recent>,
    packet: Vec<u8>,
}

struct Watcher {
    socket: OwnedFd,
    /// Bytes that it did not take since the last packet that it took.
    missed: usize,
}

#[derive(Default)]
struct Recent {
    bytes: VecDeque<u8>,
    /// Something before them is forgotten.
    is_cut: bool,
}

impl Watchers {
    pub(crate) fn new(listener: OwnedFd, of_terminal: bool) -> Self {
        Self { listener, connected: Vec::new(), recent: of_terminal.then(Recent::default), packet: Vec::new() }
    }

    pub(crate) fn descriptors(&self) -> impl Iterator<Item = &OwnedFd> {
        std::iter::once(&self.listener).chain(self.connected.iter().map(|watcher| &watcher.socket))
    }

    /// Takes in who comes, and lets go of who is gone: nobody has anything to say here.
    pub(crate) fn serve(&mut self, readable: &[RawFd]) {
        self.connected.retain(|watcher| !readable.contains(&watcher.socket.as_raw_fd()));
        if !readable.contains(&self.listener.as_raw_fd()) {
            return;
        }
        while let Ok(socket) = descriptors::accept(&self.listener) {
            self.take_in(socket);
        }
    }

    fn take_in(&mut self, socket: OwnedFd) {
        if self.connected.len() >= WATCHERS_MAX {
            // One that is gone again is nobody.
            descriptors::send(&socket, b"x").ok();
            return;
        }
        let recent = self.recent.as_mut().map(Recent::lines).filter(|lines| !lines.is_empty());
        if recent.is_none_or(|lines| descriptors::send(&socket, packet(&mut self.packet, 'o', lines)).is_ok()) {
            self.connected.push(Watcher { socket, missed: 0 });
        }
    }

    /// Passes on what the container wrote.
    pub(crate) fn send(&mut self, mark: char, bytes: &[u8]) {
        if let Some(recent) = &mut self.recent {
            recent.add(bytes);
        }
        if self.connected.is_empty() {
            return;
        }
        let packet = packet(&mut self.packet, mark, bytes);
        self.connected.retain_mut(|watcher| watcher.take(packet));
    }
}

impl Watcher {
    /// Hands a packet over, if there is room for it; `false` when the other end is gone.
    fn take(&mut self, packet: &[u8]) -> bool {
        let told = match self.missed {
            0 => Ok(()),
            missed => descriptors::send(
                &self.socket,
                format!("n\r\n[wherry-logger: {missed} bytes are left out: they were not read in time]\r\n").as_bytes(),
            ),
        };
        if told.is_ok() {
            self.missed = 0;
        }
        match told.and_then(|()| descriptors::send(&self.socket, packet)) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.missed += packet.len() - 1;
                true
            }
            Err(_) => false,
        }
    }
}

impl Recent {
    fn add(&mut self, bytes: &[u8]) {
        let bytes = &bytes[bytes.len().saturating_sub(RECENT_BYTES_MAX)..];
        let surplus = (self.bytes.len() + bytes.len()).saturating_sub(RECENT_BYTES_MAX);
        self.is_cut |= surplus > 0;
        self.bytes.drain(..surplus);
        self.bytes.extend(bytes);
    }

    /// What is kept; from the beginning of a line on, where something before it is forgotten.
    fn lines(&mut self) -> &[u8] {
        let is_cut = self.is_cut;
        let bytes: &[u8] = self.bytes.make_contiguous();
        let begin = bytes.iter().position(|byte| *byte == b'\n').filter(|_| is_cut).map_or(0, |end| end + 1);
        &bytes[begin..]
    }
}

/// Makes a packet in the buffer.
fn packet<'b>(buffer: &'b mut Vec<u8>, mark: char, bytes: &[u8]) -> &'b [u8] {
    buffer.clear();
    buffer.extend_from_slice(mark.encode_utf8(&mut [0; 4]).as_bytes());
    buffer.extend_from_slice(bytes);
    buffer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_late_sees_the_last_whole_lines_of_a_terminal() {
        let mut recent = Recent::default();
        recent.add(b"first\r\n$ ");
        assert_eq!(recent.lines(), b"first\r\n$ ");

        recent.add(&[b'x'; RECENT_BYTES_MAX - 4]);
        recent.add(b"\r\n$ ");

        assert_eq!(recent.lines(), b"$ ");
        assert!(recent.bytes.len() <= RECENT_BYTES_MAX);
        recent.add(&[b'y'; 2 * RECENT_BYTES_MAX]);
        assert_eq!(recent.bytes.len(), RECENT_BYTES_MAX);
    }
}

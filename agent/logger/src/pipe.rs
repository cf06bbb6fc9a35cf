//! One of the container's two outputs: bytes to lines, in a buffer that never grows.

use std::{
    fs::File,
    io::{ErrorKind, Read as _},
    os::fd::OwnedFd,
};

use crate::{descriptors, store::Store, watchers::Watchers};

/// The longest piece of a line in one record, in bytes.
const TEXT_BYTES_MAX: usize = 16 << 10;

/// A pipe and what of its last line is not written yet.
pub(crate) struct Pipe {
    /// `o` or `e`.
    mark: char,
    file: Option<File>,
    /// The descriptor again, for waiting.
    descriptor: Option<OwnedFd>,
    buffer: Vec<u8>,
    /// Lines end as a terminal ends them.
    is_terminal: bool,
}

impl Pipe {
    pub(crate) fn new(mark: char, descriptor: OwnedFd) -> Self {
        let file = descriptor.try_clone().ok().map(File::from);
        let descriptor = file.is_some().then_some(descriptor);
        Self { mark, file, descriptor, buffer: Vec::with_capacity(TEXT_BYTES_MAX), is_terminal: false }
    }

    /// A terminal ends lines with a carriage return, too, which is not a part of them.
    pub(crate) fn write_lines_of_a_terminal(&mut self) {
        self.is_terminal = true;
    }

    /// Whether the pipe has no name any more: nobody else will open it.
    pub(crate) fn is_unlinked(&self) -> bool {
        self.descriptor.as_ref().is_some_and(descriptors::is_unlinked)
    }

    /// Whether more may come.
    pub(crate) fn is_open(&self) -> bool {
        self.descriptor.is_some()
    }

    pub(crate) fn descriptor(&self) -> Option<&OwnedFd> {
        self.descriptor.as_ref()
    }

    /// Reads what is there, shows it to those who look on, and writes its whole lines.
    pub(crate) fn read(&mut self, mut store: Option<&mut Store>, watchers: Option<&mut Watchers>) {
        let Some(file) = &mut self.file else { return };
        let start = self.buffer.len();
        self.buffer.resize(TEXT_BYTES_MAX, 0);
        let read = file.read(&mut self.buffer[start..]);
        self.buffer.truncate(start + *read.as_ref().unwrap_or(&0));
        let is_end = match read {
            Ok(length) => length == 0,
            Err(error) => !matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock),
        };
        if let Some(watchers) = watchers.filter(|_| self.buffer.len() > start) {
            watchers.send(self.mark, &self.buffer[start..]);
        }
        let mut rest = self.buffer.as_slice();
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            if let Some(store) = &mut store {
                let line = &rest[..end];
                let bare = line.strip_suffix(b"\r").filter(|_| self.is_terminal);
                store.write(self.mark, 'F', bare.unwrap_or(line));
            }
            rest = &rest[end + 1..];
        }
        // A line that fills the buffer is written in pieces; the last of it at the end even without its line end.
        let is_piece = rest.len() == TEXT_BYTES_MAX;
        if is_piece || (is_end && !rest.is_empty()) {
            if let Some(store) = store {
                store.write(self.mark, if is_piece { 'P' } else { 'F' }, rest);
            }
            rest = &[];
        }
        let kept = rest.len();
        let length = self.buffer.len();
        self.buffer.copy_within(length - kept.., 0);
        self.buffer.truncate(kept);
        if is_end {
            (self.file, self.descriptor) = (None, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::options::Options;

    #[test]
    fn lines_are_cut_and_long_ones_come_in_pieces() {
        let directory = std::env::temp_dir().join(format!("wherry-pipe-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("made");
        let mut store =
            Store::open(Options { directory: directory.clone(), bytes_max: 1 << 20, files_max: 2, pipes: None });
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        let mut pipe = Pipe::new('o', reader.into());

        let mut say = |text: &[u8], pipe: &mut Pipe| {
            writer.write_all(text).expect("written");
            pipe.read(Some(&mut store), None);
        };
        say(b"one\ntw", &mut pipe);
        say(b"o\n\n", &mut pipe);
        say(&vec![b'x'; TEXT_BYTES_MAX], &mut pipe);
        say(b"yz\nend", &mut pipe);
        drop(writer);
        pipe.read(Some(&mut store), None);
        let text = std::fs::read_to_string(directory.join("1.log")).expect("a file");
        std::fs::remove_dir_all(&directory).expect("removed");

        assert!(!pipe.is_open());
        let parts: Vec<&str> = text.lines().map(|line| line.split_once(' ').expect("a time").1).collect();
        let long = format!("o P {}", "x".repeat(TEXT_BYTES_MAX));
        assert_eq!(parts, ["o F one", "o F two", "o F ", &long, "o F yz", "o F end"]);
    }
}

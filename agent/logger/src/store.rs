//! The files: numbered, appended to, followed by the next at a size, the oldest removed beyond a number.
//!
//! Two loggers of one instance may overlap for a moment, as its next attempt need not wait for the end of the last. So a
//! file is only ever appended to, one record at a time, and both find the same highest number.

use std::{
    ffi::CString,
    fs::File,
    io::{self, Write as _},
    os::fd::OwnedFd,
    time::{SystemTime, UNIX_EPOCH},
};

use crate::{descriptors, options::Options};

/// Where records go; what cannot be written is counted.
pub(crate) struct Store {
    options: Options,
    /// `None`: the directory is not there.
    directory: Option<OwnedFd>,
    current: Option<File>,
    record: Vec<u8>,
    dropped: u64,
    /// The last record was cut off by a full disk: the next must begin on a line of its own.
    is_torn: bool,
}

impl Store {
    pub(crate) fn open(options: Options) -> Self {
        let directory = descriptors::open_directory(&options.directory).ok();
        Self { options, directory, current: None, record: Vec::new(), dropped: 0, is_torn: false }
    }

    /// Writes one record, or counts it as dropped.
    pub(crate) fn write(&mut self, stream: char, part: char, text: &[u8]) {
        if self.dropped > 0 {
            self.tell_dropped();
        }
        if self.append(stream, part, text).is_err() {
            self.dropped += 1;
        }
    }

    /// Says in the output itself that lines are missing.
    pub(crate) fn tell_dropped(&mut self) {
        if self.dropped == 0 {
            return;
        }
        let text = format!("[wherry-logger: {} lines could not be written and are lost]", self.dropped);
        if self.append('e', 'F', text.as_bytes()).is_ok() {
            self.dropped = 0;
        }
    }

    fn append(&mut self, stream: char, part: char, text: &[u8]) -> io::Result<()> {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        self.record.clear();
        if self.is_torn {
            self.record.push(b'\n');
        }
        write!(self.record, "{at} {stream} {part} ")?;
        self.record.extend_from_slice(text);
        self.record.push(b'\n');
        self.turn_over()?;
        let Some(file) = &mut self.current else { return Err(io::ErrorKind::NotFound.into()) };
        match file.write(&self.record) {
            Ok(written) if written == self.record.len() => {
                self.is_torn = false;
                Ok(())
            }
            Ok(written) => {
                self.is_torn = written > 0 || self.is_torn;
                Err(io::ErrorKind::WriteZero.into())
            }
            Err(error) => {
                // The file may be gone with its disk: the next record opens anew.
                self.current = None;
                Err(error)
            }
        }
    }

    /// Sees to it that the current file has room. Its true size counts, not what this logger wrote.
    fn turn_over(&mut self) -> io::Result<()> {
        let limit = self.options.bytes_max;
        let has_room = |file: &File| file.metadata().is_ok_and(|status| status.len() < limit);
        if self.current.as_ref().is_some_and(has_room) {
            return Ok(());
        }
        let Some(directory) = &self.directory else { return Err(io::ErrorKind::NotFound.into()) };
        let numbers = descriptors::list(directory)?;
        let mut number = numbers.iter().copied().max().unwrap_or(1);
        loop {
            let name = CString::new(format!("{number}.log")).map_err(io::Error::other)?;
            let file = descriptors::open_to_append(directory, &name)?;
            if has_room(&file) {
                self.current = Some(file);
                break;
            }
            number += 1;
        }
        let oldest_kept = (number + 1).saturating_sub(self.options.files_max);
        for old in numbers.into_iter().filter(|old| *old < oldest_kept) {
            // One that resists is tried again at the next turn.
            let _ = CString::new(format!("{old}.log")).map(|name| descriptors::remove(directory, &name));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use super::*;

    #[test]
    fn files_are_bounded_in_size_and_number_also_with_two_writers() {
        let directory = directory("bounds");
        let options = Options { directory: directory.clone(), bytes_max: 200, files_max: 3, pipes: None };
        let (mut first, mut second) = (Store::open(options.clone()), Store::open(options));

        for round in 0..100 {
            first.write('o', 'F', format!("first {round}").as_bytes());
            second.write('e', 'F', format!("second {round}").as_bytes());
        }
        let files: Vec<(u64, String)> = descriptors::list(&descriptors::open_directory(&directory).expect("there"))
            .expect("listed")
            .into_iter()
            .map(|number| (number, fs::read_to_string(directory.join(format!("{number}.log"))).expect("a file")))
            .collect();
        fs::remove_dir_all(&directory).expect("removed");

        assert!(files.len() <= 3, "{} files are left", files.len());
        assert!(files.iter().all(|(_, text)| text.len() < 300), "a file went far beyond its limit");
        let last = files.iter().max_by_key(|(number, _)| *number).expect("a file");
        assert!(last.1.contains("99"), "the last line is not in the last file: {last:?}");
    }

    #[test]
    fn a_link_in_place_of_a_file_is_not_followed() {
        let directory = directory("link");
        let canary = directory.join("canary");
        fs::write(&canary, "").expect("written");
        std::os::unix::fs::symlink(&canary, directory.join("1.log")).expect("linked");
        let mut store =
            Store::open(Options { directory: directory.clone(), bytes_max: 4096, files_max: 3, pipes: None });

        store.write('o', 'F', b"hello");
        let through_link = fs::read_to_string(&canary).expect("the canary");
        fs::remove_file(directory.join("1.log")).expect("removed");
        store.write('o', 'F', b"again");
        let text = fs::read_to_string(directory.join("1.log")).expect("a file");
        fs::remove_dir_all(&directory).expect("removed");

        assert_eq!(through_link, "");
        assert!(text.contains("1 lines could not be written") && text.contains("again"), "{text}");
    }

    fn directory(name: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("wherry-store-{name}-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("made");
        directory
    }
}

//! The output of instances, as `wherry-logger` writes it: reading, following, removing.
//!
//! A line of a file is `MILLISECONDS STREAM PART TEXT`: when it was read, `o` or `e` for stdout or stderr, `F` for a whole
//! line or the end of one, `P` for a piece of a long one. Files are numbered; a higher one is later.
//! Every file is opened beneath the instance's directory and never through a link: what a workload could put there must
//! not lead elsewhere.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Seek as _, SeekFrom},
    os::fd::OwnedFd,
    path::Path,
    time::Duration,
};

use api_types::{
    id::{InstanceId, Name},
    time::Timestamp,
    view::LogLine,
};
use nix::{
    dir::Dir,
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2},
    sys::stat::Mode,
};
use tokio::sync::mpsc;

use crate::{
    Containerd,
    error::{Error, LogError},
};

/// Between two looks for more, while someone follows.
const LOOK: Duration = Duration::from_millis(200);
/// The longest line of a file, in bytes; the logger writes far shorter ones.
const LINE_BYTES_MAX: u64 = 64 << 10;
/// Lines in one round of reading.
const LINES_AT_ONCE: usize = 256;

impl Containerd {
    /// Sends the last `tail` lines of the output of the instance's main container, or of a companion (`None` = all that is
    /// kept), over all its attempts; with `follow` goes on until the receiver is dropped or [`Containerd::forget`] is called.
    ///
    /// # Errors
    /// When there is no output or it cannot be read.
    pub async fn logs(
        &self,
        instance: &InstanceId,
        container: Option<&Name>,
        tail: Option<usize>,
        follow: bool,
        sender: mpsc::Sender<LogLine>,
    ) -> Result<(), LogError> {
        let failed = |source: io::Error| {
            if source.kind() == io::ErrorKind::NotFound {
                LogError::Absent(
                    container.map_or_else(|| instance.to_string(), |name| format!("{instance}, container {name}")),
                )
            } else {
                LogError::Read { instance: instance.to_string(), source }
            }
        };
        let (log_dir, owner) = (self.inner.settings.log_dir.clone(), instance.clone());
        let below = container.map_or_else(|| instance.to_string(), |name| format!("{instance}/{name}"));
        let open = move || Reader::open(&log_dir, &below, owner, tail);
        let mut reader = blocking(open).await.map_err(failed)?;
        loop {
            let read = blocking(move || {
                let lines = reader.read()?;
                Ok((reader, lines))
            });
            let (back, lines) = read.await.map_err(failed)?;
            reader = back;
            if lines.is_empty() {
                if !follow || reader.is_removed() {
                    return Ok(());
                }
                tokio::select! {
                    () = sender.closed() => return Ok(()),
                    () = tokio::time::sleep(LOOK) => {}
                }
            }
            for line in lines {
                if sender.send(line).await.is_err() {
                    return Ok(());
                }
            }
        }
    }

    /// Removes the output and files of an instance that will never run again.
    ///
    /// # Errors
    /// When a file resists.
    pub fn forget(&self, instance: &InstanceId) -> Result<(), Error> {
        let settings = &self.inner.settings;
        for parent in [&settings.log_dir, &settings.run_dir] {
            let path = parent.join(instance.as_str());
            match std::fs::remove_dir_all(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(Error::File { path, source }),
            }
        }
        Ok(())
    }
}

/// Runs what may wait for the disk where it holds nobody up.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.expect("reading output does not panic")
}

/// Where one reader stands in an instance's output.
struct Reader {
    directory: OwnedFd,
    instance: InstanceId,
    /// The file that is being read and its number.
    current: Option<(u64, BufReader<File>)>,
    /// Lines to leave out before the first that is wanted.
    skip: usize,
}

impl Reader {
    /// Opens the directory `below` that of all output.
    fn open(log_dir: &Path, below: &str, instance: InstanceId, tail: Option<usize>) -> io::Result<Self> {
        let root = open(log_dir, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
        let directory = openat2(root, below, how(OFlag::O_DIRECTORY))?;
        let mut reader = Self { directory, instance, current: None, skip: 0 };
        if let Some(tail) = tail {
            reader.skip = reader.count()?.saturating_sub(tail);
        }
        Ok(reader)
    }

    /// Reads the next lines; none when all is read for now.
    fn read(&mut self) -> io::Result<Vec<LogLine>> {
        let mut lines = Vec::new();
        while lines.len() < LINES_AT_ONCE {
            if self.current.is_none() {
                let Some(number) = self.numbers()?.first().copied() else { return Ok(lines) };
                self.enter(number)?;
            }
            let Some((number, file)) = &mut self.current else { return Ok(lines) };
            let number = *number;
            if let Some(line) = next_line(file)? {
                if self.skip > 0 {
                    self.skip -= 1;
                } else if let Some(line) = parse(&self.instance, &line) {
                    lines.push(line);
                }
                continue;
            }
            let Some(next) = self.numbers()?.into_iter().find(|later| *later > number) else { return Ok(lines) };
            // The next file is begun after the last line of this one: what came between the two looks is still read.
            if let Some((_, file)) = &mut self.current
                && has_more(file)?
            {
                continue;
            }
            self.enter(next)?;
        }
        Ok(lines)
    }

    /// Whether the directory is gone: nothing more will come.
    fn is_removed(&self) -> bool {
        nix::sys::stat::fstat(&self.directory).is_ok_and(|status| status.st_nlink == 0)
    }

    fn enter(&mut self, number: u64) -> io::Result<()> {
        self.current = match self.open_file(number) {
            Ok(file) => Some((number, BufReader::new(file))),
            // Rotated away between the look and now; the next round looks again.
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(())
    }

    fn count(&self) -> io::Result<usize> {
        let mut count = 0;
        for number in self.numbers()? {
            let mut file = match self.open_file(number) {
                Ok(file) => BufReader::new(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            while next_line(&mut file)?.is_some() {
                count += 1;
            }
        }
        Ok(count)
    }

    fn open_file(&self, number: u64) -> io::Result<File> {
        // Without waiting: what stands there under this name could be a pipe.
        let file = File::from(openat2(&self.directory, format!("{number}.log").as_str(), how(OFlag::O_NONBLOCK))?);
        if !file.metadata()?.is_file() {
            return Err(io::Error::other(format!("{number}.log is not a regular file")));
        }
        Ok(file)
    }

    fn numbers(&self) -> io::Result<Vec<u64>> {
        let mut directory = Dir::openat(&self.directory, ".", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
        let mut numbers = Vec::new();
        for entry in directory.iter() {
            match entry {
                Ok(entry) => numbers.extend(entry.file_name().to_str().ok().and_then(number_of)),
                Err(Errno::ENOENT) => break,
                Err(error) => return Err(error.into()),
            }
        }
        numbers.sort_unstable();
        Ok(numbers)
    }
}

fn how(flags: OFlag) -> OpenHow {
    OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | flags)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS)
}

fn number_of(name: &str) -> Option<u64> {
    name.strip_suffix(".log")?.parse().ok()
}

/// Reads one whole line; `None` when its end is not there yet.
fn next_line(file: &mut BufReader<File>) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let read = io::Read::take(&mut *file, LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
    if line.pop() == Some(b'\n') {
        return Ok(Some(line));
    }
    if read as u64 == LINE_BYTES_MAX {
        // No line of the logger's; its rest will be refused as one.
        return Ok(Some(Vec::new()));
    }
    file.seek(SeekFrom::Current(-i64::try_from(read).unwrap_or(0)))?;
    Ok(None)
}

fn has_more(file: &mut BufReader<File>) -> io::Result<bool> {
    Ok(!file.fill_buf()?.is_empty() && file.buffer().contains(&b'\n'))
}

/// Reads `MILLISECONDS STREAM PART TEXT`; a torn line is none.
fn parse(instance: &InstanceId, line: &[u8]) -> Option<LogLine> {
    let line = String::from_utf8_lossy(line);
    let mut fields = line.splitn(4, ' ');
    let at = Timestamp(fields.next()?.parse().ok()?);
    let stream = match fields.next()? {
        "o" => "stdout",
        "e" => "stderr",
        _ => return None,
    };
    fields.next().filter(|part| matches!(*part, "F" | "P"))?;
    let text = fields.next()?.to_owned();
    Some(LogLine { instance: instance.clone(), at, stream: stream.to_owned(), text })
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use super::*;

    #[test]
    fn the_last_lines_are_read_over_all_files_and_torn_ones_are_left_out() {
        let root = directory("tail");
        fs::write(root.join("web/8.log"), "1 o F one\n2 e F two two\n").expect("written");
        fs::write(root.join("web/10.log"), "torn\n3 o P three\n4 o F \n5 o F unfin").expect("written");

        let texts = |tail| -> Vec<String> {
            let mut reader = Reader::open(&root, "web", instance(), tail).expect("opened");
            reader.read().expect("read").into_iter().map(|line| line.text).collect()
        };
        let (all, last) = (texts(None), texts(Some(3)));
        fs::remove_dir_all(&root).expect("removed");

        assert_eq!(all, ["one", "two two", "three", ""]);
        assert_eq!(last, ["three", ""], "the torn line counts as one of the three");
    }

    #[test]
    fn what_is_written_later_is_read_later_even_in_the_next_file() {
        let root = directory("follow");
        fs::write(root.join("web/1.log"), "1 o F one\n2 o F tw").expect("written");
        let mut reader = Reader::open(&root, "web", instance(), None).expect("opened");
        let texts = |lines: Vec<LogLine>| lines.into_iter().map(|line| line.text).collect::<Vec<_>>();

        let first = texts(reader.read().expect("read"));
        fs::write(root.join("web/1.log"), "1 o F one\n2 o F two\n").expect("written");
        fs::write(root.join("web/2.log"), "3 o F three\n").expect("written");
        let second = texts(reader.read().expect("read"));
        let before = reader.is_removed();
        fs::remove_dir_all(&root).expect("removed");

        assert_eq!((first, second), (vec!["one".to_owned()], vec!["two".to_owned(), "three".to_owned()]));
        assert!(!before && reader.is_removed());
    }

    #[test]
    fn no_link_leads_out_of_the_directory() {
        let root = directory("link");
        let secret = root.join("secret");
        fs::write(&secret, "1 o F secret\n").expect("written");
        std::os::unix::fs::symlink(&secret, root.join("web/1.log")).expect("linked");
        let through_file = Reader::open(&root, "web", instance(), None).expect("opened").read();
        fs::remove_dir_all(root.join("web")).expect("removed");
        fs::create_dir(root.join("other")).expect("made");
        std::os::unix::fs::symlink(root.join("other"), root.join("web")).expect("linked");
        let through_directory = Reader::open(&root, "web", instance(), None).err();
        fs::remove_dir_all(&root).expect("removed");

        assert!(through_file.is_err_and(|error| error.raw_os_error() == Some(libc::ELOOP)));
        assert!(through_directory.is_some_and(|error| error.raw_os_error() == Some(libc::ELOOP)));
    }

    fn directory(name: &str) -> PathBuf {
        let root = std::env::temp_dir().join(format!("wherry-logs-{name}-{}", std::process::id()));
        fs::create_dir_all(root.join("web")).expect("made");
        root
    }

    fn instance() -> InstanceId {
        InstanceId::new("web").expect("a name")
    }
}

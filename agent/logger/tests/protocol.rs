//! The program as containerd's shim starts it: three descriptors, pairs of arguments, and nothing that ends it early.
#![expect(unsafe_code, reason = "descriptors are handed to a child by number")]

use std::{
    fs,
    io::{self, PipeReader, PipeWriter, Read as _, Write as _},
    os::{fd::AsRawFd as _, unix::process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command},
    time::Duration,
};

use tests_support::wait::try_wait_for;

const LIMIT: Duration = Duration::from_secs(120);

/// A logger that was started, with the container's ends of its pipes.
struct Logger {
    child: Child,
    stdout: Option<PipeWriter>,
    stderr: Option<PipeWriter>,
    ready: PipeReader,
    directory: PathBuf,
}

#[test]
fn both_streams_are_written_with_their_marks_until_both_end() {
    let mut logger = Logger::start("streams", "4096", None);

    logger.wait_ready();
    logger.stdout.as_ref().expect("open").write_all(b"to stdout\n").expect("written");
    logger.wait_for("o F to stdout");
    logger.stdout = None;
    logger.stderr.as_ref().expect("open").write_all(b"to stderr\nunfinished").expect("written");
    logger.stderr = None;

    assert!(logger.end(), "it did not end with its pipes");
    let text = logger.text();
    assert!(text.contains("e F to stderr\n") && text.contains("e F unfinished\n"), "{text}");
}

#[test]
fn it_stays_when_it_is_asked_to_end() {
    let mut logger = Logger::start("signals", "4096", None);
    logger.wait_ready();

    // SAFETY: the child is ours and not waited for, so the number is its own.
    unsafe { libc::kill(libc::pid_t::try_from(logger.child.id()).expect("a pid"), libc::SIGTERM) };
    logger.stdout.as_ref().expect("open").write_all(b"still here\n").expect("written");

    logger.wait_for("o F still here");
    (logger.stdout, logger.stderr) = (None, None);
    assert!(logger.end());
}

#[test]
fn on_a_full_disk_it_drops_lines_says_so_and_never_blocks_the_container() {
    // A limit on the size of files stands for the full disk: writing beyond it fails just so.
    let mut logger = Logger::start("full", "1000000", Some(256 << 10));
    logger.wait_ready();

    // Far more than the pipe holds: the container would hang here if the logger did.
    let line = format!("{}\n", "x".repeat(999));
    for _ in 0..1000 {
        logger.stdout.as_ref().expect("open").write_all(line.as_bytes()).expect("written");
    }
    // Room again, for more than the pipe still holds: the file is gone, so a new one begins.
    fs::remove_file(logger.directory.join("1.log")).expect("removed");
    logger.stdout.as_ref().expect("open").write_all(b"after\n").expect("written");
    logger.wait_for("o F after");
    (logger.stdout, logger.stderr) = (None, None);

    assert!(logger.end());
    assert!(logger.text().contains("lines could not be written and are lost"), "{}", logger.text());
}

#[test]
fn without_a_place_to_write_to_it_still_empties_the_pipes() {
    let mut logger = Logger::start("nowhere", "0", None);
    logger.wait_ready();

    for _ in 0..200 {
        logger.stdout.as_ref().expect("open").write_all(&[b'x'; 4096]).expect("written");
    }
    (logger.stdout, logger.stderr) = (None, None);

    assert!(logger.end());
}

#[test]
fn started_by_hand_it_says_no() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wherry-logger"));
    // SAFETY: close is safe between fork and exec; the numbers need not be open.
    unsafe {
        command.pre_exec(|| {
            for fd in 3..6 {
                libc::close(fd);
            }
            Ok(())
        });
    }

    assert_eq!(command.status().expect("run").code(), Some(2));
}

impl Logger {
    fn start(name: &str, bytes: &str, file_limit: Option<u64>) -> Self {
        let directory = std::env::temp_dir().join(format!("wherry-logger-{name}-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("made");
        let (stdout_reader, stdout) = io::pipe().expect("a pipe");
        let (stderr_reader, stderr) = io::pipe().expect("a pipe");
        let (ready, ready_writer) = io::pipe().expect("a pipe");
        let mut command = Command::new(env!("CARGO_BIN_EXE_wherry-logger"));
        command.args(["bytes", bytes, "directory"]).arg(&directory).args(["files", "3"]);
        let given = [stdout_reader.as_raw_fd(), stderr_reader.as_raw_fd(), ready_writer.as_raw_fd()];
        // SAFETY: dup2, fcntl and setrlimit are safe between fork and exec. First to numbers far away, as a source may be one
        // of the wanted numbers itself.
        unsafe {
            command.pre_exec(move || {
                for (fd, far) in given.into_iter().zip(100..) {
                    check(libc::dup2(fd, far))?;
                }
                for (far, wanted) in (100..).zip(3..6) {
                    check(libc::dup2(far, wanted))?;
                    check(libc::close(far))?;
                }
                if let Some(limit) = file_limit {
                    let limit = libc::rlimit { rlim_cur: limit, rlim_max: limit };
                    check(libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit))?;
                }
                Ok(())
            });
        }
        let child = command.spawn().expect("started");
        Self { child, stdout: Some(stdout), stderr: Some(stderr), ready, directory }
    }

    /// The shim's view: ready is when the last writer of descriptor 5 closed it.
    fn wait_ready(&mut self) {
        let mut rest = Vec::new();
        self.ready.read_to_end(&mut rest).expect("read");
    }

    fn wait_for(&self, text: &str) {
        let found = try_wait_for(LIMIT, || self.text().contains(text).then_some(()));
        assert!(found.is_some(), "`{text}` is not in:\n{}", self.text());
    }

    fn end(&mut self) -> bool {
        try_wait_for(LIMIT, || self.child.try_wait().ok().flatten()).is_some_and(|status| status.success())
    }

    fn text(&self) -> String {
        let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
        let files = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        files.map(|entry| read(&entry.path())).collect()
    }
}

impl Drop for Logger {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn check(outcome: libc::c_int) -> io::Result<()> {
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

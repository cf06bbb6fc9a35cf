//! Containers that people may be attached to: those with an input or a terminal of their own.
//!
//! The shim gives such a container no logger of its own making: with one it gives no input. So its pipes have names, below
//! `.attach/CONTAINER` of the run directory, and we start `wherry-logger` for them, which goes on without us. The shim holds
//! both ends of each pipe: it waits for nobody but the logger, and what is written to the input stays there until it is read.
//! A logger that died is missed by the lock that it holds on the directory, and another takes its place.

use std::{
    fs,
    io::{self, ErrorKind},
    os::fd::{AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use api_types::{container::ContainerSpec, id::InstanceId, relay::TerminalSize};
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg, OFlag, open},
    sys::{
        socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket},
        stat::Mode,
    },
    unistd::mkfifo,
};
use tokio::{
    net::{UnixDatagram, unix::pipe},
    process::Command,
    time::sleep,
};

use crate::{
    Attempt, Containerd,
    console::Console,
    error::{Error, ExecError},
    exec::names,
    identity::parse_container_id,
};

/// The directory of all pipes; no instance has such a name.
const DIRECTORY: &str = ".attach";
/// How often to look whether a logger is missing.
const LOOK: Duration = Duration::from_secs(5);
/// How often a logger is asked that has only just begun, and the pause between two tries.
const TRIES: usize = 20;
const RETRY: Duration = Duration::from_millis(100);
/// A mark and the most that the logger says at once, in bytes.
const PACKET_BYTES_MAX: usize = (16 << 10) + 1;

/// Where a container's process reads from and writes to, as containerd is told it.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    pub(crate) stdin: String,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A person at a container's own process. Dropped, it leaves the process as it is.
#[derive(Debug)]
pub struct Attached {
    /// Which attempt.
    pub attempt: Attempt,
    /// The process's terminal and the end of its input.
    pub console: Console,
    /// Where its input goes; `None` if none was asked for. Taken by whoever feeds it.
    pub stdin: Option<pipe::Sender>,
    /// Whether the process has a terminal.
    pub is_terminal: bool,
    /// A socket of packets, which is read as one of datagrams is.
    watch: UnixDatagram,
}

/// A piece of what a process wrote.
#[derive(Debug, PartialEq, Eq)]
pub enum Written {
    /// To stdout, or to its terminal.
    Stdout(Vec<u8>),
    /// To stderr.
    Stderr(Vec<u8>),
}

impl Containerd {
    /// Makes the pipes of a container that people may be attached to, and starts their logger.
    pub(crate) async fn ends(&self, id: &str, instance: &InstanceId, container: &ContainerSpec) -> Result<Ends, Error> {
        let directory = self.pipes_of(id);
        let failed = |source| Error::File { path: directory.clone(), source };
        // What a start before a loss of power left.
        remove(&self.inner.settings.run_dir, id)?;
        fs::create_dir_all(&directory).map_err(failed)?;
        let pipe = |name: &str, is_wanted: bool| -> io::Result<String> {
            if !is_wanted {
                return Ok(String::new());
            }
            let path = directory.join(name);
            mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).map_err(io::Error::from)?;
            Ok(path.display().to_string())
        };
        let ends = || -> io::Result<Ends> {
            Ok(Ends {
                stdin: pipe("in", container.stdin)?,
                stdout: pipe("out", true)?,
                stderr: pipe("err", !container.tty)?,
            })
        };
        let ends = ends().map_err(failed)?;
        self.serve(id, instance).await?;
        Ok(ends)
    }

    /// Starts the logger of a container's pipes. Where one serves them already, it stays the only one.
    async fn serve(&self, id: &str, instance: &InstanceId) -> Result<(), Error> {
        let settings = &self.inner.settings;
        let mut command = Command::new(&settings.logger);
        command.arg("pipes").arg(self.pipes_of(id)).arg("directory").arg(self.log_directory(instance, None)?);
        command.arg("bytes").arg(settings.log_bytes_max.to_string());
        command.arg("files").arg(settings.log_files_max.to_string());
        command.env_clear().current_dir("/").stdin(Stdio::null()).stdout(Stdio::null());
        let failed = |source| Error::File { path: settings.logger.clone(), source };
        // It ends when it is ready, and goes on as a process of its own.
        let ready = command.output().await.map_err(failed)?;
        if ready.status.success() {
            return Ok(());
        }
        Err(failed(io::Error::other(format!("{}: {}", ready.status, String::from_utf8_lossy(&ready.stderr).trim()))))
    }

    /// Sees to it that the pipes of every container that runs are emptied, for ever: a logger may have died.
    pub async fn keep_outputs(&self) {
        let parent = self.inner.settings.run_dir.join(DIRECTORY);
        loop {
            for id in names(&parent) {
                let Some((instance, _)) = parse_container_id(&id) else { continue };
                if self.inner.starting.ids().contains(&id) || is_served(&parent.join(&id)) {
                    continue;
                }
                // Whether it runs is not known while containerd is away; then the next look knows.
                if let Ok(Some(_)) = self.running_pid(&id).await {
                    tracing::warn!(container = id, "nobody takes what it writes: its logger is started again");
                    if let Err(error) = self.serve(&id, &instance).await {
                        tracing::warn!(container = id, %error, "its logger does not start");
                    }
                }
            }
            sleep(LOOK).await;
        }
    }

    /// Attaches a person to the process of an instance's main container: to its output, and to its input or its terminal
    /// where that is wanted.
    ///
    /// # Errors
    /// When the instance does not run here, has no input or no terminal, or too many people are attached.
    pub async fn attach(
        &self,
        instance: &InstanceId,
        stdin: bool,
        terminal: Option<TerminalSize>,
    ) -> Result<Attached, ExecError> {
        let running = self.running(instance).await?;
        let (id, attempt) = (running.container.id, running.attempt);
        let directory = self.pipes_of(&id);
        let (input, is_terminal) = (directory.join("in"), !directory.join("err").exists() && directory.exists());
        if stdin && !input.exists() {
            return Err(ExecError::NoInput(instance.to_string()));
        }
        if terminal.is_some() && !is_terminal {
            return Err(ExecError::NoTerminal(instance.to_string()));
        }
        let failed = |source| Error::File { path: directory.clone(), source };
        let watch = self.watch(&id, instance).await?;
        // The runtime holds the other end, and another one of this.
        let stdin = stdin.then(|| pipe::OpenOptions::new().open_sender(&input)).transpose().map_err(failed)?;
        let console = Console { containerd: self.clone(), container: id, exec: String::new() };
        if let Some(size) = terminal {
            // A process that is over already has no terminal any more.
            console.resize(size).await.ok();
        }
        Ok(Attached { attempt, console, stdin, is_terminal, watch })
    }

    /// Connects to the logger of a container; one that is missing is started.
    async fn watch(&self, id: &str, instance: &InstanceId) -> Result<UnixDatagram, Error> {
        let directory = self.pipes_of(id);
        for _ in 0..TRIES {
            match connected(&directory) {
                Ok(socket) => {
                    let socket = UnixDatagram::from_std(socket.into());
                    return socket.map_err(|source| Error::File { path: directory, source });
                }
                Err(Errno::ENOENT | Errno::ECONNREFUSED) => self.serve(id, instance).await?,
                // As many wait as may.
                Err(Errno::EAGAIN) => {}
                Err(error) => return Err(Error::File { path: directory, source: error.into() }),
            }
            sleep(RETRY).await;
        }
        Err(Error::File { path: directory, source: ErrorKind::TimedOut.into() })
    }

    /// Removes the pipes of containers that are not there any more.
    pub(crate) fn sweep_pipes(&self, is_known: impl Fn(&String) -> bool) -> Result<(), Error> {
        let run_dir = &self.inner.settings.run_dir;
        let mut gone = names(&run_dir.join(DIRECTORY)).into_iter().filter(|id| !is_known(id));
        gone.try_for_each(|id| remove(run_dir, &id))
    }

    fn pipes_of(&self, id: &str) -> PathBuf {
        self.inner.settings.run_dir.join(DIRECTORY).join(id)
    }
}

impl Attached {
    /// Waits for what the process writes next; `None` when nothing more comes, as it is over or its logger is. Cancel-safe.
    ///
    /// # Errors
    /// When too many people are attached, or the connection breaks.
    pub async fn next(&self) -> Result<Option<Written>, ExecError> {
        let mut packet = vec![0; PACKET_BYTES_MAX];
        let length = match self.watch.recv(&mut packet).await {
            Ok(length) => length,
            // It died before it took this person in.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => 0,
            Err(source) => return Err(Error::File { path: DIRECTORY.into(), source }.into()),
        };
        packet.truncate(length);
        if packet.is_empty() {
            return Ok(None);
        }
        match packet.remove(0) {
            b'x' => Err(ExecError::Crowded),
            b'o' => Ok(Some(Written::Stdout(packet))),
            // Words of the logger are no output of the process; a terminal has but one for both.
            _ if self.is_terminal => Ok(Some(Written::Stdout(packet))),
            _ => Ok(Some(Written::Stderr(packet))),
        }
    }
}

/// Removes a container's pipes: a logger whose container never began then ends.
pub(crate) fn remove(run_dir: &Path, id: &str) -> Result<(), Error> {
    let path = run_dir.join(DIRECTORY).join(id);
    match fs::remove_dir_all(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::File { path, source: error }),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Whether a logger holds the lock on a directory.
fn is_served(directory: &Path) -> bool {
    let Ok(directory) = fs::File::open(directory) else { return true };
    matches!(Flock::lock(directory, FlockArg::LockSharedNonblock), Err((_, Errno::EWOULDBLOCK)))
}

/// Connects to the socket of a logger, by the directory's descriptor: the address of a socket is shorter than paths may be.
fn connected(directory: &Path) -> nix::Result<OwnedFd> {
    let directory = open(directory, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let address = UnixAddr::new(format!("/proc/self/fd/{}/watch", directory.as_raw_fd()).as_str())?;
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
    connect(socket.as_raw_fd(), &address)?;
    Ok(socket)
}

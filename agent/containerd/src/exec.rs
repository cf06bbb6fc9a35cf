//! Commands beside a container's own process: begun, fed, read, ended; nothing of them is left when they are over.
//!
//! Each has a directory of its own with its pipes, `.exec/CONTAINER/ID` below the run directory. It is made before the command
//! and removed after it, so what a former run of ours left running is known by the directories it left.

mod process;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use api_types::{
    id::{InstanceId, Name},
    relay::TerminalSize,
};
use containerd_client::services::v1::{
    Container, DeleteProcessRequest, ExecProcessRequest, GetRequest, KillRequest, ListContainersRequest, StartRequest,
    WaitRequest,
};
use nix::{sys::stat::Mode, unistd::mkfifo};
use prost_types::Any;
use tokio::{
    net::unix::pipe,
    time::{sleep, timeout},
};

use crate::{
    Attempt, Containerd,
    connection::{LONG, SHORT, is_absent},
    console::Console,
    error::{Error, ExecError},
    identity::{self, identify},
    problem,
};

/// The directory of all commands; no instance has such a name.
const DIRECTORY: &str = ".exec";
const PROCESS_TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/Process";
const SIGKILL: u32 = 9;
/// How long a command may take to end when its terminal is hung up.
const HANG_UP: Duration = Duration::from_secs(2);
/// How long a command may take to die of SIGKILL.
const DEATH: Duration = Duration::from_secs(20);
/// How often its end is tried while containerd is away, and the pause between two tries.
const TRIES: usize = 60;
const RETRY: Duration = Duration::from_secs(1);

/// What to run.
#[derive(Clone, Debug)]
pub struct ExecRequest<'a> {
    /// In which instance.
    pub instance: &'a InstanceId,
    /// In which of its companions; `None` = in its main container.
    pub container: Option<&'a Name>,
    /// Program and arguments.
    pub command: &'a [String],
    /// Whether it gets input; else it finds the end of it.
    pub stdin: bool,
    /// The size of its terminal; `None` = pipes.
    pub terminal: Option<TerminalSize>,
}

/// A container whose process runs.
#[derive(Clone, Debug)]
pub struct Running {
    /// Which attempt.
    pub attempt: Attempt,
    /// Its first process.
    pub pid: u32,
    pub(crate) container: Container,
}

/// A command that runs. Dropped, it is ended with everything that it started in its session.
#[derive(Debug)]
pub struct Exec {
    /// What it writes to stdout; with a terminal, to stderr too. Taken by whoever reads it.
    pub stdout: Option<pipe::Receiver>,
    /// What it writes to stderr; `None` with a terminal.
    pub stderr: Option<pipe::Receiver>,
    /// Where its input goes; `None` if it gets none.
    pub stdin: Option<pipe::Sender>,
    /// Its terminal, and the end of its input.
    pub console: Console,
    remains: Option<Remains>,
}

/// What must be undone of a command.
#[derive(Clone, Debug)]
struct Remains {
    containerd: Containerd,
    container: String,
    exec: String,
    directory: PathBuf,
}

/// Names commands: no two runs of ours use the same name.
#[derive(Debug)]
pub(crate) struct ExecIds {
    run: String,
    last: AtomicU64,
}

impl ExecIds {
    pub(crate) fn new() -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { run: format!("exec-{}-{}-", since.as_millis(), std::process::id()), last: AtomicU64::new(0) }
    }

    fn next(&self) -> String {
        format!("{}{}", self.run, self.last.fetch_add(1, Ordering::Relaxed))
    }

    fn is_ours(&self, id: &str) -> bool {
        id.starts_with(&self.run)
    }
}

impl Containerd {
    /// The attempt of an instance's main container that runs.
    ///
    /// # Errors
    /// When none runs here, or containerd is away.
    pub async fn running(&self, instance: &InstanceId) -> Result<Running, ExecError> {
        self.running_in(instance, None).await
    }

    /// The attempt of a companion that runs; without a name, that of the main container.
    async fn running_in(&self, instance: &InstanceId, name: Option<&Name>) -> Result<Running, ExecError> {
        let connection = &self.inner.connection;
        let (node, labels) = (&self.inner.settings.node, [identity::NODE, identity::INSTANCE]);
        let filter = format!("labels.\"{}\"==\"{node}\",labels.\"{}\"==\"{instance}\"", labels[0], labels[1]);
        let request = connection.request(ListContainersRequest { filters: vec![filter] }, SHORT);
        let answer = connection.containers().list(request).await;
        let containers = answer.map_err(connection.failed("to look for a container"))?.into_inner().containers;
        for container in containers {
            let who = identify(&container.id, &container.labels);
            let Some(who) = who.filter(|who| who.container.as_ref() == name) else { continue };
            if let Some(pid) = self.running_pid(&container.id).await? {
                return Ok(Running { attempt: who.attempt, pid, container });
            }
        }
        Err(ExecError::NotRunning(match name {
            None => instance.to_string(),
            Some(name) => format!("{instance}, container {name}"),
        }))
    }

    /// Runs a command beside the instance's own process: with its user, environment, rights and limits.
    ///
    /// # Errors
    /// When the instance does not run here, the command cannot be executed, or containerd refuses. Then nothing is left.
    pub async fn exec(&self, request: &ExecRequest<'_>) -> Result<Exec, ExecError> {
        let container = self.running_in(request.instance, request.container).await?.container;
        let spec = container.spec.as_ref().map(|spec| spec.value.as_slice()).unwrap_or_default();
        let process = process::beside(spec, request.command, request.terminal).map_err(ExecError::Spec)?;
        let exec = self.inner.execs.next();
        let directory = self.inner.settings.run_dir.join(DIRECTORY).join(&container.id).join(&exec);
        let remains = Remains { containerd: self.clone(), container: container.id, exec, directory };
        let (container, exec) = (remains.container.clone(), remains.exec.clone());
        let console = Console { containerd: self.clone(), container, exec };
        // From here on whatever goes wrong, or breaks off, undoes it.
        let mut running = Exec { stdout: None, stderr: None, stdin: None, console, remains: Some(remains.clone()) };
        let failed = |source| Error::File { path: remains.directory.clone(), source };
        let pipe = |name: &str| remains.pipe(name).map_err(failed);
        let (input, output) = (if request.stdin { pipe("in")? } else { String::new() }, pipe("out")?);
        let errors = if request.terminal.is_none() { pipe("err")? } else { String::new() };
        let open = |path: &str| pipe::OpenOptions::new().open_receiver(path);
        running.stdout = Some(open(&output).map_err(failed)?);
        running.stderr = (!errors.is_empty()).then(|| open(&errors)).transpose().map_err(failed)?;
        let wanted = ExecProcessRequest {
            container_id: remains.container.clone(),
            stdin: input.clone(),
            stdout: output,
            stderr: errors,
            terminal: request.terminal.is_some(),
            spec: Some(Any { type_url: PROCESS_TYPE.to_owned(), value: process }),
            exec_id: remains.exec.clone(),
        };
        let (connection, mut tasks) = (&self.inner.connection, self.inner.connection.tasks());
        tasks.exec(connection.request(wanted, LONG)).await.map_err(connection.failed("to make a command"))?;
        let start = StartRequest { container_id: remains.container.clone(), exec_id: remains.exec.clone() };
        let started = tasks.start(connection.request(start, LONG)).await;
        started.map_err(|status| match connection.failed("to start a command")(status) {
            Error::Refused { status, .. } => problem::exec(status.message()),
            error @ (Error::Away { .. }
            | Error::File { .. }
            | Error::Unkillable { .. }
            | Error::Setting { .. }
            | Error::Signal(_)) => ExecError::Containerd(error),
        })?;
        if request.stdin {
            // The runtime holds the other end by now.
            running.stdin = Some(pipe::OpenOptions::new().open_sender(&input).map_err(failed)?);
        }
        if let Some(size) = request.terminal {
            // A command that is over already has no terminal any more.
            running.console.resize(size).await.ok();
        }
        Ok(running)
    }

    /// Ends the commands that a former run of ours left.
    pub(crate) async fn sweep_execs(&self) {
        let parent = self.inner.settings.run_dir.join(DIRECTORY);
        for container in names(&parent) {
            for exec in names(&parent.join(&container)) {
                if self.inner.execs.is_ours(&exec) {
                    continue;
                }
                tracing::info!(container, exec, "ending a command that nobody waits for any more");
                let directory = parent.join(&container).join(&exec);
                Remains { containerd: self.clone(), container: container.clone(), exec, directory }.clear().await;
            }
        }
    }
}

impl Exec {
    /// Waits until the command ends and gives its exit code; 128 and the number of a signal that ended it.
    ///
    /// # Errors
    /// When containerd goes away meanwhile.
    pub async fn wait(&self) -> Result<i32, Error> {
        let Some(remains) = &self.remains else { return Ok(0) };
        let (container_id, exec_id) = (remains.container.clone(), remains.exec.clone());
        let connection = &remains.containerd.inner.connection;
        let request = connection.unlimited(WaitRequest { container_id, exec_id });
        let exit = connection.tasks().wait(request).await.map_err(connection.failed("to wait for a command"))?;
        Ok(i32::try_from(exit.into_inner().exit_status).unwrap_or(i32::MAX))
    }

    /// Ends it, if it is not over yet, and returns when nothing of it is left.
    pub async fn end(mut self) {
        if let Some(remains) = self.remains.take() {
            // Of its own, so that a caller who goes meanwhile leaves nothing behind.
            tokio::spawn(async move { remains.clear().await }).await.ok();
        }
    }
}

impl Drop for Exec {
    fn drop(&mut self) {
        if let Some(remains) = self.remains.take() {
            tokio::spawn(async move { remains.clear().await });
        }
    }
}

impl Remains {
    fn pipe(&self, name: &str) -> std::io::Result<String> {
        fs::create_dir_all(&self.directory)?;
        let path = self.directory.join(name);
        mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR)?;
        Ok(path.display().to_string())
    }

    /// Ends the command and removes what there is of it, however long containerd is away within reason.
    async fn clear(self) {
        for _ in 0..TRIES {
            match self.try_clear().await {
                Ok(()) => return self.remove_directory(),
                Err(error) if error.is_away() => sleep(RETRY).await,
                Err(error) => {
                    // Its directory stays: the next start of the agent tries again.
                    tracing::warn!(container = self.container, exec = self.exec, %error, "a command cannot be ended");
                    return;
                }
            }
        }
    }

    async fn try_clear(&self) -> Result<(), Error> {
        if let Some(leader) = self.pid().await? {
            let cgroups = &self.containerd.inner.cgroups;
            cgroups.hang_up_session(&self.container, leader);
            if timeout(HANG_UP, self.ended()).await.is_err() {
                cgroups.kill_session(&self.container, leader);
                self.kill().await?;
                let late = |_| Error::Unkillable { container: self.container.clone(), seconds: DEATH.as_secs() };
                timeout(DEATH, self.ended()).await.map_err(late)??;
            }
            // What outlived the hang-up, but not its leader.
            cgroups.kill_session(&self.container, leader);
        }
        let connection = &self.containerd.inner.connection;
        let (container_id, exec_id) = (self.container.clone(), self.exec.clone());
        let request = connection.request(DeleteProcessRequest { container_id, exec_id }, LONG);
        match connection.tasks().delete_process(request).await {
            Ok(_) => Ok(()),
            Err(status) if is_absent(&status) => Ok(()),
            Err(status) => Err(connection.failed("to delete a command")(status)),
        }
    }

    /// The command's process while it runs.
    async fn pid(&self) -> Result<Option<u32>, Error> {
        let connection = &self.containerd.inner.connection;
        let (container_id, exec_id) = (self.container.clone(), self.exec.clone());
        let request = connection.request(GetRequest { container_id, exec_id }, SHORT);
        match connection.tasks().get(request).await {
            Ok(answer) => {
                let process = answer.into_inner().process.unwrap_or_default();
                let runs = process.pid > 0 && process.exited_at.is_none_or(|at| at.seconds <= 0);
                Ok(runs.then_some(process.pid))
            }
            Err(status) if is_absent(&status) => Ok(None),
            Err(status) => Err(connection.failed("to look for a command")(status)),
        }
    }

    async fn ended(&self) -> Result<(), Error> {
        let connection = &self.containerd.inner.connection;
        let (container_id, exec_id) = (self.container.clone(), self.exec.clone());
        match connection.tasks().wait(connection.unlimited(WaitRequest { container_id, exec_id })).await {
            Ok(_) => Ok(()),
            Err(status) if is_absent(&status) => Ok(()),
            Err(status) => Err(connection.failed("to wait for a command")(status)),
        }
    }

    async fn kill(&self) -> Result<(), Error> {
        let connection = &self.containerd.inner.connection;
        let (container_id, exec_id) = (self.container.clone(), self.exec.clone());
        let request = KillRequest { container_id, exec_id, signal: SIGKILL, all: false };
        match connection.tasks().kill(connection.request(request, SHORT)).await {
            Ok(_) => Ok(()),
            Err(status) if is_absent(&status) || status.message().contains("already finished") => Ok(()),
            Err(status) => Err(connection.failed("to end a command")(status)),
        }
    }

    fn remove_directory(&self) {
        if let Err(error) = fs::remove_dir_all(&self.directory)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(directory = %self.directory.display(), %error, "cannot remove the pipes of a command");
        }
        // The container's directory goes with its last command.
        if let Some(parent) = self.directory.parent() {
            fs::remove_dir(parent).ok();
        }
    }
}

/// What is in a directory, by name; nothing where there is none.
pub(crate) fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

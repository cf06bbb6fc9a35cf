//! One containerd for one node: own folder, own socket, only the plugins that are needed.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use crate::{program::Program, wait::try_wait_for};

/// How long containerd may take until its socket answers.
const START_LIMIT: Duration = Duration::from_secs(180);
/// The longest path that a unix socket can have.
const SOCKET_PATH_MAX: usize = 107;

/// A containerd that was started.
#[derive(Debug)]
pub struct Containerd {
    program: Program,
    socket: PathBuf,
}

impl Containerd {
    /// Starts containerd with its files below `folder`, inside the namespace at `netns` if one is given, and waits until
    /// it answers. What it had stored there before is there again.
    ///
    /// # Errors
    /// If it cannot be started or does not answer, with what it said.
    pub fn start(folder: &Path, netns: Option<&Path>) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let (config, socket) = (folder.join("config.toml"), socket(folder));
        if socket.as_os_str().len() > SOCKET_PATH_MAX {
            return Err(io::Error::other(format!("{}: too long for a socket; use a shorter folder", socket.display())));
        }
        fs::write(&config, configuration(folder))?;
        let command = ["containerd", "--config", &config.to_string_lossy()].map(str::to_owned);
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        let mut containerd = Self { program: Program::start(netns, &command, &folder.join("log"))?, socket };
        let answers = try_wait_for(START_LIMIT, || {
            let gone = !containerd.program.runs();
            (gone || containerd.ctr("default", &["version"]).is_ok_and(|output| output.status.success()))
                .then_some(!gone)
        });
        if answers == Some(true) {
            return Ok(containerd);
        }
        Err(io::Error::other(format!(
            "containerd in {} does not answer:\n{}",
            folder.display(),
            containerd.program.log()
        )))
    }

    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.program.pid()
    }

    /// Kills it at once; its shims and their containers go on.
    pub fn kill(&mut self) {
        self.program.kill();
    }

    /// Everything that it said so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.program.log()
    }

    /// Runs `ctr` on its containerd namespace `namespace`.
    ///
    /// # Errors
    /// If `ctr` cannot be run.
    pub fn ctr(&self, namespace: &str, arguments: &[&str]) -> io::Result<Output> {
        Command::new("ctr").arg("--address").arg(&self.socket).args(["--namespace", namespace]).args(arguments).output()
    }
}

/// Where the socket of a containerd with its files in `folder` is.
#[must_use]
pub fn socket(folder: &Path) -> PathBuf {
    folder.join("sock")
}

fn configuration(folder: &Path) -> String {
    // `opt` would make a folder outside of ours; CRI costs 8 MB and has a network of its own in mind.
    let disabled = [
        "grpc.v1.cri",
        "snapshotter.v1.aufs",
        "snapshotter.v1.btrfs",
        "snapshotter.v1.devmapper",
        "snapshotter.v1.zfs",
        "internal.v1.opt",
        "internal.v1.tracing",
        "tracing.processor.v1.otlp",
    ];
    let disabled: Vec<String> = disabled.iter().map(|plugin| format!("\"io.containerd.{plugin}\"")).collect();
    format!(
        "version = 2\nroot = \"{folder}/root\"\nstate = \"{folder}/state\"\ndisabled_plugins = [{disabled}]\noom_score = 0\n\
         [grpc]\n  address = \"{socket}\"\n[ttrpc]\n  address = \"{socket}.ttrpc\"\n[debug]\n  level = \"warn\"\n",
        folder = folder.display(),
        disabled = disabled.join(", "),
        socket = socket(folder).display(),
    )
}

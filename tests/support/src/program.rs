//! Programs that a bed runs: where they are, how they are started inside a network namespace, how they end.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::wait::try_wait_for;

/// The folder with `wherry`, `wherry-scheduler`, `wherry-agent` and `wherry-logger`: `TEST_PROGRAMS`, or the one in
/// which this very program was built. In the latter case they are built first, so that a test never meets an old one.
///
/// # Errors
/// If they cannot be built.
pub fn folder() -> io::Result<PathBuf> {
    static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    FOLDER.get_or_init(|| find().map_err(|error| error.to_string())).clone().map_err(io::Error::other)
}

fn find() -> io::Result<PathBuf> {
    if let Some(folder) = env::var_os("TEST_PROGRAMS") {
        return Ok(folder.into());
    }
    let this = env::current_exe()?;
    let folder = this.parent().filter(|folder| !folder.ends_with("deps")).or_else(|| this.ancestors().nth(2));
    let folder = folder.ok_or_else(|| io::Error::other("this program lies in no folder"))?.to_owned();
    // Cargo sets this for the programs that it runs; outside of it, what is there is what is meant.
    if let Some(cargo) = env::var_os("CARGO") {
        let mut build = Command::new(cargo);
        build.args(["build", "--quiet", "--locked", "--workspace", "--bins"]);
        // Cargo tells a test which package it is of. Crates that look at these (ring does) would be built anew, and
        // everything above them, for each package with such a test, and again for the next build by hand.
        for (name, _) in env::vars_os().filter(|(name, _)| tells_the_package(&name.to_string_lossy())) {
            build.env_remove(name);
        }
        if folder.ends_with("release") {
            build.arg("--release");
        }
        if !build.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).status()?.success() {
            return Err(io::Error::other("cargo build --workspace --bins failed"));
        }
    }
    Ok(folder)
}

/// Whether cargo sets the variable for a program that it runs, to say which package that is of.
fn tells_the_package(variable: &str) -> bool {
    ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_", "OUT_DIR"]
        .iter()
        .any(|prefix| variable.starts_with(prefix))
}

/// A program that was started, with its output in a file.
#[derive(Debug)]
pub struct Program {
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Starts `command`, inside the namespace at `netns` if one is given, with its output added to the file at `log`.
    /// It goes on when this process ends.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(netns: Option<&Path>, command: &[&str], log: &Path) -> io::Result<Self> {
        let mut start = within(netns, command);
        // A variable of ours that a program does not know is an error to it, as it should be.
        for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("WHERRY_")) {
            start.env_remove(name);
        }
        let output = fs::File::options().create(true).append(true).open(log)?;
        std::os::unix::process::CommandExt::process_group(&mut start, 0);
        let child = start.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).spawn();
        let child =
            child.map_err(|error| io::Error::new(error.kind(), format!("start {}: {error}", command.join(" "))))?;
        Ok(Self { child, log: log.to_owned() })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Kills it at once.
    pub fn kill(&mut self) {
        let _already_gone = self.child.kill();
        let _status = self.child.wait();
    }

    /// Asks it to end; whether it did within `limit`.
    pub fn end(&mut self, limit: Duration) -> bool {
        signal(self.pid(), Signal::SIGTERM);
        try_wait_for(limit, || (!self.runs()).then_some(())).is_some()
    }

    /// Everything it said so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// `command`, to be run inside the namespace at `netns`. `nsenter` and not `ip netns exec`, which would hide the cgroups.
#[must_use]
pub fn within(netns: Option<&Path>, command: &[&str]) -> Command {
    let Some(netns) = netns else {
        let mut start = Command::new(command[0]);
        start.args(&command[1..]);
        return start;
    };
    let mut start = Command::new("nsenter");
    start.arg(format!("--net={}", netns.display())).arg("--").args(command);
    start
}

/// Sends a signal; a process that is gone already is no error.
pub fn signal(pid: u32, signal: Signal) {
    if let Ok(pid) = i32::try_from(pid) {
        let _already_gone = kill(Pid::from_raw(pid), signal);
    }
}

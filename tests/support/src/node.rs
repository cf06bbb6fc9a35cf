//! One node of a bed: its containerd and its agent, and what can happen to them.

use std::{
    fs, io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Output,
};

use crate::{
    containerd::{Containerd, socket},
    netns::{self, Lan},
    program::{self, Program},
    settings,
    sweep::Ground,
};

/// A node.
#[derive(Debug)]
pub struct Node {
    name: String,
    /// `BED.NODE`: the name of its network namespace, its cgroup and its containerd namespace.
    full_name: String,
    folder: PathBuf,
    address: Ipv4Addr,
    containerd: Option<Containerd>,
    agent: Option<Program>,
}

impl Node {
    /// The node `name` of the bed `bed` with its files in `folder`; nothing of it runs yet.
    #[must_use]
    pub fn new(bed: &str, name: &str, folder: &Path, address: Ipv4Addr) -> Self {
        let full_name = format!("{bed}.{name}");
        Self { name: name.to_owned(), full_name, folder: folder.to_owned(), address, containerd: None, agent: None }
    }

    /// Its name in the cluster.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address on the local network.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its network namespace.
    #[must_use]
    pub fn netns(&self) -> PathBuf {
        netns::path(&self.full_name)
    }

    /// The containerd namespace, and the cgroup above its containers.
    #[must_use]
    pub fn full_name(&self) -> &str {
        &self.full_name
    }

    /// The socket of its containerd.
    #[must_use]
    pub fn containerd_socket(&self) -> PathBuf {
        socket(&self.folder.join("containerd"))
    }

    /// The agent's process id, while it runs.
    #[must_use]
    pub fn agent_pid(&self) -> Option<u32> {
        self.agent.as_ref().map(Program::pid)
    }

    /// Makes its network.
    ///
    /// # Errors
    /// If `ip` fails.
    pub fn plug_in(&self, lan: &Lan) -> io::Result<()> {
        lan.attach(&self.name, self.address)
    }

    /// Starts containerd and waits until it answers.
    ///
    /// # Errors
    /// If it does not.
    pub fn start_containerd(&mut self) -> io::Result<()> {
        self.containerd = Some(Containerd::start(&self.folder.join("containerd"), Some(&self.netns()))?);
        Ok(())
    }

    /// Kills containerd at once; shims and containers go on.
    pub fn kill_containerd(&mut self) {
        if let Some(mut containerd) = self.containerd.take() {
            containerd.kill();
        }
    }

    /// Runs `ctr` on the node's containers.
    ///
    /// # Errors
    /// If containerd was not started, or `ctr` cannot be run.
    pub fn ctr(&self, arguments: &[&str]) -> io::Result<Output> {
        let containerd = self.containerd.as_ref().ok_or_else(|| io::Error::other("containerd was not started"))?;
        containerd.ctr(&self.full_name, arguments)
    }

    /// Runs `wherry-agent join` with `token`.
    ///
    /// # Errors
    /// If it refuses, with what it said.
    pub fn join(&self, token: &str) -> io::Result<()> {
        self.join_with(token, &[])
    }

    /// Runs `wherry-agent join` with `token` and further arguments.
    ///
    /// # Errors
    /// If it refuses, with what it said.
    pub fn join_with(&self, token: &str, arguments: &[&str]) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let file = self.folder.join("join-token");
        fs::write(&file, token)?;
        fs::write(self.config(), settings::agent(self)?)?;
        let program = program::folder()?.join("wherry-agent");
        let output = program::within(Some(&self.netns()), &[&program.to_string_lossy()])
            .args(settings::join_arguments(self, &file))
            .args(arguments)
            .output()?;
        if output.status.success() {
            return Ok(());
        }
        Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
    }

    /// Runs `wherry-agent leave --purge`: all of Wherry goes from the node.
    ///
    /// # Errors
    /// If it refuses, with what it said.
    pub fn leave(&self) -> io::Result<()> {
        let program = program::folder()?.join("wherry-agent");
        let config = self.config();
        let arguments = ["leave", "--purge", "--config", &config.to_string_lossy()].map(str::to_owned);
        let output = program::within(Some(&self.netns()), &[&program.to_string_lossy()]).args(arguments).output()?;
        if output.status.success() {
            return Ok(());
        }
        Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
    }

    /// Starts the agent.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start_agent(&mut self) -> io::Result<()> {
        let program = program::folder()?.join("wherry-agent");
        let command =
            [&*program.to_string_lossy(), "run", "--config", &self.config().to_string_lossy()].map(str::to_owned);
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        self.agent = Some(Program::start(Some(&self.netns()), &command, &self.folder.join("agent.log"))?);
        Ok(())
    }

    /// Whether the agent runs: it was started and did not end.
    pub fn agent_runs(&mut self) -> bool {
        self.agent.as_mut().is_some_and(Program::runs)
    }

    /// Kills the agent at once.
    pub fn kill_agent(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            agent.kill();
        }
    }

    /// Everything that the agent said.
    #[must_use]
    pub fn agent_log(&self) -> String {
        fs::read_to_string(self.folder.join("agent.log")).unwrap_or_default()
    }

    /// Everything that containerd said.
    #[must_use]
    pub fn containerd_log(&self) -> String {
        fs::read_to_string(self.folder.join("containerd/log")).unwrap_or_default()
    }

    /// Where the agent's configuration is.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.folder.join("agent.toml")
    }

    /// Kills everything at once and removes what a reboot forgets: mounts, `/run`, cgroups. The network is left.
    pub fn kill_everything(&mut self) {
        let ground = Ground::new(&self.full_name, &self.folder);
        ground.kill_all();
        // Both are dead; this lets the kernel forget them.
        self.kill_agent();
        self.kill_containerd();
        ground.forget();
        for folder in [self.folder.join("run"), self.folder.join("containerd/state")] {
            let _never_made = fs::remove_dir_all(folder);
        }
        let _never_made = fs::remove_file(self.containerd_socket());
    }
}

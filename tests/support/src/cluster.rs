//! The bed: a whole cluster on one machine. A scheduler, a registry and nodes with real containerd, each in a network
//! namespace of its own on one local network; [`Bed`] takes everything away when it goes, also when a test panics.

use std::{
    collections::BTreeMap,
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use api_types::view::{InstanceView, List, NodeView, WorkloadView};
use serde_json::Value;

use crate::{
    http::{Reply, get},
    netns::{self, Lan, inside},
    node::Node,
    program::{self, Program},
    registry::Registry,
    settings,
    sweep::{Ground, clear_abandoned},
    wait::try_wait_for,
};

/// Where the scheduler is on the local network.
pub const SCHEDULER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// Where the node behind a router is on its own network.
const HIDDEN: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 2);
/// Where the registry is.
pub const REGISTRY: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 3);
/// Where somebody is who is no part of the cluster and uses its services.
pub const VISITOR: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 4);
/// The first node's address; the others follow.
const FIRST_NODE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 11);
/// How long a program may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(180);

/// A cluster on this machine.
#[derive(Debug)]
pub struct Bed {
    name: String,
    folder: PathBuf,
    ground: Ground,
    lan: Lan,
    registry: Registry,
    scheduler: Option<Program>,
    nodes: BTreeMap<String, Node>,
    keep: bool,
}

/// How a command of `wherry` ended.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// What it gave.
    pub stdout: String,
    /// What it said beside.
    pub stderr: String,
}

impl Bed {
    /// Makes the bed `name` in `folder`, with a registry and a scheduler and no node yet. What an earlier bed of this
    /// name left is removed first.
    ///
    /// # Errors
    /// If something cannot be made or does not answer.
    pub fn new(name: &str, folder: &Path) -> io::Result<Self> {
        let ground = Ground::new(name, folder);
        ground.clear()?;
        ground.prepare()?;
        let made = Self::make(name, folder, &ground);
        if made.is_err() {
            ground.clear()?;
        }
        let mut bed = made?;
        bed.init_scheduler()?;
        bed.start_scheduler()?;
        Ok(bed)
    }

    /// A bed for a test: its name and folder are this process's own.
    ///
    /// # Errors
    /// If something cannot be made or does not answer.
    pub fn for_test(purpose: &str) -> io::Result<Self> {
        clear_abandoned(&format!("wherry-{purpose}"));
        let name = format!("wherry-{purpose}{}", std::process::id());
        Self::new(&name, &std::env::temp_dir().join(&name))
    }

    fn make(name: &str, folder: &Path, ground: &Ground) -> io::Result<Self> {
        let lan = Lan::new(name)?;
        lan.attach("scheduler", SCHEDULER)?;
        lan.attach("registry", REGISTRY)?;
        lan.attach("visitor", VISITOR)?;
        let registry_netns = netns::path(&lan.namespace("registry"));
        Ok(Self {
            name: name.to_owned(),
            folder: folder.to_owned(),
            ground: ground.clone(),
            registry: Registry::start(&folder.join("registry"), &registry_netns, REGISTRY)?,
            lan,
            scheduler: None,
            nodes: BTreeMap::new(),
            keep: false,
        })
    }

    /// The registry.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The local network.
    #[must_use]
    pub fn lan(&self) -> &Lan {
        &self.lan
    }

    /// The folder with all files.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What finds everything that the bed makes.
    #[must_use]
    pub fn ground(&self) -> &Ground {
        &self.ground
    }

    /// The network namespace of `member`: a node, `scheduler`, `registry`, `visitor` or `lan`.
    #[must_use]
    pub fn netns(&self, member: &str) -> PathBuf {
        netns::path(&self.lan.namespace(member))
    }

    /// Leaves everything running when this value goes.
    pub fn keep(&mut self) {
        self.keep = true;
    }

    /// Starts the scheduler and waits until it answers.
    ///
    /// # Errors
    /// If it cannot be started or does not answer, with what it said.
    pub fn start_scheduler(&mut self) -> io::Result<()> {
        let program = program::folder()?.join("wherry-scheduler");
        let config = self.folder.join("scheduler/scheduler.toml");
        let command = [&*program.to_string_lossy(), "run", "--config", &config.to_string_lossy()].map(str::to_owned);
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        let log = self.folder.join("scheduler/log");
        self.scheduler = Some(Program::start(Some(&self.netns("scheduler")), &command, &log)?);
        let answers = try_wait_for(START_LIMIT, || {
            let runs = self.scheduler.as_mut().is_some_and(Program::runs);
            (!runs || self.wherry(&["get", "nodes", "-o", "json"]).is_ok_and(|answer| answer.code == Some(0)))
                .then_some(runs)
        });
        if answers == Some(true) {
            return Ok(());
        }
        let asked = self.wherry(&["get", "nodes"])?;
        Err(io::Error::other(format!("the scheduler does not answer: {}\n{}", asked.stderr, self.scheduler_log())))
    }

    /// The scheduler's process id, while it runs.
    #[must_use]
    pub fn scheduler_pid(&self) -> Option<u32> {
        self.scheduler.as_ref().map(Program::pid)
    }

    /// Kills the scheduler at once.
    pub fn kill_scheduler(&mut self) {
        if let Some(mut scheduler) = self.scheduler.take() {
            scheduler.kill();
        }
    }

    /// Everything that the scheduler said.
    #[must_use]
    pub fn scheduler_log(&self) -> String {
        fs::read_to_string(self.folder.join("scheduler/log")).unwrap_or_default()
    }

    /// Adds a node, joins it and starts its agent.
    ///
    /// # Errors
    /// If a part of it cannot be made or started.
    pub fn add_node(&mut self, name: &str) -> io::Result<()> {
        let token = self.join_token(name)?;
        self.add_machine(name)?;
        self.node(name).join(&token)?;
        self.node_mut(name).start_agent()
    }

    /// Adds a machine with containerd that has not joined.
    ///
    /// # Errors
    /// If a part of it cannot be made or started.
    pub fn add_machine(&mut self, name: &str) -> io::Result<()> {
        let offset = u32::try_from(self.nodes.len()).map_err(io::Error::other)?;
        let address = Ipv4Addr::from(u32::from(FIRST_NODE) + offset);
        let mut node = Node::new(&self.name, name, &self.folder.join(name), address);
        node.plug_in(&self.lan)?;
        node.start_containerd()?;
        self.nodes.insert(name.to_owned(), node);
        Ok(())
    }

    /// Adds a machine with containerd that has not joined, on a network of its own behind a router: it reaches all others, and
    /// they do not reach it. One of a bed.
    ///
    /// # Errors
    /// If a part of it cannot be made or started.
    pub fn add_hidden_machine(&mut self, name: &str) -> io::Result<()> {
        let mut node = Node::new(&self.name, name, &self.folder.join(name), HIDDEN);
        self.lan.attach_behind_nat(name, HIDDEN)?;
        node.start_containerd()?;
        self.nodes.insert(name.to_owned(), node);
        Ok(())
    }

    /// A join token for the node `name`.
    ///
    /// # Errors
    /// If the scheduler does not give one.
    pub fn join_token(&self, name: &str) -> io::Result<String> {
        let answer = self.wherry(&["node", "add", name, "-o", "json"])?;
        let view: Value = answer.json()?;
        let token = view["token"].as_str().ok_or_else(|| io::Error::other(format!("no token in {view}")))?;
        Ok(token.to_owned())
    }

    /// The node `name`.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn node(&self, name: &str) -> &Node {
        self.nodes.get(name).unwrap_or_else(|| panic!("no node {name} on this bed"))
    }

    /// The node `name`, to do something to it.
    ///
    /// # Panics
    /// If there is none.
    pub fn node_mut(&mut self, name: &str) -> &mut Node {
        self.nodes.get_mut(name).unwrap_or_else(|| panic!("no node {name} on this bed"))
    }

    /// The nodes by name.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    /// Cuts the power of the node `name`: nothing of it says goodbye, and what a reboot forgets is gone.
    ///
    /// # Errors
    /// If its network cannot be taken away.
    pub fn cut_power(&mut self, name: &str) -> io::Result<()> {
        self.lan.unplug(name)?;
        self.node_mut(name).kill_everything();
        self.lan.detach(name)
    }

    /// Gives the node `name` its power back: network and containerd; the agent is not started yet.
    ///
    /// # Errors
    /// If a part of it cannot be made or started.
    pub fn power_on(&mut self, name: &str) -> io::Result<()> {
        let Self { lan, nodes, .. } = self;
        let node = nodes.get_mut(name).ok_or_else(|| io::Error::other(format!("no node {name}")))?;
        node.plug_in(lan)?;
        node.start_containerd()
    }

    /// Gives the node `name` its power back and starts everything on it.
    ///
    /// # Errors
    /// If a part of it cannot be made or started.
    pub fn boot(&mut self, name: &str) -> io::Result<()> {
        self.power_on(name)?;
        self.node_mut(name).start_agent()
    }

    /// Runs `wherry` as the cluster's administrator.
    ///
    /// # Errors
    /// If it cannot be run.
    pub fn wherry(&self, arguments: &[&str]) -> io::Result<Answer> {
        let output = self.wherry_command(arguments)?.output()?;
        Ok(Answer {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// `wherry` as the cluster's administrator, to be run with inputs and outputs of the caller's choice.
    ///
    /// # Errors
    /// If the program cannot be built.
    pub fn wherry_command(&self, arguments: &[&str]) -> io::Result<Command> {
        let program = program::folder()?.join("wherry");
        let program = program.to_string_lossy();
        let mut command = program::within(Some(&self.netns("visitor")), &[&program]);
        command.args(arguments).env("WHERRY_CONFIG", settings::context(&self.folder)).env("NO_COLOR", "1");
        Ok(command)
    }

    /// What `wherry ARGUMENTS -o json` gives.
    ///
    /// # Errors
    /// If it fails or gives no JSON.
    pub fn ask(&self, arguments: &[&str]) -> io::Result<Value> {
        self.wherry(&[arguments, &["-o", "json"]].concat())?.json()
    }

    /// Applies `manifest` with further arguments.
    ///
    /// # Errors
    /// If the file cannot be written or `wherry` cannot be run.
    pub fn apply(&self, manifest: &str, arguments: &[&str]) -> io::Result<Answer> {
        let file = self.folder.join("manifest.toml");
        fs::write(&file, manifest)?;
        self.wherry(&[&["apply", "-f", &file.to_string_lossy()], arguments].concat())
    }

    /// The instances of `workload` that are not over, as `wherry get instances` shows them.
    ///
    /// # Errors
    /// If the scheduler does not answer.
    pub fn instances(&self, workload: &str) -> io::Result<Vec<InstanceView>> {
        let list: List<InstanceView> = serde_json::from_value(self.ask(&["get", "instances"])?)?;
        let ours = |view: &InstanceView| view.workload.name.as_str() == workload && !view.state.is_final();
        Ok(list.items.into_iter().filter(ours).collect())
    }

    /// The nodes, as `wherry get nodes` shows them.
    ///
    /// # Errors
    /// If the scheduler does not answer.
    pub fn node_views(&self) -> io::Result<Vec<NodeView>> {
        let list: List<NodeView> = serde_json::from_value(self.ask(&["get", "nodes"])?)?;
        Ok(list.items)
    }

    /// The service `name`, as `wherry get services` shows it.
    ///
    /// # Errors
    /// If the scheduler does not answer or has no such service.
    pub fn service(&self, name: &str) -> io::Result<WorkloadView> {
        let list: List<WorkloadView> = serde_json::from_value(self.ask(&["get", "services"])?)?;
        let found = list.items.into_iter().find(|view| view.name.name.as_str() == name);
        found.ok_or_else(|| io::Error::other(format!("no service {name}")))
    }

    /// Asks `server` for `path` from inside `member`'s network namespace.
    ///
    /// # Errors
    /// If there is no whole answer within `limit`.
    pub fn get_from(&self, member: &str, server: SocketAddr, path: &str, limit: Duration) -> io::Result<Reply> {
        inside(&self.netns(member), || get(server, path, limit))?
    }

    /// Sends `count` requests from inside `member`'s network namespace, each on a connection of its own, and counts the
    /// answers by their text; those that failed are counted under the empty text.
    ///
    /// # Errors
    /// If the namespace cannot be entered.
    pub fn count_answers(&self, member: &str, server: SocketAddr, count: u32) -> io::Result<BTreeMap<String, u32>> {
        inside(&self.netns(member), || {
            let mut answers = BTreeMap::new();
            for _ in 0..count {
                let answer = get(server, "/", Duration::from_secs(10)).map(|reply| reply.text()).unwrap_or_default();
                *answers.entry(answer).or_default() += 1;
            }
            answers
        })
    }

    fn init_scheduler(&self) -> io::Result<()> {
        let folder = self.folder.join("scheduler");
        fs::create_dir_all(&folder)?;
        let config = folder.join("scheduler.toml");
        fs::write(&config, settings::scheduler(&self.folder, SCHEDULER))?;
        let program = program::folder()?.join("wherry-scheduler");
        let arguments = settings::init_arguments(&config, &self.folder);
        let output =
            program::within(Some(&self.netns("scheduler")), &[&program.to_string_lossy()]).args(arguments).output()?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(io::Error::other(format!("wherry-scheduler init failed: {said}")))
    }
}

impl Answer {
    /// What it gave, as JSON.
    ///
    /// # Errors
    /// If it failed, or gave something else.
    pub fn json(&self) -> io::Result<Value> {
        if self.code != Some(0) {
            return Err(io::Error::other(format!("wherry ended with {:?}: {}", self.code, self.stderr)));
        }
        serde_json::from_str(&self.stdout).map_err(|error| io::Error::other(format!("{error} in {}", self.stdout)))
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        let _reported_by_the_next_look = self.ground.clear();
    }
}

//! What a test stands on: a containerd, a network namespace, the adapter, and an image of busybox.

use std::{
    collections::BTreeMap,
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Output,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use agent_containerd::{Attempt, Containerd, Event, Registry, Secrets, Settings, StartError, StartRequest};
use api_types::{
    assignment::Assignment,
    container::ContainerSpec,
    counter::Revision,
    id::{InstanceId, NodeId},
    instance::{Desired, Exit},
    resources::ResourceSpec,
    restart::RestartSpec,
};
use serde_json::Value;
use tests_support::{
    containerd::{self, Containerd as Daemon},
    netns,
    oci::Image,
    program,
    show::show,
    sweep::Ground,
    wait::{try_wait_for, wait_until},
};
use tokio::sync::mpsc;

/// How long anything may take on a slow and busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);
/// The image that most tests run.
pub(crate) const IMAGE: &str = "test.lan/busybox:1";
/// The node's name.
const NODE: &str = "edge-1";

pub(crate) struct Bed {
    name: String,
    ground: Ground,
    folder: PathBuf,
    daemon: Daemon,
    pub(crate) adapter: Containerd,
}

impl Bed {
    /// Starts containerd; no image is there.
    pub(crate) async fn empty() -> Self {
        Self::with(|_| {}).await
    }

    /// Starts containerd and takes in the image of busybox.
    pub(crate) async fn new() -> Self {
        Self::new_with(|_| {}).await
    }

    /// The same with changed settings.
    pub(crate) async fn new_with(change: impl FnOnce(&mut Settings)) -> Self {
        let bed = Self::with(change).await;
        bed.import(&Image::busybox().expect("busybox-static is installed"), IMAGE).await;
        bed
    }

    /// Starts containerd with changed settings.
    pub(crate) async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("wherry-rt{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(&name);
        let ground = Ground::new(&name, &folder);
        ground.prepare().expect("a place for containerd's layers");
        let daemon = Daemon::start(&folder.join("containerd"), None);
        let daemon = daemon.expect("containerd starts: `make test` installs it, and it needs root");
        netns::ip(&["netns", "add", &name]).expect("a network namespace");
        let mut settings = settings(&name, &folder);
        change(&mut settings);
        let adapter = Containerd::connect(settings).await.expect("settings that make sense");
        Self { name, ground, folder, daemon, adapter }
    }

    /// The adapter as a later run of the agent would make it.
    pub(crate) async fn second_adapter(&self) -> Containerd {
        Containerd::connect(settings(&self.name, &self.folder)).await.expect("settings that make sense")
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn containerd_pid(&self) -> u32 {
        self.daemon.pid()
    }

    pub(crate) fn kill_containerd(&mut self) {
        self.daemon.kill();
    }

    pub(crate) fn start_containerd(&mut self) {
        self.daemon = Daemon::start(&self.folder.join("containerd"), None).expect("containerd starts again");
    }

    pub(crate) fn ctr(&self, arguments: &[&str]) -> Output {
        self.daemon.ctr(&self.name, arguments).expect("ctr runs")
    }

    /// Where runc keeps what it knows of a container.
    pub(crate) fn runtime_state(&self, id: &str) -> PathBuf {
        Path::new("/run/containerd/runc").join(&self.name).join(id)
    }

    /// How many processes of a container live, as its cgroup lists them: dead ones that nobody has waited for are left out.
    pub(crate) fn processes(&self, id: &str) -> usize {
        let of = |hierarchy: &str| Path::new(hierarchy).join(&self.name).join(NODE).join(id).join("cgroup.procs");
        let read = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"].map(|hierarchy| fs::read_to_string(of(hierarchy)));
        read.into_iter().flatten().next().map_or(0, |processes| processes.lines().count())
    }

    pub(crate) async fn import(&self, image: &Image, name: &str) {
        let file = self.folder.join("image.tar");
        fs::write(&file, image.archive(name).expect("an archive")).expect("written");
        assert_eq!(self.adapter.import_image(&file).await.expect("imported"), [name]);
    }

    pub(crate) async fn start(&self, assignment: &Assignment, attempt: impl Into<Attempt>) -> Result<u32, StartError> {
        self.start_with(assignment, attempt, &Secrets::new()).await
    }

    pub(crate) async fn start_with(
        &self,
        assignment: &Assignment,
        attempt: impl Into<Attempt>,
        secrets: &Secrets,
    ) -> Result<u32, StartError> {
        let netns = netns::path(&self.name);
        let address = Ipv4Addr::new(10, 42, 0, 7);
        let attempt = attempt.into();
        self.adapter.start(&StartRequest { assignment, attempt, netns, address, name_server: None, secrets }).await
    }

    /// Runs a shell script to its end and gives how it ended and what it said.
    pub(crate) async fn run(
        &self,
        name: &str,
        change: impl FnOnce(&mut ContainerSpec),
        script: &str,
    ) -> (Exit, Vec<String>) {
        let mut assignment = assignment(name, &["/bin/sh", "-c", script]);
        change(&mut assignment.container);
        self.run_assigned(&assignment).await
    }

    /// Runs an assignment to its end and gives how it ended and what it said.
    pub(crate) async fn run_assigned(&self, assignment: &Assignment) -> (Exit, Vec<String>) {
        self.start(assignment, 0).await.expect("started");
        let exit = self.adapter.wait(&assignment.instance, 0).await.expect("an exit");
        self.adapter.remove(&assignment.instance, 0).await.expect("removed");
        let lines = self.all_lines(&assignment.instance).await;
        (exit, lines)
    }

    /// Everything that an instance said, once its logger is done: it ends with the removal of the container.
    pub(crate) async fn all_lines(&self, instance: &InstanceId) -> Vec<String> {
        let directory = self.folder.join("logs").join(instance.as_str());
        wait_until(LIMIT, || !loggers().contains(&directory.display().to_string()));
        let (sender, mut lines) = mpsc::channel(10_000);
        match self.adapter.logs(instance, None, None, false, sender).await {
            Ok(()) => {}
            Err(error) => panic!("{error}"),
        }
        let mut texts = Vec::new();
        while let Ok(line) = lines.try_recv() {
            texts.push(line.text);
        }
        texts
    }

    /// Follows events; the first that counts is waited for.
    pub(crate) async fn events(&self) -> mpsc::Receiver<Event> {
        let (sender, mut events) = mpsc::channel(1000);
        let adapter = self.adapter.clone();
        tokio::spawn(async move { adapter.events(sender).await });
        assert_eq!(next(&mut events).await, Event::Changed);
        events
    }

    /// Everything of an attempt that containerd and the kernel could still have.
    pub(crate) fn leftovers(&self) -> String {
        let lists = [&["containers", "ls", "-q"][..], &["tasks", "ls", "-q"], &["leases", "ls", "-q"]];
        let mut left: String =
            lists.iter().map(|list| String::from_utf8_lossy(&self.ctr(list).stdout).into_owned()).collect();
        let snapshots = self.ctr(&["snapshots", "--snapshotter", "overlayfs", "ls"]);
        left.extend(
            String::from_utf8_lossy(&snapshots.stdout)
                .lines()
                .filter(|line| line.contains("Active"))
                .map(str::to_owned),
        );
        for hierarchy in ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"] {
            let cgroups = Path::new(hierarchy).join(&self.name).join(NODE);
            let below = fs::read_dir(cgroups).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir());
            left.extend(below.map(|entry| entry.path().display().to_string()));
        }
        left
    }

    pub(crate) fn wait_until_nothing_is_left(&self) {
        let left = || (!self.leftovers().is_empty()).then(|| self.leftovers());
        if try_wait_for(LIMIT, || left().is_none().then_some(())).is_none() {
            panic!("left behind: {:?}", left());
        }
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            show("containerd", &self.daemon.log());
            for list in ["containers", "tasks"] {
                let listed = self.daemon.ctr(&self.name, &[list, "ls"]);
                show(list, &listed.map(|output| format!("{output:?}")).unwrap_or_else(|error| error.to_string()));
            }
        }
        let cleared = self.ground.clear();
        let left = self.ground.leftovers();
        if !std::thread::panicking() {
            assert!(cleared.is_ok() && left.is_empty(), "{cleared:?}, left behind: {left:?}");
        }
    }
}

/// The next event.
pub(crate) async fn next(events: &mut mpsc::Receiver<Event>) -> Event {
    tokio::time::timeout(LIMIT, events.recv()).await.expect("an event in time").expect("an open channel")
}

/// An instance that runs `command` on busybox.
pub(crate) fn assignment(name: &str, command: &[&str]) -> Assignment {
    let container: Value = serde_json::json!({"image": IMAGE, "command": command, "stop_grace_ms": 1000});
    Assignment {
        devices: Vec::new(),
        instance: InstanceId::new(name).expect("a name"),
        workload: "shop/web".parse().expect("a workload"),
        slot: 0,
        revision: Revision(3),
        desired: Desired::Run,
        container: serde_json::from_value(container).expect("a container"),
        resources: ResourceSpec { memory_bytes_max: 32 << 20, ..ResourceSpec::default() },
        companions: Vec::new(),
        after: Vec::new(),
        ports: Vec::new(),
        probe: None,
        restart: RestartSpec::default(),
        is_judged: false,
        ipv6: false,
        retries: None,
        stop_after_ms: None,
        secrets: BTreeMap::new(),
    }
}

pub(crate) fn registry(host: &str) -> Registry {
    Registry { host: host.to_owned(), plain_http: false, ca_file: None, username: None, password: None }
}

fn settings(name: &str, folder: &Path) -> Settings {
    Settings {
        socket: containerd::socket(&folder.join("containerd")),
        namespace: name.to_owned(),
        node: NodeId::new(NODE).expect("a name"),
        snapshotter: "overlayfs".to_owned(),
        cgroup_parent: format!("/{name}"),
        log_dir: folder.join("logs"),
        log_bytes_max: 64 << 10,
        log_files_max: 3,
        logger: program::folder().expect("our programs are built").join("wherry-logger"),
        run_dir: folder.join("run"),
        registries: Vec::new(),
        host_path_prefixes: vec![folder.join("allowed")],
        capabilities_ceiling: vec!["SYS_TIME".to_owned()],
        volumes_dir: folder.join("volumes"),
        devices: BTreeMap::new(),
    }
}

/// The command lines of all loggers.
fn loggers() -> String {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let commands = processes.filter_map(|process| fs::read_to_string(process.path().join("cmdline")).ok());
    commands.filter(|command| command.contains("wherry-logger")).map(|command| command.replace('\0', " ")).collect()
}

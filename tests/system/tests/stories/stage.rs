//! The cluster that the stories share, and the words they are told in.

use std::{error::Error, fs, net::SocketAddr, path::PathBuf, time::Duration};

use api_types::{
    node::{Availability, Liveness},
    view::{InstanceView, List, WorkloadView},
};
use tests_support::{cluster::Bed, netns, wait::try_wait_for};
use tests_system::{
    cluster::{state, until_healthy, until_node},
    shop,
};

/// How a story ends.
pub(crate) type Outcome = Result<(), Box<dyn Error>>;

/// The nodes.
pub(crate) const NODES: [&str; 3] = ["edge-1", "edge-2", "edge-3"];
/// How long anything may take on a slow machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(180);

/// A whole cluster with an image.
pub(crate) struct Stage {
    /// The cluster.
    pub(crate) bed: Bed,
    /// The image of the web server.
    pub(crate) image: String,
}

impl Stage {
    /// Lays a bed with three nodes.
    pub(crate) fn new() -> Result<Self, Box<dyn Error>> {
        let mut bed = Bed::for_test("system")?;
        let image = bed.registry().push(&shop::image()?, "test/hello", "1")?;
        for name in NODES {
            bed.add_node(name)?;
        }
        for name in NODES {
            until_node(&bed, name, Liveness::Ready, LIMIT)?;
        }
        Ok(Self { bed, image })
    }

    /// Makes the cluster whole and empty, as every story finds it.
    pub(crate) fn calm(&self) -> Outcome {
        for kind in ["services", "daemons", "jobs"] {
            let list: List<WorkloadView> = serde_json::from_value(self.bed.ask(&["get", kind])?)?;
            for workload in list.items {
                self.wherry(&["delete", &workload.name.to_string(), "--yes"])?;
            }
        }
        for name in NODES {
            until_node(&self.bed, name, Liveness::Ready, LIMIT)?;
            if self
                .bed
                .node_views()?
                .iter()
                .any(|view| view.name.as_str() == name && view.availability != Availability::Active)
            {
                self.wherry(&["uncordon", name])?;
            }
            self.until("a node is empty", || self.containers(name).is_some_and(|containers| containers.is_empty()))?;
        }
        Ok(())
    }

    /// Runs `wherry`, which must succeed, and gives what it printed.
    pub(crate) fn wherry(&self, arguments: &[&str]) -> Result<String, Box<dyn Error>> {
        let answer = self.bed.wherry(arguments)?;
        if answer.code != Some(0) {
            return Err(format!("wherry {arguments:?} ended with {:?}: {}", answer.code, answer.stderr).into());
        }
        Ok(answer.stdout)
    }

    /// Applies a manifest, which must succeed, without waiting for what follows.
    pub(crate) fn apply(&self, manifest: &str) -> Outcome {
        let answer = self.bed.apply(manifest, &["--detach"])?;
        self.must(answer.code == Some(0), || format!("apply ended with {:?}: {}", answer.code, answer.stderr))
    }

    /// Runs `web` with `replicas` until all are healthy.
    pub(crate) fn run_web(&self, replicas: u32) -> Result<Vec<InstanceView>, Box<dyn Error>> {
        self.run(&shop::manifest(&self.image, replicas), replicas)
    }

    /// The same, of which nothing is replaced elsewhere however long its node is silent: how long a story's trouble takes
    /// depends on the machine, and what is replaced in time on one must stay on all.
    pub(crate) fn run_lasting_web(&self, replicas: u32) -> Result<Vec<InstanceView>, Box<dyn Error>> {
        let manifest = shop::manifest(&self.image, replicas);
        self.run(&format!("{manifest}\n[service.web.disconnect]\nreplace_after = \"never\"\n"), replicas)
    }

    fn run(&self, manifest: &str, replicas: u32) -> Result<Vec<InstanceView>, Box<dyn Error>> {
        // A probe that a busy machine does not answer in time must not restart anything here.
        self.apply(&manifest.replace("= \"1s\"", "= \"20s\""))?;
        Ok(until_healthy(&self.bed, "web", usize::try_from(replicas)?, LIMIT)?.0)
    }

    /// Shows that every agent is in command of its node, by having each start something, and ends that again. What an
    /// agent would do wrong to the others after a restart is done when this returns.
    pub(crate) fn prove_command(&self) -> Outcome {
        let manifest = format!("name = \"proof\"\n[daemon.proof]\nimage = \"{}\"\n", self.image);
        self.apply(&manifest)?;
        until_healthy(&self.bed, "proof", NODES.len(), LIMIT)?;
        self.wherry(&["delete", "proof", "--yes"])?;
        self.until("the proof is gone", || self.bed.instances("proof").is_ok_and(|left| left.is_empty()))
    }

    /// What the scheduler thinks of a node; `None` while it does not answer.
    pub(crate) fn liveness(&self, node: &str) -> Option<Liveness> {
        let views = self.bed.node_views().ok()?;
        views.into_iter().find(|view| view.name.as_str() == node).map(|view| view.liveness)
    }

    /// Waits until `condition` holds.
    pub(crate) fn until(&self, what: &str, mut condition: impl FnMut() -> bool) -> Outcome {
        let held = try_wait_for(LIMIT, || condition().then_some(()));
        self.must(held.is_some(), || format!("not within {LIMIT:?}: {what}"))
    }

    /// Fails the story with a look at the cluster unless `holds`.
    pub(crate) fn must(&self, holds: bool, otherwise: impl FnOnce() -> String) -> Outcome {
        if holds { Ok(()) } else { Err(format!("{}\n{}", otherwise(), state(&self.bed)).into()) }
    }

    /// Waits until as many different replicas answer at `server` as `count`, and nothing fails.
    pub(crate) fn until_answered_by(&self, from: &str, server: SocketAddr, count: usize) -> Outcome {
        self.until(&format!("{count} replicas answer at {server} from {from}"), || {
            let seen = self.bed.count_answers(from, server, 30);
            seen.is_ok_and(|seen| seen.len() == count && !seen.contains_key(""))
        })
    }

    /// The containers on a node, as containerd lists them; `None` while it does not answer.
    pub(crate) fn containers(&self, node: &str) -> Option<Vec<String>> {
        let output = self.bed.node(node).ctr(&["containers", "list", "--quiet"]).ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        output.status.success().then(|| text.split_whitespace().map(str::to_owned).collect())
    }

    /// The process ids of the running containers on a node, by container, as containerd lists them.
    pub(crate) fn running(&self, node: &str) -> Option<Vec<(String, u32)>> {
        let output = self.bed.node(node).ctr(&["tasks", "list"]).ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = |line: &str| {
            let mut words = line.split_whitespace();
            let (name, pid, state) = (words.next()?, words.next()?, words.next()?);
            (state == "RUNNING").then(|| Some((name.to_owned(), pid.parse().ok()?))).flatten()
        };
        output.status.success().then(|| text.lines().filter_map(line).collect())
    }

    /// The first instance of `web` with the reason it gives, once that holds one of `words`; the state must be one
    /// of a thing that is not well.
    pub(crate) fn until_reason(&self, workload: &str, words: &[&str]) -> Result<InstanceView, Box<dyn Error>> {
        let fits = |view: &InstanceView| words.iter().any(|word| view.reason.to_lowercase().contains(word));
        let found = try_wait_for(LIMIT, || self.bed.instances(workload).ok()?.into_iter().find(fits));
        found.ok_or_else(|| format!("no instance of {workload} says one of {words:?}\n{}", state(&self.bed)).into())
    }

    /// Writes a file into the bed's folder and gives its path.
    pub(crate) fn file(&self, name: &str, content: &[u8]) -> Result<PathBuf, Box<dyn Error>> {
        let path = self.bed.folder().join(name);
        fs::write(&path, content)?;
        Ok(path)
    }
}

/// Asks `server` from inside the network namespace of the process `pid`.
pub(crate) fn ask_from_process(pid: u32, server: SocketAddr) -> Result<String, Box<dyn Error>> {
    let netns = PathBuf::from(format!("/proc/{pid}/ns/net"));
    Ok(netns::inside(&netns, || tests_support::http::get(server, "/", Duration::from_secs(20)))??.text())
}

//! The only place that knows containerd: images, containers, processes, their output and usage.
//!
//! Everything is idempotent. [`Containerd::events`] only wakes: after a (re)connection it sends [`Event::Changed`], and
//! [`Containerd::list`] is the truth. An attempt's exit comes as [`Event::Exited`], so that no call per process is needed.

use std::{collections::BTreeSet, fmt, net::Ipv4Addr, path::PathBuf, sync::Arc};

use api_types::{
    assignment::Assignment,
    counter::Revision,
    id::{InstanceId, WorkloadId},
    instance::Exit,
    time::Timestamp,
};

use tokio::sync::Semaphore;

use crate::{
    cgroup::Cgroups,
    connection::{Connection, SHORT},
    exec::ExecIds,
    identity::container_id,
    images::Images,
    marks::{Removed, Starting},
    oci::NodeLimits,
    start::node_limits,
};

mod account_files;
mod archive;
mod attach;
mod cgroup;
mod challenge;
mod connection;
mod connections;
mod console;
mod content;
mod copy;
mod devices;
mod documents;
mod error;
mod exec;
mod identity;
mod images;
mod intake;
mod leases;
mod logs;
mod marks;
mod mounts;
mod observe;
mod oci;
mod own_files;
mod percent;
mod problem;
mod process;
mod reference;
mod registry;
mod seccomp;
mod settings;
mod shown;
mod signal;
mod start;
mod transport;
mod unpack;
mod user;
mod views;
mod volumes;

pub use crate::{
    attach::{Attached, Written},
    console::Console,
    devices::DeviceFile,
    error::{CopyError, Error, ExecError, ImageError, LogError, StartError},
    exec::{Exec, ExecRequest, Running},
    settings::{Registry, Settings},
    shown::Secrets,
};

/// Containers that are started at the same time: more only wait for each other in the runtime.
const STARTS_AT_ONCE: usize = 8;

/// Which container of an instance, and which attempt of it, from 0. A bare number is one of the main container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attempt {
    /// Which of the assignment's companions, by its place in their list; `None` = the main container.
    pub companion: Option<u8>,
    /// The number of the attempt. Each container counts its own.
    pub number: u32,
}

/// Names the first companion of an instance; the others follow in the alphabet, which has more letters than there may be.
const FIRST_COMPANION_LETTER: u8 = b'a';

impl From<u32> for Attempt {
    fn from(number: u32) -> Self {
        Self { companion: None, number }
    }
}

impl fmt::Display for Attempt {
    /// `4`, and `4b` for the second companion.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.companion.map(|index| FIRST_COMPANION_LETTER.saturating_add(index)) {
            Some(letter) => write!(formatter, "{}{}", self.number, char::from(letter)),
            None => write!(formatter, "{}", self.number),
        }
    }
}

/// One thing that containerd told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The attempt's process ended.
    Exited {
        /// Whose.
        instance: InstanceId,
        /// Which attempt of which of its containers.
        attempt: Attempt,
        /// How.
        exit: Exit,
    },
    /// Something changed behind our back, or events may have been missed: list again. Always the first event after a
    /// (re)connection.
    Changed,
    /// containerd is away; [`Event::Changed`] follows its return.
    Away {
        /// What the connection said.
        reason: String,
    },
}

/// A container of ours that containerd has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Whose.
    pub instance: InstanceId,
    /// Which attempt of which of its containers.
    pub attempt: Attempt,
    /// The workload it was made for.
    pub workload: WorkloadId,
    /// The spec's version it was made from.
    pub revision: Revision,
    /// What its process does.
    pub process: FoundProcess,
}

/// What a found container's process does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FoundProcess {
    /// It runs.
    Running {
        /// Its process id on the node.
        pid: u32,
        /// When its container was made.
        started_at: Timestamp,
    },
    /// It ended, or never began: then [`Exit::Unknown`].
    Ended(Exit),
}

/// What to start.
#[derive(Clone, Debug)]
pub struct StartRequest<'a> {
    /// What the scheduler said.
    pub assignment: &'a Assignment,
    /// Which attempt of which of its containers.
    pub attempt: Attempt,
    /// The file of the instance's network namespace.
    pub netns: PathBuf,
    /// The instance's address.
    pub address: Ipv4Addr,
    /// Where it asks for names; `None` = the node's own name servers.
    pub name_server: Option<Ipv4Addr>,
    /// The secrets of this node.
    pub secrets: &'a Secrets,
}

/// One reading of what an attempt uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UsageSample {
    /// CPU time since its start, in nanoseconds.
    pub cpu_nanoseconds: u64,
    /// Bytes of memory without reclaimable file pages.
    pub memory_bytes: u64,
    /// Processes and threads.
    pub pids: u64,
    /// TCP connections that were ever opened to the instance; `None` = not known, as for companions, which share its network.
    pub connections: Option<u64>,
}

/// One image of this node being got ready.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PullProgress {
    /// Bytes of its layers that are here.
    pub bytes_done: u64,
    /// Bytes of its layers.
    pub bytes_total: u64,
}

/// The adapter; a clone is the same one.
#[derive(Clone, Debug)]
pub struct Containerd {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    settings: Settings,
    connection: Connection,
    cgroups: Cgroups,
    limits: NodeLimits,
    images: Images,
    starts: Semaphore,
    starting: Starting,
    removed: Removed,
    execs: ExecIds,
}

impl Containerd {
    /// Makes the adapter inside a runtime. Dials lazily: containerd need not be there yet.
    ///
    /// # Errors
    /// When a setting makes no sense or its directories cannot be made.
    pub async fn connect(settings: Settings) -> Result<Self, Error> {
        settings.check()?;
        for directory in [&settings.log_dir, &settings.run_dir] {
            let made = tokio::fs::create_dir_all(directory).await;
            made.map_err(|source| Error::File { path: directory.clone(), source })?;
        }
        let connection = Connection::new(settings.socket.clone(), &settings.namespace)?;
        // With the node's name: whatever two nodes of one machine agree on, neither ever sweeps the other's.
        let cgroups = Cgroups::new(format!("{}/{}", settings.cgroup_parent.trim_end_matches('/'), settings.node));
        let limits = node_limits(cgroups.limits_swap());
        let inner = Inner {
            settings,
            connection,
            cgroups,
            limits,
            images: Images::new(),
            starts: Semaphore::new(STARTS_AT_ONCE),
            starting: Starting::default(),
            removed: Removed::default(),
            execs: ExecIds::new(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Gives containerd's version.
    ///
    /// # Errors
    /// When containerd is away.
    pub async fn version(&self) -> Result<String, Error> {
        let connection = &self.inner.connection;
        let answer = connection.version().version(connection.request((), SHORT)).await;
        Ok(answer.map_err(connection.failed("to tell its version"))?.into_inner().version)
    }

    /// Removes what a former run of ours left half-made: processes in our cgroups that no container owns, and commands
    /// that nobody waits for. Parts of a
    /// broken pull stay for the next try and expire by themselves. To be called once, before the first start.
    ///
    /// # Errors
    /// When containerd is away or refuses.
    pub async fn sweep(&self) -> Result<(), Error> {
        let mut known: BTreeSet<String> =
            self.list_containers().await?.into_iter().map(|container| container.id).collect();
        known.extend(self.inner.starting.ids());
        self.inner.cgroups.sweep(&known).await;
        self.sweep_pipes(|id| known.contains(id))?;
        self.sweep_execs().await;
        Ok(())
    }

    /// Reads what the attempt uses, from its cgroup and its network; `None` when it is gone.
    #[must_use]
    pub fn usage(&self, instance: &InstanceId, attempt: impl Into<Attempt>) -> Option<UsageSample> {
        let (cgroups, attempt) = (&self.inner.cgroups, attempt.into());
        let id = container_id(instance, attempt);
        let process = || cgroups.first_process(&id).filter(|_| attempt.companion.is_none());
        Some(UsageSample { connections: process().and_then(connections::opened), ..cgroups.usage(&id)? })
    }
}

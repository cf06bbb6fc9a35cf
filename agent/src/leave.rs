//! Takes everything of ours from this node: containers, networks, balancing, and on request what is on disk.

use std::{
    fs, io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::Duration,
};

use agent_containerd::{Containerd, Found};
use agent_network::Network;
use futures_util::{StreamExt, stream};
use thiserror::Error;

use crate::{
    config::{Config, ConfigProblem},
    membership::{self, Membership, MembershipError},
};

/// How long an instance may take to end.
const GRACE: Duration = Duration::from_secs(10);
/// How many end at once.
const STOPS_MAX: usize = 16;
/// Where the kernel shows its control groups.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Why something is left.
#[derive(Debug, Error)]
pub(crate) enum LeaveError {
    /// The state directory is in use, or cannot be read.
    #[error(transparent)]
    Membership(#[from] MembershipError),
    /// A setting makes no sense.
    #[error(transparent)]
    Setting(#[from] ConfigProblem),
    /// containerd is away or refuses.
    #[error(transparent)]
    Containerd(#[from] agent_containerd::Error),
    /// The kernel refuses.
    #[error(transparent)]
    Network(#[from] agent_network::Error),
    /// A directory resists.
    #[error("cannot remove {path}: {source}")]
    Directory {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
}

/// Stops and removes everything of ours; with `purge` also identity, state and output.
pub(crate) async fn leave(config: &Config, purge: bool) -> Result<(), LeaveError> {
    let lock = membership::lock(&config.agent.state_dir)?;
    if let Some(membership) = Membership::load(&config.agent.state_dir)? {
        let containerd = Containerd::connect(config.containerd_settings(membership.node)?).await?;
        let found = containerd.list().await?;
        let mut removals = stream::iter(found).map(|found| remove(&containerd, found)).buffer_unordered(STOPS_MAX);
        let mut first = Ok(());
        while let Some(removed) = removals.next().await {
            first = first.and(removed);
        }
        first?;
        containerd.forget_shown();
    }
    // No plan is programmed, so the node's own address does not matter.
    Network::new(config.network_settings(Ipv4Addr::LOCALHOST))?.remove_all().await?;
    remove_cgroups(&config.containerd.cgroup_parent);
    remove_directory(&config.agent.run_dir)?;
    if purge {
        remove_directory(&config.agent.log_dir)?;
        remove_directory(&config.agent.state_dir)?;
    }
    drop(lock);
    Ok(())
}

async fn remove(containerd: &Containerd, found: Found) -> Result<(), agent_containerd::Error> {
    containerd.stop(&found.instance, found.attempt, None, GRACE).await?;
    containerd.remove(&found.instance, found.attempt).await
}

/// Removes our empty control groups; what still holds a process stays, and is no harm.
fn remove_cgroups(parent: &str) {
    let parent = parent.trim_matches('/');
    if parent.is_empty() {
        return;
    }
    for hierarchy in directories(Path::new(CGROUPS)).chain([CGROUPS.into()]) {
        remove_cgroup(&hierarchy.join(parent));
    }
}

/// Removes a control group after those below it: the kernel takes only empty ones.
fn remove_cgroup(path: &Path) {
    for below in directories(path) {
        remove_cgroup(&below);
    }
    fs::remove_dir(path).ok();
}

fn directories(path: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    // The type in the entry itself: a link is not followed out of the tree.
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path())
}

fn remove_directory(path: &Path) -> Result<(), LeaveError> {
    match fs::remove_dir_all(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(LeaveError::Directory { path: path.display().to_string(), source })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

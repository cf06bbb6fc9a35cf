//! What the programs of a bed are told: their configuration files and arguments.

use std::{
    io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use crate::{
    cluster::{REGISTRY, SCHEDULER},
    node::Node,
    program,
};

/// The scheduler's configuration, for the bed in `folder`.
#[must_use]
pub fn scheduler(folder: &Path, address: Ipv4Addr) -> String {
    format!(
        "[state]\ndir = \"{}\"\n[api]\nadvertise = \"{address}\"\n[log]\nlevel = \"info\"\n",
        folder.join("scheduler/state").display()
    )
}

/// What follows `wherry-scheduler` to make the cluster.
#[must_use]
pub fn init_arguments(config: &Path, folder: &Path) -> Vec<String> {
    let (config, context) = (config.to_string_lossy().into_owned(), context(folder).to_string_lossy().into_owned());
    vec!["init".to_owned(), "--config".to_owned(), config, "--context".to_owned(), context]
}

/// The administrator's context file: where the scheduler is, whom to trust, who one is.
#[must_use]
pub fn context(folder: &Path) -> PathBuf {
    folder.join("admin.toml")
}

/// What follows `wherry-agent` to join.
#[must_use]
pub fn join_arguments(node: &Node, token_file: &Path) -> Vec<String> {
    let (config, token) = (node.config().to_string_lossy().into_owned(), token_file.to_string_lossy().into_owned());
    [
        "join",
        "--config",
        &config,
        "--scheduler",
        &format!("{SCHEDULER}:7443"),
        "--token-file",
        &token,
        "--name",
        node.name(),
    ]
    .map(str::to_owned)
    .to_vec()
}

/// The agent's configuration.
///
/// # Errors
/// If the programs' folder is not known.
pub fn agent(node: &Node) -> io::Result<String> {
    let folder = node.folder().display();
    // Every node gives away the same, whatever the machine has: what fits is then the same everywhere.
    Ok(format!(
        "[agent]\nstate_dir = \"{folder}/state\"\nrun_dir = \"{folder}/run\"\nlog_dir = \"{folder}/output\"\n\
         [containerd]\nsocket = \"{socket}\"\nnamespace = \"{name}\"\ncgroup_parent = \"/{name}\"\n\
         logger = \"{programs}/wherry-logger\"\n[capacity]\ncpu_millis = 4000\nmemory_bytes = 4294967296\n\
         [network]\nallow_host_network = true\n\
         [[registry]]\nhost = \"{REGISTRY}:5000\"\nplain_http = true\n",
        socket = node.containerd_socket().display(),
        name = node.full_name(),
        programs = program::folder()?.display(),
    ))
}

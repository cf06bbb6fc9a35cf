//! The command line of `wherry-scheduler`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::replay::policy::Policy;

/// Decides what runs where.
#[derive(Clone, Debug, Parser)]
#[command(name = "wherry-scheduler", version, max_term_width = 100)]
pub struct Arguments {
    /// What to do; `run` unless said otherwise.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Where the configuration comes from.
    #[command(flatten)]
    pub settings: Settings,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Make a new cluster: its identity, its certificate authority, the administrator's token
    Init {
        /// The administrator's context file [default: ~/.config/wherry/config.toml]
        #[arg(long, value_name = "FILE")]
        context: Option<PathBuf>,
    },
    /// Run the scheduler
    Run,
    /// Look at the configuration
    Config {
        /// What about it.
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Place a list of requests on a list of nodes, without a cluster, and say how well that went
    #[command(after_long_help = REPLAY_LISTS)]
    Replay(Replay),
}

/// What is replayed.
#[derive(Clone, Debug, Args)]
pub struct Replay {
    /// The list of nodes (CSV; `--help` says which columns)
    #[arg(long, value_name = "FILE", requires = "requests", required_unless_present = "synthetic")]
    pub nodes: Option<PathBuf>,
    /// The list of requests, placed in its order or in that of its column `arrive` (CSV)
    #[arg(long, value_name = "FILE", requires = "nodes")]
    pub requests: Option<PathBuf>,
    /// A made-up mixed fleet of so many nodes, and ten replicas for each, in place of the lists
    #[arg(long, value_name = "NODES", conflicts_with_all = ["nodes", "requests"])]
    pub synthetic: Option<u32>,
    /// With `--synthetic`: what the replicas ask for of all CPUs, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 95, requires = "synthetic", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub load: u32,
    /// How nodes are chosen; several, separated by commas, are told the same story one after the other
    #[arg(long, value_enum, value_delimiter = ',', default_value = "wherry")]
    pub policy: Vec<Policy>,
    /// Columns of either list that are passed over, separated by commas
    #[arg(long, value_name = "COLUMN", value_delimiter = ',')]
    pub ignore_column: Vec<String>,
    /// What `random` and `--synthetic` draw their lots by
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How the report is written
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// How a report is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// A table for people
    Text,
    /// For programs
    Json,
}

/// What the lists look like, for `replay --help`.
const REPLAY_LISTS: &str = "\
Both lists are comma-separated values with a header; the order of the columns does not matter.

Nodes:
  name, cpu_millis, memory_mib    what the node can give away
  gpus, gpu_model                 how many, 0 to 64, all of one model (may be missing)
  zone, arch, labels              labels are key=value;key=value (may be missing)

Requests:
  name, cpu_millis, memory_mib    of one replica
  gpus         whole GPUs, or 1 for a part of one (this and all that follows may be missing)
  gpu_millis   with a part: thousandths of that one GPU, 1 to 999
  gpu_model    the models that will do: one|other
  arch         the architectures that will do: one|other
  require      what the node must be: key=value, key=one|other, key!=value, joined by ;
  count        how many replicas, 1 if it is missing
  arrive       when it comes, a whole number; the list is told in this order
  depart       when it goes, in the same unit; never if it is empty

The names of the public Alibaba trace of GPU clusters (2023) are understood too: sn, cpu_milli,
gpu, model, num_gpu, gpu_milli, gpu_spec, creation_time, deletion_time. Pass its others over:
  --ignore-column qos,pod_phase,scheduled_time

packaging/docs/replay.md says what the report means.";

/// What about the configuration.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check it, and show every setting and where it comes from
    Check,
}

/// Where the configuration comes from, the flags of its keys among it.
#[derive(Clone, Debug, Default, Args)]
pub struct Settings {
    /// The configuration file [default: /etc/wherry/scheduler.toml, if it is there]
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Where the cluster's state is [key: state.dir]
    #[arg(long, value_name = "DIR", global = true)]
    pub state_dir: Option<String>,
    /// Where people and programs ask [key: api.listen]
    #[arg(long, value_name = "ADDRESS:PORT", global = true)]
    pub api_listen: Option<String>,
    /// What people and joining nodes dial [key: api.advertise]
    #[arg(long, value_name = "HOST[:PORT]", global = true)]
    pub api_advertise: Option<String>,
    /// Where agents connect [key: session.listen]
    #[arg(long, value_name = "ADDRESS:PORT", global = true)]
    pub session_listen: Option<String>,
    /// What agents dial [key: session.advertise]
    #[arg(long, value_name = "HOST[:PORT]", global = true)]
    pub session_advertise: Option<String>,
    /// Milliseconds between two heartbeats [key: heartbeat.interval_ms]
    #[arg(long, value_name = "MS", global = true)]
    pub heartbeat_interval_ms: Option<String>,
    /// Lost nodes of one site that are given up at once [key: mass_loss.at_once]
    #[arg(long, value_name = "NODES", global = true)]
    pub mass_loss_at_once: Option<String>,
    /// Milliseconds between two more of them [key: mass_loss.interval_ms]
    #[arg(long, value_name = "MS", global = true)]
    pub mass_loss_interval_ms: Option<String>,
    /// The same while more than a fifth of the site is silent [key: mass_loss.slow_interval_ms]
    #[arg(long, value_name = "MS", global = true)]
    pub mass_loss_slow_interval_ms: Option<String>,
    /// Whether instances are moved to better nodes without anybody asking [key: rebalance.automatic]
    #[arg(long, value_name = "true|false", global = true)]
    pub rebalance_automatic: Option<String>,
    /// Seconds between two looks whether something would be better elsewhere [key: rebalance.pause_s]
    #[arg(long, value_name = "SECONDS", global = true)]
    pub rebalance_pause_s: Option<String>,
    /// Most instances on their way to better nodes at once [key: rebalance.moves_max]
    #[arg(long, value_name = "INSTANCES", global = true)]
    pub rebalance_moves_max: Option<String>,
    /// A node of which more is given away hands some on [key: rebalance.use_max_percent]
    #[arg(long, value_name = "PERCENT", global = true)]
    pub rebalance_use_max_percent: Option<String>,
    /// The range of all instances' addresses [key: network.cluster_range]
    #[arg(long, value_name = "CIDR", global = true)]
    pub network_cluster_range: Option<String>,
    /// The range of all virtual addresses [key: network.service_range]
    #[arg(long, value_name = "CIDR", global = true)]
    pub network_service_range: Option<String>,
    /// `true`: workloads admit only those of their own namespace [key: network.isolate_namespaces]
    #[arg(long, value_name = "BOOL", global = true)]
    pub network_isolate_namespaces: Option<String>,
    /// The largest archive that is taken, in bytes [key: images.archive_bytes_max]
    #[arg(long, value_name = "BYTES", global = true)]
    pub images_archive_bytes_max: Option<String>,
    /// A level, or levels by module [key: log.level]
    #[arg(long, value_name = "LEVEL", global = true)]
    pub log_level: Option<String>,
}

impl Settings {
    /// The flags by the path of their key.
    #[must_use]
    pub fn flags(&self) -> Vec<(&'static str, String)> {
        let all = [
            ("state.dir", &self.state_dir),
            ("api.listen", &self.api_listen),
            ("api.advertise", &self.api_advertise),
            ("session.listen", &self.session_listen),
            ("session.advertise", &self.session_advertise),
            ("heartbeat.interval_ms", &self.heartbeat_interval_ms),
            ("mass_loss.at_once", &self.mass_loss_at_once),
            ("mass_loss.interval_ms", &self.mass_loss_interval_ms),
            ("mass_loss.slow_interval_ms", &self.mass_loss_slow_interval_ms),
            ("rebalance.automatic", &self.rebalance_automatic),
            ("rebalance.pause_s", &self.rebalance_pause_s),
            ("rebalance.moves_max", &self.rebalance_moves_max),
            ("rebalance.use_max_percent", &self.rebalance_use_max_percent),
            ("network.cluster_range", &self.network_cluster_range),
            ("network.service_range", &self.network_service_range),
            ("network.isolate_namespaces", &self.network_isolate_namespaces),
            ("images.archive_bytes_max", &self.images_archive_bytes_max),
            ("log.level", &self.log_level),
        ];
        all.into_iter().filter_map(|(path, text)| Some((path, text.clone()?))).collect()
    }
}

//! The command line of `wherry-scheduler`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

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
}

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
    /// The range of all instances' addresses [key: network.cluster_range]
    #[arg(long, value_name = "CIDR", global = true)]
    pub network_cluster_range: Option<String>,
    /// The range of all virtual addresses [key: network.service_range]
    #[arg(long, value_name = "CIDR", global = true)]
    pub network_service_range: Option<String>,
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
            ("network.cluster_range", &self.network_cluster_range),
            ("network.service_range", &self.network_service_range),
            ("images.archive_bytes_max", &self.images_archive_bytes_max),
            ("log.level", &self.log_level),
        ];
        all.into_iter().filter_map(|(path, text)| Some((path, text.clone()?))).collect()
    }
}

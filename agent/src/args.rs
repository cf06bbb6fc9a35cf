//! The command line of `wherry-agent`.

use std::path::PathBuf;

use api_types::id::NodeId;
use clap::{Args, Parser, Subcommand};

/// Runs and balances the instances of one node.
#[derive(Debug, Parser)]
#[command(name = "wherry-agent", version, about)]
pub struct Arguments {
    /// The configuration file.
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Which log lines to write: a level, or levels by module (`info,agent=debug`).
    #[arg(long, global = true, value_name = "FILTER")]
    pub log: Option<String>,
    /// What to do; without it: run.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs this node (the default).
    Run,
    /// Joins a cluster by a token that `wherry node add` prints.
    Join(JoinArguments),
    /// Looks at the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Stops and removes every instance of this node, its networks and its balancing.
    Leave {
        /// Removes identity, state and output too.
        #[arg(long)]
        purge: bool,
    },
}

/// How to join.
#[derive(Debug, Args)]
pub struct JoinArguments {
    /// Where the scheduler is.
    #[arg(long, value_name = "HOST:PORT")]
    pub scheduler: String,
    /// The token (`WJ1-...`). Others on this machine may see it; `--token-file` hides it.
    #[arg(long, value_name = "TOKEN", required_unless_present = "token_file", conflicts_with = "token_file")]
    pub token: Option<String>,
    /// A file with the token; `-` = standard input.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// The node's name in the cluster; the machine's host name unless said otherwise.
    #[arg(long, value_name = "NAME")]
    pub name: Option<NodeId>,
    /// Gives up an earlier membership.
    #[arg(long)]
    pub force: bool,
}

/// What to look at.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Checks the configuration and prints each setting and where it came from.
    Check,
}

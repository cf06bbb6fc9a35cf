//! The command line as clap reads it.

use std::path::PathBuf;

use api_client::context::Overrides;
use clap::{Args, Parser, Subcommand};

use crate::commands::{
    apply, attach, availability, context, cp, delete, describe, exec, get, image, job, logs, net, node, plan,
    port_forward, rebalance, rollout, run, scale, secret, site, top, validate, volume, what_if, why,
};

/// What somebody new types first.
const FIRST_STEPS: &str = "First steps:
  wherry get nodes                 who is there
  wherry plan -f shop.toml         what a manifest would change, and where its instances would go
  wherry apply -f shop.toml        make it so
  wherry why web                   why they are where they are, or nowhere
  wherry what-if node-loss n1      what would come of it";

/// Runs containers on the nodes of an edge site.
///
/// Exit codes: 0 well · 1 error · 2 wrong usage · 3 `plan --exit-code` found changes · 4 an instance finds no node ·
/// 5 a change did not work · 6 not ready within --wait · 7 not allowed · 8 conflict · 9 manifest invalid. `run`, `exec` and `attach`: as the process ended.
#[derive(Debug, Parser)]
#[command(name = "wherry", version, arg_required_else_help = true, max_term_width = 110, after_help = FIRST_STEPS)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Where the scheduler is and who asks: flags over environment over the context file. The token itself is read from
/// WHERRY_TOKEN or a file only, since command lines are seen by everybody on the machine.
#[derive(Debug, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Global {
    /// The context file [default: ~/.config/wherry/config.toml]
    #[arg(long, global = true, env = "WHERRY_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// The context in that file [default: the current one]
    #[arg(long, global = true, env = "WHERRY_CONTEXT", value_name = "NAME")]
    context: Option<String>,
    /// The scheduler's address
    #[arg(long, global = true, env = "WHERRY_SERVER", value_name = "HOST:PORT")]
    server: Option<String>,
    /// A file that holds the token
    #[arg(long, global = true, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// A file that holds the cluster's CA as PEM
    #[arg(long, global = true, env = "WHERRY_CA_FILE", value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create or update what manifests say, and wait until it runs
    Apply(apply::Apply),
    Run(run::Run),
    Plan(plan::Plan),
    /// Check manifests without asking the scheduler
    Validate(validate::Validate),
    /// List nodes, services, daemons, jobs, instances, events, volumes, sites or secrets
    Get(get::Get),
    /// Show one thing with its instances and history
    Describe(describe::Describe),
    Why(why::Why),
    WhatIf(what_if::WhatIf),
    /// Begin runs of jobs
    #[command(subcommand)]
    Job(job::JobCommand),
    /// Set the number of a service's replicas
    Scale(scale::Scale),
    /// Show how a change goes; undo, pause or promote it
    #[command(subcommand)]
    Rollout(rollout::RolloutCommand),
    /// Remove a workload and its instances
    Delete(delete::Delete),
    /// Show what instances write
    Logs(logs::Logs),
    Exec(exec::Exec),
    Attach(attach::Attach),
    PortForward(port_forward::PortForward),
    Cp(cp::Copy),
    /// Show what nodes or instances use
    Top(top::Top),
    /// Move a node's instances elsewhere and place none on it
    Drain(availability::Node),
    /// Place no more instances on a node
    Cordon(availability::Node),
    /// Use a node again after cordon or drain
    Uncordon(availability::Node),
    /// Move instances to where they would be better
    Rebalance(rebalance::Rebalance),
    /// Say what is known of a site
    #[command(subcommand)]
    Site(site::SiteCommand),
    /// Try the network, or follow a packet through it
    #[command(subcommand)]
    Net(net::NetCommand),
    /// Give up data that stays on its node
    #[command(subcommand)]
    Volume(volume::VolumeCommand),
    /// Set and list secrets
    #[command(subcommand)]
    Secret(secret::SecretCommand),
    /// Add and remove nodes
    #[command(subcommand)]
    Node(node::NodeCommand),
    /// Give images to nodes
    #[command(subcommand)]
    Image(image::ImageCommand),
    /// Show and choose contexts
    #[command(subcommand)]
    Context(context::ContextCommand),
    /// Show the versions of this program and of the scheduler
    Version,
}

impl Global {
    pub(crate) fn overrides(self) -> Overrides {
        // An empty variable is as good as none.
        let said = |text: Option<String>| text.filter(|text| !text.is_empty());
        let path = |path: Option<PathBuf>| path.filter(|path| !path.as_os_str().is_empty());
        Overrides {
            config: path(self.config),
            context: said(self.context),
            server: said(self.server),
            token_file: path(self.token_file),
            ca_file: path(self.ca_file),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Arguments::command().debug_assert();
    }
}

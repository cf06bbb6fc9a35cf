//! `wherry node`: tokens for new nodes, and the end of old ones.

use std::net::IpAddr;

use api_types::{id::NodeId, join::NodeTokenRequest, view::JoinTokenView};
use clap::{Args, Subcommand};

use crate::{
    commands::{Session, counted, duration_ms, name},
    failure::Failure,
    output::amounts::{now, seconds},
};

#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// Make a join token and show the command for the new node
    Add(Add),
    /// Forget a node; its instances are replaced elsewhere
    Rm(Remove),
}

#[derive(Debug, Args)]
pub(crate) struct Add {
    /// The node's name [default: the node brings its own]
    #[arg(value_parser = name::<NodeId>)]
    name: Option<NodeId>,
    /// The site it is in
    #[arg(long)]
    site: Option<String>,
    /// A label it will have; may be given more than once
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// How long the token is good [default: 1h]
    #[arg(long = "expires", value_name = "DURATION", value_parser = duration_ms)]
    lifetime_ms: Option<u64>,
    /// How many nodes may join by it [default: 1]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    uses: Option<u32>,
    /// How to show it
    #[arg(short, long, value_parser = ["text", "json"], default_value = "text")]
    output: String,
}

#[derive(Debug, Args)]
pub(crate) struct Remove {
    /// Which node
    #[arg(value_parser = name::<NodeId>)]
    node: NodeId,
    /// Even if it is ready
    #[arg(long)]
    force: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

pub(crate) async fn run(session: &Session<'_>, command: &NodeCommand) -> Result<(), Failure> {
    match command {
        NodeCommand::Add(arguments) => add(session, arguments).await,
        NodeCommand::Rm(arguments) => remove(session, arguments).await,
    }
}

async fn add(session: &Session<'_>, arguments: &Add) -> Result<(), Failure> {
    let request = NodeTokenRequest {
        name: arguments.name.clone(),
        site: arguments.site.clone(),
        labels: arguments.labels.iter().cloned().collect(),
        lifetime_ms: arguments.lifetime_ms,
        uses: arguments.uses,
    };
    let token = session.client()?.node_token(&request).await?;
    if arguments.output == "json" {
        session.screen.data(&format!("{:#}\n", serde_json::json!(token)));
        return Ok(());
    }
    let uses = counted(usize::try_from(arguments.uses.unwrap_or(1)).unwrap_or(usize::MAX), "node");
    let left = seconds((token.expires_at.since(now()) + 500) / 1000);
    session
        .screen
        .say(&format!("This token is shown once, is good for {uses}, and ends in {left}. On the new node, as root:"));
    session.screen.data(&command_for(&token, arguments.name.as_ref()));
    if is_loopback(&token.scheduler) {
        session.screen.say(&format!(
            "warning: only the scheduler's own machine reaches {}; set api.advertise in its configuration, restart it, \
             and dial that address instead",
            token.scheduler
        ));
    }
    Ok(())
}

/// What to type on the new node; a token that is bound to a name lets in nobody else.
fn command_for(token: &JoinTokenView, name: Option<&NodeId>) -> String {
    let named = name.map(|name| format!(" --name {name}")).unwrap_or_default();
    format!("wherry-agent join --scheduler {}{named} --token {}", token.scheduler, token.token)
}

/// Whether an address (`host:port`) leads every machine to itself.
fn is_loopback(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost" || bare.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

async fn remove(session: &Session<'_>, arguments: &Remove) -> Result<(), Failure> {
    let client = session.client()?;
    if !arguments.yes {
        let instances = client.describe_node(&arguments.node).await?.instances.len();
        let what = format!("forget node `{}` and replace its {}", arguments.node, counted(instances, "instance"));
        session.confirm(arguments.yes, &what)?;
    }
    client.remove_node(&arguments.node, arguments.force).await?;
    session.screen.data(&format!("removed {}", arguments.node));
    Ok(())
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machines_own_address_is_known() {
        for own in ["127.0.0.1:7443", "localhost:7443", "[::1]:7443"] {
            assert!(is_loopback(own), "{own}");
        }
        for reached in ["192.0.2.7:7443", "scheduler.lan:7443", "[2001:db8::1]:7443", "127.example:7443"] {
            assert!(!is_loopback(reached), "{reached}");
        }
    }
}

//! `wherry drain`, `cordon` and `uncordon`.

use api_types::{id::NodeId, node::Availability};
use clap::Args;

use crate::{
    commands::{Session, name},
    failure::Failure,
};

#[derive(Debug, Args)]
pub(crate) struct Node {
    /// Which node
    #[arg(value_parser = name::<NodeId>)]
    node: NodeId,
}

pub(crate) async fn drain(session: &Session<'_>, arguments: &Node) -> Result<(), Failure> {
    set(session, arguments, Availability::Draining, "draining").await?;
    session
        .screen
        .say(&format!("watch it go: wherry get instances -w; use it again: wherry uncordon {}", arguments.node));
    Ok(())
}

pub(crate) async fn cordon(session: &Session<'_>, arguments: &Node) -> Result<(), Failure> {
    set(session, arguments, Availability::Cordoned, "cordoned").await
}

pub(crate) async fn uncordon(session: &Session<'_>, arguments: &Node) -> Result<(), Failure> {
    set(session, arguments, Availability::Active, "active").await
}

async fn set(session: &Session<'_>, arguments: &Node, wanted: Availability, word: &str) -> Result<(), Failure> {
    session.client()?.set_availability(&arguments.node, wanted).await?;
    session.screen.data(&format!("{} is {word}", arguments.node));
    Ok(())
}

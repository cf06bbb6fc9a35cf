//! `wherry context`: which scheduler is asked, and why that one.

use api_client::context::ContextFile;
use clap::{Args, Subcommand};

use crate::{
    commands::Session,
    failure::Failure,
    output::table::{facts, table},
};

#[derive(Debug, Subcommand)]
pub(crate) enum ContextCommand {
    /// List the contexts and say where address, token and CA come from
    Show,
    /// Make a context the current one
    Use(Use),
}

#[derive(Debug, Args)]
pub(crate) struct Use {
    /// Which
    name: String,
}

pub(crate) fn run(session: &Session<'_>, command: &ContextCommand) -> Result<(), Failure> {
    match command {
        ContextCommand::Show => show(session),
        ContextCommand::Use(arguments) => choose(session, &arguments.name),
    }
}

fn show(session: &Session<'_>) -> Result<(), Failure> {
    let path = session.overrides.path()?;
    let file = ContextFile::load(&path)?;
    let current = file.current.as_deref().unwrap_or("default");
    let row = |(name, context): (&String, &api_client::context::Context)| {
        let mark = if name == current { "*" } else { "" };
        vec![name.clone(), mark.to_owned(), context.server.clone().unwrap_or_default()]
    };
    let rows: Vec<Vec<String>> = file.context.iter().map(row).collect();
    if !rows.is_empty() {
        session.screen.data(&table(&["CONTEXT", "CURRENT", "SERVER"], &rows));
    }
    let resolved = session.overrides.resolve()?;
    let [server, token, ca] = resolved.origins;
    session.screen.data(&format!(
        "\n{}",
        facts(&[
            ("server", format!("{}  (from {server})", resolved.server)),
            ("token", format!("hidden  (from {token})")),
            ("ca", format!("pinned  (from {ca})")),
        ])
    ));
    Ok(())
}

fn choose(session: &Session<'_>, name: &str) -> Result<(), Failure> {
    let path = session.overrides.path()?;
    let mut file = ContextFile::load(&path)?;
    let (name, _) = file.choose(Some(name), &path)?;
    if !file.context.contains_key(&name) {
        return Err(Failure::Other(format!("{} has no contexts", path.display())));
    }
    file.current = Some(name.clone());
    file.save(&path)?;
    session.screen.data(&format!("now using {name}"));
    Ok(())
}

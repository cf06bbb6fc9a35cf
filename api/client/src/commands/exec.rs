//! `wherry exec`.

use api_types::{
    id::{InstanceId, Name},
    relay::{RelayPurpose, RelayRequest, RelayTarget},
};
use clap::Args;

use crate::{
    commands::{
        Session, name,
        relay::{RawTerminal, ended, feed, follow_size, show, wanted_terminal},
    },
    failure::Failure,
};

/// Run a command in an instance, beside its own process
///
/// With the user, rights and limits of the container. The exit code is the command's own; 126 when it may not be executed,
/// 127 when it was not found. When this program ends, the command is ended with all that it started in its session.
#[derive(Debug, Args)]
pub(crate) struct Exec {
    /// The instance, as `wherry get instances` shows it
    #[arg(value_parser = name::<InstanceId>)]
    instance: InstanceId,
    /// A sidecar of it, or an init step that runs, by its name in the manifest; left out, the main container
    #[arg(short, long, value_name = "NAME", value_parser = name::<Name>)]
    container: Option<Name>,
    /// Send what this program reads to the command
    #[arg(short, long)]
    interactive: bool,
    /// Give the command a terminal
    #[arg(short = 't', long)]
    tty: bool,
    /// Program and arguments, after `--`
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Exec) -> Result<(), Failure> {
    let terminal = wanted_terminal(arguments.tty)?;
    let (container, command, stdin) = (arguments.container.clone(), arguments.command.clone(), arguments.interactive);
    let purpose = RelayPurpose::Exec { container, command, stdin, terminal };
    let request = RelayRequest { target: RelayTarget::Instance(arguments.instance.clone()), purpose };
    let (writer, mut reader) = session.client()?.relay(&request).await?;
    let raw = (arguments.tty && stdin).then(RawTerminal::enter).transpose()?;
    if terminal.is_some() {
        tokio::spawn(follow_size(writer.clone()));
    }
    // The writer is kept to the end: without one the other end hears that this program is gone.
    let feeding = stdin.then(|| tokio::spawn(feed(writer.clone())));
    let shown = show(&mut reader, |bytes| bytes).await;
    drop(raw);
    drop((feeding, writer));
    ended(shown?)
}

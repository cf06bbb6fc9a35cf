//! `wherry exec` and `wherry attach`.

use api_types::{
    id::{InstanceId, Name},
    relay::{RelayPurpose, RelayRequest, RelayTarget},
};
use clap::Args;

use crate::{
    commands::{
        Session, name,
        relay::{RawTerminal, ended, feed, follow_size, show, terminal_size},
    },
    failure::Failure,
    output::clean,
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

/// Show what an instance writes from now on, until it ends
///
/// The exit code is that of the instance's process. Nothing is sent to it; Ctrl-C ends the look, not the instance.
#[derive(Debug, Args)]
pub(crate) struct Attach {
    /// The instance
    #[arg(value_parser = name::<InstanceId>)]
    instance: InstanceId,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Exec) -> Result<(), Failure> {
    let terminal = if arguments.tty { terminal_size() } else { None };
    if arguments.tty && terminal.is_none() {
        let hint = "leave out `-t`; `-i` alone sends what is read";
        return Err(Failure::Misused("this program does not read from a terminal".to_owned(), hint.to_owned()));
    }
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

pub(crate) async fn attach(session: &Session<'_>, arguments: &Attach) -> Result<(), Failure> {
    let request =
        RelayRequest { target: RelayTarget::Instance(arguments.instance.clone()), purpose: RelayPurpose::Attach {} };
    let (_writer, mut reader) = session.client()?.relay(&request).await?;
    // Lines of a stranger, as `logs` shows them.
    let cleaned = |bytes: Vec<u8>| clean(&String::from_utf8_lossy(&bytes)).into_bytes();
    let shown = if session.screen.data_terminal { cleaned } else { |bytes| bytes };
    ended(show(&mut reader, shown).await?)
}

//! `wherry secret`: set, and listed by name, version, size, who and when; what it is never comes back.

use std::{
    fs::File,
    io::{self, IsTerminal, Read},
    path::{Path, PathBuf},
};

use api_types::{
    id::SecretId,
    secret::{SECRET_BYTES_MAX, Secret},
};
use clap::{Args, Subcommand};

use crate::{
    commands::{
        Session,
        get::{self, Format},
        name,
    },
    failure::Failure,
};

#[derive(Debug, Subcommand)]
pub(crate) enum SecretCommand {
    /// Set a secret from a file or from standard input, byte for byte; who uses it follows
    Set(Set),
    /// List secrets: name, version, size, who set it and when, who uses it
    Get(Get),
    /// Forget a secret that nothing uses
    Delete(Delete),
}

#[derive(Debug, Args)]
pub(crate) struct Set {
    /// Its name, or NAMESPACE/NAME
    #[arg(value_parser = name::<SecretId>)]
    secret: SecretId,
    /// Read it from this file [default: standard input]
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Get {
    /// Only these
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// How to show it
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// Its name, or NAMESPACE/NAME
    #[arg(value_parser = name::<SecretId>)]
    secret: SecretId,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

pub(crate) async fn run(session: &Session<'_>, command: SecretCommand) -> Result<(), Failure> {
    match command {
        SecretCommand::Set(Set { secret, file }) => {
            let value = value(session, file.as_deref())?;
            let done = session.client()?.set_secret(&secret, &value).await?;
            session.screen.data(&done.message);
        }
        SecretCommand::Get(Get { names, output }) => {
            get::run(session, &get::Get::secrets(names, output)).await?;
        }
        SecretCommand::Delete(Delete { secret, yes }) => {
            session.confirm(yes, &format!("delete secret `{secret}`"))?;
            let done = session.client()?.delete_secret(&secret).await?;
            session.screen.data(&done.message);
        }
    }
    Ok(())
}

/// Never an argument: everybody on the machine sees those, and shells remember them.
fn value(session: &Session<'_>, file: Option<&Path>) -> Result<Secret, Failure> {
    let (what, read) = match file {
        Some(path) => (path.display().to_string(), File::open(path).and_then(bounded)),
        None => {
            if io::stdin().is_terminal() {
                session
                    .screen
                    .say("type the secret and end it with Ctrl-D; it is taken as it is, with each line's end");
            }
            ("standard input".to_owned(), bounded(io::stdin().lock()))
        }
    };
    let value = read.map_err(|error| Failure::Other(format!("cannot read {what}: {error}")))?;
    match value.reveal().len() {
        0 => Err(Failure::Other(format!("{what} is empty: a secret has at least one byte"))),
        1..=SECRET_BYTES_MAX => Ok(value),
        _ => Err(Failure::Other(format!("{what} has more than {SECRET_BYTES_MAX} bytes, the most of a secret"))),
    }
}

fn bounded(from: impl Read) -> io::Result<Secret> {
    let mut bytes = Vec::new();
    from.take(SECRET_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    Ok(Secret::new(bytes))
}

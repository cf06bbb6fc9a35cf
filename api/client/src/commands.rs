//! One file for each command, and what they share.

pub(crate) mod apply;
pub(crate) mod attach;
pub(crate) mod availability;
pub(crate) mod context;
pub(crate) mod cp;
pub(crate) mod delete;
pub(crate) mod describe;
pub(crate) mod exec;
pub(crate) mod get;
pub(crate) mod image;
pub(crate) mod job;
pub(crate) mod logs;
pub(crate) mod manifests;
pub(crate) mod net;
pub(crate) mod node;
pub(crate) mod plan;
pub(crate) mod port_forward;
pub(crate) mod progress;
pub(crate) mod rebalance;
pub(crate) mod relay;
pub(crate) mod rollout;
pub(crate) mod run;
pub(crate) mod scale;
pub(crate) mod secret;
pub(crate) mod site;
pub(crate) mod top;
pub(crate) mod validate;
pub(crate) mod version;
pub(crate) mod volume;
pub(crate) mod what_if;
pub(crate) mod why;

use std::{io, path::Path, str::FromStr};

use api_client::{Client, context::Overrides};
use api_types::error::ValidationError;

use crate::{failure::Failure, output::Screen};

/// What every command gets.
#[derive(Debug)]
pub(crate) struct Session<'s> {
    pub(crate) screen: &'s Screen,
    pub(crate) overrides: Overrides,
}

impl Session<'_> {
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        let resolved = self.overrides.resolve()?;
        Ok(Client::new(&resolved.server, &resolved.token.0, &resolved.ca)?)
    }

    /// Lets a command that destroys go on only if a person agrees, or agreed by `--yes`.
    pub(crate) fn confirm(&self, yes: bool, what: &str) -> Result<(), Failure> {
        if yes {
            return Ok(());
        }
        if !self.screen.asks {
            return Err(Failure::Usage(format!("this would {what}; add --yes to do so without being asked")));
        }
        match self.screen.confirms(&format!("This will {what}. Go on?")) {
            true => Ok(()),
            false => Err(Failure::Other("nothing was changed".to_owned())),
        }
    }
}

/// A file that cannot be used.
pub(crate) fn cannot(path: &Path, error: &io::Error) -> Failure {
    Failure::Other(format!("{}: {error}", path.display()))
}

/// Reads a name for clap.
pub(crate) fn name<T: FromStr<Err = ValidationError>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: ValidationError| error.problem)
}

/// Reads a duration for clap, in milliseconds.
pub(crate) fn duration_ms(text: &str) -> Result<u64, String> {
    api_manifest::duration_ms(text).ok_or_else(|| "write a number with ms, s, m, h or d, such as 5m".to_owned())
}

/// `1 instance`, `2 instances`.
pub(crate) fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

//! The scheduler around its pure core: store, control loop, sessions, API, certificates. `run` reads as a list of parts.

pub mod args;
mod clock;
pub mod config;
mod control_loop;
mod control_plane;
mod dispatcher;
mod identity;
pub mod init;
mod listener;
mod problem;
pub mod replay;
pub mod serve;
mod shares;
pub mod store;
mod vault;
mod zones;

use std::io::{self, Write};

use api_daemon::{
    identity::tls,
    logging::{self, LoggingError},
    shutdown,
};
use thiserror::Error;

use crate::{
    args::{Arguments, Command, ConfigCommand},
    config::{Config, UnfitConfig},
    init::InitError,
    replay::ReplayError,
    serve::{Listeners, ServeError},
};

/// Why the program ends with an error.
#[derive(Debug, Error)]
pub enum RunError {
    /// The configuration is of no use.
    #[error(transparent)]
    Config(#[from] UnfitConfig),
    /// The log filter is of no use.
    #[error(transparent)]
    Logging(#[from] LoggingError),
    /// No cluster was made.
    #[error(transparent)]
    Init(#[from] InitError),
    /// A replay has no result.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// The scheduler could not start, or had to end.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The system refused something basic.
    #[error("the system refused a runtime, signals or output")]
    System(#[from] io::Error),
}

/// Does what the command line says.
///
/// # Errors
/// When the configuration is unfit, or what was asked for cannot be done.
pub fn run(arguments: Arguments) -> Result<(), RunError> {
    tls::install_provider();
    let load = || Config::load(arguments.settings.config.as_deref(), arguments.settings.flags());
    match arguments.command.unwrap_or(Command::Run) {
        // It needs neither cluster nor configuration.
        Command::Replay(replay) => Ok(io::stdout().write_all(replay::replay(&replay)?.as_bytes())?),
        Command::Config { command: ConfigCommand::Check } => Ok(write!(io::stdout(), "{}", load()?)?),
        Command::Init { context } => {
            let next_steps = init::init(&load()?.config, context)?;
            Ok(io::stdout().write_all(next_steps.as_bytes())?)
        }
        Command::Run => {
            let loaded = load()?;
            logging::start(&loaded.config.log.level)?;
            // One thread for all connections: ten thousand idle agents need no more, and few threads keep it small.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let listeners = Listeners::bind(&loaded.config).await?;
                Ok(serve::serve(loaded.config, listeners, shutdown::on_signals()?).await?)
            })
        }
    }
}

//! The agent's shell: session, adapters and disk around the pure core. [`execute`] is the program.

mod address;
pub mod args;
mod balancing;
mod clock;
pub mod config;
mod control_loop;
pub mod devices;
mod facts;
mod gateway;
mod inspection;
mod join;
mod keeper;
mod last_assignments;
mod lease;
mod leave;
mod machine_end;
mod membership;
mod names;
mod neighbours;
mod observer;
mod perform;
mod probe_runner;
mod run;
mod session;
mod tunnels;
mod volumes;

use std::process::ExitCode;

use api_daemon::{
    config_file::{ConfigError, Layers, Loaded, load},
    identity::tls::install_provider,
    logging,
};
use thiserror::Error;

use crate::{
    args::{Arguments, Command, ConfigCommand},
    config::{Config, ConfigProblem, DEFAULT_PATH, KEYS},
};

/// Why a command failed.
#[derive(Debug, Error)]
enum Failure {
    #[error(transparent)]
    File(#[from] ConfigError),
    #[error(transparent)]
    Setting(#[from] ConfigProblem),
    #[error(transparent)]
    Logging(#[from] logging::LoggingError),
    #[error("cannot start: {0}")]
    Runtime(std::io::Error),
    #[error(transparent)]
    Run(#[from] run::RunError),
    #[error(transparent)]
    Join(#[from] join::JoinError),
    #[error(transparent)]
    Leave(#[from] leave::LeaveError),
}

/// Does what the command line says.
#[must_use]
pub fn execute(arguments: Arguments) -> ExitCode {
    install_provider();
    match try_execute(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            complain(&failure);
            ExitCode::FAILURE
        }
    }
}

fn try_execute(arguments: Arguments) -> Result<(), Failure> {
    let loaded = configuration(&arguments)?;
    let config = &loaded.config;
    logging::start(&config.agent.log)?;
    // One thread is enough for a node, and costs the least memory.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::Runtime)?;
    match arguments.command.unwrap_or(Command::Run) {
        Command::Run => runtime.block_on(run::run(config))?,
        Command::Join(arguments) => {
            let node = runtime.block_on(join::join(config, &arguments))?;
            say(&format!("joined as {node}; start the agent: systemctl enable --now wherry-agent"));
        }
        Command::Config(ConfigCommand::Check) => say(loaded.to_string().trim_end()),
        Command::Leave { purge } => {
            runtime.block_on(leave::leave(config, purge))?;
            say("nothing of this node's instances is left");
            if !purge && config.volumes_dir().exists() {
                let volumes = config.volumes_dir();
                say(&format!("volumes stay in {}; `leave --purge` removes them, too", volumes.display()));
            }
        }
    }
    Ok(())
}

fn configuration(arguments: &Arguments) -> Result<Loaded<Config>, Failure> {
    let environment = std::env::vars_os();
    let environment =
        environment.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let layers = Layers {
        file: Some(arguments.config.clone().unwrap_or_else(|| DEFAULT_PATH.into())),
        file_required: arguments.config.is_some(),
        environment: environment.collect(),
        flags: arguments.log.iter().map(|log| ("agent.log", log.clone())).collect(),
    };
    let loaded = load::<Config>(&layers, KEYS)?;
    loaded.config.validate()?;
    Ok(loaded)
}

#[expect(clippy::print_stdout, reason = "the answer to the command")]
fn say(text: &str) {
    println!("{text}");
}

#[expect(clippy::print_stderr, reason = "the program ends with this")]
fn complain(failure: &Failure) {
    eprintln!("wherry-agent: {failure}");
}

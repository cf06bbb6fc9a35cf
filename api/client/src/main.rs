//! `wherry`: the command line.

mod arguments;
mod commands;
mod failure;
mod output;

use std::process::ExitCode;

use clap::Parser;

use crate::{
    arguments::{Arguments, Command},
    commands::Session,
    failure::Failure,
    output::Screen,
};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let screen = Screen::of_process();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(run(arguments, &screen)),
        Err(error) => Err(Failure::Other(format!("cannot start: {error}"))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.show(&screen);
            ExitCode::from(failure.code())
        }
    }
}

async fn run(arguments: Arguments, screen: &Screen) -> Result<(), Failure> {
    let session = Session { screen, overrides: arguments.global.overrides() };
    match arguments.command {
        Command::Apply(arguments) => commands::apply::run(&session, &arguments).await,
        Command::Run(arguments) => commands::run::run(&session, &arguments).await,
        Command::Plan(arguments) => commands::plan::run(&session, &arguments).await,
        Command::Validate(arguments) => commands::validate::run(&session, &arguments),
        Command::Get(arguments) => commands::get::run(&session, &arguments).await,
        Command::Describe(arguments) => commands::describe::run(&session, &arguments).await,
        Command::Why(arguments) => commands::why::run(&session, &arguments).await,
        Command::WhatIf(arguments) => commands::what_if::run(&session, &arguments).await,
        Command::Job(command) => commands::job::run(&session, &command).await,
        Command::Scale(arguments) => commands::scale::run(&session, &arguments).await,
        Command::Rollout(command) => commands::rollout::run(&session, &command).await,
        Command::Delete(arguments) => commands::delete::run(&session, &arguments).await,
        Command::Logs(arguments) => commands::logs::run(&session, &arguments).await,
        Command::Exec(arguments) => commands::exec::run(&session, &arguments).await,
        Command::Attach(arguments) => commands::attach::run(&session, &arguments).await,
        Command::PortForward(arguments) => commands::port_forward::run(&session, &arguments).await,
        Command::Cp(arguments) => commands::cp::run(&session, &arguments).await,
        Command::Top(arguments) => commands::top::run(&session, &arguments).await,
        Command::Drain(arguments) => commands::availability::drain(&session, &arguments).await,
        Command::Cordon(arguments) => commands::availability::cordon(&session, &arguments).await,
        Command::Uncordon(arguments) => commands::availability::uncordon(&session, &arguments).await,
        Command::Rebalance(arguments) => commands::rebalance::run(&session, &arguments).await,
        Command::Site(command) => commands::site::run(&session, &command).await,
        Command::Net(command) => commands::net::run(&session, &command).await,
        Command::Volume(command) => commands::volume::run(&session, &command).await,
        Command::Secret(command) => commands::secret::run(&session, command).await,
        Command::Node(command) => commands::node::run(&session, &command).await,
        Command::Image(command) => commands::image::run(&session, &command).await,
        Command::Context(command) => commands::context::run(&session, &command),
        Command::Version => commands::version::run(&session).await,
    }
}

//! `wherry-agent`: runs and balances the instances of one node.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    agent::execute(agent::args::Arguments::parse())
}

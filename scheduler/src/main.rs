//! `wherry-scheduler`: decides what runs where.

use std::{
    error::Error,
    io::{self, Write},
    process::ExitCode,
};

use clap::Parser;
use scheduler::args::Arguments;

fn main() -> ExitCode {
    let Err(error) = scheduler::run(Arguments::parse()) else { return ExitCode::SUCCESS };
    let mut text = format!("wherry-scheduler: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    // Where standard error is closed there is nobody to tell.
    writeln!(io::stderr(), "{text}").ok();
    ExitCode::FAILURE
}

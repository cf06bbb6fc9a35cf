//! The demo: `demo up` shows a cluster of three real nodes on this machine at work and leaves it running; `demo down`
//! takes it away and looks whether anything is left.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the demo is there to be read in a terminal")]

mod ground;
mod steps;

use std::{env, process::ExitCode};

fn main() -> ExitCode {
    let argument = env::args().nth(1);
    let result = match argument.as_deref() {
        Some("up") => steps::up(),
        Some("down") => ground::down(),
        Some(_) | None => {
            eprintln!("usage: demo up|down");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\ndemo: {error}");
            ExitCode::FAILURE
        }
    }
}

//! `cargo sim -- --seed S --nodes N --minutes M [--count C] [--watch TEXT]`: simulations from a seed on.

use std::{process::ExitCode, time::SystemTime};

use tests_simulation::{Options, run};

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "this is what the program is for")]
fn main() -> ExitCode {
    let (options, count) = match read_arguments() {
        Ok(read) => read,
        Err(problem) => {
            eprintln!("{problem}\nusage: cargo sim -- [--seed S] [--nodes N] [--minutes M] [--count C] [--watch TEXT]");
            return ExitCode::from(2);
        }
    };
    for seed in (0..count).map(|index| options.seed.wrapping_add(index)) {
        println!("seed {seed}, {} nodes, {} minutes", options.nodes, options.minutes);
        match run(&Options { seed, ..options.clone() }) {
            Ok(outcome) => println!("{outcome:?}"),
            Err(failure) => {
                eprintln!("{failure}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

/// What the command line says; a seed of its own from the clock.
fn read_arguments() -> Result<(Options, u64), String> {
    let fresh = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let mut options = Options { seed: fresh, nodes: 200, minutes: 10, watch: None };
    let mut count = 1;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("`{argument}` needs a value"))?;
        let number = || value.parse::<u64>().map_err(|_| format!("`{value}` is not a number"));
        match argument.as_str() {
            "--seed" => options.seed = number()?,
            "--nodes" => options.nodes = usize::try_from(number()?.clamp(1, 8000)).unwrap_or(1),
            "--minutes" => options.minutes = number()?,
            "--count" => count = number()?,
            "--watch" => options.watch = Some(value),
            _ => return Err(format!("`{argument}` is not known")),
        }
    }
    Ok((options, count))
}

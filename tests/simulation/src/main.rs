//! `cargo sim`: simulations from a seed on, or of a scenario; a story that fails is made shorter and written down.

mod arguments;
mod soak;

use std::{fs, path::PathBuf, process::ExitCode, time::Duration};

use tests_simulation::{Failure, Options, run, shrink::shrink};

use crate::arguments::{Arguments, USAGE};

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "this is what the program is for")]
fn main() -> ExitCode {
    let arguments = match Arguments::read() {
        Ok(read) => read,
        Err(problem) => {
            eprintln!("{problem}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    if arguments.jobs > 1 || arguments.done.is_some() {
        return soak::run(&arguments);
    }
    for seed in (0..arguments.count).map(|index| arguments.options.seed.wrapping_add(index)) {
        let options = Options { seed, ..arguments.options.clone() };
        println!("seed {seed}, {} nodes, {} minutes", options.nodes, options.minutes);
        match run(&options) {
            Ok(outcome) => println!("{outcome:?}"),
            Err(failure) => {
                eprintln!("{failure}");
                write_down(failure, arguments.shrink_s, &arguments.folder);
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

/// Makes the story shorter and writes it where `--scenario` finds it.
#[expect(clippy::print_stderr, reason = "somebody waits for it")]
fn write_down(failure: Box<Failure>, most_s: u64, folder: &PathBuf) {
    let told = failure.scenario.deeds.len();
    if most_s > 0 {
        eprintln!("making the story of {told} deeds shorter, for {most_s} s at most");
    }
    let (scenario, failure, tries) = shrink(failure, Duration::from_secs(most_s));
    let path = folder.join(format!("seed-{}.scenario", scenario.seed));
    let text = scenario.write(&failure.what);
    match fs::create_dir_all(folder).and_then(|()| fs::write(&path, text)) {
        Ok(()) => eprintln!(
            "{} deeds on {} nodes are left after {tries} tries: {}\n{}\ntell it again: cargo sim -- --scenario {}",
            scenario.deeds.len(),
            scenario.nodes,
            failure.what,
            path.display(),
            path.display()
        ),
        Err(error) => eprintln!("{} cannot be written: {error}", path.display()),
    }
}

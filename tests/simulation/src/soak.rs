//! Many seeds in several processes: what is done is written down, so that a run goes on where an earlier one ended.

use std::{
    collections::BTreeSet,
    fs::{self, OpenOptions},
    io::{self, Write},
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
    sync::mpsc,
    thread,
    time::Instant,
};

use crate::arguments::Arguments;

/// What became of one seed.
struct Ended {
    seed: u64,
    /// What it printed, if it failed.
    failure: Option<String>,
}

/// Runs all seeds that are not done, and says how many cluster-hours that is.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "this is what the program is for")]
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    match run_all(arguments) {
        Ok(failed) if failed.is_empty() => {
            println!("no invariant was broken");
            ExitCode::SUCCESS
        }
        Ok(failed) => {
            eprintln!("these seeds failed: {failed:?}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "this is what the program is for")]
fn run_all(arguments: &Arguments) -> io::Result<Vec<u64>> {
    let header = format!("{} nodes, {} minutes", arguments.options.nodes, arguments.options.minutes);
    let done = arguments.done.as_deref().map_or(Ok(BTreeSet::new()), |path| read_done(path, &header))?;
    let first = arguments.options.seed;
    let mut waiting = (0..arguments.count).map(|index| first.wrapping_add(index)).filter(|seed| !done.contains(seed));
    let begin = Instant::now();
    let (sender, ended) = mpsc::channel();
    let mut running = 0;
    let (mut count, mut failed) = (0_u64, Vec::new());
    loop {
        while running < arguments.jobs {
            let Some(seed) = waiting.next() else { break };
            let child = spawn(arguments, seed)?;
            let sender = sender.clone();
            thread::spawn(move || sender.send(wait(seed, child)));
            running += 1;
        }
        if running == 0 {
            return Ok(failed);
        }
        let Ended { seed, failure } = ended.recv().map_err(io::Error::other)?;
        running -= 1;
        count += 1;
        if let Some(failure) = failure {
            eprintln!("{failure}");
            failed.push(seed);
        } else if let Some(path) = &arguments.done {
            let mut file = OpenOptions::new().create(true).append(true).open(path)?;
            writeln!(file, "{header}, seed {seed}")?;
        }
        let all = done.len() as u64 + count;
        println!("seed {seed} ended; {}", summary(arguments, count, all, begin.elapsed().as_secs()));
    }
}

/// How far it is: tenths of cluster-hours, and how many of them a minute.
fn summary(arguments: &Arguments, count: u64, all: u64, seconds: u64) -> String {
    let tenths = |seeds: u64| seeds * arguments.options.minutes / 6;
    let rate = tenths(count) * 60 / seconds.max(1);
    format!(
        "{}.{} cluster-hours of {} nodes are done, {}.{} a minute",
        tenths(all) / 10,
        tenths(all) % 10,
        arguments.options.nodes,
        rate / 10,
        rate % 10
    )
}

fn spawn(arguments: &Arguments, seed: u64) -> io::Result<Child> {
    let program = std::env::current_exe()?;
    let words = arguments.of_seed(seed);
    Command::new(program).args(words).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()
}

fn wait(seed: u64, child: Child) -> Ended {
    let failure = match child.wait_with_output() {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(format!("seed {seed}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr))),
        Err(error) => Some(format!("seed {seed}: {error}")),
    };
    Ended { seed, failure }
}

/// The seeds that are done in a world of this size.
fn read_done(path: &Path, header: &str) -> io::Result<BTreeSet<u64>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let seeds = text.lines().filter_map(|line| line.strip_prefix(header)?.strip_prefix(", seed ")?.parse().ok());
    Ok(seeds.collect())
}

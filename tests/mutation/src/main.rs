//! `cargo mutate [--only NAME] [--both]`: plants each bug of the lists in a copy of the tree and says who noticed.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use tests_mutation::{mutation::Mutation, outcome::Verdict, tree::Tree, trial::Judge};

const USAGE: &str = "usage: cargo mutate [-- [--only NAME] [--both]]
  --only NAME  plants the bugs whose names begin with NAME
  --both       asks the simulation even where the tests noticed";

/// What the command line says.
#[derive(Debug, Default)]
struct Arguments {
    only: String,
    both: bool,
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "this is what the program is for")]
fn main() -> ExitCode {
    let outcome = read_arguments().and_then(|arguments| run(&arguments));
    match outcome {
        Ok(0) => {
            println!("every bug was noticed");
            ExitCode::SUCCESS
        }
        Ok(count) => {
            eprintln!("{count} SURVIVED: each needs a test, a script, a scenario or a checker that notices it");
            ExitCode::FAILURE
        }
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::from(2)
        }
    }
}

fn read_arguments() -> Result<Arguments, String> {
    let mut arguments = Arguments::default();
    // The alias ends with `--`, and people write another one.
    let mut words = std::env::args().skip(1).filter(|word| word != "--");
    while let Some(word) = words.next() {
        match word.as_str() {
            "--only" => arguments.only = words.next().ok_or(USAGE)?,
            "--both" => arguments.both = true,
            _ => return Err(USAGE.to_owned()),
        }
    }
    Ok(arguments)
}

/// Plants them one by one; gives how many survived.
#[expect(clippy::print_stdout, reason = "it takes long: each line is wanted at once")]
fn run(arguments: &Arguments) -> Result<usize, String> {
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let root = own.join("../..");
    let all = Mutation::read_all(&own.join("mutations"))?;
    let chosen: Vec<&Mutation> = all.iter().filter(|found| found.name.starts_with(&arguments.only)).collect();
    let tree = Tree::copy(&root).map_err(|error| format!("{} cannot be copied: {error}", root.display()))?;
    check_unharmed(&tree, &root)?;
    let mut survivors = 0;
    for mutation in &chosen {
        let begin = Instant::now();
        let verdicts = tree.with(mutation, || judge(&tree, arguments.both))??;
        let caught = verdicts.iter().any(|(_, verdict)| verdict.is_caught());
        survivors += usize::from(!caught);
        let head = if caught { "caught  " } else { "SURVIVED" };
        println!("{head} {} ({} s): {}", mutation.name, begin.elapsed().as_secs(), mutation.what);
        for (judge, verdict) in &verdicts {
            println!("           {judge:?}: {verdict}");
        }
        if let Some((_, Verdict::Broken(line))) = verdicts.iter().find(|(_, said)| matches!(said, Verdict::Broken(_))) {
            return Err(format!("`{}` does not compile: {line}", mutation.name));
        }
    }
    println!("{} bugs, {} noticed", chosen.len(), chosen.len() - survivors);
    Ok(survivors)
}

/// Without a bug nobody may notice one.
#[expect(clippy::print_stdout, reason = "it takes long")]
fn check_unharmed(tree: &Tree, root: &Path) -> Result<(), String> {
    println!("building a copy of {} and asking of it as it is", root.display());
    for (judge, verdict) in judge(tree, true)? {
        if verdict != Verdict::Passed {
            return Err(format!("without any bug, {judge:?} says: {verdict}"));
        }
    }
    Ok(())
}

/// Asks the tests, and where they notice nothing the simulation.
fn judge(tree: &Tree, both: bool) -> Result<Vec<(Judge, Verdict)>, String> {
    let mut verdicts = Vec::new();
    for judge in [Judge::Tests, Judge::Simulation] {
        let verdict = judge.ask(tree).map_err(|error| format!("cargo cannot be run: {error}"))?;
        let is_enough = !both && verdict != Verdict::Passed;
        verdicts.push((judge, verdict));
        if is_enough {
            break;
        }
    }
    Ok(verdicts)
}

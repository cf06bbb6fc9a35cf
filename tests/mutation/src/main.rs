//! `cargo mutate [--only NAME] [--left] [--both]`: plants each bug of the lists in a copy of the tree and says who noticed.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use tests_mutation::{mutation::Mutation, outcome::Verdict, record::Record, tree::Tree, trial::Judge};

const USAGE: &str = "usage: cargo mutate [-- [--only NAME] [--left] [--both]]
  --only NAME  plants the bugs whose names begin with NAME
  --left       plants those that have no row in mutations/caught.md: it goes on where it ended
  --both       asks the simulation even where the tests noticed";

/// What the command line says.
#[derive(Debug, Default)]
struct Arguments {
    only: String,
    left: bool,
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
            "--left" => arguments.left = true,
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
    let mut record = Record::read(own.join("mutations/caught.md"));
    let is_chosen =
        |found: &&Mutation| found.name.starts_with(&arguments.only) && !(arguments.left && record.has(&found.name));
    let chosen: Vec<&Mutation> = all.iter().filter(is_chosen).collect();
    let tree = Tree::copy(&root).map_err(|error| format!("{} cannot be copied: {error}", root.display()))?;
    check_unharmed(&tree, &root)?;
    let mut survivors = 0;
    for mutation in &chosen {
        let begin = Instant::now();
        let verdicts = tree.with(mutation, || judge(&tree, &mutation.file, arguments.both))??;
        let noticed: Vec<String> = verdicts.iter().filter(|(_, said)| said.is_caught()).map(told).collect();
        let caught = !noticed.is_empty();
        survivors += usize::from(!caught);
        let head = if caught { "caught  " } else { "SURVIVED" };
        println!("{head} {} ({} s): {}", mutation.name, begin.elapsed().as_secs(), mutation.what);
        for (judge, verdict) in &verdicts {
            println!("           {judge:?}: {verdict}");
        }
        if let Some((_, Verdict::Broken(line))) = verdicts.iter().find(|(_, said)| matches!(said, Verdict::Broken(_))) {
            return Err(format!("`{}` does not compile: {line}", mutation.name));
        }
        record.note(&mutation.name, caught.then(|| noticed.join("; ")), &all)?;
    }
    println!("{} bugs, {} noticed", chosen.len(), chosen.len() - survivors);
    Ok(survivors)
}

/// Without a bug nobody may notice one.
#[expect(clippy::print_stdout, reason = "it takes long")]
fn check_unharmed(tree: &Tree, root: &Path) -> Result<(), String> {
    println!("building a copy of {} and asking of it as it is", root.display());
    for (judge, verdict) in judge(tree, "", true)? {
        if verdict != Verdict::Passed {
            return Err(format!("without any bug, {judge:?} says: {verdict}"));
        }
    }
    Ok(())
}

/// Who noticed, in the words of the table.
fn told((judge, verdict): &(Judge, Verdict)) -> String {
    match judge {
        Judge::Own | Judge::Tests => verdict.to_string(),
        Judge::Simulation => format!("the simulation: {verdict}"),
    }
}

/// Asks the tests beside the bug, where they notice nothing all tests, and where these do not the simulation.
fn judge(tree: &Tree, file: &str, both: bool) -> Result<Vec<(Judge, Verdict)>, String> {
    let mut verdicts = Vec::new();
    for judge in [Judge::Own, Judge::Tests, Judge::Simulation] {
        let verdict = judge.ask(tree, file).map_err(|error| format!("cargo cannot be run: {error}"))?;
        let (is_broken, noticed) = (matches!(verdict, Verdict::Broken(_)), verdict.is_caught());
        verdicts.push((judge, verdict));
        if is_broken || noticed && !both {
            break;
        }
    }
    Ok(verdicts)
}

//! Stories that were written down, each for a reason that stands in its first line.

use std::{fs, path::Path};

use tests_simulation::{Options, run, scenario::Scenario};

#[test]
fn every_scenario_ends_well() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let files = fs::read_dir(folder).expect("there are scenarios").map(|file| file.expect("it can be read").path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|name| name == "scenario")).collect();
    files.sort();

    assert!(!files.is_empty());
    for path in files {
        let scenario = Scenario::read(&fs::read_to_string(&path).expect("it is text"));
        let scenario = scenario.unwrap_or_else(|wrong| panic!("{}: {wrong}", path.display()));

        let outcome = run(&Options::of_scenario(scenario));

        assert!(outcome.is_ok(), "{}: {}", path.display(), outcome.expect_err("it is no success"));
    }
}

//! The rules of the house, each as a test over the whole tree.

use tests_tidy::{imports, lints, names, texts, tree};

#[test]
fn crates_use_what_their_row_says() {
    none(&imports::check(&tree::root()));
}

#[test]
fn the_cores_are_pure() {
    none(&imports::check_cores());
    none(&lints::check(&tree::root()));
}

#[test]
fn crates_come_from_the_public_index() {
    none(&lints::check_origins(&tree::root()));
}

#[test]
fn files_are_short_and_say_what_they_are_for() {
    let sources = tree::read(&tree::root()).unwrap();

    none(&texts::check_lengths(&sources));
    none(&texts::check_first_lines(&sources));
}

#[test]
fn names_say_something() {
    none(&names::check(&tree::read(&tree::root()).unwrap()));
}

#[test]
fn tests_run_and_wait_for_conditions() {
    none(&texts::check_tests(&tree::read(&tree::root()).unwrap()));
}

#[test]
fn no_file_names_a_path_of_one_machine() {
    none(&texts::check_paths(&tree::read(&tree::root()).unwrap()));
}

#[test]
fn every_crate_is_introduced() {
    let folders: Vec<&str> = imports::IMPORTS.iter().map(|row| row.folder).collect();

    none(&texts::check_readmes(&tree::root(), &folders));
}

fn none(faults: &[String]) {
    assert!(faults.is_empty(), "{} faults:\n  {}\n", faults.len(), faults.join("\n  "));
}

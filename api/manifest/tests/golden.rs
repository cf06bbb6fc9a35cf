//! Every manifest under `golden/accept` and `golden/reject` gives exactly what stands beside it, and every example of
//! the project is accepted. `UPDATE_GOLDEN=1` writes the expected files anew.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use api_types::view::Fault;

#[test]
fn accepted_manifests_give_the_expected_specs() {
    let files = manifests(&here("tests/golden/accept"));
    assert!(files.len() >= 5, "the golden files are gone");
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let manifest = api_manifest::parse(&text).unwrap_or_else(|faults| panic!("{file:?}:\n{}", render(&faults)));
        let json = serde_json::to_string_pretty(&manifest.workloads).unwrap() + "\n";
        compare(&file.with_extension("expected"), &json);
    }
}

#[test]
fn rejected_manifests_give_the_expected_faults() {
    let files = manifests(&here("tests/golden/reject"));
    assert!(files.len() >= 30, "the golden files are gone");
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let faults = api_manifest::parse(&text).expect_err(&format!("{file:?} was accepted"));
        compare(&file.with_extension("expected"), &render(&faults));
    }
}

#[test]
fn examples_are_accepted() {
    let files = manifests(&here("../../packaging/examples"));
    assert!(files.len() >= 3, "the examples are gone");
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        api_manifest::parse(&text).unwrap_or_else(|faults| panic!("{file:?}:\n{}", render(&faults)));
    }
}

#[test]
fn manifests_in_the_papers_are_accepted() {
    let mut seen = 0;
    for paper in ["../../README.md", "../../packaging/docs/manifest.md"] {
        // The README comes with the whole project; this folder can be tested without it.
        let Ok(text) = fs::read_to_string(here(paper)) else { continue };
        let blocks = text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
        for block in blocks.filter(|block| block.contains("[service.") || block.contains("[daemon.")) {
            // What lies beside it is not in a paper.
            let beside = api_manifest::files(block).into_iter().map(|file| (file, String::new()));
            let whole = api_manifest::with_files(block, &beside.collect::<Vec<_>>());
            api_manifest::parse(&whole).unwrap_or_else(|faults| panic!("{paper}:\n{block}\n{}", render(&faults)));
            seen += 1;
        }
    }
    assert!(seen > 0, "no paper shows a manifest");
}

#[test]
fn a_megabyte_of_brackets_is_one_fault() {
    for text in [
        "[".repeat(1 << 20),
        format!("a = {}", "[".repeat(1 << 20)),
        format!("a = {}", "{a=".repeat(1 << 18)),
        "[[".repeat(1 << 19),
    ] {
        let faults = api_manifest::parse(&text).unwrap_err();
        assert_eq!(faults.iter().map(|fault| fault.code.as_str()).collect::<Vec<_>>(), ["too_deep"]);
    }
}

#[test]
fn a_long_text_full_of_faults_gives_a_hundred() {
    for line in ["x\n", "[]\n", "\"\n", "a = 1\n", "]\n", "a.b = 'c'\n"] {
        let faults = api_manifest::parse(&line.repeat((1 << 20) / line.len())).unwrap_err();
        assert!((1..=100).contains(&faults.len()), "{line:?} gives {}", faults.len());
    }
    let faults = api_manifest::parse(&" ".repeat(api_manifest::MANIFEST_BYTES_MAX + 1)).unwrap_err();
    assert_eq!(faults[0].code, "too_large");
}

#[test]
fn no_cut_text_makes_it_panic() {
    for file in manifests(&here("tests/golden/accept")) {
        let text = fs::read_to_string(&file).unwrap();
        for (end, _) in text.char_indices() {
            let _ = api_manifest::parse(&text[..end]);
            let _ = api_manifest::parse(&text[end..]);
        }
    }
}

fn render(faults: &[Fault]) -> String {
    let mut text = String::new();
    for fault in faults {
        writeln!(text, "{}:{} {} {}: {}", fault.line, fault.column, fault.code, fault.path, fault.message)
            .expect("a string takes all");
        if !fault.help.is_empty() {
            writeln!(text, "    help: {}", fault.help).expect("a string takes all");
        }
    }
    text
}

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn manifests(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{directory:?}: {error}"));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("a readable directory").path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    files
}

fn compare(expected: &Path, actual: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(expected, actual).expect("a writable golden file");
    }
    let wanted = fs::read_to_string(expected).unwrap_or_default();
    assert!(wanted == actual, "{expected:?} differs; UPDATE_GOLDEN=1 writes it anew. Now:\n{actual}");
}

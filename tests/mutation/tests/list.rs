//! The lists are true: each bug still has its place in the sources.

use std::{collections::BTreeSet, fs, path::Path};

use tests_mutation::mutation::Mutation;

#[test]
fn every_bug_still_has_its_place() {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));

    let all = Mutation::read_all(&own.join("mutations")).expect("the lists can be read");

    assert!(all.len() >= 20, "{} bugs are few", all.len());
    let names: BTreeSet<&str> = all.iter().map(|mutation| mutation.name.as_str()).collect();
    assert_eq!(names.len(), all.len(), "a name is there twice");
    let applied = all.iter().map(|mutation| {
        let text = fs::read_to_string(own.join("../..").join(&mutation.file));
        let text = text.map_err(|error| format!("`{}`: {}: {error}", mutation.name, mutation.file))?;
        mutation.apply(&text)
    });
    let wrong: Vec<String> = applied.filter_map(Result::err).collect();
    assert!(wrong.is_empty(), "correct the lists:\n{}", wrong.join("\n"));
}

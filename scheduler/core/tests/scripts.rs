//! Stories: each `scripts/*.script` is played and compared with the `.expected` beside it. `UPDATE_GOLDEN=1` rewrites.
#![expect(clippy::disallowed_methods, reason = "the stories are files; the core itself reads none")]

use std::{fs, path::Path};

use scheduler_core::Settings;

#[path = "support/fleet.rs"]
mod fleet;
#[path = "support/script.rs"]
mod script;

#[test]
fn stories_go_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "script"));
    files.sort();
    assert!(files.len() >= 20, "only {} stories in {}", files.len(), folder.display());
    let mut faults = Vec::new();

    for file in files {
        let played = script::play(&fs::read_to_string(&file).unwrap(), Settings::default());
        let golden = file.with_extension("expected");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&golden, &played).unwrap();
            continue;
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        let difference = expected.lines().zip(played.lines()).find(|(a, b)| a != b);
        if expected != played {
            faults.push(format!("{}: first difference {difference:?}\n{played}", file.display()));
        }
    }

    assert!(faults.is_empty(), "{} stories went otherwise:\n{}", faults.len(), faults.join("\n"));
}

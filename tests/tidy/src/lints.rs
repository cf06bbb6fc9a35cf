//! The cores' `clippy.toml` replace the root's, so they must repeat it; the toolchain's sources stay public ones.

use std::{collections::BTreeSet, fs, path::Path};

/// Crates whose own `clippy.toml` bans more than the root's.
const CORES: &[&str] = &["scheduler/core", "scheduler/placement", "agent/core"];

/// What both cores must ban, beyond the root's bans.
const PURITY: &[&str] = &[
    "std::time::Instant::now",
    "std::time::SystemTime::now",
    "std::fs::read",
    "std::fs::write",
    "std::thread::spawn",
    "std::collections::HashMap",
    "std::collections::HashSet",
];

/// Compares the cores' bans with the root's and with what purity asks for; one sentence for each that is missing.
#[must_use]
pub fn check(root: &Path) -> Vec<String> {
    let mut faults = Vec::new();
    let above = table(&root.join("clippy.toml"), &mut faults);
    let root_bans = bans(&above);
    for folder in CORES {
        let file = format!("{folder}/clippy.toml");
        let own = table(&root.join(&file), &mut faults);
        let own_bans = bans(&own);
        for ban in root_bans.iter().map(String::as_str).chain(PURITY.iter().copied()) {
            if !own_bans.contains(ban) {
                faults.push(format!("{file}: must ban {ban}: it replaces the root's file"));
            }
        }
        for (key, value) in above.iter().filter(|(key, _)| !key.starts_with("disallowed-")) {
            if own.get(key) != Some(value) {
                faults.push(format!("{file}: must repeat `{key} = {value}` of the root's file"));
            }
        }
    }
    faults
}

/// Crates come from cargo's default index only, and nothing in the tree points a tool at another place.
#[must_use]
pub fn check_origins(root: &Path) -> Vec<String> {
    let mut faults = Vec::new();
    let lock = table(&root.join("Cargo.lock"), &mut faults);
    for package in lock.get("package").and_then(toml::Value::as_array).into_iter().flatten() {
        let source = package.get("source").and_then(toml::Value::as_str);
        // Cargo's own default has this form too; another index would need the configuration that is refused below.
        if source.is_some_and(|source| !source.starts_with("registry+")) {
            let name = package.get("name").and_then(toml::Value::as_str).unwrap_or("?");
            faults.push(format!("Cargo.lock: {name} comes from {}", source.unwrap_or_default()));
        }
    }
    let config = table(&root.join(".cargo/config.toml"), &mut faults);
    for key in ["source", "registries", "registry", "http", "net", "build"] {
        if config.contains_key(key) {
            faults.push(format!(".cargo/config.toml: [{key}] belongs to a machine, not to the project"));
        }
    }
    faults
}

fn bans(config: &toml::Table) -> BTreeSet<String> {
    ["disallowed-methods", "disallowed-types", "disallowed-macros"]
        .iter()
        .filter_map(|key| config.get(*key).and_then(toml::Value::as_array))
        .flatten()
        .filter_map(|ban| ban.get("path").and_then(toml::Value::as_str).map(str::to_owned))
        .collect()
}

fn table(path: &Path, faults: &mut Vec<String>) -> toml::Table {
    let parsed = fs::read_to_string(path)
        .map_err(|error| error.to_string())
        .and_then(|text| text.parse::<toml::Table>().map_err(|error| error.to_string()));
    parsed.unwrap_or_else(|error| {
        faults.push(format!("{}: {error}", path.display()));
        toml::Table::new()
    })
}

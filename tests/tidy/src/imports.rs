//! Who may import whom: one row per crate, compared with its `Cargo.toml`.

use std::{collections::BTreeSet, fs, path::Path};

/// One crate and everything it may use.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The package's name.
    pub package: &'static str,
    /// Its folder from the root.
    pub folder: &'static str,
    /// Our crates that it uses.
    pub own: &'static [&'static str],
    /// Other crates that it uses, at run time or while building.
    pub outside: &'static [&'static str],
    /// What only its tests use.
    pub tests: &'static [&'static str],
}

/// What a pure core may use: derive macros, nothing that does I/O or has a clock.
const PURE: &[&str] = &["serde", "thiserror"];

/// The table. A new arrow between our crates is a decision: ARCHITECTURE.md says why.
pub const IMPORTS: &[Row] = &[
    Row { package: "api-types", folder: "api/types", own: &[], outside: &["serde", "zeroize"], tests: &[] },
    Row {
        package: "api-manifest",
        folder: "api/manifest",
        own: &["api-types"],
        outside: &["strsim", "toml"],
        tests: &["serde_json"],
    },
    Row {
        package: "api-server",
        folder: "api/server",
        own: &["api-manifest", "api-types"],
        outside: &[
            "axum",
            "bytes",
            "futures-util",
            "http",
            "http-body-util",
            "serde",
            "serde_json",
            "tokio",
            "tracing",
        ],
        tests: &["tower"],
    },
    Row {
        package: "api-client",
        folder: "api/client",
        own: &["api-manifest", "api-types"],
        outside: &[
            "bytes",
            "clap",
            "comfy-table",
            "futures-util",
            "http",
            "http-body-util",
            "hyper",
            "hyper-util",
            "miette",
            "rustix",
            "rustls",
            "rustls-pki-types",
            "serde",
            "serde_json",
            "tar",
            "terminal_size",
            "thiserror",
            "tokio",
            "tokio-rustls",
            "tokio-util",
            "toml",
        ],
        tests: &["api-server", "rcgen"],
    },
    Row {
        package: "api-daemon",
        folder: "api/daemon",
        own: &[],
        outside: &[
            "data-encoding",
            "ring",
            "rustls",
            "rustls-pki-types",
            "sd-notify",
            "serde",
            "sha2",
            "strsim",
            "thiserror",
            "tokio",
            "tokio-util",
            "toml",
            "tracing",
            "tracing-subscriber",
            "x509-parser",
        ],
        tests: &["rcgen"],
    },
    Row {
        package: "proto",
        folder: "proto",
        own: &["api-types"],
        outside: &["prost", "thiserror", "tonic", "tonic-prost", "tonic-prost-build"],
        tests: &[],
    },
    Row {
        package: "scheduler",
        folder: "scheduler",
        own: &["api-daemon", "api-server", "api-types", "proto", "scheduler-core", "scheduler-placement"],
        outside: &[
            "bytes",
            "clap",
            "crc32fast",
            "data-encoding",
            "futures-util",
            "hyper",
            "hyper-util",
            "jiff",
            "rcgen",
            "ring",
            "rusqlite",
            "rustls",
            "rustls-pki-types",
            "serde",
            "serde_json",
            "strsim",
            "subtle",
            "thiserror",
            "tokio",
            "tokio-rustls",
            "tokio-stream",
            "tokio-util",
            "tonic",
            "tower",
            "tracing",
        ],
        tests: &["prost", "tests-support", "x509-parser"],
    },
    Row { package: "scheduler-placement", folder: "scheduler/placement", own: &[], outside: &[], tests: &[] },
    Row {
        package: "scheduler-core",
        folder: "scheduler/core",
        own: &["api-types", "scheduler-placement"],
        outside: PURE,
        tests: &[],
    },
    Row {
        package: "agent",
        folder: "agent",
        own: &[
            "agent-containerd",
            "agent-core",
            "agent-gateway",
            "agent-names",
            "agent-network",
            "agent-tunnel",
            "api-daemon",
            "api-types",
            "proto",
        ],
        outside: &[
            "bytes",
            "clap",
            "crc32fast",
            "data-encoding",
            "futures-util",
            "http",
            "http-body-util",
            "hyper",
            "hyper-util",
            "nix",
            "rcgen",
            "ring",
            "rustls",
            "serde",
            "serde_json",
            "socket2",
            "sysinfo",
            "thiserror",
            "tokio",
            "tokio-rustls",
            "tokio-stream",
            "tokio-util",
            "tonic",
            "tower",
            "tracing",
        ],
        tests: &[],
    },
    Row { package: "agent-core", folder: "agent/core", own: &["api-types"], outside: PURE, tests: &[] },
    Row {
        package: "agent-containerd",
        folder: "agent/containerd",
        own: &["api-types"],
        outside: &[
            "bytes",
            "containerd-client",
            "data-encoding",
            "futures-util",
            "http",
            "http-body-util",
            "hyper",
            "hyper-util",
            "libc",
            "nix",
            "prost",
            "prost-types",
            "rustls",
            "rustls-pki-types",
            "serde",
            "serde_json",
            "sha2",
            "tar",
            "thiserror",
            "tokio",
            "tokio-rustls",
            "tokio-stream",
            "tonic",
            "tower",
            "tracing",
        ],
        tests: &["rcgen", "tests-support"],
    },
    Row {
        package: "agent-tunnel",
        folder: "agent/tunnel",
        own: &["api-daemon", "api-types"],
        outside: &["rustls", "socket2", "thiserror", "tokio", "tokio-rustls", "tokio-util", "tracing"],
        tests: &["rcgen"],
    },
    Row {
        package: "agent-gateway",
        folder: "agent/gateway",
        own: &["api-types"],
        outside: &[
            "bytes",
            "http",
            "http-body-util",
            "hyper",
            "hyper-util",
            "socket2",
            "tokio",
            "tokio-util",
            "tracing",
        ],
        tests: &[],
    },
    Row {
        package: "agent-names",
        folder: "agent/names",
        own: &["api-types"],
        outside: &["domain", "socket2", "tokio", "tokio-util", "tracing"],
        tests: &["nix", "tests-support"],
    },
    Row {
        package: "agent-network",
        folder: "agent/network",
        own: &["api-types"],
        outside: &["libc", "nix", "thiserror", "tokio", "tracing"],
        tests: &["tests-support"],
    },
    Row { package: "agent-logger", folder: "agent/logger", own: &[], outside: &["libc"], tests: &["tests-support"] },
    Row {
        package: "tests-support",
        folder: "tests/support",
        own: &["api-types"],
        outside: &["nix", "serde", "serde_json", "sha2", "tar", "tokio"],
        tests: &[],
    },
    Row { package: "tests-mutation", folder: "tests/mutation", own: &[], outside: &[], tests: &[] },
    Row {
        package: "tests-simulation",
        folder: "tests/simulation",
        own: &["agent-core", "api-types", "scheduler-core"],
        outside: &[],
        tests: &[],
    },
    Row {
        package: "tests-system",
        folder: "tests/system",
        own: &["api-types", "tests-support"],
        outside: &["nix", "prost", "serde", "serde_json", "tokio", "tonic", "tonic-prost"],
        tests: &[
            "api-daemon",
            "containerd-client",
            "hyper-util",
            "prost-types",
            "proto",
            "tokio-rustls",
            "tokio-stream",
            "tower",
        ],
    },
    Row { package: "tests-tidy", folder: "tests/tidy", own: &[], outside: &["toml"], tests: &[] },
];

/// Compares every crate with its row; one sentence for each difference.
#[must_use]
pub fn check(root: &Path) -> Vec<String> {
    let mut faults = Vec::new();
    let workspace = manifest(&root.join("Cargo.toml"), &mut faults);
    let members: BTreeSet<String> = workspace
        .get("workspace")
        .and_then(|workspace| workspace.get("members"))
        .and_then(toml::Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|member| member.as_str().map(str::to_owned))
        .collect();
    let rows: BTreeSet<String> = IMPORTS.iter().map(|row| row.folder.to_owned()).collect();
    for folder in members.symmetric_difference(&rows) {
        faults.push(format!("{folder}: is either not a member of the workspace or has no row in tests/tidy"));
    }
    for row in IMPORTS {
        check_row(root, row, &mut faults);
    }
    faults
}

/// Whether the pure cores use what a pure crate may use, by the table itself.
#[must_use]
pub fn check_cores() -> Vec<String> {
    let cores = IMPORTS.iter().filter(|row| row.folder.ends_with("/core") || row.folder == "scheduler/placement");
    let ours = ["api-types", "scheduler-placement"];
    let is_pure = |row: &Row| {
        row.own.iter().all(|name| ours.contains(name)) && row.outside.iter().all(|name| PURE.contains(name))
    };
    cores
        .filter(|row| !is_pure(row))
        .map(|row| format!("{}: a core uses {}, {} and nothing else", row.folder, ours.join(", "), PURE.join(", ")))
        .collect()
}

fn check_row(root: &Path, row: &Row, faults: &mut Vec<String>) {
    let file = format!("{}/Cargo.toml", row.folder);
    let manifest = manifest(&root.join(&file), faults);
    let name = manifest.get("package").and_then(|package| package.get("name")).and_then(toml::Value::as_str);
    if name != Some(row.package) {
        faults.push(format!("{file}: the package is {name:?}, the table says {:?}", row.package));
    }
    if manifest.get("lints").and_then(|lints| lints.get("workspace")).and_then(toml::Value::as_bool) != Some(true) {
        faults.push(format!("{file}: lacks `[lints] workspace = true`"));
    }
    let allowed: BTreeSet<&str> = row.own.iter().chain(row.outside).copied().collect();
    let used = used(&manifest, &["dependencies", "build-dependencies"], &file, faults);
    compare(&file, "use", &used, &allowed, faults);
    let used = self::used(&manifest, &["dev-dependencies"], &file, faults);
    compare(&file, "use in tests", &used, &row.tests.iter().copied().collect(), faults);
}

fn compare(file: &str, verb: &str, used: &BTreeSet<String>, allowed: &BTreeSet<&str>, faults: &mut Vec<String>) {
    for name in used.iter().filter(|name| !allowed.contains(name.as_str())) {
        faults.push(format!("{file}: may not {verb} {name}; a new arrow needs a row in tests/tidy/src/imports.rs"));
    }
    for name in allowed.iter().filter(|name| !used.contains(**name)) {
        faults.push(format!("{file}: does not {verb} {name}, but its row in tests/tidy/src/imports.rs says so"));
    }
}

fn used(manifest: &toml::Table, sections: &[&str], file: &str, faults: &mut Vec<String>) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for section in sections {
        for (name, value) in manifest.get(*section).and_then(toml::Value::as_table).into_iter().flatten() {
            if value.get("workspace").and_then(toml::Value::as_bool) != Some(true) {
                faults
                    .push(format!("{file}: {name} must be `{name}.workspace = true`; versions stand in the root once"));
            }
            names.insert(name.clone());
        }
    }
    names
}

fn manifest(path: &Path, faults: &mut Vec<String>) -> toml::Table {
    let parsed = fs::read_to_string(path)
        .map_err(|error| error.to_string())
        .and_then(|text| text.parse::<toml::Table>().map_err(|error| error.to_string()));
    parsed.unwrap_or_else(|error| {
        faults.push(format!("{}: {error}", path.display()));
        toml::Table::new()
    })
}

//! Layers win over each other in order; what is wrong is named with its place.

use std::fs;

use serde::{Deserialize, Serialize};

use super::*;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    engine: Engine,
    registry: Vec<Registry>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Engine {
    socket: String,
    starts_max: u32,
    prefixes: Vec<String>,
    address: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Registry {
    host: String,
    password: String,
}

const KEYS: &[Key] = &[
    Key { path: "engine.socket", kind: Kind::Text },
    Key { path: "engine.starts_max", kind: Kind::Number },
    Key { path: "engine.prefixes", kind: Kind::List },
    Key { path: "engine.address", kind: Kind::Text },
];

impl Default for Engine {
    fn default() -> Self {
        Self { socket: "/run/engine".to_owned(), starts_max: 8, prefixes: Vec::new(), address: None }
    }
}

#[test]
fn a_later_layer_wins_and_is_named() {
    let file = write("later", "[engine]\nsocket = 'file'\nstarts_max = 3\n[[registry]]\nhost = 'r'\npassword = 'pw'\n");
    let mut layers = layers(&file);
    layers.environment = variables(&[("WHERRY_ENGINE_STARTS_MAX", "4"), ("WHERRY_ENGINE_ADDRESS", "a"), ("PATH", "/")]);
    layers.flags = vec![("engine.starts_max", "5".to_owned())];

    let loaded = load::<Config>(&layers, KEYS).expect("a configuration");
    fs::remove_file(file).expect("it is there");

    assert_eq!((loaded.config.engine.socket.as_str(), loaded.config.engine.starts_max), ("file", 5));
    let text = loaded.to_string();
    for line in ["engine.socket = \"file\"", "# file", "# environment WHERRY_ENGINE_ADDRESS", "# flag", "# default"] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("pw"), "a password is not shown");
    assert!(loaded.is_default("engine.prefixes") && !loaded.is_default("engine.socket"));
}

#[test]
fn an_unknown_key_has_a_place_and_a_nearest_spelling() {
    let wrong = |text: &str| {
        let file = write("unknown", text);
        let text = load::<Config>(&layers(&file), KEYS).expect_err("an error").to_string();
        fs::remove_file(file).expect("it is there");
        text
    };

    assert!(wrong("\n[engine]\n  sockt = 'x'\n").ends_with(":3:3: unknown field `sockt`, did you mean `socket`?"));
    assert!(wrong("[engin]\n").ends_with(":1:2: unknown field `engin`, did you mean `engine`?"));
    assert!(wrong("[engine]\nzzzz = 1\n").ends_with(":2:1: unknown field `zzzz`"));
    let kind = wrong("[engine]\nstarts_max = 'many'\n");
    assert!(kind.contains(":2:14: invalid type"), "{kind}");
    assert!(wrong("[engine\n").contains(":1:8: "), "broken TOML has a place too");
}

#[test]
fn variables_are_checked_like_the_file() {
    let wrong = |name: &str, value: &str| {
        let layers = Layers { environment: variables(&[(name, value)]), ..Layers::default() };
        load::<Config>(&layers, KEYS).expect_err("an error").to_string()
    };

    assert!(wrong("WHERRY_ENGINE_SOKET", "x").ends_with("did you mean `WHERRY_ENGINE_SOCKET`?"));
    assert_eq!(wrong("WHERRY_ENGINE_STARTS_MAX", "many"), "WHERRY_ENGINE_STARTS_MAX: `many` is not a whole number");
    assert!(wrong("WHERRY_ENGINE_STARTS_MAX", "-1").starts_with("WHERRY_ENGINE_STARTS_MAX: "));
    let other = Layers { environment: variables(&[("WHERRY_TOKEN", "x")]), ..Layers::default() };
    assert!(load::<Config>(&other, KEYS).is_ok(), "another program's variable");
}

#[test]
fn a_missing_file_is_an_error_only_if_somebody_named_it() {
    let mut layers = Layers { file: Some("/nowhere/at/all.toml".into()), ..Layers::default() };
    assert_eq!(load::<Config>(&layers, KEYS).expect("defaults").config, Config::default());

    layers.file_required = true;
    assert!(matches!(load::<Config>(&layers, KEYS), Err(ConfigError::Read { .. })));
}

fn layers(file: &Path) -> Layers {
    Layers { file: Some(file.to_owned()), file_required: true, ..Layers::default() }
}

fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn write(name: &str, text: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("wherry-config-{}-{name}.toml", std::process::id()));
    fs::write(&path, text).expect("a writable directory");
    path
}

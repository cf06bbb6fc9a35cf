//! Settings from text: which keys there are, what their defaults are, and what makes no sense.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicU32, Ordering},
};

use api_daemon::config_file::{Layers, load};

use super::*;

#[test]
fn every_key_can_be_set_by_a_variable_and_no_other() {
    let loaded = load::<Config>(&Layers::default(), KEYS).expect("the defaults");
    let shown: BTreeSet<String> =
        loaded.to_string().lines().filter_map(|line| line.split_once(" = ").map(|(key, _)| key.to_owned())).collect();

    let mut keys: BTreeSet<String> = KEYS.iter().map(|key| key.path.to_owned()).collect();
    // Lists of tables are for the file only.
    keys.extend(["registry".to_owned(), "device".to_owned()]);
    assert_eq!(shown, keys);
    loaded.config.validate().expect("the defaults make sense");
}

#[test]
fn the_shipped_file_shows_every_key_with_its_default() {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/config/agent.toml");
    let layers = Layers { file: Some(file), file_required: true, ..Layers::default() };

    let loaded = load::<Config>(&layers, KEYS).expect("readable");

    assert_eq!(loaded.config, Config::default());
    for key in KEYS {
        assert!(!loaded.is_default(key.path), "{} is not in the file", key.path);
    }
}

#[test]
fn settings_that_make_no_sense_are_named() {
    let problem = |text: &str| {
        let config: Config = toml_from(text);
        config.validate().expect_err("a problem").to_string()
    };

    assert_eq!(problem("network.address = 'x'"), "network.address: `x` is not an IPv4 address");
    assert_eq!(
        problem("network.tunnel_address = 'gate.example'"),
        "network.tunnel_address: `gate.example` is not an IPv4 address and port such as 203.0.113.7:7449"
    );
    assert_eq!(problem("agent.run_dir = 'run'"), "agent.run_dir: `run` must be an absolute path");
    assert_eq!(problem("[[registry]]\nplain_http = true"), "registry: each entry needs its `host`");
    assert_eq!(problem("[[device]]\nname = 'x'"), "device x: it needs its `kind` (camera, gpu, licence)");
}

#[test]
fn a_tunnel_is_dialled_at_the_nodes_address_unless_another_is_said_or_none() {
    let tunnel = |text: &str| {
        let place = toml_from(text).tunnel([192, 0, 2, 3].into()).expect("an address");
        place.map(|place| place.to_string())
    };

    assert_eq!(tunnel("").as_deref(), Some("192.0.2.3:7449"));
    assert_eq!(tunnel("network.tunnel_port = 9000").as_deref(), Some("192.0.2.3:9000"));
    assert_eq!(tunnel("network.tunnel_address = '203.0.113.7:443'").as_deref(), Some("203.0.113.7:443"));
    assert_eq!(tunnel("network = { tunnel_address = '203.0.113.7:443', tunnel_port = 0 }"), None);
}

#[test]
fn a_capacity_that_was_set_wins_over_the_machine() {
    let config = toml_from("capacity.cpu_millis = 500");

    let capacity = config.capacity(Resources { cpu_millis: 2000, memory_bytes: 9 });

    assert_eq!(capacity, Resources { cpu_millis: 500, memory_bytes: 9 });
}

pub(crate) fn toml_from(text: &str) -> Config {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("wherry-agent-config-{}-{number}.toml", std::process::id()));
    std::fs::write(&path, text).expect("a writable directory");
    let layers = Layers { file: Some(path.clone()), file_required: true, ..Layers::default() };
    let loaded = load::<Config>(&layers, KEYS).expect("readable");
    std::fs::remove_file(path).expect("it is there");
    loaded.config
}

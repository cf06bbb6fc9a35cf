//! TOML manifests to specs: all faults at once, each with its place and what to write instead.

mod balance;
mod companion;
mod config;
mod constraint;
mod container;
mod content;
mod dependency;
mod device;
mod disconnect;
mod fault;
mod image;
mod job;
mod mount;
mod placement;
mod ports;
mod probe;
mod scale;
mod schedule;
mod section;
mod units;
mod update;
mod volume;
mod workload;

use std::collections::BTreeMap;

use api_types::{
    container::Protocol,
    id::{DEFAULT_NAMESPACE, Name, WorkloadId},
    view::Fault,
    workload::WorkloadSpec,
};
use toml::de::DeTable;

use crate::{
    config::Configs,
    fault::{Faults, Place},
    section::Section,
    workload::{Kind, Reading},
};

pub use crate::{
    config::{files, with_files},
    units::duration_ms,
};

/// The longest manifest, in bytes; the HTTP API takes no longer body either.
pub const MANIFEST_BYTES_MAX: usize = 4 << 20;

/// Objects of the format that this version does not know how to run yet.
const LATER: &[&str] = &["route", "volume"];

/// What one file asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// What the file calls itself; for people only.
    pub name: Option<Name>,
    /// The workloads: services, then daemons, then jobs, each kind sorted by name.
    pub workloads: Vec<WorkloadSpec>,
}

/// Reads a manifest.
///
/// # Errors
/// Every fault found, in the order of the text, at most a hundred. When the text is not TOML only that is said, since
/// what follows from it would be noise.
pub fn parse(text: &str) -> Result<Manifest, Vec<Fault>> {
    let faults = Faults::new(text);
    if text.len() > MANIFEST_BYTES_MAX {
        let message = format!("the manifest has {} bytes; at most {MANIFEST_BYTES_MAX} are read", text.len());
        faults.report("too_large", "", 0..0, message);
        return Err(faults.into_sorted());
    }
    if let Err(place) = fault::nesting_is_bounded(text) {
        faults.report("too_deep", "", place, "brackets are nested too deep; a manifest needs four levels at most");
        return Err(faults.into_sorted());
    }
    let (root, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let code = if error.message().starts_with("duplicate") { "duplicate_key" } else { "syntax" };
        faults.report(code, "", error.span().unwrap_or(0..0), error.message());
    }
    if !errors.is_empty() {
        return Err(faults.into_sorted());
    }
    let manifest = read(&Section::root(root.get_ref(), &faults), &faults);
    if faults.is_empty() { Ok(manifest) } else { Err(faults.into_sorted()) }
}

fn read(root: &Section<'_>, faults: &Faults<'_>) -> Manifest {
    root.refuse_later(LATER);
    let name = root.get("name").and_then(|entry| entry.name());
    let namespace = root
        .get("namespace")
        .and_then(|entry| entry.name())
        .unwrap_or_else(|| Name::new(DEFAULT_NAMESPACE).expect("the default namespace is a name"));
    refuse_secrets(root);
    let configs = Configs::read(root);
    let mut readings = Vec::new();
    for (key, kind) in [("service", Kind::Service), ("daemon", Kind::Daemon), ("job", Kind::Job)] {
        let Some(section) = root.get(key).and_then(|entry| entry.section()) else { continue };
        for entry in section.entries() {
            if let Some(reading) = workload::read(&entry, kind, &namespace, &configs) {
                readings.push(reading);
            }
        }
    }
    root.refuse_unknown();
    if readings.is_empty() && faults.is_empty() {
        let help = "add a table such as [service.web] with an `image`";
        faults.report_with_help("empty", "", 0..0, "there is no workload in this manifest", help);
    }
    refuse_collisions(&readings, faults);
    dependency::refuse_endless(&readings, faults);
    Manifest { name, workloads: readings.into_iter().map(|reading| reading.spec).collect() }
}

/// What is secret does not stand in a file that is read, kept and shown to others.
fn refuse_secrets(root: &Section<'_>) {
    if let Some(entry) = root.get("secret") {
        let message = "a secret does not stand in a manifest";
        let help =
            "set it with `wherry secret set NAME`, and use it with secrets = { \"/run/secrets/NAME\" = \"NAME\" }";
        entry.faults.report_with_help("secret_in_manifest", &entry.path, entry.key_place.clone(), message, help);
    }
}

/// Refuses what no single workload can see: two of one name, two that want the same port of a node.
fn refuse_collisions(readings: &[Reading], faults: &Faults<'_>) {
    let mut names: BTreeMap<&WorkloadId, &str> = BTreeMap::new();
    let mut published: BTreeMap<(u16, Protocol), String> = BTreeMap::new();
    for reading in readings {
        if let Some(first) = names.insert(&reading.spec.id, &reading.path) {
            let message = format!("`{}` is used by `{first}` already", reading.spec.id);
            faults.report("duplicate_name", &reading.path, reading.place.clone(), message);
        }
        for (port, place) in reading.spec.ports.iter().zip(&reading.port_places) {
            let Some(number) = port.publish else { continue };
            let path = format!("{}.ports.{}.publish", reading.path, port.name);
            refuse_taken(&mut published, (number, port.protocol), path, place, faults);
        }
    }
    for reading in readings {
        for (port, place) in reading.spec.ports.iter().zip(&reading.port_places) {
            let Some(number) = port.host else { continue };
            if let Some(first) = published.get(&(number, port.protocol)) {
                let path = format!("{}.ports.{}.host", reading.path, port.name);
                let message = format!("port {number}/{} of every node is taken by `{first}`", port.protocol.as_str());
                faults.report("duplicate_port", &path, place.clone(), message);
            }
        }
    }
}

fn refuse_taken(
    published: &mut BTreeMap<(u16, Protocol), String>,
    port: (u16, Protocol),
    path: String,
    place: &Place,
    faults: &Faults<'_>,
) {
    if let Some(first) = published.get(&port) {
        let message = format!("port {}/{} is published by `{first}` already", port.0, port.1.as_str());
        faults.report("duplicate_port", &path, place.clone(), message);
        return;
    }
    published.insert(port, path);
}

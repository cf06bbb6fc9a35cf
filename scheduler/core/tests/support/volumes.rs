//! What stories say of how much volumes hold.

use std::collections::BTreeMap;

use api_types::{id::Name, relay::VolumeSlot};
use scheduler_core::input::Input;

use crate::fleet::Fleet;

/// `data:1GiB,logs:64MiB`: what volumes are meant to hold at most.
pub(crate) fn sizes(text: &str) -> impl Iterator<Item = (Name, u64)> {
    text.split(',').map(|size| {
        let (name, size) = size.split_once(':').expect("a volume and its size");
        (Name::new(name).expect("a name"), super::bytes(size))
    })
}

/// `a db:data:0=2GiB db:data:1=1GiB`: a node says what its volumes hold.
pub(crate) fn measured(fleet: &mut Fleet, words: &[&str]) -> String {
    let measured = |text: &&str| {
        let (slot, size) = text.split_once('=').expect("a volume and what it holds");
        let parts: Vec<&str> = slot.split(':').collect();
        let slot = VolumeSlot {
            workload: parts[0].parse().expect("a workload"),
            volume: Name::new(parts[1]).expect("a name"),
            slot: parts[2].parse().expect("a slot"),
        };
        (slot, super::bytes(size))
    };
    let node = super::name(words[0]);
    let session = fleet.agents[&node].session;
    let volumes: BTreeMap<VolumeSlot, u64> = words[1..].iter().map(measured).collect();
    fleet.step(Input::VolumesMeasured { node, session, volumes });
    String::new()
}

/// What is known of how much a volume holds, and is meant to hold; empty = nothing is.
pub(crate) fn show((used, size): (Option<u64>, Option<u64>)) -> String {
    let mebibytes = |bytes: Option<u64>| bytes.map_or_else(|| "?".to_owned(), |bytes| format!("{} MiB", bytes >> 20));
    match (used, size) {
        (None, None) => String::new(),
        known => format!("{} of {}", mebibytes(known.0), mebibytes(known.1)),
    }
}

//! The keys on record for each node. A certificate is good only while its key is on record for the node it names.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
};

use api_daemon::identity::pin::Pin;
use api_types::id::NodeId;

use super::records::{NODE_KEYS_PREFIX, NodeKeysRecord};
use crate::store::Write;

/// A node may prove itself with its newest key and the one before it: after a renewal with a new key the agent may
/// lose power before it kept the certificate.
const KEYS_MAX: usize = 2;

/// The keys on record, shared by the handshake, the rpcs and the control loop.
#[derive(Debug)]
pub(crate) struct NodeKeys(Mutex<BTreeMap<NodeId, NodeKeysRecord>>);

impl NodeKeys {
    /// Begins with what is durable.
    pub(crate) fn new(records: BTreeMap<NodeId, NodeKeysRecord>) -> Self {
        Self(Mutex::new(records))
    }

    /// Whether this key is on record for this node.
    pub(crate) fn allow(&self, node: &NodeId, pin: Pin) -> bool {
        self.lock().get(node).is_some_and(|record| holds(record, pin))
    }

    /// What is on record for a node.
    pub(crate) fn of(&self, node: &NodeId) -> Option<NodeKeysRecord> {
        self.lock().get(node).cloned()
    }

    /// The record after a node joined with this key: every earlier key is void.
    pub(crate) fn joined(&self, node: &NodeId, pin: Pin, token: &str) -> (NodeKeysRecord, Write) {
        let record = NodeKeysRecord { pins: vec![pin.to_string()], joined_by: token.to_owned() };
        let write = Write::put(key_of(node), &record);
        (record, write)
    }

    /// Puts a renewed key on record; gives the write if it is another key, `None` if the node is not known.
    pub(crate) fn renew(&self, node: &NodeId, pin: Pin) -> Option<Option<Write>> {
        let mut records = self.lock();
        let record = records.get_mut(node)?;
        if holds(record, pin) {
            return Some(None);
        }
        record.pins.push(pin.to_string());
        let surplus = record.pins.len().saturating_sub(KEYS_MAX);
        record.pins.drain(..surplus);
        Some(Some(Write::put(key_of(node), record)))
    }

    /// Takes up a record that is durable.
    pub(crate) fn keep(&self, node: NodeId, record: NodeKeysRecord) {
        self.lock().insert(node, record);
    }

    /// Forgets a node: from now on every certificate of it is refused.
    pub(crate) fn forget(&self, node: &NodeId) -> Write {
        self.lock().remove(node);
        Write::remove(key_of(node))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, NodeKeysRecord>> {
        self.0.lock().expect("nobody panics while holding it")
    }
}

fn holds(record: &NodeKeysRecord, pin: Pin) -> bool {
    let pin = pin.to_string();
    record.pins.contains(&pin)
}

fn key_of(node: &NodeId) -> String {
    format!("{NODE_KEYS_PREFIX}{node}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_keeps_its_newest_two_keys_and_loses_all_when_forgotten() {
        let keys = NodeKeys::new(BTreeMap::new());
        let node = NodeId::new("edge-1").expect("a name");
        let pin = |byte| Pin([byte; 32]);

        let (record, _) = keys.joined(&node, pin(1), "T");
        keys.keep(node.clone(), record);
        let writes = [2, 2, 3].map(|byte| keys.renew(&node, pin(byte)).expect("a known node").is_some());

        assert_eq!(writes, [true, false, true], "an equal key writes nothing");
        assert!(!keys.allow(&node, pin(1)) && keys.allow(&node, pin(2)) && keys.allow(&node, pin(3)));
        assert!(!keys.allow(&NodeId::new("edge-2").expect("a name"), pin(3)));
        keys.forget(&node);
        assert!(!keys.allow(&node, pin(3)));
        assert!(keys.renew(&node, pin(3)).is_none());
    }
}

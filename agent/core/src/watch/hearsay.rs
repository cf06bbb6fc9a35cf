//! Who is no neighbour and is said to be out of reach: this node asks itself, and believes only what it sees then.

use std::collections::{BTreeMap, BTreeSet};

use api_types::{id::NodeId, time::Timestamp};

/// The most who are asked after at once.
const SUSPECTS_MAX: usize = 64;

/// Milliseconds for which who has just proven itself is not asked again, whatever is said.
const CLEARED_MS: u64 = 30_000;

/// Nodes that are asked after, until they prove themselves.
#[derive(Clone, Debug, Default)]
pub(super) struct Hearsay {
    suspects: BTreeMap<NodeId, Suspect>,
    /// Until when no word against a node counts.
    cleared: BTreeMap<NodeId, Timestamp>,
}

/// One that is asked after.
#[derive(Clone, Copy, Debug)]
struct Suspect {
    since: Timestamp,
    /// Whether it is out of reach for this node, too.
    is_gone: bool,
}

impl Hearsay {
    /// Forgets all but these.
    pub(super) fn retain(&mut self, others: &BTreeSet<NodeId>) {
        self.suspects.retain(|node, _| others.contains(node));
        self.cleared.retain(|node, _| others.contains(node));
    }

    /// Somebody cannot reach a node. Gives whether it is asked after from now on, and was not before.
    pub(super) fn accuse(&mut self, node: &NodeId, now: Timestamp) -> bool {
        let is_cleared = self.cleared.get(node).is_some_and(|until| now < *until);
        if is_cleared || self.suspects.contains_key(node) || self.suspects.len() >= SUSPECTS_MAX {
            return false;
        }
        self.cleared.remove(node);
        self.suspects.insert(node.clone(), Suspect { since: now, is_gone: false });
        true
    }

    /// When a node began to be asked after, if it is.
    pub(super) fn asked_since(&self, node: &NodeId) -> Option<Timestamp> {
        self.suspects.get(node).map(|suspect| suspect.since)
    }

    /// A node proved itself; `leaves`: with the word that its machine is being shut down.
    pub(super) fn proven(&mut self, node: &NodeId, leaves: bool, now: Timestamp) {
        if leaves {
            let suspect = self.suspects.get_mut(node);
            suspect.into_iter().for_each(|suspect| suspect.is_gone = true);
        } else if self.suspects.remove(node).is_some() {
            self.cleared.insert(node.clone(), now + CLEARED_MS);
        }
    }

    /// Whoever did not prove itself for longer than this is out of reach.
    pub(super) fn judge(&mut self, now: Timestamp, limit_ms: u64) {
        for suspect in self.suspects.values_mut() {
            suspect.is_gone |= now.since(suspect.since) > limit_ms;
        }
    }

    /// Nobody is blamed for the time in which this node stood still.
    pub(super) fn start_over(&mut self, now: Timestamp) {
        for suspect in self.suspects.values_mut().filter(|suspect| !suspect.is_gone) {
            suspect.since = now;
        }
    }

    /// All who are asked after.
    pub(super) fn suspects(&self) -> impl Iterator<Item = &NodeId> {
        self.suspects.keys()
    }

    /// Those who are out of reach.
    pub(super) fn gone(&self) -> impl Iterator<Item = &NodeId> {
        self.suspects.iter().filter(|(_, suspect)| suspect.is_gone).map(|(node, _)| node)
    }
}

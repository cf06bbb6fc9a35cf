//! The keys of signs of life: the latest, and those before it for as long as some neighbour may not have heard of it.

use std::collections::BTreeMap;

use api_types::{id::NodeId, service::WatchKey, time::Timestamp};

/// For how long a key that was replaced is still believed, and used towards who uses it: a neighbour that hears no scheduler
/// just then is not to count as dead. For so long a node that was removed can speak as one of the cluster.
const BELIEVED_MS: u64 = 600_000;

/// The most keys: who removes more nodes in that time removes the oldest key with them.
const KEYS_MAX: usize = 4;

/// What signs are signed with.
#[derive(Debug, Default)]
pub(super) struct Keys {
    latest: Option<WatchKey>,
    /// The latest first, each with the time from which it is believed no more.
    earlier: Vec<(WatchKey, Timestamp)>,
    /// With what each neighbour signed last, where that is an earlier one.
    used: BTreeMap<NodeId, WatchKey>,
}

impl Keys {
    /// Takes over the key of a table.
    pub(super) fn follow(&mut self, key: Option<WatchKey>, now: Timestamp) {
        if key == self.latest {
            return;
        }
        // A table of before may come once more: its key is not an earlier one then.
        self.earlier.retain(|(known, _)| Some(*known) != key);
        if let Some(before) = self.latest {
            self.earlier.insert(0, (before, now + BELIEVED_MS));
            self.earlier.truncate(KEYS_MAX - 1);
        }
        self.latest = key;
    }

    /// Whether there is any.
    pub(super) fn any(&self) -> bool {
        self.latest.is_some()
    }

    /// All that are believed now, the latest first.
    pub(super) fn believed(&self, now: Timestamp) -> impl Iterator<Item = WatchKey> {
        let earlier = self.earlier.iter().filter(move |(_, until)| now < *until).map(|(key, _)| *key);
        self.latest.into_iter().chain(earlier)
    }

    /// A neighbour signed with this one.
    pub(super) fn heard(&mut self, from: &NodeId, key: WatchKey) {
        if Some(key) == self.latest {
            self.used.remove(from);
        } else {
            self.used.insert(from.clone(), key);
        }
    }

    /// With what signs to a neighbour are signed, one after the other: as it signed last, since it may know no other, and
    /// with the latest, by which it sees that it may use that, too.
    pub(super) fn towards(&self, node: &NodeId, now: Timestamp) -> impl Iterator<Item = WatchKey> {
        let used = self.used.get(node).copied();
        let used = used.filter(|used| self.believed(now).any(|believed| believed == *used));
        used.into_iter().chain(self.latest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: WatchKey = WatchKey([1; 32]);
    const NEW: WatchKey = WatchKey([2; 32]);
    const START: Timestamp = Timestamp(1_000_000);

    fn node(name: &str) -> NodeId {
        NodeId::new(name).expect("a name")
    }

    fn replaced() -> Keys {
        let mut keys = Keys::default();
        keys.follow(Some(OLD), START);
        keys.follow(Some(NEW), START);
        keys
    }

    #[test]
    fn a_key_that_was_replaced_is_believed_for_a_while() {
        let keys = replaced();

        assert_eq!(keys.believed(START).collect::<Vec<_>>(), [NEW, OLD]);
        assert_eq!(keys.believed(START + BELIEVED_MS).collect::<Vec<_>>(), [NEW]);
    }

    #[test]
    fn who_knows_the_earlier_key_alone_is_spoken_to_with_both_until_it_uses_the_latest() {
        let mut keys = replaced();
        let towards = |keys: &Keys, name: &str, now| keys.towards(&node(name), now).collect::<Vec<_>>();
        assert_eq!(towards(&keys, "edge-2", START), [NEW]);

        keys.heard(&node("edge-2"), OLD);
        assert_eq!(towards(&keys, "edge-2", START), [OLD, NEW]);
        assert_eq!(towards(&keys, "edge-3", START), [NEW]);
        assert_eq!(towards(&keys, "edge-2", START + BELIEVED_MS), [NEW], "it is believed no more");
        keys.heard(&node("edge-2"), NEW);

        assert_eq!(towards(&keys, "edge-2", START), [NEW]);
    }

    #[test]
    fn a_table_of_before_brings_no_key_twice() {
        let mut keys = replaced();

        keys.follow(Some(OLD), START);

        assert_eq!(keys.believed(START).collect::<Vec<_>>(), [OLD, NEW]);
    }

    #[test]
    fn few_keys_are_kept() {
        let mut keys = Keys::default();
        for number in 0..9 {
            keys.follow(Some(WatchKey([number; 32])), START);
        }

        assert_eq!(keys.believed(START).count(), KEYS_MAX);
    }
}

//! How many of something each of many may have at once: one that takes all leaves the others theirs.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

/// Counts by key; a clone counts together with it. Who has none is not kept.
#[derive(Clone, Debug)]
pub(crate) struct Shares<K: Ord> {
    taken: Arc<Mutex<BTreeMap<K, usize>>>,
    max: usize,
}

/// One of a key's shares, until it is dropped.
#[derive(Debug)]
pub(crate) struct Share<K: Ord> {
    shares: Shares<K>,
    key: K,
}

impl<K: Ord + Clone> Shares<K> {
    /// Lets every key have `max` at once.
    pub(crate) fn new(max: usize) -> Self {
        Self { taken: Arc::default(), max }
    }

    /// Takes one more; `None` when the key has all that it may.
    pub(crate) fn take(&self, key: K) -> Option<Share<K>> {
        {
            let mut taken = self.lock();
            let count = taken.entry(key.clone()).or_default();
            if *count >= self.max {
                return None;
            }
            *count += 1;
        }
        Some(Share { shares: self.clone(), key })
    }
}

impl<K: Ord> Shares<K> {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<K, usize>> {
        self.taken.lock().expect("nobody panics while holding it")
    }
}

impl<K: Ord> Drop for Share<K> {
    fn drop(&mut self) {
        let mut taken = self.shares.lock();
        let count = taken.get_mut(&self.key).expect("this share is counted");
        *count -= 1;
        if *count == 0 {
            taken.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_takes_all_of_its_own_leaves_others_theirs_and_gives_back() {
        let shares = Shares::new(2);
        let held: Vec<_> = (0..5).filter_map(|_| shares.take("a")).collect();

        assert_eq!(held.len(), 2);
        assert!(shares.take("b").is_some());
        drop(held);
        assert!(shares.lock().is_empty(), "who has none is not kept");
        assert!(shares.take("a").is_some());
    }
}

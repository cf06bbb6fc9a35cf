//! Which containers this process is busy with: what others must not mistake for leftovers or for foreign deeds.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Mutex,
    time::Duration,
};

use tokio::{sync::Notify, time::timeout};

/// Removals that are remembered until their events have arrived.
const REMOVED_MAX: usize = 1024;

/// How long a removal gives way to starts.
const WAY: Duration = Duration::from_secs(1);

/// The containers that are being started.
#[derive(Debug, Default)]
pub(crate) struct Starting {
    ids: Mutex<BTreeSet<String>>,
    /// Notified when none is left.
    calm: Notify,
}

/// Holds a container among those being started, until it is dropped.
pub(crate) struct Mark<'a> {
    starting: &'a Starting,
    id: String,
}

impl Starting {
    pub(crate) fn mark(&self, id: &str) -> Mark<'_> {
        self.ids.lock().expect("no holder panics").insert(id.to_owned());
        Mark { starting: self, id: id.to_owned() }
    }

    pub(crate) fn ids(&self) -> BTreeSet<String> {
        self.ids.lock().expect("no holder panics").clone()
    }

    /// Lets starts go first for a moment: whoever waits for a process waits for a start, nobody for a removal.
    pub(crate) async fn give_way(&self) {
        // A start that was asked for together with this removal gets its turn to be marked.
        tokio::task::yield_now().await;
        let calm = async {
            let mut calm = std::pin::pin!(self.calm.notified());
            calm.as_mut().enable();
            if !self.ids.lock().expect("no holder panics").is_empty() {
                calm.await;
            }
        };
        // After that the removal goes on all the same.
        let _ = timeout(WAY, calm).await;
    }
}

impl Drop for Mark<'_> {
    fn drop(&mut self) {
        let mut ids = self.starting.ids.lock().expect("no holder panics");
        ids.remove(&self.id);
        if ids.is_empty() {
            self.starting.calm.notify_waiters();
        }
    }
}

/// The containers that we removed ourselves, the latest last.
#[derive(Debug, Default)]
pub(crate) struct Removed(Mutex<VecDeque<String>>);

impl Removed {
    pub(crate) fn note(&self, id: &str) {
        let mut removed = self.0.lock().expect("no holder panics");
        if removed.len() == REMOVED_MAX {
            removed.pop_front();
        }
        removed.push_back(id.to_owned());
    }

    /// It is made again under the same id: its next removal may be another's deed.
    pub(crate) fn clear(&self, id: &str) {
        self.0.lock().expect("no holder panics").retain(|known| known != id);
    }

    pub(crate) fn holds(&self, id: &str) -> bool {
        self.0.lock().expect("no holder panics").iter().any(|known| known == id)
    }
}

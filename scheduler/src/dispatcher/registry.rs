//! Who is connected: one entry for each node's newest session, and what every session must know.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use api_types::{
    counter::{Generation, SessionId},
    id::NodeId,
    service::ServiceTable,
};
use proto::{limits::LOGS_PER_NODE_MAX, session::FromScheduler};
use tokio::sync::{mpsc, oneshot, watch};

/// The most wishes (logs, images) that wait for one session; more are refused, not queued. All logs that may be read
/// at once can be asked for in one go.
const WISHES_MAX: usize = 2 * LOGS_PER_NODE_MAX;

/// Why a session ends although its agent is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// A newer session of the same node began.
    Superseded,
    /// The node was removed.
    Removed,
}

/// What a session listens to.
#[derive(Debug)]
pub(crate) struct Subscription {
    /// Which session it is.
    pub(crate) session: SessionId,
    /// The version of the node's set; `None` = not known yet. The set itself is made when it is sent.
    pub(crate) assignments: watch::Receiver<Option<Generation>>,
    /// The table; `None` = not known yet.
    pub(crate) services: watch::Receiver<Option<Arc<ServiceTable>>>,
    /// Wishes to pass on.
    pub(crate) wishes: mpsc::Receiver<Box<FromScheduler>>,
    /// Why to end.
    pub(crate) ending: oneshot::Receiver<Ending>,
}

/// All sessions.
#[derive(Debug)]
pub(crate) struct Registry {
    entries: Mutex<BTreeMap<NodeId, Entry>>,
    services: watch::Sender<Option<Arc<ServiceTable>>>,
    last_session: AtomicU64,
}

#[derive(Debug)]
struct Entry {
    session: SessionId,
    assignments: watch::Sender<Option<Generation>>,
    wishes: mpsc::Sender<Box<FromScheduler>>,
    ending: oneshot::Sender<Ending>,
}

impl Registry {
    /// Makes a registry without sessions.
    pub(crate) fn new() -> Self {
        Self { entries: Mutex::default(), services: watch::Sender::new(None), last_session: AtomicU64::new(0) }
    }

    /// Enters a session; an older one of the same node is told to end.
    pub(crate) fn enter(&self, node: NodeId) -> Subscription {
        let session = SessionId(self.last_session.fetch_add(1, Ordering::Relaxed) + 1);
        let (assignments, assignments_receiver) = watch::channel(None);
        let (wishes, wishes_receiver) = mpsc::channel(WISHES_MAX);
        let (ending, ending_receiver) = oneshot::channel();
        let entry = Entry { session, assignments, wishes, ending };
        if let Some(older) = self.lock().insert(node, entry) {
            // It may have ended by itself already.
            older.ending.send(Ending::Superseded).ok();
        }
        Subscription {
            session,
            assignments: assignments_receiver,
            services: self.services.subscribe(),
            wishes: wishes_receiver,
            ending: ending_receiver,
        }
    }

    /// Takes a session out, if it is still the node's newest.
    pub(crate) fn leave(&self, node: &NodeId, session: SessionId) {
        let mut entries = self.lock();
        if entries.get(node).is_some_and(|entry| entry.session == session) {
            entries.remove(node);
        }
    }

    /// Ends the session of a removed node.
    pub(crate) fn remove(&self, node: &NodeId) {
        if let Some(entry) = self.lock().remove(node) {
            // It may have ended by itself already.
            entry.ending.send(Ending::Removed).ok();
        }
    }

    /// Lets a node's session see that there is another version of its set.
    pub(crate) fn set_assignments(&self, node: &NodeId, generation: Option<Generation>) {
        if let Some(entry) = self.lock().get(node) {
            entry.assignments.send_replace(generation);
        }
    }

    /// Lets every session see the table.
    pub(crate) fn set_services(&self, table: Option<Arc<ServiceTable>>) {
        self.services.send_replace(table);
    }

    /// Passes a wish to a node; `false` = it is not connected, or takes no more.
    pub(crate) fn wish(&self, node: &NodeId, wish: FromScheduler) -> bool {
        self.lock().get(node).is_some_and(|entry| entry.wishes.try_send(Box::new(wish)).is_ok())
    }

    /// The service table as it is; `None` = not known yet.
    pub(crate) fn services(&self) -> Option<Arc<ServiceTable>> {
        self.services.borrow().clone()
    }

    /// The nodes that are connected, sorted.
    pub(crate) fn connected(&self) -> Vec<NodeId> {
        self.lock().keys().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Entry>> {
        self.entries.lock().expect("nobody panics while holding it")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_session_wins_and_an_old_one_cannot_take_it_out() {
        let registry = Registry::new();
        let node = NodeId::new("edge-1").expect("a name");

        let mut old = registry.enter(node.clone());
        let mut new = registry.enter(node.clone());
        registry.leave(&node, old.session);

        assert_eq!(old.ending.try_recv(), Ok(Ending::Superseded));
        assert_eq!(registry.connected(), std::slice::from_ref(&node));
        registry.remove(&node);
        assert_eq!(new.ending.try_recv(), Ok(Ending::Removed));
        assert!(registry.connected().is_empty());
    }

    #[test]
    fn wishes_are_refused_rather_than_piled_up() {
        let registry = Registry::new();
        let node = NodeId::new("edge-1").expect("a name");
        let wish = || FromScheduler::CloseLogs(api_types::counter::RequestId(1));

        assert!(!registry.wish(&node, wish()), "nobody is connected");
        let _subscription = registry.enter(node.clone());

        assert_eq!((0..100).filter(|_| registry.wish(&node, wish())).count(), WISHES_MAX);
    }
}

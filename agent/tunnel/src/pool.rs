//! Connections to one node that wait until somebody asks there. Each is watched, so that a dead one is never taken.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    io::AsyncReadExt,
    sync::{oneshot, watch},
};
use tokio_util::sync::CancellationToken;

use crate::carry::Connection;

/// The connections that wait.
#[derive(Debug)]
pub(crate) struct Pool {
    waiting: Mutex<Waiting>,
    /// How many wait.
    count: watch::Sender<usize>,
    /// Cancelled when nobody asks there any more.
    token: CancellationToken,
}

#[derive(Debug, Default)]
struct Waiting {
    last: u64,
    spares: VecDeque<Spare>,
}

#[derive(Debug)]
struct Spare {
    number: u64,
    wanted: oneshot::Sender<oneshot::Sender<Connection>>,
}

impl Pool {
    pub(crate) fn new(token: CancellationToken) -> Self {
        Self { waiting: Mutex::default(), count: watch::Sender::new(0), token }
    }

    /// How many wait, and their changes.
    pub(crate) fn count(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }

    /// Lets one more wait.
    pub(crate) fn add(self: &Arc<Self>, connection: Connection) {
        let (wanted, taken) = oneshot::channel();
        let mut waiting = self.lock();
        waiting.last += 1;
        let number = waiting.last;
        waiting.spares.push_back(Spare { number, wanted });
        self.count.send_replace(waiting.spares.len());
        drop(waiting);
        drop(tokio::spawn(keep(Arc::clone(self), number, connection, taken)));
    }

    /// Takes the one that waits longest.
    pub(crate) async fn take(&self) -> Option<Connection> {
        loop {
            let (give, given) = oneshot::channel();
            // One that died just now is not given.
            if self.next()?.wanted.send(give).is_ok()
                && let Ok(connection) = given.await
            {
                return Some(connection);
            }
        }
    }

    fn next(&self) -> Option<Spare> {
        let mut waiting = self.lock();
        let spare = waiting.spares.pop_front();
        self.count.send_replace(waiting.spares.len());
        spare
    }

    fn forget(&self, number: u64) {
        let mut waiting = self.lock();
        waiting.spares.retain(|spare| spare.number != number);
        self.count.send_replace(waiting.spares.len());
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Holds a connection until it is wanted or ends. Nothing is sent on it before a question, so whatever can be read is its end.
async fn keep(
    pool: Arc<Pool>,
    number: u64,
    mut connection: Connection,
    taken: oneshot::Receiver<oneshot::Sender<Connection>>,
) {
    let mut byte = [0];
    // All arms are cancel-safe.
    tokio::select! {
        wanted = taken => if let Ok(give) = wanted {
            // Whoever wanted it may have given up.
            drop(give.send(connection));
        },
        _ = connection.read(&mut byte) => pool.forget(number),
        () = pool.token.cancelled() => pool.forget(number),
    }
}

//! The way to one node whose endpoints this node asks: connections that wait for clients, whoever dialled them.

use std::{
    net::SocketAddrV4,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use api_types::id::NodeId;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{carry::Connection, dial::dial, front::LULL, identity::Identity, pool::Pool, wire::Purpose};

/// Between two tries to dial a node that does not answer.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// How long a node that cannot be dialled may take to dial again itself, before its endpoints are left out.
const OFFER_LIMIT: Duration = Duration::from_secs(2);
/// How long a client waits for that.
const CLIENT_LIMIT: Duration = Duration::from_secs(5);

/// The way to one node.
#[derive(Debug)]
pub(crate) struct Way {
    pub(crate) node: NodeId,
    pub(crate) dialled: Option<SocketAddrV4>,
    pub(crate) pool: Arc<Pool>,
    /// Cancelled when this node asks nobody there any more.
    pub(crate) token: CancellationToken,
    identity: watch::Receiver<Arc<Identity>>,
    /// Whether dialling succeeded last.
    direct: AtomicBool,
    /// Whether the node can be asked, or why not; `None` = not known yet.
    reached: Mutex<Option<Result<(), String>>>,
}

impl Way {
    pub(crate) fn new(
        node: NodeId,
        dialled: Option<SocketAddrV4>,
        identity: watch::Receiver<Arc<Identity>>,
        token: CancellationToken,
    ) -> Self {
        let pool = Arc::new(Pool::new(token.clone()));
        Self { node, dialled, pool, token, identity, direct: AtomicBool::new(false), reached: Mutex::new(None) }
    }

    /// Whether the node can be asked, or why not; `None` = not known yet.
    pub(crate) fn reached(&self) -> Option<Result<(), String>> {
        self.reached.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends what waits for clients, when the last of them that were balanced there have come.
    pub(crate) fn retire(self: Arc<Self>) {
        drop(tokio::spawn(async move {
            sleep(LULL).await;
            self.token.cancel();
        }));
    }

    /// Whether a connection that the node dials is of use.
    pub(crate) fn needs_offers(&self) -> bool {
        !self.direct.load(Ordering::Relaxed)
    }

    /// A connection on which a question can be asked.
    pub(crate) async fn connect(&self) -> Result<Connection, String> {
        let mut count = self.pool.count();
        loop {
            if let Some(connection) = self.pool.take().await {
                return Ok(connection);
            }
            if let Some(place) = self.dialled.filter(|_| self.direct.load(Ordering::Relaxed)) {
                return self.dial(place).await;
            }
            let comes = timeout(CLIENT_LIMIT, count.wait_for(|count| *count > 0)).await;
            comes.map_err(|_| format!("no connection of node {} came in time", self.node))?.map(drop).ok();
        }
    }

    /// Sees to it that a connection waits, as long as the node is asked. `publish` is called when it becomes reached or is not
    /// any more.
    pub(crate) async fn tend(&self, publish: impl Fn()) {
        let (mut pause, mut due) = (PAUSE_MIN, Instant::now());
        let mut count = self.pool.count();
        let mut reason = "it names no address at which tunnels are dialled, and did not dial".to_owned();
        loop {
            if *count.borrow_and_update() > 0 {
                self.note(Ok(()), &publish);
                if count.changed().await.is_err() {
                    return;
                }
                continue;
            }
            if let Some(place) = self.dialled.filter(|_| due <= Instant::now()) {
                let outcome = self.dial(place).await;
                self.direct.store(outcome.is_ok(), Ordering::Relaxed);
                match outcome {
                    Ok(connection) => {
                        self.pool.add(connection);
                        pause = PAUSE_MIN;
                        continue;
                    }
                    Err(error) => {
                        reason = format!("{error}; and it did not dial either");
                        due = Instant::now() + pause;
                        pause = (pause * 2).min(PAUSE_MAX);
                    }
                }
            }
            if timeout(OFFER_LIMIT, count.wait_for(|count| *count > 0)).await.is_ok() {
                continue;
            }
            self.note(Err(reason.clone()), &publish);
            // Both arms are cancel-safe.
            tokio::select! {
                () = sleep_until(due), if self.dialled.is_some() => {}
                offered = count.wait_for(|count| *count > 0) => if offered.is_err() { return },
            }
        }
    }

    async fn dial(&self, place: SocketAddrV4) -> Result<Connection, String> {
        let identity = Arc::clone(&self.identity.borrow());
        dial(&identity, (&self.node, place), Purpose::Ask).await.map_err(|error| error.to_string())
    }

    fn note(&self, outcome: Result<(), String>, publish: impl Fn()) {
        let mut reached = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        let differs = reached.as_ref() != Some(&outcome);
        *reached = Some(outcome);
        drop(reached);
        if differs {
            publish();
        }
    }
}

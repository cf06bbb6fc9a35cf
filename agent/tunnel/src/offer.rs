//! Dials nodes that may want to ask here and cannot dial this node: behind NAT, only this node can begin.

use std::{net::SocketAddrV4, sync::Arc, time::Duration};

use api_types::id::NodeId;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use crate::{answer::answer, dial::dial, tunnel::Shared, wire::Purpose};

/// How long a node has to dial by itself.
const CALL_LIMIT: Duration = Duration::from_secs(1);
/// How many connections wait for questions of one node: so many clients begin at once without waiting.
const OFFERS: usize = 4;
/// Between two offers to a node that does not answer, or needs none.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Keeps connections waiting at a node, as long as it does not dial this node itself.
pub(crate) async fn offer(shared: Arc<Shared>, node: NodeId, place: SocketAddrV4) {
    let mut calls = shared.calls(&node);
    let idle = Arc::new(watch::Sender::new(0));
    let mut waiting = idle.subscribe();
    let mut pause = PAUSE_MIN;
    loop {
        if timeout(CALL_LIMIT, calls.wait_for(|calls| *calls > 0)).await.is_ok() {
            if calls.wait_for(|calls| *calls == 0).await.is_err() {
                return;
            }
            pause = PAUSE_MIN;
            continue;
        }
        while *calls.borrow_and_update() == 0 {
            let identity = shared.identity();
            match dial(&identity, (&node, place), Purpose::Offer).await {
                Ok(connection) => {
                    pause = PAUSE_MIN;
                    idle.send_modify(|idle| *idle += 1);
                    let (shared, node, idle) = (Arc::clone(&shared), node.clone(), Idle(Arc::clone(&idle)));
                    drop(tokio::spawn(answer(shared, node, connection, move || drop(idle))));
                    // Both arms are cancel-safe.
                    tokio::select! {
                        _ = waiting.wait_for(|idle| *idle < OFFERS) => {}
                        _ = calls.changed() => {}
                    }
                }
                Err(error) => {
                    tracing::debug!(%node, %error, "an offer was not taken");
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }
}

/// One that waits; it is counted until somebody asks, or it ends.
struct Idle(Arc<watch::Sender<usize>>);

impl Drop for Idle {
    fn drop(&mut self) {
        self.0.send_modify(|idle| *idle -= 1);
    }
}

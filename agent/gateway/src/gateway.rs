//! All fronts of the node: which are listened on, which are given up.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddrV4,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use api_types::balance::Bind;
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    front::{Front, Live},
    listener,
};

/// Connections of clients at once; each takes some 20 KiB.
const CONNECTIONS_MAX: usize = 1024;

/// The listeners of a node. They end with it.
#[derive(Debug)]
pub struct Gateway {
    listening: Mutex<BTreeMap<Place, Listening>>,
    room: Arc<Semaphore>,
}

/// Where a front answers.
type Place = (u16, Option<Bind>);

#[derive(Debug)]
struct Listening {
    front: Arc<Live>,
    _stop: DropGuard,
}

/// A port that cannot be listened on.
#[derive(Debug)]
pub struct Refused {
    /// Which.
    pub port: u16,
    /// Where.
    pub bind: Option<Bind>,
    /// For which service.
    pub service: String,
    /// Why.
    pub error: io::Error,
}

impl Default for Gateway {
    fn default() -> Self {
        Self { listening: Mutex::default(), room: Arc::new(Semaphore::new(CONNECTIONS_MAX)) }
    }
}

impl Gateway {
    /// Listens on these fronts and no others, and gives those where it cannot; they are tried again by the next call. Fronts
    /// that stay keep their clients' connections. Must be called on a tokio runtime.
    pub fn follow(&self, fronts: Vec<Front>) -> Vec<Refused> {
        let mut listening = self.lock();
        let mut before = std::mem::take(&mut *listening);
        let mut refused = Vec::new();
        // First what stays: a front that moved from one place to another frees its port before it is asked for again.
        let (stay, come): (Vec<_>, Vec<_>) =
            fronts.into_iter().partition(|front| before.contains_key(&(front.port, front.bind.clone())));
        for front in stay {
            let place = (front.port, front.bind.clone());
            if let Some(known) = before.remove(&place) {
                known.front.follow(front);
                listening.insert(place, known);
            }
        }
        drop(before);
        for front in come {
            let place = (front.port, front.bind.clone());
            match listener::bind(front.bind.as_ref(), front.port) {
                Ok(socket) => {
                    let (token, front) = (CancellationToken::new(), Arc::new(Live::new(front)));
                    let room = Arc::clone(&self.room);
                    drop(tokio::spawn(listener::accept(socket, Arc::clone(&front), room, token.clone())));
                    listening.insert(place, Listening { front, _stop: token.drop_guard() });
                }
                Err(error) => refused.push(Refused { port: place.0, bind: place.1, service: front.service, error }),
            }
        }
        refused
    }

    /// How many requests each endpoint was asked since the last call, by all fronts together. What one was asked that left since
    /// then is not told.
    pub fn take_requests(&self) -> BTreeMap<SocketAddrV4, u64> {
        let mut requests = BTreeMap::new();
        for endpoint in self.lock().values().flat_map(|listening| listening.front.endpoints()) {
            *requests.entry(endpoint.upstream().address).or_default() += endpoint.take_begun();
        }
        requests
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Place, Listening>> {
        self.listening.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

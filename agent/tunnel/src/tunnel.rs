//! All of a node's tunnels: who is asked, who is answered, and what is known of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use api_types::id::NodeId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    Identity, Plan, State,
    front::{self, Target},
    listener, offer,
    way::Way,
};

/// Clients' connections that are passed on at once; each takes some 130 KiB at most.
const ASKED_MAX: usize = 1024;
/// Connections of other nodes to instances here at once.
const ANSWERED_MAX: usize = 1024;
/// Connections that other nodes dialled, in all ...
const DIALLED_MAX: usize = 2048;
/// ... and of one of them.
const CALLS_MAX: usize = 1024;

/// The tunnels of a node. They end with it.
#[derive(Debug)]
pub struct Tunnel {
    shared: Arc<Shared>,
    _end: DropGuard,
}

/// What all parts use.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Where other nodes dial; `None` = nowhere.
    listens: Option<SocketAddr>,
    identity: watch::Sender<Arc<Identity>>,
    parts: Mutex<Parts>,
    state: watch::Sender<State>,
    asking: Arc<Semaphore>,
    answering: Arc<Semaphore>,
    dialled: Arc<Semaphore>,
    token: CancellationToken,
}

#[derive(Debug)]
struct Parts {
    plan: Arc<Plan>,
    /// One for each node that may be spoken to.
    tokens: BTreeMap<NodeId, CancellationToken>,
    ways: BTreeMap<NodeId, Arc<Way>>,
    fronts: BTreeMap<SocketAddrV4, Front>,
    offers: BTreeMap<NodeId, (SocketAddrV4, DropGuard)>,
    /// How many connections each node dialled in order to ask.
    calls: BTreeMap<NodeId, watch::Sender<usize>>,
    listener: Option<DropGuard>,
    /// Why other nodes cannot dial.
    not_listening: Option<String>,
}

#[derive(Debug)]
struct Front {
    target: Target,
    here: SocketAddrV4,
    _end: DropGuard,
}

/// A connection that another node dialled in order to ask, as long as it lasts.
pub(crate) struct Call {
    calls: watch::Sender<usize>,
}

impl Drop for Call {
    fn drop(&mut self) {
        self.calls.send_modify(|calls| *calls -= 1);
    }
}

impl Tunnel {
    /// Tunnels of which nothing is wanted yet. `listens` is where other nodes dial; `None` = this node alone dials.
    #[must_use]
    pub fn new(identity: Identity, listens: Option<SocketAddr>) -> Self {
        let token = CancellationToken::new();
        let plan = Plan {
            here: Ipv4Addr::LOCALHOST,
            cluster_range: api_types::net::Cidr { address: Ipv4Addr::UNSPECIFIED, prefix: 0 },
            peers: Vec::new(),
            remote: Vec::new(),
            served: Vec::new(),
        };
        let parts = Parts {
            plan: Arc::new(plan),
            tokens: BTreeMap::new(),
            ways: BTreeMap::new(),
            fronts: BTreeMap::new(),
            offers: BTreeMap::new(),
            calls: BTreeMap::new(),
            listener: None,
            not_listening: None,
        };
        let shared = Shared {
            listens,
            identity: watch::Sender::new(Arc::new(identity)),
            parts: Mutex::new(parts),
            state: watch::Sender::new(State::default()),
            asking: Arc::new(Semaphore::new(ASKED_MAX)),
            answering: Arc::new(Semaphore::new(ANSWERED_MAX)),
            dialled: Arc::new(Semaphore::new(DIALLED_MAX)),
            token: token.clone(),
        };
        Self { shared: Arc::new(shared), _end: token.drop_guard() }
    }

    /// What can be asked, and its changes.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<State> {
        self.shared.state.subscribe()
    }

    /// Shows another certificate from now on.
    pub fn identify(&self, identity: Identity) {
        self.shared.identity.send_replace(Arc::new(identity));
    }

    /// Takes a plan over. What stays keeps its connections. Must be called on a tokio runtime.
    pub fn follow(&self, plan: Plan) {
        let shared = &self.shared;
        let mut parts = shared.lock();
        parts.plan = Arc::new(plan);
        shared.follow_peers(&mut parts);
        shared.follow_ways(&mut parts);
        let refused = shared.follow_fronts(&mut parts);
        shared.follow_offers(&mut parts);
        drop(parts);
        shared.publish_with(refused);
    }
}

impl Shared {
    /// Speaks to these nodes alone; what was open to others ends.
    fn follow_peers(self: &Arc<Self>, parts: &mut Parts) {
        let known: BTreeSet<NodeId> = parts.plan.peers.iter().map(|peer| peer.node.clone()).collect();
        parts.tokens.retain(|node, token| {
            let stays = known.contains(node);
            if !stays {
                token.cancel();
            }
            stays
        });
        parts.calls.retain(|node, _| known.contains(node));
        for node in &known {
            parts.tokens.entry(node.clone()).or_insert_with(|| self.token.child_token());
        }
        match self.listens {
            Some(place) if !known.is_empty() => {
                if parts.listener.is_none() {
                    let token = self.token.child_token();
                    drop(tokio::spawn(listener::listen(Arc::clone(self), place, token.clone())));
                    parts.listener = Some(token.drop_guard());
                }
            }
            Some(_) | None => (parts.listener, parts.not_listening) = (None, None),
        }
    }

    /// Keeps a way to each node that is asked.
    fn follow_ways(self: &Arc<Self>, parts: &mut Parts) {
        let plan = Arc::clone(&parts.plan);
        let asked: BTreeSet<&NodeId> = plan.remote.iter().map(|remote| &remote.node).collect();
        let asked = plan.peers.iter().filter(|peer| asked.contains(&peer.node));
        let mut before = std::mem::take(&mut parts.ways);
        for peer in asked {
            let known = before.remove(&peer.node);
            let kept = known.filter(|way| way.dialled == peer.dialled && !way.token.is_cancelled());
            let way = kept.unwrap_or_else(|| {
                let token =
                    parts.tokens.get(&peer.node).map_or_else(CancellationToken::new, |token| token.child_token());
                let way = Way::new(peer.node.clone(), peer.dialled, self.identity.subscribe(), token.clone());
                let (way, weak) = (Arc::new(way), Arc::downgrade(self));
                let tended = Arc::clone(&way);
                drop(tokio::spawn(async move {
                    tokio::select! {
                        () = token.cancelled() => {}
                        () = tended.tend(|| publish(&weak)) => {}
                    }
                }));
                way
            });
            parts.ways.insert(peer.node.clone(), way);
        }
        // Clients of a node that is still spoken to go on; only what waits for clients ends with the endpoints.
        for way in before.into_values() {
            way.retire();
        }
    }

    /// Listens for each port of each endpoint; gives what cannot be had.
    fn follow_fronts(self: &Arc<Self>, parts: &mut Parts) -> BTreeSet<String> {
        let plan = Arc::clone(&parts.plan);
        let mut before = std::mem::take(&mut parts.fronts);
        let mut refused = BTreeSet::new();
        let targets = plan.remote.iter().flat_map(|remote| {
            remote.ports.iter().map(|port| Target {
                instance: remote.instance.clone(),
                node: remote.node.clone(),
                place: SocketAddrV4::new(remote.address, *port),
            })
        });
        for target in targets {
            let kept =
                before.remove(&target.place).filter(|front| front.target == target && *front.here.ip() == plan.here);
            let front = match kept {
                Some(front) => front,
                None => match front::listen(plan.here) {
                    Ok((listener, here)) => {
                        let token = self.token.child_token();
                        drop(tokio::spawn(front::accept(Arc::clone(self), target.clone(), listener, token.clone())));
                        Front { target, here, _end: token.drop_guard() }
                    }
                    Err(error) => {
                        refused.insert(format!("nobody can listen on {} for other sites: {error}", plan.here));
                        continue;
                    }
                },
            };
            parts.fronts.insert(front.target.place, front);
        }
        refused
    }

    /// Dials those who may ask here and do not dial.
    fn follow_offers(self: &Arc<Self>, parts: &mut Parts) {
        let plan = Arc::clone(&parts.plan);
        let mut before = std::mem::take(&mut parts.offers);
        let serves = !plan.served.is_empty();
        for peer in plan.peers.iter().filter(|_| serves) {
            let Some(place) = peer.dialled else { continue };
            let kept = before.remove(&peer.node).filter(|(before, _)| *before == place);
            let kept = kept.unwrap_or_else(|| {
                let token = self.token.child_token();
                let offering = offer::offer(Arc::clone(self), peer.node.clone(), place);
                let ends = token.clone();
                drop(tokio::spawn(async move {
                    tokio::select! {
                        () = ends.cancelled() => {}
                        () = offering => {}
                    }
                }));
                (place, token.drop_guard())
            });
            parts.offers.insert(peer.node.clone(), kept);
        }
    }

    /// Who this node is now.
    pub(crate) fn identity(&self) -> Arc<Identity> {
        Arc::clone(&self.identity.borrow())
    }

    pub(crate) fn plan(&self) -> Arc<Plan> {
        Arc::clone(&self.lock().plan)
    }

    /// What ends when a node is not spoken to any more; `None` = it is not.
    pub(crate) fn token_of(&self, node: &NodeId) -> Option<CancellationToken> {
        self.lock().tokens.get(node).cloned()
    }

    pub(crate) fn way(&self, node: &NodeId) -> Option<Arc<Way>> {
        self.lock().ways.get(node).cloned()
    }

    /// How many connections a node dialled in order to ask.
    pub(crate) fn calls(&self, node: &NodeId) -> watch::Receiver<usize> {
        self.lock().calls.entry(node.clone()).or_insert_with(|| watch::Sender::new(0)).subscribe()
    }

    /// Counts a connection that a node dialled in order to ask; `None` = it has too many.
    pub(crate) fn call(&self, node: &NodeId) -> Option<Call> {
        let calls = self.lock().calls.entry(node.clone()).or_insert_with(|| watch::Sender::new(0)).clone();
        let counted = calls.send_if_modified(|calls| {
            let has_room = *calls < CALLS_MAX;
            *calls += usize::from(has_room);
            has_room
        });
        counted.then_some(Call { calls })
    }

    pub(crate) async fn room_to_ask(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.asking).acquire_owned().await.expect("nobody closes it")
    }

    pub(crate) fn room_to_answer(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.answering).try_acquire_owned().ok()
    }

    pub(crate) fn room_to_be_dialled(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.dialled).try_acquire_owned().ok()
    }

    /// Notes why other nodes cannot dial, if they cannot.
    pub(crate) fn not_listening(&self, reason: Option<String>) {
        self.lock().not_listening = reason;
        self.publish();
    }

    fn publish(&self) {
        self.publish_with(BTreeSet::new());
    }

    /// Says what can be asked, if that changed.
    fn publish_with(&self, mut refused: BTreeSet<String>) {
        let parts = self.lock();
        let mut state = State::default();
        for (node, way) in &parts.ways {
            match way.reached() {
                Some(Ok(())) => drop(state.reached.insert(node.clone())),
                Some(Err(reason)) => drop(state.unreachable.insert(node.clone(), reason)),
                None => {}
            }
        }
        let open = parts.fronts.iter().filter(|(_, front)| state.reached.contains(&front.target.node));
        state.detours = open.map(|(place, front)| (*place, front.here)).collect();
        refused.extend(parts.not_listening.clone());
        state.refused = refused;
        self.state.send_if_modified(|known| {
            let differs = *known != state;
            *known = state;
            differs
        });
        drop(parts);
    }

    fn lock(&self) -> MutexGuard<'_, Parts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn publish(shared: &Weak<Shared>) {
    if let Some(shared) = shared.upgrade() {
        shared.publish();
    }
}

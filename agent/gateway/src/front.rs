//! A published port and who stands behind it: what is wanted, and the same while requests go through it.

use std::{
    net::{IpAddr, SocketAddrV4},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use api_types::{balance::Bind, net::IpRange};

use crate::endpoint::Endpoint;

/// A published HTTP port of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Front {
    /// The service behind it, for people.
    pub service: String,
    /// The port.
    pub port: u16,
    /// Where it answers; `None` = at every address of the node, 127.0.0.1 and `::1` among them.
    pub bind: Option<Bind>,
    /// Who may connect; empty = everybody.
    pub allow: Vec<IpRange>,
    /// Who answers; empty = nobody just now.
    pub upstreams: Vec<Upstream>,
}

/// One who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Where.
    pub address: SocketAddrV4,
    /// Its part of the requests, relative to the others'; at least 1.
    pub weight: u16,
}

/// A front while it is in use.
#[derive(Debug)]
pub(crate) struct Live {
    state: Mutex<State>,
    /// Moves the place where a search begins, so that equals take turns.
    turn: AtomicUsize,
}

#[derive(Debug)]
struct State {
    service: String,
    allow: Vec<IpRange>,
    endpoints: Vec<Arc<Endpoint>>,
}

impl Live {
    pub(crate) fn new(front: Front) -> Self {
        let state = State { service: String::new(), allow: Vec::new(), endpoints: Vec::new() };
        let live = Self { state: Mutex::new(state), turn: AtomicUsize::new(0) };
        live.follow(front);
        live
    }

    /// Takes over what is wanted now. Who stays keeps its connections; who leaves gets no new request.
    pub(crate) fn follow(&self, front: Front) {
        let mut state = self.lock();
        let before = std::mem::take(&mut state.endpoints);
        let kept = |upstream: &Upstream| {
            let same = before.iter().find(|endpoint| endpoint.upstream() == *upstream);
            same.map_or_else(|| Arc::new(Endpoint::new(*upstream)), Arc::clone)
        };
        state.endpoints = front.upstreams.iter().map(kept).collect();
        (state.service, state.allow) = (front.service, front.allow);
        let stays = |endpoint: &Arc<Endpoint>| state.endpoints.iter().any(|other| Arc::ptr_eq(endpoint, other));
        for endpoint in before.iter().filter(|endpoint| !stays(endpoint)) {
            endpoint.retire();
        }
    }

    /// Who answers.
    pub(crate) fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        self.lock().endpoints.clone()
    }

    /// Whether somebody at this address may connect.
    pub(crate) fn admits(&self, client: IpAddr) -> bool {
        let (state, client) = (self.lock(), client.to_canonical());
        state.allow.is_empty() || client.is_loopback() || state.allow.iter().any(|range| range.contains(client))
    }

    pub(crate) fn service(&self) -> String {
        self.lock().service.clone()
    }

    /// Whom to ask next: the one with the fewest open requests for its weight, and none of those who were tried.
    pub(crate) fn choose(&self, tried: &[SocketAddrV4]) -> Option<Arc<Endpoint>> {
        let state = self.lock();
        let count = state.endpoints.len();
        let start = self.turn.fetch_add(1, Ordering::Relaxed);
        let in_turn = (0..count).map(|step| &state.endpoints[start.wrapping_add(step) % count]);
        let fresh = in_turn.filter(|endpoint| !tried.contains(&endpoint.upstream().address));
        fresh.min_by_key(|endpoint| endpoint.load()).map(Arc::clone)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn front(weights: &[(u16, u16)]) -> Front {
        let upstream = |(port, weight): &(u16, u16)| Upstream {
            address: SocketAddrV4::new([10, 42, 0, 2].into(), *port),
            weight: *weight,
        };
        Front {
            service: "web".to_owned(),
            port: 80,
            bind: None,
            allow: Vec::new(),
            upstreams: weights.iter().map(upstream).collect(),
        }
    }

    fn ports(live: &Live, count: usize) -> Vec<u16> {
        // Each request stays open until all are chosen.
        let chosen: Vec<_> = (0..count).map(|_| live.choose(&[]).expect("somebody").open()).collect();
        chosen.iter().map(|request| request.endpoint().upstream().address.port()).collect()
    }

    #[test]
    fn open_requests_are_shared_out_by_weight() {
        let live = Live::new(front(&[(1, 1), (2, 3)]));

        let chosen = ports(&live, 8);

        assert_eq!(chosen.iter().filter(|port| **port == 2).count(), 6);
    }

    #[test]
    fn equals_take_turns_when_nothing_is_open() {
        let live = Live::new(front(&[(1, 1), (2, 1), (3, 1)]));

        let chosen: Vec<_> = (0..3).map(|_| live.choose(&[]).expect("somebody").upstream().address.port()).collect();

        assert_eq!(chosen, [1, 2, 3]);
    }

    #[test]
    fn who_left_or_was_tried_is_not_asked() {
        let live = Live::new(front(&[(1, 1), (2, 1)]));
        let tried = [SocketAddrV4::new([10, 42, 0, 2].into(), 2)];

        live.follow(front(&[(2, 1), (3, 1)]));

        assert!(ports(&live, 4).iter().all(|port| *port != 1));
        assert_eq!(live.choose(&tried).expect("somebody").upstream().address.port(), 3);
        live.follow(front(&[]));
        assert!(live.choose(&[]).is_none());
    }

    #[test]
    fn only_who_is_allowed_may_connect() {
        let allow = ["192.0.2.0/24", "2001:db8:7::/48"].map(|range| range.parse().expect("a range")).to_vec();
        let live = Live::new(Front { allow, ..front(&[]) });

        for (client, admitted) in [
            ("192.0.2.7", true),
            ("::ffff:192.0.2.7", true),
            ("127.0.0.1", true),
            ("2001:db8:7::1", true),
            ("::1", true),
            ("192.0.3.1", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(live.admits(client.parse().expect("an address")), admitted, "{client}");
        }
    }
}
